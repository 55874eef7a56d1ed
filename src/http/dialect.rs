//! The paths on which clients of model providers speak: which interface a request belongs to, and refusals in the shape that
//! such a client reads.

use axum::response::Response;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::domain::model_call::Dialect;
use crate::domain::reason::Refusal;
use crate::services::gateway;

/// Chat completions.
pub const CHAT_COMPLETIONS: &str = "/v1/chat/completions";
/// Responses.
pub const RESPONSES: &str = "/v1/responses";
/// Messages.
pub const MESSAGES: &str = "/v1/messages";
/// How many tokens messages have.
pub const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
/// Models.
pub const MODELS: &str = "/v1/models";

/// The other header that carries a token, on these paths only.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const ANTHROPIC_VERSION: &str = "anthropic-version";
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// How the client of a request speaks, where its path is one of these.
pub fn of(path: &str, headers: &HeaderMap) -> Option<Dialect> {
    match path {
        RESPONSES => Some(Dialect::Responses),
        MESSAGES | COUNT_TOKENS => Some(Dialect::Messages),
        MODELS if headers.contains_key(ANTHROPIC_VERSION) => Some(Dialect::Messages),
        CHAT_COMPLETIONS | MODELS => Some(Dialect::ChatCompletions),
        _ => None,
    }
}

/// Gives the answer to a refused request the body that its client reads.
pub(super) fn spoken(mut problem: Response, dialect: Dialect, refusal: &Refusal, request_id: &str) -> Response {
    let status = problem.status().as_u16();
    let body =
        gateway::error(dialect, (refusal.reason, status), &refusal.detail, (refusal.pointer.as_deref(), request_id));
    *problem.body_mut() = body.to_string().into();
    let headers = problem.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What surely had no effect and may go well later is worth another try; nothing else is paid for twice.
    let again = refusal.reason.retry() && refusal.reason.surely_no_effect();
    headers.insert(SHOULD_RETRY, HeaderValue::from_static(if again { "true" } else { "false" }));
    problem
}
