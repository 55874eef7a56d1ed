//! Refusals as answers: `application/problem+json`. A refusal travels through the router as it is; the edge renders it in
//! one place, because only there the request's id is known.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use super::canonical::METHODS;
use crate::domain::reason::{Reason, Refusal};
use crate::vault::redaction::Redactor;

/// How long a client should wait where nothing says so, milliseconds.
const RETRY_DEFAULT_MS: u64 = 1_000;

/// The body of every refusal, as RFC 9457 says.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ProblemBody<'a> {
    /// A name for the kind of problem, as a URN.
    #[serde(rename = "type")]
    kind: String,
    /// One sentence that is the same for each problem of this kind.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is particular about this case.
    detail: &'a str,
    /// The stable code.
    code: &'a str,
    /// The request's id.
    request_id: &'a str,
    /// Milliseconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// Whether the caller may be sure that nothing happened.
    surely_no_effect: bool,
    /// The next step: a command or a place.
    next: &'a str,
    /// RFC 6901 pointer into the request's body, or to the query's parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
}

/// A refusal on its way out of a handler: `Result<…, Problem>` is what handlers return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(pub Refusal);

impl<T: Into<Refusal>> From<T> for Problem {
    fn from(refusal: T) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(self.0.reason);
        response.extensions_mut().insert(self.0);
        response
    }
}

fn status(reason: Reason) -> StatusCode {
    StatusCode::from_u16(reason.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Marks the answer of a route that has one status for all its refusals.
#[derive(Debug, Clone, Copy)]
pub struct StatusOfRoute;

/// A refusal without what is, or looks like, a secret: its words may repeat a request, a file or a provider.
pub fn clean(refusal: &Refusal, redactor: &Redactor) -> Refusal {
    let words = |text: &String| redactor.strict_text(text).into_owned();
    Refusal { detail: words(&refusal.detail), pointer: refusal.pointer.as_ref().map(words), ..refusal.clone() }
}

/// The JSON text of a refusal.
pub fn body(refusal: &Refusal, request_id: &str) -> Bytes {
    body_with(refusal, status(refusal.reason), request_id)
}

fn body_with(refusal: &Refusal, status: StatusCode, request_id: &str) -> Bytes {
    let reason = refusal.reason;
    let problem = ProblemBody {
        kind: format!("urn:chancery:problem:{}", reason.code()),
        title: reason.title(),
        status: status.as_u16(),
        detail: &refusal.detail,
        code: reason.code(),
        request_id,
        retry_after_ms: wait_ms(refusal),
        surely_no_effect: reason.surely_no_effect(),
        next: reason.next(),
        pointer: refusal.pointer.as_deref(),
    };
    // A struct of strings and numbers always serialises.
    serde_json::to_vec(&problem).unwrap_or_default().into()
}

fn wait_ms(refusal: &Refusal) -> Option<u64> {
    refusal.retry_after_ms.or_else(|| {
        (refusal.reason.retry() && matches!(refusal.reason.http_status(), 429 | 503 | 507)).then_some(RETRY_DEFAULT_MS)
    })
}

/// The whole answer to a refused request.
pub fn response(refusal: &Refusal, request_id: &str) -> Response {
    response_with(refusal, status(refusal.reason), request_id)
}

/// The same with another status than the reason's own.
pub fn response_with(refusal: &Refusal, status: StatusCode, request_id: &str) -> Response {
    let mut response = Response::new(Body::from(body_with(refusal, status, request_id)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chancery\""));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static(METHODS));
        }
        _ => {}
    }
    if let Some(milliseconds) = wait_ms(refusal) {
        headers.insert(RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1_000).max(1)));
    }
    response
}

/// The refusal that fits an answer which a library made by itself.
pub fn of_status(status: StatusCode) -> Refusal {
    let reason = match status {
        StatusCode::NOT_FOUND => Reason::RequestNotFound,
        StatusCode::METHOD_NOT_ALLOWED => Reason::RequestMethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Reason::RequestTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Reason::RequestUnsupportedMediaType,
        status if status.is_client_error() => Reason::RequestMalformed,
        _ => Reason::InternalError,
    };
    reason.into()
}
