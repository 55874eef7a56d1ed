//! Background tasks as people see them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::page::{Page, Paging};
use super::waits::{Filter, Row, Waits};
use super::{Bodies, Models};
use crate::domain::event::Event;
use crate::domain::ids::{CallId, RunId, SessionId, TaskId};
use crate::domain::names::Name;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::task::{self, Status, TerminalReason};

/// All background tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    waits: Waits<TaskId, Status>,
    stopping: BTreeSet<TaskId>,
}

/// A task's places, taken out of the models; its words are read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The task.
    pub id: TaskId,
    /// What is kept of it.
    pub row: Row<Status>,
    /// Whether it was asked to stop and has not yet.
    pub stop_requested: bool,
    /// Whether its run is a rehearsal.
    pub rehearsal: bool,
}

impl Tasks {
    /// Tasks that work, oldest first.
    pub fn open_ids(&self) -> impl Iterator<Item = TaskId> {
        self.waits.open_ids()
    }

    /// Tasks that were asked to stop and have not yet.
    pub fn stopping_ids(&self) -> impl Iterator<Item = TaskId> {
        self.stopping.iter().copied()
    }

    /// What is kept of a task, whatever its organisation.
    pub fn row(&self, id: TaskId) -> Option<Row<Status>> {
        self.waits.get(id).copied()
    }

    /// How many work.
    pub fn open_count(&self) -> usize {
        self.waits.open_count()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&TaskId, &Row<Status>)> {
        self.waits.rows()
    }

    pub(super) fn started(&mut self, record: &Record, org: Name, body: &task::Started) {
        let Some(run) = record.stream.run() else { return };
        let status = Status::InProgress;
        let row = Row { run, session: body.session_id, opened_seq: record.seq, closed_seq: None, org, status };
        self.waits.open(body.task_id, row);
    }

    pub(super) fn stop_requested(&mut self, _: &Record, body: &task::StopRequested) {
        if self.waits.get(body.task_id).is_some_and(|row| row.closed_seq.is_none()) {
            self.stopping.insert(body.task_id);
        }
    }

    pub(super) fn finished(&mut self, record: &Record, body: &task::Finished) {
        self.stopping.remove(&body.task_id);
        self.waits.close(body.task_id, record.seq, body.status);
    }
}

impl Models {
    fn task_facts(&self, id: TaskId, row: Row<Status>) -> Facts {
        let rehearsal = self.runs.get(row.run).is_some_and(|run| run.row.rehearsal == Some(true));
        Facts { id, row, stop_requested: self.tasks.stopping.contains(&id), rehearsal }
    }

    /// A background task of an organisation.
    pub fn task(&self, org: &str, id: TaskId) -> Result<Facts, Refusal> {
        let row = self.tasks.waits.get(id).filter(|row| self.names.is(row.org, org));
        row.map(|row| self.task_facts(id, *row)).ok_or_else(|| Reason::TaskNotFound.into())
    }

    /// One page of an organisation's tasks, newest first.
    pub fn task_page(&self, org: &str, filter: &Filter<Status>, paging: &Paging) -> Result<Page<Facts>, Refusal> {
        let filter = self.narrowed(org, filter)?;
        let page = self.tasks.waits.page(|of| self.names.is(of, org), &filter, Status::InProgress, paging)?;
        Ok(page.map(|(id, row)| self.task_facts(id, row)))
    }
}

/// A background task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct TaskView {
    /// The task.
    pub task_id: TaskId,
    /// The run that started it.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Where it stands.
    pub status: Status,
    /// Whether a script answers instead of a model.
    pub rehearsal: bool,
    /// The call that started it.
    pub call_id: Option<CallId>,
    /// The command; null where it is no longer readable.
    pub command: Option<String>,
    /// Whether it was asked to stop and has not yet.
    pub stop_requested: bool,
    /// When it started, Unix milliseconds.
    pub created_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// Why it ended.
    pub terminal_reason: Option<TerminalReason>,
    /// Exit code of its command.
    pub exit_code: Option<i32>,
    /// Bytes it wrote in all; known at its end, unless the daemon ended first.
    pub output_bytes: Option<u64>,
    /// Digest of the kept output, hex.
    pub output_sha256: Option<String>,
    /// How often its output was rotated; known at its end, unless the daemon ended first.
    pub rotations: Option<u32>,
}

impl Facts {
    /// The view, with the words read from the records.
    pub fn view(&self, bodies: &dyn Bodies) -> TaskView {
        let mut view = TaskView {
            task_id: self.id,
            run_id: self.row.run,
            session_id: self.row.session,
            status: self.row.status,
            rehearsal: self.rehearsal,
            call_id: None,
            command: None,
            stop_requested: self.stop_requested,
            created_at_ms: None,
            ended_at_ms: None,
            terminal_reason: None,
            exit_code: None,
            output_bytes: None,
            output_sha256: None,
            rotations: None,
        };
        if let Some(record) = bodies.record(self.row.opened_seq) {
            view.created_at_ms = Some(record.at_ms);
            if let Event::TaskStarted(body) = record.event {
                view.call_id = Some(body.call_id);
                view.command = bodies.text(&body.command);
            }
        }
        if let Some(record) = self.row.closed_seq.and_then(|seq| bodies.record(seq.get())) {
            view.ended_at_ms = Some(record.at_ms);
            if let Event::TaskFinished(body) = record.event {
                view.terminal_reason = Some(body.terminal_reason);
                view.exit_code = body.exit_code;
                view.output_bytes = body.output_bytes;
                view.output_sha256 = body.output_sha256;
                view.rotations = body.rotations;
            }
        }
        view
    }
}
