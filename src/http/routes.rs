//! How the table of routes is written: one entry an endpoint, with its method, pattern, action, summary, handler and
//! schemas. Router, rights, numbers and `openapi.json` are all made from it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use hyper::header::{ALLOW, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::edge::Gate;
use super::guard::{GuardLayer, authenticate};
use super::problem::Problem;
use crate::domain::reason::{Reason, Refusal};
use crate::services::authority::Action;

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What is fixed about one endpoint.
#[derive(Debug, Clone, Copy)]
pub struct RouteFacts {
    /// The method.
    pub method: &'static str,
    /// The path, with `{names}`.
    pub pattern: &'static str,
    /// The action that a caller must have the right to; none for open routes.
    pub action: Option<Action>,
    /// One line for people.
    pub summary: &'static str,
    /// Whether the body may be something other than JSON.
    pub any_media: bool,
    /// What the query may name: each name, and its JSON type.
    pub asks: &'static [(&'static str, &'static str)],
    /// Schema of the body.
    pub takes: Option<SchemaOf>,
    /// Status and schema of the answer.
    pub gives: (u16, Option<SchemaOf>),
    /// Media type of the answer.
    pub media: &'static str,
}

/// One endpoint.
pub struct Route<S> {
    facts: RouteFacts,
    handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    fn new<H, T>(
        method: (&'static str, MethodFilter),
        facts: (&'static str, Option<Action>, &'static str),
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let (pattern, action, summary) = facts;
        let facts = RouteFacts {
            method: method.0,
            pattern,
            action,
            summary,
            any_media: false,
            asks: &[],
            takes: None,
            gives: (200, None),
            media: "application/json",
        };
        Self { facts, handler: on(method.1, handler) }
    }

    /// A read.
    pub fn get<H: Handler<T, S>, T: 'static>(
        pattern: &'static str,
        action: Action,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(("GET", MethodFilter::GET), (pattern, Some(action), summary), handler)
    }

    /// A read that needs no caller.
    pub fn open_get<H: Handler<T, S>, T: 'static>(pattern: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(("GET", MethodFilter::GET), (pattern, None, summary), handler)
    }

    /// A post.
    pub fn post<H: Handler<T, S>, T: 'static>(
        pattern: &'static str,
        action: Action,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(("POST", MethodFilter::POST), (pattern, Some(action), summary), handler)
    }

    /// A put.
    pub fn put<H: Handler<T, S>, T: 'static>(
        pattern: &'static str,
        action: Action,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(("PUT", MethodFilter::PUT), (pattern, Some(action), summary), handler)
    }

    /// A deletion.
    pub fn delete<H: Handler<T, S>, T: 'static>(
        pattern: &'static str,
        action: Action,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(("DELETE", MethodFilter::DELETE), (pattern, Some(action), summary), handler)
    }

    /// Says what the query may name.
    pub fn asks(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.facts.asks = names;
        self
    }

    /// Says what the body looks like.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.facts.takes = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// Says what the answer looks like.
    pub fn gives<T: JsonSchema>(mut self, status: u16) -> Self {
        self.facts.gives = (status, Some(SchemaGenerator::subschema_for::<T>));
        self
    }

    /// Says that the answer is text of this media type.
    pub fn gives_text(mut self, media: &'static str) -> Self {
        self.facts.gives = (200, Some(SchemaGenerator::subschema_for::<String>));
        self.facts.media = media;
        self
    }

    /// Lets the body be of any media type.
    pub fn any_media(mut self) -> Self {
        self.facts.any_media = true;
        self
    }

    /// What is fixed about the endpoint.
    pub fn facts(&self) -> RouteFacts {
        self.facts
    }
}

/// Builds the router of these routes: each behind its guard, wrong methods answered 405, unknown paths 404, and both only
/// to callers who are known.
pub(super) fn build<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>, state: S, gate: &Arc<Gate>) -> Router {
    let mut paths: BTreeMap<&'static str, (MethodRouter<S>, Vec<&'static str>, bool)> = BTreeMap::new();
    for (index, route) in routes.into_iter().enumerate() {
        let guarded = route.handler.route_layer(GuardLayer::new(index, route.facts));
        let (methods, allow, open) =
            paths.entry(route.facts.pattern).or_insert((MethodRouter::new(), Vec::new(), true));
        *methods = std::mem::take(methods).merge(guarded);
        allow.push(route.facts.method);
        if route.facts.method == "GET" {
            allow.push("HEAD");
        }
        *open &= route.facts.action.is_none();
    }
    let mut built = Router::new();
    for (pattern, (methods, allow, open)) in paths {
        // Made of method names only, so it is always a header value.
        let allow = HeaderValue::from_str(&allow.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""));
        let gate = gate.clone();
        let wrong_method = tower::service_fn(move |request: Request| {
            let known = if open { Ok(()) } else { authenticate(&gate, &request).map(drop) };
            let mut response = unmatched(known, Reason::RequestMethodNotAllowed);
            response.headers_mut().insert(ALLOW, allow.clone());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        built = built.route(pattern, methods.fallback_service(wrong_method));
    }
    let gate = gate.clone();
    let unknown = tower::service_fn(move |request: Request| {
        let known = authenticate(&gate, &request).map(drop);
        std::future::ready(Ok::<_, Infallible>(unmatched(known, Reason::RequestNotFound)))
    });
    built.fallback_service(unknown).with_state(state)
}

fn unmatched(known: Result<(), Refusal>, reason: Reason) -> Response {
    Problem(known.err().unwrap_or_else(|| reason.into())).into_response()
}
