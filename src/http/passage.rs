//! What is known about one request on its way through: its id, where it came from, and what it met. Logs, metrics and the
//! access log read it when the answer leaves.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::connection::BodyShare;
use super::edge::Gate;
use super::limits::REQUEST_ID_BYTES;
use crate::domain::ids::RequestId;
use crate::domain::model_call::Dialect;
use crate::domain::reason::Reason;
use crate::services::authority::Caller;

/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request came from, as far as it can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An address: the peer's own, or the one that a trusted proxy names.
    Address(IpAddr),
    /// Whoever may open the unix socket.
    Unix,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Address(address) => write!(f, "{address}"),
            Source::Unix => f.write_str("unix"),
        }
    }
}

/// One request, from the first check to the answer.
pub struct Passage {
    /// The request's id: the client's, or ours.
    pub request_id: HeaderValue,
    /// The other end of the socket.
    pub peer: Source,
    /// Who is counted: the peer, or whom a trusted proxy speaks for.
    pub source: Source,
    /// How its client speaks, where it is one of a model provider.
    pub(super) dialect: Option<Dialect>,
    /// What its body takes of the memory for bodies.
    pub(super) held: BodyShare,
    pub(super) gate: Arc<Gate>,
    pub(super) route: OnceLock<usize>,
    pub(super) caller: OnceLock<Caller>,
    pub(super) refused: OnceLock<Reason>,
}

impl Passage {
    /// The request's id as text.
    pub fn id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// Most bytes that its body may have.
    pub(super) fn body_bytes(&self) -> u64 {
        let limits = &self.gate.limits;
        if self.dialect.is_some() { limits.model_call_bytes } else { limits.body_bytes }
    }

    /// The door that the request belongs to.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

/// The client's request id if it is safe to repeat and `hides` no secret, or this one.
pub fn request_id(headers: &HeaderMap, hides: impl Fn(&[u8]) -> bool, ours: impl FnOnce() -> RequestId) -> HeaderValue {
    let mut given = headers.get_all(&REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(value), None) if is_safe(value.as_bytes()) && !hides(value.as_bytes()) => value.clone(),
        _ => HeaderValue::from_str(&ours().to_string()).unwrap_or_else(|_| HeaderValue::from_static("req")),
    }
}

fn is_safe(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:/+=@".contains(byte);
    !text.is_empty() && text.len() <= REQUEST_ID_BYTES && text.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_plain_single_request_id_is_taken() {
        let ours = || RequestId::from_ulid(ulid::Ulid::from_parts(1, 1));
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(REQUEST_ID, HeaderValue::from_str(value).unwrap());
            }
            request_id(&headers, |id| id == b"secret", ours).to_str().unwrap().to_owned()
        };
        assert_eq!(with(&["trace-1:2/3"]), "trace-1:2/3");
        for bad in [&["a b"][..], &["secret"], &["\u{1b}[31m"], &[""], &["a", "b"], &[&"x".repeat(129)], &[]] {
            let bad: Vec<&str> = bad.iter().copied().filter(|text| HeaderValue::from_str(text).is_ok()).collect();
            assert!(with(&bad).starts_with("req_"), "{bad:?}");
        }
    }
}
