//! What a provider says about when it wants to be asked again.

use super::limits;

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
}
