//! A turn: one call of the model and its answer.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

mod route_decision;

pub use self::route_decision::{Payer, RouteDecision, RouteReason};
use super::call;
use super::command::{self, Context, Decided};
use super::credential::{CredentialUse, subjects_of_run};
use super::ids::{CallId, RunId};
use super::ledger::reserve::reserve;
use super::ledger::{self, Basis, Cost, Quote, Reservation, Tokens};
use super::limits::{CALLS_PER_TURN, TOKEN_BYTES};
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::run::{self, TurnStage, out_of_order};
use super::stream::Stream;
use super::world::World;

/// `turn.requested`: the intent, sealed before the provider is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// Counts from 1.
    pub turn: u32,
    /// Counts from 1 within the turn; above 1 after a restart or a retry.
    pub attempt: u32,
    /// Route id.
    pub route: String,
    /// Model.
    pub model: String,
    /// The secret that the call uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialUse>,
    /// Digest of the request as the driver was given it, hex, but for its limit of tokens, which `reservation` has; hashed
    /// once more under the session's key, where it has one.
    pub request_sha256: String,
    /// Earlier runs of the session that the request does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_left_out: Option<NonZeroU32>,
    /// Turns that it does not tell of the runs that it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_left_out: Option<NonZeroU32>,
    /// Texts of which it tells only the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts_shortened: Option<NonZeroU32>,
    /// Which route was decided on; absent where it is the pinned one and needs no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_decision: Option<RouteDecision>,
    /// What is set aside for it; none where the route costs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Box<Reservation>>,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It was done.
    EndTurn,
    /// It wants calls made.
    ToolUse,
    /// It ran into its limit.
    MaxTokens,
    /// The provider held the rest back.
    ContentFilter,
    /// Something else; the provider's word is in the debug record.
    Other,
}

/// Where a usage figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider said so.
    Reported,
    /// Counted here.
    Estimated,
}

/// Tokens of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Tokens received, those of thinking included.
    pub output_tokens: u64,
    /// Of those sent: read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Of those sent: written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_written_tokens: Option<u64>,
    /// Of those received: spent on thinking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Where the figures come from.
    pub source: UsageSource,
}

impl Usage {
    /// Tokens sent and received, of which nothing further is known.
    pub fn new(input_tokens: u64, output_tokens: u64, source: UsageSource) -> Self {
        let (cached_tokens, cache_written_tokens, reasoning_tokens) = (None, None, None);
        Self { input_tokens, output_tokens, cached_tokens, cache_written_tokens, reasoning_tokens, source }
    }
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Ours.
    pub call_id: CallId,
    /// The provider's name for it, needed to answer.
    pub provider_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments as the model wrote them: JSON text, possibly invalid.
    pub input: Personal,
}

/// `turn.answered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The turn.
    pub turn: u32,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Personal>,
    /// What it thought aloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Personal>,
    /// In order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it cost, where something was set aside for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Milliseconds from request to end.
    pub duration_ms: u64,
}

/// `turn.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The turn.
    pub turn: u32,
    /// Why.
    pub code: Reason,
    /// What is particular about it.
    pub detail: String,
    /// Words received before it broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Personal>,
    /// What it cost, where something was set aside for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Milliseconds from request to end.
    pub duration_ms: u64,
}

/// `turn.reservation_settled`: what was set aside for an attempt whose end nobody saw is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReservationSettled {
    /// The turn.
    pub turn: u32,
    /// The attempt.
    pub attempt: u32,
    /// What it cost.
    pub cost: Cost,
}

/// A worker is about to call the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The run.
    pub run_id: RunId,
    /// Which turn and attempt, and of what; what is set aside for it is decided.
    pub body: Requested,
    /// What is known about its cost; none where the route costs nothing.
    pub quote: Option<Box<Quote>>,
}

/// A call that the model asks for, before it has an id of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The provider's name for it.
    pub provider_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments as the model wrote them.
    pub input: Personal,
}

