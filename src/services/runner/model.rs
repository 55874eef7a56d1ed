//! What the runner asks of models: which route answers a run, and the answer to one request. Whoever speaks to
//! providers stands behind this.

use std::num::NonZeroU32;

use futures_util::future::BoxFuture;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::transcript::{CallText, LeftOut, Message};
use crate::domain::credential::CredentialUse;
use crate::domain::ids::RunId;
use crate::domain::ledger::Quote;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::run::RouteChoice;
use crate::domain::turn::{StopReason, Usage};
use crate::services::lanes::Lanes;

/// What a run or its session asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Route id.
    pub route: Option<&'a str>,
    /// Model.
    pub model: Option<&'a str>,
}

/// The route that answers a run; pinned by its first claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Route id.
    pub route: String,
    /// Its driver.
    pub driver: String,
    /// Model.
    pub model: String,
    /// Which level chose the route.
    pub chosen_by: RouteChoice,
    /// Whether the answers come from a script instead of a model.
    pub rehearsal: bool,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolText {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: serde_json::Value,
}

/// One request to a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelRequest {
    /// The run that asks.
    pub run_id: RunId,
    /// The turn, from 1.
    pub turn: u32,
    /// Route id, as pinned.
    pub route: String,
    /// Model, as pinned.
    pub model: String,
    /// What the model is told before the conversation.
    pub system: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// What it lacks.
    pub left_out: LeftOut,
    /// Tools it may want called.
    pub tools: Vec<ToolText>,
    /// The secret that it uses, as the record of the intent names it.
    #[serde(skip)]
    pub credential: Option<CredentialUse>,
    /// Tokens after which it shall stop, where the route does not say fewer.
    #[serde(skip)]
    pub max_output_tokens: Option<NonZeroU32>,
}

impl ModelRequest {
    /// SHA-256 of the request, hex.
    pub fn digest(&self) -> Result<String, Refusal> {
        Ok(data_encoding::HEXLOWER.encode(&Sha256::digest(self.written()?)))
    }

    /// How many bytes it takes, written out.
    pub fn bytes(&self) -> Result<usize, Refusal> {
        Ok(self.written()?.len())
    }

    fn written(&self) -> Result<Vec<u8>, Refusal> {
        serde_json::to_vec(self).map_err(|fault| {
            Refusal::new(Reason::InternalError, format!("The request to the model cannot be written: {fault}."))
        })
    }
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// Its words.
    pub text: Option<String>,
    /// What it thought aloud.
    pub reasoning: Option<String>,
    /// What it wants called, in order.
    pub calls: Vec<CallText>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it took.
    pub usage: Option<Usage>,
}

/// A piece of an answer while it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Words.
    Words(String),
    /// So many bytes that nobody is shown: thinking aloud, and calls that it asks for.
    Unshown(usize),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFailure {
    /// Why; whether another attempt makes sense is the reason's own.
    pub code: Reason,
    /// What is particular about it; no secret.
    pub detail: String,
    /// How long the provider wants to be left alone, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The words of an answer that broke off.
    pub partial: Option<String>,
}

/// On what terms a route is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTerms {
    /// The slot that holds its key.
    pub auth_ref: Option<String>,
    /// Calls at a time, where they are bounded.
    pub calls_at_a_time: Option<usize>,
    /// Whether it is told of no tools.
    pub without_tools: bool,
}

/// Speaks to models.
pub trait ModelCaller: Send + Sync {
    /// The route that answers: the run's wish before the session's before the runtime's before the default.
    fn choose(&self, run: Wish<'_>, session: Wish<'_>, runtime: Wish<'_>) -> Result<Choice, Refusal>;

    /// The secret that a call over this route would use, for the record of its intent; none where it needs none.
    /// `subjects` are whom it serves, nearest first.
    fn credential(&self, _org: &str, _route: &str, _subjects: Vec<String>) -> Result<Option<CredentialUse>, Refusal> {
        Ok(None)
    }

    /// What is known about the cost of a request before it is made; none where it costs nothing.
    fn quote(&self, _request: &ModelRequest) -> Result<Option<Quote>, Refusal> {
        Ok(None)
    }

    /// Routes and models that stand in for a route, in order.
    fn fallbacks(&self, route: &str) -> Vec<(String, String)>;

    /// On what terms a route is used.
    fn terms(&self, route: &str) -> RouteTerms;

    /// Calls under way, which those of clients share.
    fn lanes(&self) -> Lanes;

    /// Asks once. Pieces are sent as they come, and none is dropped: the call waits for whoever takes them. When `stop`
    /// resolves, or when the future is dropped, the call is given up.
    fn call(
        &self,
        request: ModelRequest,
        pieces: mpsc::Sender<Piece>,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<ModelAnswer, ModelFailure>>;
}
