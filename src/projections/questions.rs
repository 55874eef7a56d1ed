//! Questions as people see them.

use serde::{Deserialize, Serialize};

use super::approvals::DeciderView;
use super::page::{Page, Paging};
use super::waits::{Filter, Row, Waits};
use super::{Bodies, Models};
use crate::domain::approval::WithdrawnCause;
use crate::domain::event::Event;
use crate::domain::ids::{CallId, QuestionId, RunId, SessionId};
use crate::domain::names::Name;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;

/// Where a question stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for an answer.
    Pending,
    /// It was answered.
    Answered,
    /// A person declined to answer.
    Declined,
    /// Nobody answered in time.
    Expired,
    /// It was taken back.
    Withdrawn,
}

/// All questions.
pub type Questions = Waits<QuestionId, Status>;

/// A question's places, taken out of the models; its words are read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The question.
    pub id: QuestionId,
    /// What is kept of it.
    pub row: Row<Status>,
    /// Whether its run is a rehearsal.
    pub rehearsal: bool,
}

impl Models {
    pub(super) fn fold_question(&mut self, record: &Record, org: Name) {
        let Some(run) = record.stream.run() else { return };
        let (id, status) = match &record.event {
            Event::QuestionAsked(body) => {
                let Some(session) = self.runs.session_of(run) else { return };
                let status = Status::Pending;
                let row = Row { run, session, opened_seq: record.seq, closed_seq: None, org, status };
                self.questions.open(body.question_id, row);
                self.runs.waits(run, None, Some(body.question_id));
                return;
            }
            Event::QuestionAnswered(body) => (body.question_id, Status::Answered),
            Event::QuestionDeclined(body) => (body.question_id, Status::Declined),
            Event::QuestionExpired(body) => (body.question_id, Status::Expired),
            Event::QuestionWithdrawn(body) => (body.question_id, Status::Withdrawn),
            // Only the kinds above are given to this fold.
            _ => return,
        };
        self.questions.close(id, record.seq, status);
        self.runs.resumes(run);
    }

    fn question_facts(&self, id: QuestionId, row: Row<Status>) -> Facts {
        Facts { id, row, rehearsal: self.runs.get(row.run).is_some_and(|run| run.row.rehearsal == Some(true)) }
    }

    /// A question of an organisation.
    pub fn question(&self, org: &str, id: QuestionId) -> Result<Facts, Refusal> {
        let row = self.questions.get(id).filter(|row| self.names.is(row.org, org));
        row.map(|row| self.question_facts(id, *row)).ok_or_else(|| Reason::QuestionNotFound.into())
    }

    /// One page of an organisation's questions, newest first.
    pub fn question_page(&self, org: &str, filter: &Filter<Status>, paging: &Paging) -> Result<Page<Facts>, Refusal> {
        let filter = self.narrowed(org, filter)?;
        let page = self.questions.page(|of| self.names.is(of, org), &filter, Status::Pending, paging)?;
        Ok(page.map(|(id, row)| self.question_facts(id, row)))
    }
}

/// One option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct OptionView {
    /// What the answer names.
    pub id: String,
    /// What the person reads; null where it is no longer readable.
    pub label: Option<String>,
    /// More about it.
    pub description: Option<String>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct QuestionView {
    /// The question.
    pub question_id: QuestionId,
    /// Its run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Where it stands.
    pub status: Status,
    /// Whether a script answers instead of a model.
    pub rehearsal: bool,
    /// The call that asks.
    pub call_id: Option<CallId>,
    /// A short title.
    pub header: Option<String>,
    /// The question; null where it is no longer readable.
    pub question: Option<String>,
    /// Options; none means free text.
    pub options: Vec<OptionView>,
    /// Whether several options may be chosen.
    pub multi_select: bool,
    /// Whether free text is taken.
    pub freeform: bool,
    /// When it was asked, Unix milliseconds.
    pub created_at_ms: Option<u64>,
    /// When it lapses.
    pub expires_at_ms: Option<u64>,
    /// When it was answered, lapsed or was taken back.
    pub ended_at_ms: Option<u64>,
    /// Who answered or declined.
    pub answered_by: Option<DeciderView>,
    /// Ids of the chosen options.
    pub selected: Vec<String>,
    /// The answer's free text.
    pub answer: Option<String>,
    /// Words with which it was declined.
    pub reason: Option<String>,
    /// Why it was taken back.
    pub withdrawn_because: Option<WithdrawnCause>,
    /// The record of its end.
    pub ended_seq: Option<u64>,
}

impl Facts {
    fn blank(&self) -> QuestionView {
        QuestionView {
            question_id: self.id,
            run_id: self.row.run,
            session_id: self.row.session,
            status: self.row.status,
            rehearsal: self.rehearsal,
            call_id: None,
            header: None,
            question: None,
            options: Vec::new(),
            multi_select: false,
            freeform: false,
            created_at_ms: None,
            expires_at_ms: None,
            ended_at_ms: None,
            answered_by: None,
            selected: Vec::new(),
            answer: None,
            reason: None,
            withdrawn_because: None,
            ended_seq: self.row.closed_seq.map(std::num::NonZeroU64::get),
        }
    }

    /// The view, with the words read from the records.
    pub fn view(&self, bodies: &dyn Bodies) -> QuestionView {
        let mut view = self.blank();
        if let Some(record) = bodies.record(self.row.opened_seq) {
            view.created_at_ms = Some(record.at_ms);
            if let Event::QuestionAsked(body) = record.event {
                view.call_id = Some(body.call_id);
                view.header = body.header.as_ref().and_then(|text| bodies.text(text));
                view.question = bodies.text(&body.question);
                view.multi_select = body.multi_select;
                view.freeform = body.freeform;
                view.expires_at_ms = Some(body.expires_at_ms);
                let options = body.options.into_iter().map(|option| OptionView {
                    label: bodies.text(&option.label),
                    description: option.description.as_ref().and_then(|text| bodies.text(text)),
                    id: option.id,
                });
                view.options = options.collect();
            }
        }
        if let Some(record) = view.ended_seq.and_then(|seq| bodies.record(seq)) {
            view.ended_at_ms = Some(record.at_ms);
            view.close(&record, bodies);
        }
        view
    }
}

impl QuestionView {
    fn close(&mut self, record: &Record, bodies: &dyn Bodies) {
        if let Event::QuestionAnswered(body) = &record.event {
            self.answered_by = Some(DeciderView::of(record));
            self.selected.clone_from(&body.selected);
            self.answer = body.freeform.as_ref().and_then(|text| bodies.text(text));
        } else if let Event::QuestionDeclined(body) = &record.event {
            self.answered_by = Some(DeciderView::of(record));
            self.reason.clone_from(&body.note);
        } else if let Event::QuestionWithdrawn(body) = &record.event {
            self.withdrawn_because = Some(body.cause);
        }
    }
}
