//! A session: a durable conversation with its own defaults, in which runs queue.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::command::{Answer, Context, Decided, check_note, invalid};
use super::ids::{RunId, SessionId, SubjectKeyId};
use super::limits::{METADATA_ENTRIES, METADATA_VALUE_BYTES, NAME_BYTES, TITLE_BYTES};
use super::names::Name;
use super::permission::{Mode, Rule, check_rules};
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::reply::{ReplyTarget, check_targets};
use super::run::{self, Stop};
use super::runtime::ModelChoice;
use super::stream::Stream;
use super::world::World;

/// `session.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Personal>,
    /// Route id for its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Model for its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Mode for its runs; the runtime's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_mode: Option<Mode>,
    /// Rules of scope `session`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permission_rules: Vec<Rule>,
    /// The creator's own notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Where the answers of its runs go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply_targets: Vec<ReplyTarget>,
    /// The key that its words are encrypted under; where absent, they stand in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_key: Option<SubjectKeyId>,
}

/// `session.route_policy_set`: route and model of the session's later runs, in place of those that it was created with
/// or that were set before; where both are absent, those of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoutePolicySet {
    /// Route and model.
    pub choice: ModelChoice,
}

/// `session.interrupted`: everything in it that ran, waited or was queued is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interrupted {
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `session.ended`: no further run is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A session as far as rules need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Organisation.
    pub org: Name,
    /// Mode for its runs; the runtime's where absent.
    pub permission_mode: Option<Mode>,
    /// Rules of scope `session`.
    pub permission_rules: Vec<Rule>,
    /// `session.route_policy_set` in force, if there is one.
    pub policy_seq: Option<u64>,
    /// The run that works or waits.
    pub active: Option<RunId>,
    /// Runs that wait for their turn, in order.
    pub queue: VecDeque<RunId>,
    /// Whether it has ended and only its last run goes on.
    pub ended: bool,
}

/// Asks for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The caller's organisation.
    pub org: String,
    /// What the session is to be.
    pub body: Created,
}

/// Asks for another route and model of a session's later runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRoutePolicy {
    /// The caller's organisation.
    pub org: String,
    /// The session.
    pub session_id: SessionId,
    /// Route and model; neither for those of the runtime.
    pub choice: ModelChoice,
}

/// Asks for everything in a session to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupt {
    /// The caller's organisation.
    pub org: String,
    /// The session.
    pub session_id: SessionId,
    /// The caller's words.
    pub note: Option<String>,
}

/// Asks for a session to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The caller's organisation.
    pub org: String,
    /// The session.
    pub session_id: SessionId,
    /// The caller's words.
    pub note: Option<String>,
}

/// Checks a creator's own notes.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if metadata.len() > METADATA_ENTRIES {
        return Err(invalid("/metadata", format!("Metadata has at most {METADATA_ENTRIES} entries.")));
    }
    for (key, value) in metadata {
        if key.is_empty() || key.len() > METADATA_VALUE_BYTES || value.len() > METADATA_VALUE_BYTES {
            let detail = format!("A key of metadata has 1 to {METADATA_VALUE_BYTES} bytes, a value at most that many.");
            return Err(invalid("/metadata", detail));
        }
    }
    Ok(())
}

/// Checks the name of a route, a model or a tool.
pub(super) fn check_name(pointer: &str, name: Option<&str>) -> Result<(), Refusal> {
    match name {
        Some(name) if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) => {
            Err(invalid(pointer, format!("A name has 1 to {NAME_BYTES} bytes without control characters.")))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn create(_: &World, ask: &Create, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    if ask.body.title.as_ref().is_some_and(|title| title.bytes() > TITLE_BYTES) {
        return Err(invalid("/title", format!("A title has at most {TITLE_BYTES} bytes.")));
    }
    check_name("/route", ask.body.route.as_deref())?;
    check_name("/model", ask.body.model.as_deref())?;
    check_metadata(&ask.body.metadata)?;
    check_rules("/permission_rules", &ask.body.permission_rules)?;
    check_targets(&ask.body.reply_targets)?;
    let id = SessionId::from_ulid(context.ulid());
    Ok(Decided::one(Draft::new(&ask.org, Stream::Session(id), ask.body.clone().into()), Answer::Session(id)))
}

/// The caller's live session; an ended one and an absent one are refused.
pub(super) fn live<'w>(world: &'w World, org: &str, id: SessionId) -> Result<&'w Live, Refusal> {
    if let Some(session) = world.sessions.get(&id).filter(|session| world.names.is(session.org, org)) {
        return if session.ended { Err(Reason::SessionEnded.into()) } else { Ok(session) };
    }
    match world.sessions_ended.get(&id) {
        Some(of) if world.names.is(*of, org) => Err(Reason::SessionEnded.into()),
        Some(_) | None => Err(Reason::SessionNotFound.into()),
    }
}

