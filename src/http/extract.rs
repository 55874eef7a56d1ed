//! What handlers take: the right that the table checked, and bodies read within their limits. A handler that does not
//! take a right cannot call a service that needs one.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Uri};
use serde::de::DeserializeOwned;

use super::connection::whole;
use super::passage::Passage;
use super::problem::Problem;
use super::{idempotency, json};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::RequestFacts;
use crate::services::authority::{Action, Authorized};

/// The right to do the route's action.
#[derive(Debug, Clone)]
pub struct Right(pub Authorized);

impl<S: Send + Sync> FromRequestParts<S> for Right {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let right = parts.extensions.get::<Authorized>().cloned();
        // Only an open route has none; then the table and the handler disagree.
        right.map(Right).ok_or_else(|| Reason::AuthorizationActionUnknown.into())
    }
}

/// What the path of a route names: one thing, or nothing.
pub trait Place: Sized + Send {
    /// Reads the name. What is no id of the wanted noun gets the answer of what is absent.
    fn read(name: &str) -> Result<Self, Refusal>;
}

impl Place for () {
    fn read(_: &str) -> Result<Self, Refusal> {
        Ok(())
    }
}

async fn place<P: Place>(parts: &mut Parts) -> Result<P, Problem> {
    let name = Path::<String>::from_request_parts(parts, &()).await.map(|Path(name)| name).unwrap_or_default();
    Ok(P::read(&name)?)
}

/// The right to do the route's action to what its path names.
#[derive(Debug)]
pub struct On<P> {
    /// The right.
    pub right: Authorized,
    /// What the path names.
    pub on: P,
}

impl<P> On<P> {
    /// The organisation of the caller, whose right must be for this action.
    pub fn org(&self, action: Action) -> Result<&str, Refusal> {
        Ok(self.right.demand(action)?.organisation())
    }
}

impl<P: Place, S: Send + Sync> FromRequestParts<S> for On<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Right(right) = Right::from_request_parts(parts, state).await?;
        Ok(Self { right, on: place(parts).await? })
    }
}

/// The request on its way.
#[derive(Clone)]
pub struct OnPassage(pub Arc<Passage>);

impl<S: Send + Sync> FromRequestParts<S> for OnPassage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        passage(parts).map(OnPassage)
    }
}

fn passage(parts: &Parts) -> Result<Arc<Passage>, Problem> {
    parts.extensions.get::<Arc<Passage>>().cloned().ok_or_else(|| Reason::InternalError.into())
}

/// Takes a request apart, up to the raw bytes of its body.
async fn open<P: Place, S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<(On<P>, Arc<Passage>, Parts, Bytes), Problem> {
    let (mut parts, body) = request.into_parts();
    let on = On::from_request_parts(&mut parts, state).await?;
    let passage = passage(&parts)?;
    let raw = whole(body).await?;
    Ok((on, passage, parts, raw))
}

fn facts_of(right: &Authorized, passage: &Passage, parts: &Parts, raw: &[u8]) -> Result<RequestFacts, Problem> {
    let key = idempotency::key(&parts.headers)?;
    let place = (parts.method.as_str(), parts.uri.path());
    Ok(idempotency::facts(passage, right.caller(), place, key, raw))
}

/// A mutation with a JSON body: the right, what it is done to, the facts that its first record keeps, and the body.
pub struct Mutation<T, P = ()> {
    /// The right to do it.
    pub right: Authorized,
    /// What the path names.
    pub on: P,
    /// Request id, idempotency key, scope and body MAC.
    pub request: RequestFacts,
    /// The body.
    pub body: T,
    /// The request on its way.
    pub passage: Arc<Passage>,
}

impl<T: DeserializeOwned, P: Place, S: Send + Sync> FromRequest<S> for Mutation<T, P> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (On { right, on }, passage, parts, raw) = open(request, state).await?;
        let request = facts_of(&right, &passage, &parts, &raw)?;
        let body = json::read(&raw, passage.gate().limits.json_depth)?;
        Ok(Self { right, on, request, body, passage })
    }
}

/// A request that is passed on: the right, the facts that its record keeps, its headers, and its body as it came.
pub struct Forwarded {
    /// The right to do it.
    pub right: Authorized,
    /// Request id, idempotency key, scope and body MAC.
    pub request: RequestFacts,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body.
    pub raw: Bytes,
    /// The request on its way.
    pub passage: Arc<Passage>,
}

impl<S: Send + Sync> FromRequest<S> for Forwarded {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (On { right, on: () }, passage, parts, raw) = open(request, state).await?;
        let request = facts_of(&right, &passage, &parts, &raw)?;
        Ok(Self { right, request, headers: parts.headers, raw, passage })
    }
}

/// A mutation that needs no words: its body is absent or an empty object.
#[derive(Debug)]
pub struct Order {
    /// The right to do it.
    pub right: Authorized,
    /// Request id, idempotency key, scope and body MAC.
    pub request: RequestFacts,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for Order {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (On { right, on: () }, passage, parts, raw) = open(request, state).await?;
        let request = facts_of(&right, &passage, &parts, &raw)?;
        if !raw.is_empty() {
            let Nothing {} = json::read(&raw, passage.gate().limits.json_depth)?;
        }
        Ok(Self { right, request })
    }
}

/// A mutation of one object that needs no words either.
pub struct Deletion<P>(pub Mutation<(), P>);

impl<P: Place, S: Send + Sync> FromRequest<S> for Deletion<P> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (On { right, on }, passage, parts, raw) = open(request, state).await?;
        let request = facts_of(&right, &passage, &parts, &raw)?;
        if !raw.is_empty() {
            let Nothing {} = json::read(&raw, passage.gate().limits.json_depth)?;
        }
        Ok(Self(Mutation { right, on, request, body: (), passage }))
    }
}

/// The query as a struct; unknown names are refused where the struct says so.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(&parts.uri).map_err(Problem)
    }
}

/// Every name of a query with its value, in order.
pub(super) fn pairs(uri: &Uri) -> Result<Query<Vec<(String, String)>>, Refusal> {
    read_query(uri)
}

fn read_query<T: DeserializeOwned>(uri: &Uri) -> Result<Query<T>, Refusal> {
    axum::extract::Query::<T>::try_from_uri(uri).map(|query| Query(query.0)).map_err(|rejection| {
        // The library says "<its own words>: <parameter>: <what is wrong>".
        let text = rejection.body_text();
        let said = text.split_once(": ").map_or(text.as_str(), |(_, said)| said);
        if let Some(name) = said.strip_prefix("duplicate field `").and_then(|rest| rest.strip_suffix('`')) {
            return query_fault(name, "given more than once");
        }
        match said.split_once(": ") {
            Some((name, fault)) => query_fault(name, fault),
            None => Refusal::new(Reason::RequestMalformed, json::detail(&format!("the query: {said}"))),
        }
    })
}

/// A refusal that names the parameter.
pub(super) fn query_fault(name: &str, fault: &str) -> Refusal {
    let detail = json::detail(&format!("query parameter `{name}`: {fault}"));
    Refusal::new(Reason::RequestMalformed, detail).at(json::token(name))
}
