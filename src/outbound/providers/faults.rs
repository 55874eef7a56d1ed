//! What a provider's errors mean here, and what of their words may be shown.

use serde_json::Value;

use super::ProviderError;
use crate::domain::reason::Reason;
use crate::outbound::client::SendFault;
use crate::outbound::limits;
use crate::vault::secret::Secret;

/// No answer at all.
pub(super) fn before_answer(fault: &SendFault) -> ProviderError {
    let reason = match fault {
        SendFault::Forbidden(_) => Reason::OutboundDestinationForbidden,
        SendFault::Unreachable(_) => Reason::ProviderUnavailable,
        SendFault::Untrusted(_) => Reason::ProviderTls,
        // The answer may have been made, and paid for, all the same.
        SendFault::Unanswered(_) | SendFault::TooSlow(_) | SendFault::Broken => Reason::ProviderStreamBroken,
        SendFault::TooLarge(_) => Reason::ProviderRejected,
    };
    ProviderError::before(reason, fault.to_string())
}

pub(super) fn reason_of_status(status: u16) -> Reason {
    match status {
        429 | 529 => Reason::ProviderRateLimited,
        // An answer that cannot be read, or a gateway that stopped waiting for a model which has the request.
        200..=299 | 504 | 520 | 524 => Reason::ProviderStreamBroken,
        408 | 425 | 500..=599 => Reason::ProviderUnavailable,
        _ => Reason::ProviderRejected,
    }
}

/// An answer with another status than 200.
pub(super) fn of_status(
    status: u16,
    body: &[u8],
    retry_after_ms: Option<u64>,
    credential: Option<&Secret>,
) -> ProviderError {
    let text = String::from_utf8_lossy(body);
    let value = serde_json::from_str::<Value>(&text).ok();
    let said = match &value {
        Some(value) => message(value).unwrap_or_default(),
        None => text.into_owned(),
    };
    let key_refused = matches!(status, 401 | 403) || value.as_ref().is_some_and(|value| refuses_key(error_of(value)));
    let note = match (300..400).contains(&status) {
        true => " (redirects are not followed)",
        false if key_refused => hint(credential),
        false => "",
    };
    let said = shown(&said, credential);
    let separator = if said.is_empty() { "" } else { ": " };
    let detail = format!("HTTP {status}{note}{separator}{said}");
    let retry_after_ms = retry_after_ms.or_else(|| value.as_ref().and_then(|value| retry_delay_ms(error_of(value))));
    ProviderError { retry_after_ms, status: Some(status), ..ProviderError::before(reason_of_status(status), detail) }
}

/// An error object in place of an answer, or in the middle of one.
pub(super) fn of_object(error: &Value, credential: Option<&Secret>) -> ProviderError {
    let words = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let status = ["code", "status"].iter().find_map(|key| match error.get(*key)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (400..600).contains(status));
    let kinds = [words("type"), words("code"), words("status")].map(str::to_ascii_lowercase);
    let is = |names: &[&str]| kinds.iter().any(|kind| names.iter().any(|name| kind.contains(name)));
    let reason = match status {
        Some(status) => reason_of_status(status),
        None if is(&["rate_limit", "overloaded_error", "resource_exhausted"]) => Reason::ProviderRateLimited,
        None if is(&["timeout_error", "deadline_exceeded"]) => Reason::ProviderStreamBroken,
        None if is(&["server_error", "api_error", "overloaded", "unavailable", "internal"]) => {
            Reason::ProviderUnavailable
        }
        None => Reason::ProviderRejected,
    };
    let said = message(error).unwrap_or_else(|| "the provider reports an error".to_owned());
    let note = if matches!(status, Some(401 | 403)) || refuses_key(error) { hint(credential) } else { "" };
    let retry_after_ms = retry_delay_ms(error);
    ProviderError { retry_after_ms, ..ProviderError::before(reason, shown(&said, credential) + note) }
}

fn hint(credential: Option<&Secret>) -> &'static str {
    match credential {
        Some(_) => " (does the route's credential belong to this provider, and is it in force?)",
        None => " (the route sends no credential)",
    }
}

fn error_of(value: &Value) -> &Value {
    let value = value.get(0).unwrap_or(value);
    value.get("error").unwrap_or(value)
}

