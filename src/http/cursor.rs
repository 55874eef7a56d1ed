//! Where a stream goes on: `Last-Event-ID`, which a client sends when it comes back, or `?after=`, which it was opened with.

use axum::extract::FromRequestParts;
use hyper::header::HeaderName;
use hyper::http::request::Parts;

use super::extract::{self, Query};
use super::limits::CURSOR_CHARACTERS;
use super::problem::Problem;
use crate::domain::reason::{Reason, Refusal};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a client asks of a stream. A wrong cursor is kept, because its refusal may have to be told inside the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// The last event the client has; none to begin at the end.
    pub after: Result<Option<u64>, Refusal>,
    /// `?cursor_errors=in_stream`: tell a wrong cursor as an event, for clients that give up on any status but 200.
    pub errors_in_stream: bool,
}

impl StreamRequest {
    /// Reads the headers and the query. A wrong option is refused: passed over, it would be another question's answer.
    pub fn of(parts: &Parts) -> Result<Self, Refusal> {
        let Query(query) = extract::pairs(&parts.uri)?;
        let named = |wanted: &'static str| {
            query.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let errors_in_stream = match named("cursor_errors").collect::<Vec<_>>()[..] {
            [] => false,
            ["in_stream"] => true,
            _ => return Err(extract::query_fault("cursor_errors", "not `in_stream`, which is all that it can be")),
        };
        let mut given = parts.headers.get_all(LAST_EVENT_ID).iter();
        let after = match (given.next(), given.next()) {
            (Some(value), None) => parse(value.as_bytes()).map(Some),
            (Some(_), Some(_)) => Err(Reason::CursorMalformed.into()),
            (None, _) => {
                let mut after = named("after");
                match (after.next(), after.next()) {
                    (Some(value), None) => parse(value.as_bytes()).map(Some),
                    (Some(_), Some(_)) => Err(Reason::CursorMalformed.into()),
                    (None, _) => Ok(None),
                }
            }
        };
        Ok(Self { after, errors_in_stream })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for StreamRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(parts)?)
    }
}

/// Reads a cursor: a sequence number in its one spelling.
pub fn parse(text: &[u8]) -> Result<u64, Refusal> {
    let plain = !text.is_empty() && text.len() <= CURSOR_CHARACTERS && text.iter().all(u8::is_ascii_digit);
    let single = text.len() == 1 || text.first() != Some(&b'0');
    let number = std::str::from_utf8(text).ok().filter(|_| plain && single).and_then(|text| text.parse().ok());
    number.ok_or_else(|| Reason::CursorMalformed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_number_in_its_one_spelling() {
        assert_eq!(parse(b"0"), Ok(0));
        assert_eq!(parse(b"18446744073709551615"), Ok(u64::MAX));
        let long = vec![b'1'; 1 << 20];
        for bad in [&b""[..], b"-1", b"+1", b"01", b" 1", b"1\0", b"x", b"18446744073709551616", b"1e3", &long] {
            assert_eq!(parse(bad).unwrap_err().reason, Reason::CursorMalformed);
        }
    }

    #[test]
    fn the_header_of_a_returning_client_wins_over_the_address() {
        let request = |id: Option<&str>, target: &str| {
            let mut builder = hyper::Request::builder().uri(target);
            if let Some(id) = id {
                builder = builder.header("last-event-id", id);
            }
            StreamRequest::of(&builder.body(()).unwrap().into_parts().0).unwrap()
        };
        assert_eq!(request(Some("9"), "/s?after=3").after, Ok(Some(9)));
        assert_eq!(request(None, "/s?x=1&after=3").after, Ok(Some(3)));
        assert_eq!(request(None, "/s").after, Ok(None));
        assert!(request(None, "/s?after=3&after=4").after.is_err());
        let told = request(Some("x"), "/s?cursor_errors=in_stream");
        assert!(told.after.is_err() && told.errors_in_stream);
        assert_eq!(request(None, "/s?%61fter=3").after, Ok(Some(3)), "however the name is written");
        for wrong in ["bogus", "", "in_stream&cursor_errors=in_stream"] {
            let uri = format!("/s?cursor_errors={wrong}");
            let parts = hyper::Request::builder().uri(&uri).body(()).unwrap().into_parts().0;
            let refusal = StreamRequest::of(&parts).unwrap_err();
            assert_eq!((refusal.reason, refusal.pointer.is_some()), (Reason::RequestMalformed, true), "{uri}");
        }
    }
}
