//! An approval: a person's decision about one exact call, bound to the hashes of the call and of the card that was shown.

use serde::{Deserialize, Serialize};

use super::actor::ActorKind;
use super::call::{self, Stage};
use super::command::{Answer, Context, Decided as Outcome, check_note};
use super::context::ClockTrust;
use super::ids::{ApprovalId, CallId, RunId};
use super::limits::{APPROVAL_MS, CARD_BYTES, SWEEP_ITEMS};
use super::names::Name;
use super::permission::{self, Behavior};
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::run::{self, Status, out_of_order};
use super::stream::Stream;
use super::world::World;

/// `approval.requested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The approval.
    pub approval_id: ApprovalId,
    /// The call.
    pub call_id: CallId,
    /// Name of the tool.
    pub tool: String,
    /// The canonical call: RFC 8785 JSON text.
    pub call: Personal,
    /// SHA-256 of the canonical call, hex.
    pub call_hash: String,
    /// What the approver is shown.
    pub card: Personal,
    /// SHA-256 of the card, hex.
    pub card_hash: String,
    /// When it lapses, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The call may be made.
    Allow,
    /// It may not.
    Deny,
}

/// `approval.decided`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The approval.
    pub approval_id: ApprovalId,
    /// Allow or deny.
    pub decision: Decision,
    /// What the approver sent; equals the stored one.
    pub call_hash: String,
    /// What the approver sent; equals the stored one.
    pub card_hash: String,
    /// The approver's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `approval.expired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// The approval.
    pub approval_id: ApprovalId,
}

/// Why an approval or a question was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawnCause {
    /// Its run ended.
    RunEnded,
    /// The call is no longer the one shown.
    CallChanged,
}

/// `approval.withdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The approval.
    pub approval_id: ApprovalId,
    /// Why.
    pub cause: WithdrawnCause,
}

/// An approval that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Organisation.
    pub org: Name,
    /// Its run.
    pub run: RunId,
    /// The call.
    pub call: CallId,
    /// SHA-256 of the canonical call, hex.
    pub call_hash: String,
    /// SHA-256 of the card, hex.
    pub card_hash: String,
    /// When it lapses, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// How an approval came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Someone decided.
    Decided {
        /// What.
        decision: Decision,
        /// Who.
        by: Name,
    },
    /// Nobody did in time.
    Expired,
    /// It was taken back.
    Withdrawn(WithdrawnCause),
}

/// What is kept of an approval that no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Organisation.
    pub org: Name,
    /// How it ended.
    pub end: End,
}

/// A worker asks a person to allow a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The run.
    pub run_id: RunId,
    /// The call.
    pub call_id: CallId,
    /// The canonical call.
    pub call: Personal,
    /// Its SHA-256, hex.
    pub call_hash: String,
    /// The card.
    pub card: Personal,
    /// Its SHA-256, hex.
    pub card_hash: String,
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decide {
    /// The caller's organisation.
    pub org: String,
    /// The approval.
    pub approval_id: ApprovalId,
    /// Allow or deny.
    pub decision: Decision,
    /// Hash of the call that the caller saw, hex.
    pub call_hash: String,
    /// Hash of the card that the caller saw, hex.
    pub card_hash: String,
    /// The caller's words.
    pub note: Option<String>,
}

/// The call that waits is no longer the one that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdraw {
    /// The organisation of whoever saw that.
    pub org: String,
    /// The approval.
    pub approval_id: ApprovalId,
}