/// Whether an error object is about the credential, whatever its status.
fn refuses_key(error: &Value) -> bool {
    let kinds = ["/type", "/code", "/status", "/details/0/reason"];
    let names = ["authentication_error", "permission_error", "invalid_api_key", "unauthenticated", "api_key_invalid"];
    kinds.iter().filter_map(|path| error.pointer(path)?.as_str()).any(|kind| {
        let kind = kind.to_ascii_lowercase();
        names.contains(&kind.as_str()) || kind == "permission_denied"
    })
}

/// The pause that an error object asks for, as Google's do: seconds with an `s` at the end.
fn retry_delay_ms(error: &Value) -> Option<u64> {
    let details = error.get("details")?.as_array()?;
    let asked = details.iter().find_map(|one| one.get("retryDelay")?.as_str()?.strip_suffix('s'))?;
    let whole = asked.split('.').next().filter(|whole| !whole.is_empty())?;
    // A part of a second counts as a whole one: what is asked for is a floor.
    let seconds = whole.parse::<u64>().ok()?.saturating_add(u64::from(whole.len() < asked.len()));
    Some(seconds.saturating_mul(1_000).min(limits::RETRY_AFTER_MOST_MS))
}

fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => values.first().and_then(message),
        _ => ["error", "message", "detail"].iter().find_map(|key| message(value.get(*key)?)),
    }
}

/// A provider's words, short, on one line, without query strings, without the credential and without what looks like one.
pub(super) fn shown(words: &str, credential: Option<&Secret>) -> String {
    let hidden = credential.map(|credential| words.replace(credential.expose(), "[hidden]"));
    let words = hidden.as_deref().unwrap_or(words);
    let safe = |word: &str| {
        let bare = word.trim_start_matches(|c: char| !c.is_alphanumeric());
        if ["sk-", "xai-", "AIza"].iter().any(|beginning| bare.starts_with(beginning)) {
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
            (204, Reason::ProviderStreamBroken),
            (429, Reason::ProviderRateLimited),
            (529, Reason::ProviderRateLimited),
            (500, Reason::ProviderUnavailable),
            (503, Reason::ProviderUnavailable),
            (504, Reason::ProviderStreamBroken),
            (520, Reason::ProviderStreamBroken),
            (524, Reason::ProviderStreamBroken),
        ] {
            assert_eq!(of_status(status, b"", None, None).reason, reason, "{status}");
        }
        let error = of_status(400, br#"{"error":{"message":"bad\nkey sk-abc at http://h/p?key=1"}}"#, None, None);
        assert_eq!(error.detail, "HTTP 400: bad key [hidden] at http://h/p");
        assert_eq!(of_status(502, b"<html>\xff", None, None).detail, "HTTP 502: <html>\u{fffd}");
    }

    #[test]
    fn an_error_object_is_understood_in_its_many_forms() {
        for (object, reason, detail) in [
            (json!({ "message": "m", "type": "rate_limit_error" }), Reason::ProviderRateLimited, "m"),
            (json!({ "message": "m", "code": 503 }), Reason::ProviderUnavailable, "m"),
            (json!({ "message": "m", "code": "429" }), Reason::ProviderRateLimited, "m"),
            (json!({ "type": "server_error" }), Reason::ProviderUnavailable, "the provider reports an error"),
            (json!("plain words"), Reason::ProviderRejected, "plain words"),
            (
                json!({ "code": "invalid_api_key", "message": "m" }),
                Reason::ProviderRejected,
                "m (the route sends no credential)",
            ),
            (json!({ "type": "overloaded_error", "message": "m" }), Reason::ProviderRateLimited, "m"),
            (json!({ "type": "api_error", "message": "m" }), Reason::ProviderUnavailable, "m"),
            (
                json!({ "code": "weird", "status": "RESOURCE_EXHAUSTED", "message": "m" }),
                Reason::ProviderRateLimited,
                "m",
            ),
        ] {
            let error = of_object(&object, None);
            assert_eq!((error.reason, error.detail.as_str()), (reason, detail), "{object}");
        }
    }

    #[test]
    fn a_providers_words_are_cut_at_a_characters_border() {
        let shown = shown(&"é".repeat(limits::ERROR_DETAIL_BYTES), None);
        assert_eq!(shown.len(), limits::ERROR_DETAIL_BYTES);
    }
}
