//! The model providers: one contract, and one file a driver. A driver is given a whole conversation, streams what it
//! hears, and hands back one answer or one error.

mod openai;
mod rehearsal;
mod script;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::config::addresses::HostPort;
use crate::config::routes::{Driver, ResolvedRoute, Route, Routes};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::turn::{StopReason, Usage};
use crate::platform::clock::Clock;

use self::openai::OpenAi;
use self::rehearsal::Rehearsal;
use super::client::{Client, Deadlines};
use super::guard::{Guard, Resolve};
use super::limits;

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelRequest {
    /// The model.
    pub model: String,
    /// Standing instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Messages of the session before the first one that is told.
    pub earlier_messages: u64,
    /// Answers that the newest message had already, whether they are told or not.
    pub answered: usize,
    /// What it may ask for.
    pub tools: Vec<ToolSpec>,
    /// Tokens after which it shall stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
}

impl ModelRequest {
    /// SHA-256 of the request, hex; the same for equal requests.
    pub fn digest(&self) -> String {
        // Every part serialises: the maps have text keys and no number is a fraction without a value.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        HEXLOWER.encode(&Sha256::digest(&bytes))
    }

    /// Bytes of all its words, for estimates.
    fn words_bytes(&self) -> usize {
        let of_message = |message: &Message| match message {
            Message::User { text } => text.len(),
            Message::Assistant { text, tool_calls } => {
                let inputs: usize = tool_calls.iter().map(|call| call.input.len()).sum();
                text.as_ref().map_or(0, String::len) + inputs
            }
            Message::ToolResult { output, .. } => output.len(),
        };
        let of_messages: usize = self.messages.iter().map(of_message).sum();
        self.system.as_ref().map_or(0, String::len) + of_messages
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What a person said.
    User {
        /// The words.
        text: String,
    },
    /// What the model said and wanted called.
    Assistant {
        /// The words, if there were any.
        text: Option<String>,
        /// In order.
        tool_calls: Vec<RequestedCall>,
    },
    /// What came of a call.
    ToolResult {
        /// The provider's name for the call.
        provider_id: String,
        /// Whether it did what it says.
        ok: bool,
        /// What the model is shown.
        output: String,
    },
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: serde_json::Value,
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestedCall {
    /// The provider's name for it; never empty, unique within the answer.
    pub provider_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments as the model wrote them: JSON text, possibly invalid.
    pub input: String,
}

/// A piece of an answer, for people who watch. Whoever takes the pieces takes them all: a driver waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Words.
    Text(String),
    /// Thinking aloud.
    Reasoning(String),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// What it said.
    pub text: Option<String>,
    /// What it thought aloud.
    pub reasoning: Option<String>,
    /// What it wants called, in order.
    pub tool_calls: Vec<RequestedCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it took, where that is known.
    pub usage: Option<Usage>,
}

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
}

impl ProviderError {
    /// An error before anything of the answer came.
    pub fn before(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after_ms: None, partial: None, answer_begun: false }
    }

    /// An error after a part of the answer came.
    pub fn within(reason: Reason, detail: impl Into<String>, partial: String) -> Self {
        let partial = Some(partial).filter(|words| !words.is_empty());
        Self { reason, detail: detail.into(), retry_after_ms: None, partial, answer_begun: true }
    }

    /// The caller gave the call up. The caller knows that it did, so this needs no code of its own.
    pub fn cancelled(partial: String) -> Self {
        Self::within(Reason::ProviderStreamBroken, "the call was cancelled", partial)
    }
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
    /// How long each stage of a request may take.
    pub deadlines: Deadlines,
}

/// A driver set up for one route.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a route, made once")]
enum Speaker {
    /// Follows a script.
    Rehearsal(Rehearsal),
    /// Chat completions.
    OpenAi(OpenAi),
}

impl Speaker {
    fn for_route(id: &str, route: &Route, around: &Surroundings) -> Result<Self, Refusal> {
        match route.driver {
            Driver::Rehearsal => Ok(Self::Rehearsal(Rehearsal::load(route.script.as_deref())?)),
            Driver::OpenAi => {
                let Some(base_url) = route.base_url.clone() else {
                    return Err(Refusal::new(Reason::ConfigInvalid, format!("route {id:?} has no `base_url`")));
                };
                let mut allowed = around.allowed.clone();
                let host = base_url.host().trim_start_matches('[').trim_end_matches(']').to_owned();
                allowed.push(HostPort { host, port: base_url.port() });
                let guard = Guard::new(&allowed, Arc::clone(&around.resolver));
                Ok(Self::OpenAi(OpenAi {
                    client: Client::new(guard, around.deadlines),
                    base_url,
                    call_time: Duration::from_millis(route.timeout_ms.unwrap_or(limits::CALL_MS)),
                    clock: Arc::clone(&around.clock),
                }))
            }
        }
    }

    async fn call(
        &self,
        request: &ModelRequest,
        deltas: Sender<Delta>,
        cancel: CancellationToken,
    ) -> Result<ModelAnswer, ProviderError> {
        match self {
            Self::Rehearsal(driver) => driver.call(request, deltas, cancel).await,
            Self::OpenAi(driver) => driver.call(request, deltas, cancel).await,
        }
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

    /// Calls the model of a route.
    pub async fn call(
        &self,
        route: &ResolvedRoute,
        request: &ModelRequest,
        deltas: Sender<Delta>,
        cancel: CancellationToken,
    ) -> Result<ModelAnswer, ProviderError> {
        match self.by_route.get(&route.route_id) {
            Some(speaker) => speaker.call(request, deltas, cancel).await,
            None => Err(ProviderError::before(Reason::RouteNotFound, format!("no route {:?}", route.route_id))),
        }
    }
}