pub(super) fn set_route_policy(world: &World, ask: &SetRoutePolicy) -> Result<Decided, Refusal> {
    ask.choice.check()?;
    live(world, &ask.org, ask.session_id)?;
    let event = RoutePolicySet { choice: ask.choice.clone() };
    let draft = Draft::new(&ask.org, Stream::Session(ask.session_id), event.into());
    Ok(Decided::one(draft, Answer::Session(ask.session_id)))
}

pub(super) fn interrupt(world: &World, ask: &Interrupt) -> Result<Decided, Refusal> {
    check_note("/reason", ask.note.as_deref())?;
    let session = live(world, &ask.org, ask.session_id)?;
    let stopped = stop_all(world, ask.session_id, session, ask.note.as_deref());
    if stopped.is_empty() {
        return Ok(Decided::nothing(Answer::Session(ask.session_id)));
    }
    let event = Interrupted { note: ask.note.clone() };
    let mut drafts = vec![Draft::new(&ask.org, Stream::Session(ask.session_id), event.into())];
    drafts.extend(stopped);
    Ok(Decided { drafts, answer: Answer::Session(ask.session_id) })
}

pub(super) fn end(world: &World, ask: &End) -> Result<Decided, Refusal> {
    check_note("/reason", ask.note.as_deref())?;
    let session = live(world, &ask.org, ask.session_id)?;
    let event = Ended { note: ask.note.clone() };
    let mut drafts = vec![Draft::new(&ask.org, Stream::Session(ask.session_id), event.into())];
    drafts.extend(stop_all(world, ask.session_id, session, ask.note.as_deref()));
    Ok(Decided { drafts, answer: Answer::Session(ask.session_id) })
}

/// Stops the active run, every queued run and every task of a session.
fn stop_all(world: &World, id: SessionId, session: &Live, note: Option<&str>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut stopped_tasks = Vec::new();
    for run_id in session.active.iter().chain(&session.queue) {
        if let Some(run) = world.runs.get(run_id) {
            let (of_run, tasks) = run::stop::ask(world, *run_id, run, Stop::Interrupt, note);
            drafts.extend(of_run);
            stopped_tasks.extend(tasks);
        }
    }
    let rest = world
        .tasks
        .iter()
        .filter(|(task_id, task)| task.session == id && !task.stop_requested && !stopped_tasks.contains(*task_id));
    drafts.extend(rest.map(|(task_id, task)| super::task::stop_draft(world, *task_id, task, note)));
    drafts
}

impl World {
    pub(super) fn fold_session_created(&mut self, record: &Record, body: &Created) {
        let Some(id) = record.stream.session() else { return };
        let org = self.names.intern(&record.org);
        self.sessions.insert(
            id,
            Live {
                org,
                permission_mode: body.permission_mode,
                permission_rules: body.permission_rules.clone(),
                policy_seq: None,
                active: None,
                queue: VecDeque::new(),
                ended: false,
            },
        );
    }

    pub(super) fn fold_route_policy_set(&mut self, record: &Record) {
        if let Some(session) = record.stream.session().and_then(|id| self.sessions.get_mut(&id)) {
            session.policy_seq = Some(record.seq);
        }
    }

    pub(super) fn fold_session_ended(&mut self, record: &Record) {
        let Some(id) = record.stream.session() else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.ended = true;
        }
        self.settle_session(id);
    }

    /// Keeps no more than the id of a session that ended and in which nothing goes on.
    pub(super) fn settle_session(&mut self, id: SessionId) {
        let over = |session: &Live| session.ended && session.active.is_none() && session.queue.is_empty();
        if let Some(org) = self.sessions.get(&id).filter(|session| over(session)).map(|session| session.org) {
            self.sessions.remove(&id);
            self.sessions_ended.insert(id, org);
        }
    }
}
