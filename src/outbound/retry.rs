//! When to ask again: small pure rules. Time and chance are arguments. Nothing is asked again once any of its answer came.

use super::limits;

/// How long to pause after so many attempts, milliseconds; `None`: no further attempt. `left_ms` is what remains of the
/// whole call's time, `chance` any random number.
pub fn pause_ms(attempts: u32, retry_after_ms: Option<u64>, chance: u64, left_ms: u64) -> Option<u64> {
    if attempts >= limits::ATTEMPTS {
        return None;
    }
    let doubled = limits::BACKOFF_FIRST_MS.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    let most = doubled.min(limits::BACKOFF_MOST_MS);
    let half = most / 2;
    let own = half + chance % (most - half + 1);
    // What the provider asks for is a floor; the chance on top keeps many callers from coming back at once.
    let asked = retry_after_ms.map_or(0, |asked| asked.min(limits::RETRY_AFTER_MOST_MS) + chance % (half + 1));
    Some(own.max(asked)).filter(|pause| *pause < left_ms)
}

/// Reads a `Retry-After`: seconds or an HTTP date, cut to the limit. `None` where it is neither, or negative.
pub fn retry_after_ms(header: &str, now_wall_ms: u64) -> Option<u64> {
    let header = header.trim();
    let asked = if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        header.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1_000)
    } else {
        let date = httpdate::parse_http_date(header).ok()?;
        let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since_epoch.as_millis()).ok()?.saturating_sub(now_wall_ms)
    };
    Some(asked.min(limits::RETRY_AFTER_MOST_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date_and_never_longer_than_the_limit() {
        let now = 784_111_777_000 - 30_000;
        assert_eq!(retry_after_ms("3", now), Some(3_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(30_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", now + 60_000), Some(0));
        assert_eq!(retry_after_ms("1000000000", now), Some(limits::RETRY_AFTER_MOST_MS));
        assert_eq!(retry_after_ms("99999999999999999999999", now), Some(limits::RETRY_AFTER_MOST_MS));
        for odd in ["-5", "", "soon", "1.5"] {
            assert_eq!(retry_after_ms(odd, now), None, "{odd:?}");
        }
    }

    #[test]
    fn attempts_end_at_their_number_and_at_the_end_of_the_time() {
        assert!(pause_ms(1, None, 0, 10_000).is_some());
        assert_eq!(pause_ms(limits::ATTEMPTS, None, 0, u64::MAX), None);
        assert_eq!(pause_ms(1, Some(5_000), 0, 5_000), None);
    }

    proptest::proptest! {
        #[test]
        fn a_pause_is_never_shorter_than_asked_nor_longer_than_the_limits(
            attempts in 1..limits::ATTEMPTS, asked in proptest::option::of(0u64..200_000), chance: u64,
        ) {
            let pause = pause_ms(attempts, asked, chance, u64::MAX).unwrap();
            let floor = asked.unwrap_or(0).min(limits::RETRY_AFTER_MOST_MS);
            proptest::prop_assert!(pause >= floor.max(limits::BACKOFF_FIRST_MS / 2));
            proptest::prop_assert!(pause <= floor.max(limits::BACKOFF_MOST_MS) + limits::BACKOFF_MOST_MS);
        }
    }
}