/// A worker reports the model's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The run.
    pub run_id: RunId,
    /// The turn.
    pub turn: u32,
    /// What it said.
    pub text: Option<Personal>,
    /// What it thought aloud.
    pub reasoning: Option<Personal>,
    /// What it wants called, in order.
    pub calls: Vec<Wanted>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it took.
    pub usage: Option<Usage>,
    /// Milliseconds from request to end.
    pub duration_ms: u64,
}

/// A worker reports that the model's call broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    /// The run.
    pub run_id: RunId,
    /// Which turn, and why; its cost is decided.
    pub body: Failed,
    /// Bytes of an answer that were heard, those of thoughts and calls included.
    pub heard_bytes: usize,
    /// What it took, where there was an answer that could not be recorded.
    pub usage: Option<Usage>,
}

fn decided(world: &World, run: &run::Live, id: RunId, event: super::event::Event) -> Decided {
    Decided::one(Draft::new(world.names.text(run.org), Stream::Run(id), event), command::Answer::Run(id))
}

pub(super) fn request(world: &World, ask: &Request, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = run::working(world, ask.run_id, context)?;
    let (turn, attempt) = match run.turn_stage {
        TurnStage::None | TurnStage::Answered => (run.turn.saturating_add(1), 1),
        TurnStage::Requested | TurnStage::Failed => (run.turn, run.attempt.saturating_add(1)),
    };
    if (ask.body.turn, ask.body.attempt) != (turn, attempt) {
        return Err(out_of_order(format!("Turn {turn}, attempt {attempt} comes next.")));
    }
    if !run.calls_settled() {
        return Err(out_of_order("A call of the turn has no result yet."));
    }
    if turn > run.max_turns {
        return Err(Refusal::new(Reason::RunTurnLimit, format!("The run has at most {} turns.", run.max_turns)));
    }
    if let Some(used) = &ask.body.credential {
        let subjects = subjects_of_run(world, Stream::Run(ask.run_id), &ask.body.route);
        world.check_credential(world.names.text(run.org), used, &subjects)?;
    }
    let org = world.names.text(run.org);
    let principal = world.names.text(run.principal);
    let payer = ledger::Payer { org, principal, route: &ask.body.route, session_id: Some(run.session) };
    let quoted = ask.quote.as_ref().map(|quote| reserve(world, payer, quote, context.now_ms).map(Box::new));
    let body = Requested { reservation: quoted.transpose()?, ..ask.body.clone() };
    let mut decided = decided(world, run, ask.run_id, body.into());
    decided.drafts.splice(0..0, unsettled(world, ask.run_id, run));
    Ok(decided)
}

/// What is still set aside for an attempt of a run that nobody will hear of any more.
pub(super) fn unsettled(world: &World, id: RunId, run: &run::Live) -> Option<Draft> {
    let stream = Stream::Run(id);
    let cost = world.ledger.open(stream)?.reservation.in_full(Basis::Crash);
    let event = ReservationSettled { turn: run.turn, attempt: run.attempt, cost };
    Some(Draft::new(world.names.text(run.org), stream, event.into()))
}

/// What the open attempt of a run cost, where something is set aside for it.
fn cost(world: &World, id: RunId, of: impl FnOnce(&Reservation) -> Cost) -> Option<Cost> {
    world.ledger.open(Stream::Run(id)).map(|open| of(&open.reservation))
}

/// What an answer cost.
fn cost_of_answer(reservation: &Reservation, usage: Option<&Usage>) -> Cost {
    let Some(usage) = usage else { return reservation.in_full(Basis::Estimated) };
    let basis = match usage.source {
        UsageSource::Reported => Basis::Reported,
        UsageSource::Estimated => Basis::Estimated,
    };
    let tokens = Tokens {
        input: usage.input_tokens,
        cached_input: usage.cached_tokens.unwrap_or(0),
        cache_write: usage.cache_written_tokens.unwrap_or(0),
        output: usage.output_tokens,
    };
    reservation.cost(tokens, basis)
}

