//! What approvals, questions and tasks have in common as read models: each belongs to a run, is opened by one record
//! and closed by another, and is found by its session. Only places are kept; the words stay in the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::page::{Page, Paging};
use crate::domain::ids::{RunId, SessionId};
use crate::domain::names::Name;
use crate::domain::reason::Refusal;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row<Status> {
    /// Its run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// The record that opened it.
    pub opened_seq: u64,
    /// The record that closed it.
    pub closed_seq: Option<NonZeroU64>,
    /// Organisation.
    pub org: Name,
    /// Where it stands.
    pub status: Status,
}

/// All entries of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound = "Id: Ord + Serialize + for<'a> Deserialize<'a>, Status: Serialize + for<'a> Deserialize<'a>"
)]
pub struct Waits<Id: Ord, Status> {
    rows: BTreeMap<Id, Row<Status>>,
    by_session: BTreeMap<SessionId, Vec<Id>>,
    open: BTreeSet<Id>,
}

impl<Id: Ord, Status> Default for Waits<Id, Status> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), by_session: BTreeMap::new(), open: BTreeSet::new() }
    }
}

/// What a list is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter<Status> {
    /// Of one session.
    pub session: Option<SessionId>,
    /// Of one run; its session should be named too, which is far quicker.
    pub run: Option<RunId>,
    /// With one status.
    pub status: Option<Status>,
}

impl<Status> Default for Filter<Status> {
    fn default() -> Self {
        Self { session: None, run: None, status: None }
    }
}

impl<Id: Ord + Copy + Display + FromStr, Status: Copy + PartialEq> Waits<Id, Status> {
    pub(super) fn open(&mut self, id: Id, row: Row<Status>) {
        // Ids of one maker rise; those of two may cross by a little.
        let of_session = self.by_session.entry(row.session).or_default();
        let place = of_session.partition_point(|other| *other < id);
        of_session.insert(place, id);
        self.rows.insert(id, row);
        self.open.insert(id);
    }

    pub(super) fn close(&mut self, id: Id, seq: u64, status: Status) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.closed_seq = NonZeroU64::new(seq);
            row.status = status;
            self.open.remove(&id);
        }
    }

    /// The entry with this id.
    pub fn get(&self, id: Id) -> Option<&Row<Status>> {
        self.rows.get(&id)
    }

    /// What is open, oldest first.
    pub fn open_ids(&self) -> impl Iterator<Item = Id> {
        self.open.iter().copied()
    }

    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// All entries, oldest first.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Id, &Row<Status>)> {
        self.rows.iter()
    }

    /// One page of an organisation's entries. `open_status` is the status of what is open: asked for it, only what is
    /// open is looked at.
    pub(super) fn page(
        &self,
        of_organisation: impl Fn(Name) -> bool,
        filter: &Filter<Status>,
        open_status: Status,
        paging: &Paging,
    ) -> Result<Page<(Id, Row<Status>)>, Refusal> {
        let before: Bound<Id> = paging.before()?;
        let keep = |id: &Id| {
            let row = self.rows.get(id)?;
            let wanted = of_organisation(row.org)
                && filter.session.is_none_or(|session| row.session == session)
                && filter.run.is_none_or(|run| row.run == run)
                && filter.status.is_none_or(|status| row.status == status);
            wanted.then_some((*id, *row))
        };
        if filter.status == Some(open_status) {
            return paging.take(self.open.range((Bound::Unbounded, before)).rev().copied(), keep);
        }
        match filter.session {
            Some(session) => {
                let of_session = self.by_session.get(&session).map_or(&[][..], Vec::as_slice);
                let end = match &before {
                    Bound::Excluded(limit) => of_session.partition_point(|id| id < limit),
                    Bound::Included(_) | Bound::Unbounded => of_session.len(),
                };
                paging.take(of_session.iter().take(end).rev().copied(), keep)
            }
            None => paging.take(self.rows.range((Bound::Unbounded, before)).rev().map(|(id, _)| *id), keep),
        }
    }
}
