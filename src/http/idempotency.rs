//! `Idempotency-Key`: what a mutation carries so that it is done once, however often it is sent.

use hyper::header::{HeaderMap, HeaderName};

use super::passage::Passage;
use crate::domain::limits::IDEMPOTENCY_KEY_BYTES;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::RequestFacts;
use crate::services::authority::Caller;

/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key of a request, if it has one: at most 200 visible ASCII characters.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let visible = value.as_bytes().iter().all(|byte| (0x21..=0x7e).contains(byte));
    if given.next().is_some() || value.is_empty() || value.len() > IDEMPOTENCY_KEY_BYTES || !visible {
        let detail =
            format!("Idempotency-Key must be one value of 1 to {IDEMPOTENCY_KEY_BYTES} visible ASCII characters");
        return Err(Refusal::new(Reason::RequestMalformed, detail));
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

/// The facts of a mutation as its first record keeps them.
pub fn facts(
    passage: &Passage,
    caller: &Caller,
    (method, path): (&str, &str),
    key: Option<String>,
    raw_body: &[u8],
) -> RequestFacts {
    let body_mac = key.is_some().then(|| passage.gate().fingerprint.fingerprint(raw_body));
    let scope = format!("{} {method} {path}", caller.principal());
    RequestFacts { id: passage.id().to_owned(), key, scope, body_mac }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_one_short_visible_value() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            key(&headers)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["a-1"]), Ok(Some("a-1".to_owned())));
        assert!(with(&[&"k".repeat(200)]).is_ok());
        for bad in [&["a b"][..], &[""], &["a", "a"], &["ü"], &[&"k".repeat(201)]] {
            assert_eq!(with(bad).unwrap_err().reason, Reason::RequestMalformed);
        }
    }
}