impl Decision {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

pub(super) fn request(world: &World, ask: &Request, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
    let run = run::claimed(world, ask.run_id, context)?;
    if run.stop.is_some() {
        return Err(Reason::RunStopping.into());
    }
    if ask.call.bytes() > CARD_BYTES || ask.card.bytes() > CARD_BYTES {
        let detail = format!("The call is too large to be shown whole; the limit is {CARD_BYTES} bytes.");
        return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
    }
    let call = call::of_run(run, ask.call_id)?;
    let org = world.names.text(run.org);
    let mut drafts = Vec::new();
    match &call.stage {
        Stage::Judged(Behavior::Ask) if run.status == Status::Running => {}
        Stage::Approved { call_hash, .. } if *call_hash != ask.call_hash && run.status == Status::Running => {}
        Stage::AwaitsApproval(id) => {
            let shown = world.approvals.get(id).map(|pending| (&pending.call_hash, &pending.card_hash));
            if shown == Some((&ask.call_hash, &ask.card_hash)) {
                return Ok(Outcome::nothing(Answer::Approval(*id)));
            }
            let event = Withdrawn { approval_id: *id, cause: WithdrawnCause::CallChanged };
            drafts.push(Draft::new(org, Stream::Run(ask.run_id), event.into()));
        }
        Stage::Judged(_)
        | Stage::Approved { .. }
        | Stage::Asked
        | Stage::Dropped
        | Stage::AwaitsAnswer(_)
        | Stage::Answered
        | Stage::Dispatched
        | Stage::Done => return Err(out_of_order("The call needs no approval now.")),
    }
    let id = ApprovalId::from_ulid(context.ulid());
    let event = Requested {
        approval_id: id,
        call_id: ask.call_id,
        tool: call.tool.clone(),
        call: ask.call.clone(),
        call_hash: ask.call_hash.clone(),
        card: ask.card.clone(),
        card_hash: ask.card_hash.clone(),
        expires_at_ms: context.now_ms.saturating_add(APPROVAL_MS),
    };
    drafts.push(Draft::new(org, Stream::Run(ask.run_id), event.into()));
    Ok(Outcome { drafts, answer: Answer::Approval(id) })
}

/// Why an approval can no longer be decided.
fn over(world: &World, past: &Past) -> Refusal {
    match past.end {
        End::Decided { decision, by } => {
            let detail = format!("{} decided before: {}.", world.names.text(by), decision.word());
            Refusal::new(Reason::ApprovalAlreadyDecided, detail)
        }
        End::Expired => Reason::ApprovalExpired.into(),
        End::Withdrawn(WithdrawnCause::RunEnded) => Reason::RunTerminal.into(),
        End::Withdrawn(WithdrawnCause::CallChanged) => Reason::ApprovalCallChanged.into(),
    }
}

/// An approval that can still be decided.
fn open<'w>(world: &'w World, org: &str, id: ApprovalId, context: &Context<'_>) -> Result<&'w Pending, Refusal> {
    if let Some(past) = world.approvals_ended.get(&id).filter(|past| world.names.is(past.org, org)) {
        return Err(over(world, past));
    }
    let pending = world.approvals.get(&id).filter(|pending| world.names.is(pending.org, org));
    let pending = pending.ok_or(Reason::ApprovalNotFound)?;
    if due(world, pending.expires_at_ms, context) { Err(Reason::ApprovalExpired.into()) } else { Ok(pending) }
}

/// Takes an approval back whose call has changed. Its run then asks anew.
pub(super) fn withdraw(world: &World, ask: &Withdraw, context: &Context<'_>) -> Result<Outcome, Refusal> {
    let pending = open(world, &ask.org, ask.approval_id, context)?;
    let event = Withdrawn { approval_id: ask.approval_id, cause: WithdrawnCause::CallChanged };
    Ok(Outcome::one(Draft::new(&ask.org, Stream::Run(pending.run), event.into()), Answer::Approval(ask.approval_id)))
}

pub(super) fn decide(world: &World, ask: &Decide, context: &Context<'_>) -> Result<Outcome, Refusal> {
    check_person(context)?;
    check_note("/reason", ask.note.as_deref())?;
    let pending = open(world, &ask.org, ask.approval_id, context)?;
    if ask.call_hash != pending.call_hash {
        return Err(Refusal::from(Reason::ApprovalCallChanged).at("/call_hash"));
    }
    if ask.card_hash != pending.card_hash {
        return Err(Refusal::from(Reason::ApprovalCallChanged).at("/card_hash"));
    }
    if ask.decision == Decision::Allow {
        // Mode and rules may have changed since the person was asked; nobody allows what they deny now.
        let run = run::live(world, pending.run)?;
        permission::check_still(world, run, &call::of_run(run, pending.call)?.tool, true)?;
    }
    let event = Decided {
        approval_id: ask.approval_id,
        decision: ask.decision,
        call_hash: ask.call_hash.clone(),
        card_hash: ask.card_hash.clone(),
        note: ask.note.clone(),
    };
    Ok(Outcome::one(Draft::new(&ask.org, Stream::Run(pending.run), event.into()), Answer::Approval(ask.approval_id)))
}

/// Agents, connectors, schedules and the daemon itself decide and answer nothing.
pub(super) fn check_person(context: &Context<'_>) -> Result<(), Refusal> {
    match context.actor.kind {
        ActorKind::Human | ActorKind::Token => Ok(()),
        ActorKind::Connector | ActorKind::Agent | ActorKind::Schedule | ActorKind::System => {
            Err(Reason::ApprovalNotPermitted.into())
        }
    }
}

/// Whether something that lapses is due. While the clock is not trusted, only a recorded lapse counts.
pub(super) fn due(world: &World, expires_at_ms: u64, context: &Context<'_>) -> bool {
    world.clock == ClockTrust::Trusted && context.now_ms >= expires_at_ms
}

pub(super) fn expire(world: &World, context: &Context<'_>) -> Result<Outcome, Refusal> {
    if world.clock != ClockTrust::Trusted {
        return Err(Reason::TimeUntrusted.into());
    }
    let lapsed = world.approvals.iter().filter(|(_, pending)| context.now_ms >= pending.expires_at_ms);
    let drafts = lapsed.take(SWEEP_ITEMS).map(|(id, pending)| {
        let event = Expired { approval_id: *id };
        Draft::new(world.names.text(pending.org), Stream::Run(pending.run), event.into())
    });
    Ok(Outcome { drafts: drafts.collect(), answer: Answer::Nothing })
}

impl World {
    pub(super) fn fold_approval_requested(&mut self, record: &Record, body: &Requested) {
        let Some(run_id) = record.stream.run() else { return };
        let org = self.names.intern(&record.org);
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        run.status = Status::WaitingForApproval;
        run.approval = Some(body.approval_id);
        self.set_stage_of(run_id, body.call_id, Stage::AwaitsApproval(body.approval_id));
        let pending = Pending {
            org,
            run: run_id,
            call: body.call_id,
            call_hash: body.call_hash.clone(),
            card_hash: body.card_hash.clone(),
            expires_at_ms: body.expires_at_ms,
        };
        self.approvals.insert(body.approval_id, pending);
    }

