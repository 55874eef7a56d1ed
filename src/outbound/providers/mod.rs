//! The model providers: one contract, and one file a driver. A driver is given a whole conversation, streams what it
//! hears, and hands back one answer or one error.

mod anthropic;
mod assembly;
mod chat;
mod conversation;
mod exchange;
mod faults;
mod google;
mod line;
mod openrouter;
mod rehearsal;
mod responses;
mod script;
mod xai;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::config::addresses::HostPort;
use crate::config::routes::{Api, Driver, ResolvedRoute, Route, Routes};
use crate::domain::reason::{Reason, Refusal};
use crate::platform::clock::Clock;
use crate::vault::secret::Secret;

pub use self::conversation::{Delta, Image, Message, ModelAnswer, ModelRequest, RequestedCall, ToolSpec};
pub use self::line::Endpoint;

use self::exchange::{Dialect, Exchange};
use self::line::Line;
use self::rehearsal::Rehearsal;
use super::client::{Answer, Client, Deadlines};
use super::guard::{Guard, Resolve};
use super::limits;
use super::trust::Trust;

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct ProviderError {
    /// The code.
    pub reason: Reason,
    /// What is particular about it; holds no secret and no query string.
    pub detail: String,
    /// Milliseconds after which the provider wants to be asked again.
    pub retry_after_ms: Option<u64>,
    /// Words received before it broke off.
    pub partial: Option<String>,
    /// Whether any of the answer was received; such a call is not made again by itself.
    pub answer_begun: bool,
    /// Status of the answer, where it is not 200.
    pub status: Option<u16>,
}

impl ProviderError {
    /// An error before anything of the answer came.
    pub fn before(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { reason, detail, retry_after_ms: None, partial: None, answer_begun: false, status: None }
    }

    /// An error after a part of the answer came.
    pub fn within(reason: Reason, detail: impl Into<String>, partial: String) -> Self {
        let partial = Some(partial).filter(|words| !words.is_empty());
        Self { partial, answer_begun: true, ..Self::before(reason, detail) }
    }

    /// The caller gave the call up. The caller knows that it did, so this needs no code of its own.
    pub fn cancelled(partial: String) -> Self {
        Self::within(Reason::ProviderStreamBroken, "the call was cancelled", partial)
    }
}

/// What a status other than 200 means.
pub fn reason_of_status(status: u16) -> Reason {
    faults::reason_of_status(status)
}

/// What an error object means that came in place of an answer, or in the middle of one.
pub fn reason_of_error(error: &serde_json::Value) -> Reason {
    faults::of_object(error, None).reason
}

/// The error of an answer that passes a limit.
fn too_large(limit: impl Display, words: String) -> ProviderError {
    ProviderError::within(Reason::ProviderRejected, format!("the answer passes a limit: {limit}"), words)
}

/// The error of an answer with so many bytes of words and so many calls, if that passes a limit.
fn check_size(bytes: usize, calls: usize, words: &mut String) -> Result<(), ProviderError> {
    if bytes > limits::ANSWER_WORDS_BYTES {
        let limit = format!("{} bytes of words and arguments", limits::ANSWER_WORDS_BYTES);
        return Err(too_large(limit, std::mem::take(words)));
    }
    if calls > limits::ANSWER_CALLS {
        return Err(too_large(format!("{} calls", limits::ANSWER_CALLS), std::mem::take(words)));
    }
    Ok(())
}

/// What a driver says while it hears an answer: live pieces. Waits until there is room.
async fn send_live(deltas: &Sender<Delta>, delta: Delta) {
    // Whoever listened is gone: then nobody misses it.
    let _ = deltas.send(delta).await;
}

/// What the drivers need of the machine and of the operator.
#[derive(Clone)]
pub struct Surroundings {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's resolver.
    pub resolver: Arc<dyn Resolve>,
    /// What the operator allows besides public machines; a route's own address is allowed to that route anyway.
    pub allowed: Vec<HostPort>,
    /// The proxy to public machines, if there is one.
    pub proxy: Option<HostPort>,
    /// Whose word is taken for who a machine is.
    pub trust: Trust,
    /// How long each stage of a request may take.
    pub deadlines: Deadlines,
}

/// A driver set up for one route.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a route, made once")]
enum Speaker {
    /// Follows a script.
    Rehearsal(Rehearsal),
    /// Speaks to a provider.
    Online(Exchange),
}

