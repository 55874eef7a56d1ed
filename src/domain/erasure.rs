//! Erasure: where the organisation asks for it, a session's words are encrypted under a key of its own, and destroying
//! that key erases them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::{Answer, Decided, check_note, invalid};
use super::event::Event;
use super::ids::{SessionId, SubjectKeyId};
use super::names::{Name, Names};
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::run::out_of_order;
use super::session::Ended;
use super::stream::Stream;
use super::world::World;

/// `session.erased`: the key of the session's words is destroyed, and the words with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// The key.
    pub key: SubjectKeyId,
    /// An operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Asks for a session's words to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erase {
    /// The caller's organisation.
    pub org: String,
    /// The session.
    pub session_id: SessionId,
    /// The caller's words.
    pub note: Option<String>,
}

/// The key of one session's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectKey {
    org: Name,
    /// The key.
    pub id: SubjectKeyId,
    /// Whether it is destroyed.
    pub erased: bool,
}

/// The keys of all sessions that have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectKeys(BTreeMap<SessionId, SubjectKey>);

impl SubjectKeys {
    /// The key of a session's words; none where they stand in clear.
    pub fn of(&self, session: SessionId) -> Option<SubjectKey> {
        self.0.get(&session).copied()
    }

    /// The keys that are destroyed.
    pub fn erased(&self) -> impl Iterator<Item = SubjectKeyId> {
        self.0.values().filter(|key| key.erased).map(|key| key.id)
    }

    /// Folds a record; others than those of sessions change nothing.
    pub fn apply(&mut self, record: &Record, names: &mut Names) {
        let Some(session) = record.stream.session() else { return };
        if let Event::SessionCreated(body) = &record.event {
            let mut key = |id| SubjectKey { org: names.intern(&record.org), id, erased: false };
            self.0.extend(body.subject_key.map(|id| (session, key(id))));
        }
        if let (Event::SessionErased(_), Some(key)) = (&record.event, self.0.get_mut(&session)) {
            key.erased = true;
        }
    }
}

pub(super) fn erase(world: &World, ask: &Erase) -> Result<Decided, Refusal> {
    check_note("/reason", ask.note.as_deref())?;
    let id = ask.session_id;
    let live = world.sessions.get(&id);
    let org = live.map(|session| session.org).or_else(|| world.sessions_ended.get(&id).copied());
    if !org.is_some_and(|org| world.names.is(org, &ask.org)) {
        return Err(Reason::SessionNotFound.into());
    }
    let key = world.subjects.of(id).ok_or_else(|| {
        invalid(
            "",
            "The session's words stand in clear: erasure was off when it was created, and they cannot be erased.",
        )
    })?;
    if key.erased {
        return Ok(Decided::nothing(Answer::Session(id)));
    }
    if let Some(run) = live.and_then(|session| session.active.or(session.queue.front().copied())) {
        return Err(out_of_order(format!("{run} of the session goes on: stop it first.")));
    }
    if let Some((task, _)) = world.tasks.iter().find(|(_, task)| task.session == id) {
        return Err(out_of_order(format!("{task} of the session goes on: stop it first.")));
    }
    let draft = |event| Draft::new(&ask.org, Stream::Session(id), event);
    let ended = live.filter(|session| !session.ended).map(|_| draft(Ended { note: ask.note.clone() }.into()));
    let erased = draft(Erased { key: key.id, note: ask.note.clone() }.into());
    Ok(Decided { drafts: ended.into_iter().chain([erased]).collect(), answer: Answer::Session(id) })
}
