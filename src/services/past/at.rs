//! Which record is meant: a sequence number, or a time.

use std::str::FromStr;

use serde::Deserialize;
use toml::value::{Datetime, Offset};

/// From here on a number is a time: no journal has so many lines, and none is from before September 2001.
const FIRST_TIME: u64 = 1_000_000_000_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const MINUTE_MS: i64 = 60 * 1_000;

/// As of when something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum At {
    /// Up to this sequence number.
    Seq(u64),
    /// Up to the last record at or before this time, Unix milliseconds.
    Time(u64),
}

impl FromStr for At {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "neither a sequence number nor a time, in Unix milliseconds or as RFC 3339 has it";
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number: u64 = text.parse().map_err(|_| WRONG)?;
            return Ok(if number < FIRST_TIME { Self::Seq(number) } else { Self::Time(number) });
        }
        // The same grammar as in TOML, where the offset may be missing.
        let moment: Datetime = text.parse().map_err(|_| WRONG)?;
        unix_ms(&moment).map(Self::Time).ok_or(WRONG)
    }
}

impl TryFrom<String> for At {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A moment of the calendar; nothing where it is none, or before 1970.
fn unix_ms(moment: &Datetime) -> Option<u64> {
    let (date, time) = (moment.date?, moment.time?);
    let east = match moment.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // Years that begin in March, so that the day that may be missing is the last.
    let (year, month) = (i64::from(date.year), i64::from(date.month));
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_year = (153 * month + 2) / 5 + i64::from(date.day) - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = i64::from(time.second.unwrap_or(0));
    let of_day = (i64::from(time.hour) * 60 + i64::from(time.minute)) * MINUTE_MS + seconds * 1_000;
    let fraction = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    u64::try_from(days * DAY_MS + of_day + fraction - east * MINUTE_MS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_number_is_a_record_and_all_else_a_time() {
        for (text, at) in [
            ("0", At::Seq(0)),
            ("999999999999", At::Seq(FIRST_TIME - 1)),
            ("1000000000000", At::Time(FIRST_TIME)),
            ("1970-01-01T00:00:00Z", At::Time(0)),
            ("2000-02-29T00:00:00Z", At::Time(951_782_400_000)),
            ("2000-03-01T00:00:00Z", At::Time(951_868_800_000)),
            ("2026-12-31T23:59:59.250Z", At::Time(1_798_761_599_250)),
            ("2027-01-01T01:29:59+01:30", At::Time(1_798_761_599_000)),
            ("2026-12-31T18:59:59-05:00", At::Time(1_798_761_599_000)),
            ("2026-12-31 23:59:59z", At::Time(1_798_761_599_000)),
        ] {
            assert_eq!(text.parse(), Ok(at), "{text}");
        }
    }

    #[test]
    fn what_names_no_moment_is_refused() {
        let long = "1".repeat(1 << 16);
        for text in [
            "",
            "-1",
            "+1",
            "1.5",
            "now",
            "18446744073709551616",
            "2026-12-31",
            "23:59:59Z",
            "2026-12-31T23:59:59",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-12-31T24:00:00Z",
            "1969-12-31T23:59:59Z",
            long.as_str(),
        ] {
            assert!(text.parse::<At>().is_err(), "{text:?}");
        }
    }
}
