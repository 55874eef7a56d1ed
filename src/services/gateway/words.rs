//! How the gateway speaks for itself: errors as the clients of each interface expect them.

use serde_json::{Value, json};

use crate::domain::model_call::Dialect;
use crate::domain::reason::Reason;

/// The kind of error that a client of OpenAI knows for a status.
fn openai_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// The kind of error that a client of Anthropic knows for a status.
fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The body of a refusal. `detail` holds no secret.
pub fn error(dialect: Dialect, (reason, status): (Reason, u16), detail: &str, at: (Option<&str>, &str)) -> Value {
    let (code, (param, request_id)) = (reason.code(), at);
    match dialect {
        Dialect::ChatCompletions | Dialect::Responses => json!({ "error": {
            "message": format!("{detail} ({code}; request {request_id})"),
            "type": openai_kind(status), "code": code, "param": param,
        } }),
        Dialect::Messages => json!({
            "type": "error",
            "error": { "type": anthropic_kind(status), "message": format!("{detail} ({code}; request {request_id})") },
            "request_id": request_id,
        }),
    }
}

/// The event that ends a stream which does not end well.
pub(super) fn ending(dialect: Dialect, reason: Reason, detail: &str) -> String {
    let (code, message) = (reason.code(), format!("{detail} ({})", reason.code()));
    let status = reason.http_status();
    match dialect {
        Dialect::ChatCompletions => {
            let error = json!({ "message": message, "type": openai_kind(status), "code": code, "param": null });
            format!("data: {}\n\n", json!({ "error": error }))
        }
        Dialect::Responses => {
            let error = json!({ "type": "error", "code": code, "message": message, "param": null });
            format!("event: error\ndata: {error}\n\n")
        }
        Dialect::Messages => {
            let error = json!({ "type": anthropic_kind(status), "message": message });
            format!("event: error\ndata: {}\n\n", json!({ "type": "error", "error": error }))
        }
    }
}
