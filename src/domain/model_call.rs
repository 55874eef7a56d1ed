//! A model call of a client behind the gateway: the intent with its reservation, and what became of it.

use serde::{Deserialize, Serialize};

use super::command::{Answer, Context, Decided};
use super::credential::CredentialUse;
use super::ids::{BootId, ModelCallId, SessionId};
use super::ledger::reserve::reserve;
use super::ledger::{Basis, Cost, Payer, Quote, Reservation, Tokens};
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::session;
use super::stream::Stream;
use super::turn::RouteDecision;
use super::world::World;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Chat completions.
    ChatCompletions,
    /// Responses.
    Responses,
    /// Messages.
    Messages,
}

/// `model_call.requested`: the intent, sealed before the first byte leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The start of the daemon that makes the call.
    pub boot_id: BootId,
    /// Route id.
    pub route: String,
    /// Driver of the route.
    pub driver: String,
    /// Model.
    pub model: String,
    /// How the client speaks.
    pub dialect: Dialect,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Digest of the request's body as the client sent it, hex.
    pub body_sha256: String,
    /// What is set aside for it, and who pays.
    pub reservation: Box<Reservation>,
    /// The credential that it uses; none where the provider asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Box<CredentialUse>>,
    /// Why it goes over this route, where another one was asked before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_decision: Option<Box<RouteDecision>>,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client has the whole answer.
    Answered,
    /// The provider refused it.
    Refused,
    /// The answer was cut where the reservation ends.
    Cut,
    /// The client hung up before the end.
    Left,
    /// The answer broke off, or was larger than an answer may be.
    Broken,
    /// Nothing was sent.
    NotSent,
    /// It was sent, and no answer came.
    Unanswered,
    /// The daemon ended before it did.
    Lost,
}

impl Outcome {
    /// Whether the provider surely did not take the call, so that its idempotency key may be used again.
    pub fn frees_key(self) -> bool {
        matches!(self, Self::Refused | Self::NotSent)
    }
}

/// `model_call.settled`: what it took. The answer may have reached the client before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// What became of it.
    pub outcome: Outcome,
    /// What it cost.
    pub cost: Cost,
    /// Tokens that it took, where that is known or estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Status of the provider's answer, where one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Reason>,
    /// Milliseconds from the request to the end, where the daemon that counted them lived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// A client's call is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The caller's organisation.
    pub org: String,
    /// Route id.
    pub route: String,
    /// Driver of the route.
    pub driver: String,
    /// Model.
    pub model: String,
    /// How the client speaks.
    pub dialect: Dialect,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Digest of the request's body, hex.
    pub body_sha256: String,
    /// The session that the client names.
    pub session_id: Option<SessionId>,
    /// What is known about its cost.
    pub quote: Quote,
    /// The credential that it uses.
    pub credential: Option<CredentialUse>,
    /// Why it goes over this route, where another one was asked before it for the same request.
    pub route_decision: Option<RouteDecision>,
}

/// What a call is known to have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many tokens, and who counted them.
    Tokens(Tokens, Basis),
    /// Nothing.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl Taken {
    /// What it cost under a reservation, and the tokens.
    pub(super) fn under(self, reservation: &Reservation) -> (Cost, Option<Tokens>) {
        match self {
            Self::Tokens(tokens, basis) => (reservation.cost(tokens, basis), Some(tokens)),
            Self::Nothing => (reservation.nothing(), None),
            Self::Unknown => (reservation.in_full(Basis::Estimated), None),
        }
    }
}

/// A client's call has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// The call.
    pub model_call_id: ModelCallId,
    /// What became of it.
    pub outcome: Outcome,
    /// What it took.
    pub taken: Taken,
    /// Status of the provider's answer.
    pub status: Option<u16>,
    /// Why it did not end well.
    pub code: Option<Reason>,
    /// Milliseconds from the request to the end.
    pub duration_ms: u64,
}

pub(super) fn request(world: &World, ask: &Request, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    if let Some(id) = ask.session_id {
        session::live(world, &ask.org, id)?;
    }
    let payer = Payer { org: &ask.org, principal: &context.actor.id, route: &ask.route, session_id: ask.session_id };
    let reservation = reserve(world, payer, &ask.quote, context.now_ms)?;
    if let Some(used) = &ask.credential {
        let subjects = subjects(&context.actor.id, ask.session_id, &ask.route);
        world.check_credential(&ask.org, used, &subjects)?;
    }
    let event = Requested {
        boot_id: context.boot_id,
        route: ask.route.clone(),
        driver: ask.driver.clone(),
        model: ask.model.clone(),
        dialect: ask.dialect,
        stream: ask.stream,
        body_sha256: ask.body_sha256.clone(),
        reservation: Box::new(reservation),
        credential: ask.credential.clone().map(Box::new),
        route_decision: ask.route_decision.clone().map(Box::new),
    };
    let id = ModelCallId::from_ulid(context.ulid());
    Ok(Decided::one(Draft::new(&ask.org, Stream::ModelCall(id), event.into()), Answer::ModelCall(id)))
}

pub(super) fn settle(world: &World, ask: &Settle) -> Result<Decided, Refusal> {
    let stream = Stream::ModelCall(ask.model_call_id);
    let open = world.ledger.open(stream).ok_or(Reason::ModelCallNotFound)?;
    let (cost, tokens) = ask.taken.under(&open.reservation);
    let event = Settled {
        outcome: ask.outcome,
        cost,
        tokens,
        status: ask.status,
        code: ask.code,
        duration_ms: Some(ask.duration_ms),
    };
    Ok(Decided::one(Draft::new(&open.org, stream, event.into()), Answer::ModelCall(ask.model_call_id)))
}

/// Whom a call's credential serves, nearest first.
pub fn subjects(principal: &str, session_id: Option<SessionId>, route: &str) -> Vec<String> {
    let session = session_id.map(|id| Stream::Session(id).to_string());
    [Some(format!("token/{principal}")), session, Some(format!("route/{route}"))].into_iter().flatten().collect()
}

/// What an earlier start of the daemon left open: all that was reserved is spent.
pub(super) fn lost(world: &World, boot_id: BootId) -> impl Iterator<Item = Draft> {
    let left = world.model_calls.iter().filter(move |(_, of)| **of != boot_id);
    left.filter_map(|(id, _)| {
        let stream = Stream::ModelCall(*id);
        let open = world.ledger.open(stream)?;
        let cost = open.reservation.in_full(Basis::Crash);
        let event = Settled { outcome: Outcome::Lost, cost, tokens: None, status: None, code: None, duration_ms: None };
        Some(Draft::new(&open.org, stream, event.into()))
    })
}

impl World {
    pub(super) fn fold_model_call_requested(&mut self, record: &Record, body: &Requested) {
        if let Some(id) = record.stream.model_call() {
            self.model_calls.insert(id, body.boot_id);
            let of = &body.reservation;
            let subjects = subjects(&of.principal, of.session_id, &body.route);
            let org = self.names.intern(&record.org);
            self.vault.lend(org, record.stream, body.credential.as_deref(), subjects);
        }
    }

    pub(super) fn fold_model_call_settled(&mut self, record: &Record) {
        if let Some(id) = record.stream.model_call() {
            self.model_calls.remove(&id);
            self.vault.give_back(record.stream);
        }
    }
}
