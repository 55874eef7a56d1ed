//! Pages of other origins: allowed by list only, never by wildcard. A foreign page cannot change anything even where it
//! knows a token.

use hyper::header::{
    self, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue,
    ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::domain::reason::Reason;

/// What a request's origin means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Not a browser's cross-origin request, or one of the daemon's own pages.
    Own,
    /// A page on the list.
    Allowed(HeaderValue),
    /// Any other page.
    Foreign,
}

/// What the origin of this request means.
pub fn origin(parts: &Parts, allowed: &[String]) -> Origin {
    let Some(value) = parts.headers.get(ORIGIN) else { return Origin::Own };
    let Ok(text) = value.to_str() else { return Origin::Foreign };
    if allowed.iter().any(|known| known.eq_ignore_ascii_case(text)) {
        return Origin::Allowed(value.clone());
    }
    // The Host is known to be the daemon's; a page from there is our own.
    let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let page = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match (page, host) {
        (Some(page), Some(host)) if page.eq_ignore_ascii_case(host) => Origin::Own,
        _ => Origin::Foreign,
    }
}

/// Whether the request only asks what a page may do.
pub fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether a foreign page may send this: plain reads, which it cannot see the answer of.
pub fn refusal(parts: &Parts) -> Option<Reason> {
    let read = [Method::GET, Method::HEAD].contains(&parts.method);
    let harmless = read || (parts.method == Method::OPTIONS && !is_preflight(parts));
    (!harmless).then_some(Reason::CorsOriginRefused)
}

/// The answer to a preflight from an allowed page; `allow_origin` completes it.
pub fn preflight() -> axum::response::Response {
    let mut response = axum::response::Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id, x-request-id"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets this page read the answer.
pub fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-request-id, chancery-head, chancery-as-of, idempotency-replayed, retry-after"),
    );
}
