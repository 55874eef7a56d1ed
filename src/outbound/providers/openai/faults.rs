//! What a provider's errors mean here, and what of their words may be shown.

use serde_json::Value;

use crate::domain::reason::Reason;
use crate::outbound::client::SendFault;
use crate::outbound::limits;
use crate::outbound::providers::ProviderError;

/// No answer at all.
pub(super) fn before_answer(fault: &SendFault) -> ProviderError {
    let reason = match fault {
        SendFault::Forbidden(_) => Reason::OutboundDestinationForbidden,
        SendFault::Unreachable(_) => Reason::ProviderUnavailable,
        // The answer may have been made, and paid for, all the same.
        SendFault::Unanswered(_) | SendFault::TooSlow(_) | SendFault::Broken => Reason::ProviderStreamBroken,
        SendFault::TooLarge(_) => Reason::ProviderRejected,
    };
    ProviderError::before(reason, fault.to_string())
}

fn reason_of_status(status: u16) -> Reason {
    match status {
        429 | 529 => Reason::ProviderRateLimited,
        // A gateway that stopped waiting for a model which has the request.
        504 | 524 => Reason::ProviderStreamBroken,
        408 | 425 | 500..=599 => Reason::ProviderUnavailable,
        _ => Reason::ProviderRejected,
    }
}

/// An answer with another status than 200.
pub(super) fn of_status(status: u16, body: &[u8], retry_after_ms: Option<u64>) -> ProviderError {
    let text = String::from_utf8_lossy(body);
    let said = match serde_json::from_str::<Value>(&text) {
        Ok(value) => message(&value).unwrap_or_default(),
        Err(_) => text.into_owned(),
    };
    let redirect = if (300..400).contains(&status) { " (redirects are not followed)" } else { "" };
    let said = shown(&said);
    let separator = if said.is_empty() { "" } else { ": " };
    let detail = format!("HTTP {status}{redirect}{separator}{said}");
    ProviderError { retry_after_ms, ..ProviderError::before(reason_of_status(status), detail) }
}

/// An error object in place of an answer, or in the middle of one.
pub(super) fn of_object(error: &Value) -> ProviderError {
    let words = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let status = ["code", "status"].iter().find_map(|key| match error.get(*key)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    let kinds = [words("type"), words("code")];
    let reason = match status {
        Some(status) => reason_of_status(status),
        None if kinds.iter().any(|kind| kind.contains("rate_limit")) => Reason::ProviderRateLimited,
        None if kinds.iter().any(|kind| kind.contains("server_error") || kind.contains("overloaded")) => {
            Reason::ProviderUnavailable
        }
        None => Reason::ProviderRejected,
    };
    let said = message(error).unwrap_or_else(|| "the provider reports an error".to_owned());
    ProviderError::before(reason, shown(&said))
}

fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        _ => ["error", "message", "detail"].iter().find_map(|key| message(value.get(*key)?)),
    }
}

/// A provider's words, short, on one line, without query strings and without what looks like a key.
pub(super) fn shown(words: &str) -> String {
    let safe = |word: &str| {
        let bare = word.trim_start_matches(|c: char| !c.is_alphanumeric());
        if bare.starts_with("sk-") {
            return "[hidden]".to_owned();
        }
        let cut = if word.contains('/') { word.split('?').next().unwrap_or_default() } else { word };
        cut.chars().filter(|c| !c.is_control()).collect()
    };
    let mut line = words.split_whitespace().take(limits::ERROR_DETAIL_BYTES).map(safe).collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(limits::ERROR_DETAIL_BYTES));
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_status_has_its_reason() {
        for (status, reason) in [
            (400, Reason::ProviderRejected),
            (401, Reason::ProviderRejected),
            (403, Reason::ProviderRejected),
            (404, Reason::ProviderRejected),
            (307, Reason::ProviderRejected),
            (204, Reason::ProviderRejected),
            (429, Reason::ProviderRateLimited),
            (529, Reason::ProviderRateLimited),
            (500, Reason::ProviderUnavailable),
            (503, Reason::ProviderUnavailable),
            (504, Reason::ProviderStreamBroken),
            (524, Reason::ProviderStreamBroken),
        ] {
            assert_eq!(of_status(status, b"", None).reason, reason, "{status}");
        }
        let error = of_status(401, br#"{"error":{"message":"bad\nkey sk-abc at http://h/p?key=1"}}"#, None);
        assert_eq!(error.detail, "HTTP 401: bad key [hidden] at http://h/p");
        assert_eq!(of_status(502, b"<html>\xff", None).detail, "HTTP 502: <html>\u{fffd}");
    }

    #[test]
    fn an_error_object_is_understood_in_its_many_forms() {
        for (object, reason, detail) in [
            (json!({ "message": "m", "type": "rate_limit_error" }), Reason::ProviderRateLimited, "m"),
            (json!({ "message": "m", "code": 503 }), Reason::ProviderUnavailable, "m"),
            (json!({ "message": "m", "code": "429" }), Reason::ProviderRateLimited, "m"),
            (json!({ "type": "server_error" }), Reason::ProviderUnavailable, "the provider reports an error"),
            (json!("plain words"), Reason::ProviderRejected, "plain words"),
            (json!({ "code": "invalid_api_key", "message": "m" }), Reason::ProviderRejected, "m"),
        ] {
            let error = of_object(&object);
            assert_eq!((error.reason, error.detail.as_str()), (reason, detail), "{object}");
        }
    }

    #[test]
    fn a_providers_words_are_cut_at_a_characters_border() {
        let shown = shown(&"é".repeat(limits::ERROR_DETAIL_BYTES));
        assert_eq!(shown.len(), limits::ERROR_DETAIL_BYTES);
    }
}