    pub(super) fn fold_approval_decided(&mut self, record: &Record, body: &Decided) {
        let by = self.names.intern(&record.actor.id);
        let stage = match body.decision {
            Decision::Allow => Stage::Approved { approval_id: body.approval_id, call_hash: body.call_hash.clone() },
            Decision::Deny => Stage::Dropped,
        };
        self.end_approval(body.approval_id, End::Decided { decision: body.decision, by }, stage);
    }

    pub(super) fn fold_approval_expired(&mut self, body: &Expired) {
        self.end_approval(body.approval_id, End::Expired, Stage::Dropped);
    }

    pub(super) fn fold_approval_withdrawn(&mut self, body: &Withdrawn) {
        let stage = match body.cause {
            WithdrawnCause::RunEnded => Stage::Dropped,
            WithdrawnCause::CallChanged => Stage::Judged(Behavior::Ask),
        };
        self.end_approval(body.approval_id, End::Withdrawn(body.cause), stage);
    }

    fn end_approval(&mut self, id: ApprovalId, end: End, stage: Stage) {
        let Some(pending) = self.approvals.remove(&id) else { return };
        self.approvals_ended.insert(id, Past { org: pending.org, end });
        if let Some(run) = self.runs.get_mut(&pending.run) {
            run.approval = None;
            run.status = Status::Running;
        }
        self.set_stage_of(pending.run, pending.call, stage);
    }
}
