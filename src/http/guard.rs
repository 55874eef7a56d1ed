//! The guard in front of each handler: checks the caller's right to the route's action and hands it on as a value.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::Either;
use hyper::body::Body as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tower::{Layer, Service};

use super::dialect::API_KEY;
use super::edge::Gate;
use super::extract;
use super::passage::Passage;
use super::problem::Problem;
use super::routes::RouteFacts;
use crate::domain::reason::{Reason, Refusal};
use crate::services::authority::{Authorized, Caller};

/// Puts a guard in front of a handler.
#[derive(Clone)]
pub(super) struct GuardLayer {
    index: usize,
    facts: RouteFacts,
}

impl GuardLayer {
    pub(super) fn new(index: usize, facts: RouteFacts) -> Self {
        Self { index, facts }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, index: self.index, facts: self.facts }
    }
}

/// A handler behind its guard.
#[derive(Clone)]
pub(super) struct Guard<S> {
    inner: S,
    index: usize,
    facts: RouteFacts,
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Service<Request> for Guard<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match admit(self.index, &self.facts, &request) {
            Ok(right) => {
                if let Some(right) = right {
                    request.extensions_mut().insert(right);
                }
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => Either::Right(ready(Ok(Problem(refusal).into_response()))),
        }
    }
}

fn passage(request: &Request) -> Result<&Arc<Passage>, Refusal> {
    request.extensions().get::<Arc<Passage>>().ok_or_else(|| Reason::InternalError.into())
}

fn admit(index: usize, facts: &RouteFacts, request: &Request) -> Result<Option<Authorized>, Refusal> {
    let passage = passage(request)?;
    let _ = passage.route.set(index);
    let right = match facts.action {
        Some(action) => Some(authenticate(passage.gate(), request)?.authorize(action)?),
        None => None,
    };
    check_query(facts, request.uri())?;
    if !request.body().is_end_stream() {
        check_media(request.headers(), facts.any_media)?;
    }
    Ok(right)
}

/// A query names only what its route knows. Elsewhere an unknown name would be passed over in silence, and the answer
/// would be one to another question.
fn check_query(facts: &RouteFacts, uri: &hyper::Uri) -> Result<(), Refusal> {
    if uri.query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let extract::Query(named) = extract::pairs(uri)?;
    match named.iter().find(|(name, _)| facts.asks.iter().all(|(known, _)| known != name)) {
        None => Ok(()),
        Some((name, _)) => {
            let known: Vec<&str> = facts.asks.iter().map(|(known, _)| *known).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(extract::query_fault(name, &format!("not one of this route's, which are: {known}")))
        }
    }
}

/// Who sends the request; a failure is counted to its source.
pub(super) fn authenticate(gate: &Gate, request: &Request) -> Result<Caller, Refusal> {
    let passage = passage(request)?;
    let api_key = passage.dialect.map(|_| API_KEY);
    let shown = (request.headers(), api_key.as_ref());
    let caller = gate.authentication.caller(shown, passage.source, &gate.failures, gate.clock.boot_ms())?;
    let _ = passage.caller.set(caller.clone());
    Ok(caller)
}

/// Bodies are plain JSON: a page cannot send that to a foreign origin without asking first.
fn check_media(headers: &HeaderMap, any_media: bool) -> Result<(), Refusal> {
    let unsupported = |detail: &str| Err(Refusal::new(Reason::RequestUnsupportedMediaType, detail));
    if headers.contains_key(CONTENT_ENCODING) {
        return unsupported("the body must not be compressed");
    }
    if any_media {
        return Ok(());
    }
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return unsupported("the body needs `Content-Type: application/json`");
    };
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return unsupported("the body must be `application/json`");
    }
    let charset = parameters.trim();
    let utf8 = charset.is_empty()
        || charset.eq_ignore_ascii_case("charset=utf-8")
        || charset.eq_ignore_ascii_case("charset=\"utf-8\"");
    if utf8 { Ok(()) } else { unsupported("the body must be UTF-8") }
}