impl Speaker {
    fn for_route(id: &str, route: &Route, around: &Surroundings) -> Result<Self, Refusal> {
        let dialect: Box<dyn Dialect> = match (route.driver, route.api) {
            (Driver::Rehearsal, _) => return Ok(Self::Rehearsal(Rehearsal::load(route.script.as_deref())?)),
            (Driver::OpenAi, Api::Chat) => Box::new(chat::openai(route.base_url == route.driver.default_base_url())),
            (Driver::OpenAi, Api::Responses) => Box::new(responses::Responses),
            (Driver::Anthropic, _) => Box::new(anthropic::Anthropic),
            (Driver::Google, _) => Box::new(google::Google),
            (Driver::OpenRouter, _) => Box::new(openrouter::dialect()),
            (Driver::Xai, _) => Box::new(xai::dialect()),
        };
        let Some(base_url) = route.base_url.clone() else {
            return Err(Refusal::new(Reason::ConfigInvalid, format!("route {id:?} has no `base_url`")));
        };
        let mut allowed = around.allowed.clone();
        // An address of the operator's is the operator's word; a driver's own leads to the public internet or nowhere.
        if route.driver.default_base_url().as_ref() != Some(&base_url) {
            let host = base_url.host().trim_start_matches('[').trim_end_matches(']').to_owned();
            allowed.push(HostPort { host, port: base_url.port() });
        }
        let guard = Guard::new(&allowed, Arc::clone(&around.resolver)).through(around.proxy.as_ref())?;
        let line = Line {
            client: Client::new(guard, &around.trust, around.deadlines),
            base_url,
            call_time: Duration::from_millis(route.timeout_ms.unwrap_or(limits::CALL_MS)),
            clock: Arc::clone(&around.clock),
        };
        Ok(Self::Online(Exchange { line, dialect }))
    }
}

/// Every route's driver, set up and ready.
#[derive(Debug)]
pub struct Providers {
    by_route: BTreeMap<String, Speaker>,
}

impl Providers {
    /// Sets up the driver of every route; reads the scripts of rehearsals.
    pub fn new(routes: &Routes, around: &Surroundings) -> Result<Self, Refusal> {
        let ready = |(id, route): (&str, &Route)| Ok((id.to_owned(), Speaker::for_route(id, route, around)?));
        Ok(Self { by_route: routes.iter().map(ready).collect::<Result<_, Refusal>>()? })
    }

    fn speaker(&self, route: &ResolvedRoute) -> Result<&Speaker, ProviderError> {
        let unknown = || ProviderError::before(Reason::RouteNotFound, format!("no route {:?}", route.route_id));
        self.by_route.get(&route.route_id).ok_or_else(unknown)
    }

    /// Calls the model of a route, with the credential that was redeemed for this one call.
    pub async fn call(
        &self,
        route: &ResolvedRoute,
        request: &ModelRequest,
        credential: Option<Secret>,
        deltas: Sender<Delta>,
        cancel: CancellationToken,
    ) -> Result<ModelAnswer, ProviderError> {
        match self.speaker(route)? {
            Speaker::Rehearsal(driver) => driver.call(request, deltas, cancel).await,
            Speaker::Online(driver) => driver.call(request, credential, deltas, cancel).await,
        }
    }

    /// Passes a body on to a route's provider as it is, and hands its answer back as it comes, whatever its status.
    /// `headers` are sent along; the credential's go before them. Refused where the route's driver does not speak this.
    pub async fn pass(
        &self,
        route: &ResolvedRoute,
        endpoint: Endpoint,
        (headers, body): (HeaderMap, Bytes),
        credential: Option<&Secret>,
    ) -> Result<Answer, ProviderError> {
        match self.speaker(route)? {
            Speaker::Online(driver) => driver.pass(endpoint, (headers, body), credential).await,
            Speaker::Rehearsal(_) => Err(line::not_spoken(endpoint)),
        }
    }

    /// Whether [`Providers::pass`] can pass this on for a route.
    pub fn passes(&self, route: &ResolvedRoute, endpoint: Endpoint) -> bool {
        match self.speaker(route) {
            Ok(Speaker::Online(driver)) => driver.passes(endpoint),
            Ok(Speaker::Rehearsal(_)) | Err(_) => false,
        }
    }
}