/// What an attempt without an answer cost: what is said of it, nothing where the provider did not take it, all that was set
/// aside where nothing was heard, and otherwise what was heard of it, which is never more than that.
fn cost_of_failure(reservation: &Reservation, ask: &Fail) -> Cost {
    if let Some(usage) = &ask.usage {
        return cost_of_answer(reservation, Some(usage));
    }
    let taken = !ask.body.code.surely_no_effect() || ask.heard_bytes > 0
        // Both cut a call that went on.
        || [Reason::RunStopping, Reason::VaultLeaseRevoked].contains(&ask.body.code);
    if !taken {
        return reservation.nothing();
    }
    if ask.heard_bytes == 0 {
        return reservation.in_full(Basis::Estimated);
    }
    let heard = ask.heard_bytes.div_ceil(TOKEN_BYTES) as u64;
    let output = heard.min(reservation.output_tokens.unwrap_or(u64::MAX));
    let tokens = Tokens { input: reservation.input_tokens, output, ..Tokens::default() };
    reservation.cost(tokens, Basis::Estimated)
}

fn check_open(run: &run::Live, turn: u32) -> Result<(), Refusal> {
    if run.turn == turn && run.turn_stage == TurnStage::Requested {
        return Ok(());
    }
    Err(out_of_order(format!("The model was not asked for turn {turn}.")))
}

pub(super) fn answer(world: &World, ask: &Answer, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    let run = run::claimed(world, ask.run_id, context)?;
    check_open(run, ask.turn)?;
    if ask.calls.len() > CALLS_PER_TURN {
        let detail = format!("A turn has at most {CALLS_PER_TURN} calls, not {}.", ask.calls.len());
        return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
    }
    let numbered = |wanted: &Wanted| ToolCall {
        call_id: CallId::from_ulid(context.ulid()),
        provider_id: wanted.provider_id.clone(),
        tool: wanted.tool.clone(),
        input: wanted.input.clone(),
    };
    let event = Answered {
        turn: ask.turn,
        text: ask.text.clone(),
        reasoning: ask.reasoning.clone(),
        tool_calls: ask.calls.iter().map(numbered).collect(),
        stop: ask.stop,
        usage: ask.usage.clone(),
        cost: cost(world, ask.run_id, |reservation| cost_of_answer(reservation, ask.usage.as_ref())),
        duration_ms: ask.duration_ms,
    };
    Ok(decided(world, run, ask.run_id, event.into()))
}

pub(super) fn fail(world: &World, ask: &Fail, context: &Context<'_>) -> Result<Decided, Refusal> {
    let run = run::claimed(world, ask.run_id, context)?;
    check_open(run, ask.body.turn)?;
    let cost = cost(world, ask.run_id, |reservation| cost_of_failure(reservation, ask));
    Ok(decided(world, run, ask.run_id, Failed { cost, ..ask.body.clone() }.into()))
}

impl World {
    pub(super) fn fold_turn_requested(&mut self, record: &Record, body: &Requested) {
        let subjects = subjects_of_run(self, record.stream, &body.route);
        let org = self.names.intern(&record.org);
        self.vault.lend(org, record.stream, body.credential.as_ref(), subjects);
        if let Some(run) = self.run_of(record) {
            run.turn = body.turn;
            run.attempt = body.attempt;
            run.turn_stage = TurnStage::Requested;
            run.calls.clear();
        }
    }

    pub(super) fn fold_turn_answered(&mut self, record: &Record, body: &Answered) {
        self.vault.give_back(record.stream);
        if let Some(run) = self.run_of(record) {
            run.turn_stage = TurnStage::Answered;
            let asked =
                |call: &ToolCall| (call.call_id, call::Live { tool: call.tool.clone(), stage: call::Stage::Asked });
            run.calls = body.tool_calls.iter().map(asked).collect();
        }
    }

    pub(super) fn fold_turn_failed(&mut self, record: &Record) {
        self.vault.give_back(record.stream);
        if let Some(run) = self.run_of(record) {
            run.turn_stage = TurnStage::Failed;
        }
    }
}
