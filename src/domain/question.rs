//! A question to a person: options, free text, or a decline.

use serde::{Deserialize, Serialize};

use super::approval::{WithdrawnCause, check_person, due};
use super::call::{self, Stage};
use super::command::{self, Context, Decided, check_note, invalid};
use super::context::ClockTrust;
use super::ids::{CallId, QuestionId, RunId};
use super::limits::{ANSWER_BYTES, NAME_BYTES, QUESTION_MS, QUESTION_OPTIONS, QUESTION_TEXT_BYTES, SWEEP_ITEMS};
use super::names::Name;
use super::permission::{self, Behavior};
use super::personal::Personal;
use super::reason::{Reason, Refusal};
use super::record::{Draft, Record};
use super::run::{self, Status, out_of_order};
use super::stream::Stream;
use super::world::World;

/// One option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What the answer names.
    pub id: String,
    /// What the person reads.
    pub label: Personal,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Personal>,
}

/// `question.asked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The question.
    pub question_id: QuestionId,
    /// The call that asks.
    pub call_id: CallId,
    /// A short title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Personal>,
    /// The question.
    pub question: Personal,
    /// Options; none means free text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Choice>,
    /// Whether several options may be chosen.
    pub multi_select: bool,
    /// Whether free text is taken.
    pub freeform: bool,
    /// When it lapses, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// `question.answered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The question.
    pub question_id: QuestionId,
    /// Ids of the chosen options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeform: Option<Personal>,
}

/// `question.declined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declined {
    /// The question.
    pub question_id: QuestionId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `question.expired`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expired {
    /// The question.
    pub question_id: QuestionId,
}

/// `question.withdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// The question.
    pub question_id: QuestionId,
    /// Why.
    pub cause: WithdrawnCause,
}

/// A question that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Organisation.
    pub org: Name,
    /// Its run.
    pub run: RunId,
    /// The call that asks.
    pub call: CallId,
    /// Ids of its options.
    pub options: Vec<String>,
    /// Whether several may be chosen.
    pub multi_select: bool,
    /// Whether free text is taken.
    pub freeform: bool,
    /// When it lapses, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// How a question came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Someone answered.
    Answered(Name),
    /// Someone declined to.
    Declined(Name),
    /// Nobody did in time.
    Expired,
    /// It was taken back.
    Withdrawn(WithdrawnCause),
}

/// What is kept of a question that no longer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Organisation.
    pub org: Name,
    /// How it ended.
    pub end: End,
}

/// A worker asks a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The run.
    pub run_id: RunId,
    /// The call that asks.
    pub call_id: CallId,
    /// A short title.
    pub header: Option<Personal>,
    /// The question.
    pub question: Personal,
    /// Options; none means free text.
    pub options: Vec<Choice>,
    /// Whether several options may be chosen.
    pub multi_select: bool,
    /// Whether free text is taken.
    pub freeform: bool,
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The caller's organisation.
    pub org: String,
    /// The question.
    pub question_id: QuestionId,
    /// Ids of the chosen options.
    pub selected: Vec<String>,
    /// Free text.
    pub freeform: Option<Personal>,
}

/// A person declines to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decline {
    /// The caller's organisation.
    pub org: String,
    /// The question.
    pub question_id: QuestionId,
    /// The caller's words.
    pub note: Option<String>,
}

fn check_text(pointer: &str, text: Option<&Personal>) -> Result<(), Refusal> {
    match text {
        Some(text) if text.bytes() > QUESTION_TEXT_BYTES => {
            Err(invalid(pointer, format!("A text of a question has at most {QUESTION_TEXT_BYTES} bytes.")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_ask(ask: &Ask) -> Result<(), Refusal> {
    check_text("/header", ask.header.as_ref())?;
    check_text("/question", Some(&ask.question))?;
    if ask.question.clear().is_some_and(|text| text.trim().is_empty()) {
        return Err(invalid("/question", "A question asks something."));
    }
    if ask.options.is_empty() && !ask.freeform {
        return Err(invalid("/options", "A question without options takes free text."));
    }
    if ask.options.len() > QUESTION_OPTIONS {
        return Err(invalid("/options", format!("A question has at most {QUESTION_OPTIONS} options.")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (at, option) in ask.options.iter().enumerate() {
        if option.id.is_empty() || option.id.len() > NAME_BYTES || !seen.insert(&option.id) {
            let detail = format!("An option's id has 1 to {NAME_BYTES} bytes and occurs once.");
            return Err(invalid(format!("/options/{at}/id"), detail));
        }
        check_text(&format!("/options/{at}/label"), Some(&option.label))?;
        check_text(&format!("/options/{at}/description"), option.description.as_ref())?;
    }
    Ok(())
}

pub(super) fn ask(world: &World, ask: &Ask, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    let run = run::working(world, ask.run_id, context)?;
    // What an approver allowed to ask is the question itself, so it stands for any hash.
    let call = call::of_run(run, ask.call_id)?;
    if !matches!(call.stage, Stage::Judged(Behavior::Allow) | Stage::Approved { .. }) {
        return Err(out_of_order("The call may not ask a question now."));
    }
    permission::check_still(world, run, &call.tool, matches!(call.stage, Stage::Approved { .. }))?;
    check_ask(ask)?;
    let id = QuestionId::from_ulid(context.ulid());
    let event = Asked {
        question_id: id,
        call_id: ask.call_id,
        header: ask.header.clone(),
        question: ask.question.clone(),
        options: ask.options.clone(),
        multi_select: ask.multi_select,
        freeform: ask.freeform,
        expires_at_ms: context.now_ms.saturating_add(QUESTION_MS),
    };
    let draft = Draft::new(world.names.text(run.org), Stream::Run(ask.run_id), event.into());
    Ok(Decided::one(draft, command::Answer::Question(id)))
}

/// Why a question can no longer be answered.
fn over(world: &World, past: &Past) -> Refusal {
    match past.end {
        End::Answered(by) => {
            Refusal::new(Reason::QuestionAlreadyAnswered, format!("{} answered before.", world.names.text(by)))
        }
        End::Declined(by) => {
            Refusal::new(Reason::QuestionAlreadyAnswered, format!("{} declined before.", world.names.text(by)))
        }
        End::Expired => Reason::QuestionExpired.into(),
        End::Withdrawn(_) => Reason::RunTerminal.into(),
    }
}

fn pending<'w>(world: &'w World, org: &str, id: QuestionId, context: &Context<'_>) -> Result<&'w Pending, Refusal> {
    check_person(context)?;
    if let Some(past) = world.questions_ended.get(&id).filter(|past| world.names.is(past.org, org)) {
        return Err(over(world, past));
    }
    let pending = world.questions.get(&id).filter(|pending| world.names.is(pending.org, org));
    let pending = pending.ok_or(Reason::QuestionNotFound)?;
    if due(world, pending.expires_at_ms, context) {
        return Err(Reason::QuestionExpired.into());
    }
    Ok(pending)
}

fn check_answer(pending: &Pending, ask: &Answer) -> Result<(), Refusal> {
    if ask.selected.is_empty() && ask.freeform.is_none() {
        return Err(invalid("/selected", "An answer chooses an option or says something; use decline otherwise."));
    }
    if ask.selected.len() > 1 && !pending.multi_select {
        return Err(invalid("/selected", "The question takes one option."));
    }
    for (at, id) in ask.selected.iter().enumerate() {
        if !pending.options.contains(id) || ask.selected.iter().take(at).any(|earlier| earlier == id) {
            return Err(invalid(
                format!("/selected/{at}"),
                "Each choice is one of the question's options, named once.",
            ));
        }
    }
    match &ask.freeform {
        Some(_) if !pending.freeform => Err(invalid("/freeform", "The question takes no free text.")),
        Some(text) if text.bytes() > ANSWER_BYTES => {
            Err(invalid("/freeform", format!("An answer has at most {ANSWER_BYTES} bytes.")))
        }
        Some(text) if text.clear().is_some_and(|words| words.trim().is_empty()) => {
            Err(invalid("/freeform", "An answer says something; use decline otherwise."))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn answer(world: &World, ask: &Answer, context: &Context<'_>) -> Result<Decided, Refusal> {
    let pending = pending(world, &ask.org, ask.question_id, context)?;
    check_answer(pending, ask)?;
    let event =
        Answered { question_id: ask.question_id, selected: ask.selected.clone(), freeform: ask.freeform.clone() };
    let draft = Draft::new(&ask.org, Stream::Run(pending.run), event.into());
    Ok(Decided::one(draft, command::Answer::Question(ask.question_id)))
}

pub(super) fn decline(world: &World, ask: &Decline, context: &Context<'_>) -> Result<Decided, Refusal> {
    check_note("/reason", ask.note.as_deref())?;
    let pending = pending(world, &ask.org, ask.question_id, context)?;
    let event = Declined { question_id: ask.question_id, note: ask.note.clone() };
    let draft = Draft::new(&ask.org, Stream::Run(pending.run), event.into());
    Ok(Decided::one(draft, command::Answer::Question(ask.question_id)))
}

pub(super) fn expire(world: &World, context: &Context<'_>) -> Result<Decided, Refusal> {
    if world.clock != ClockTrust::Trusted {
        return Err(Reason::TimeUntrusted.into());
    }
    let lapsed = world.questions.iter().filter(|(_, pending)| context.now_ms >= pending.expires_at_ms);
    let drafts = lapsed.take(SWEEP_ITEMS).map(|(id, pending)| {
        let event = Expired { question_id: *id };
        Draft::new(world.names.text(pending.org), Stream::Run(pending.run), event.into())
    });
    Ok(Decided { drafts: drafts.collect(), answer: command::Answer::Nothing })
}

impl World {
    pub(super) fn fold_question_asked(&mut self, record: &Record, body: &Asked) {
        let Some(run_id) = record.stream.run() else { return };
        let org = self.names.intern(&record.org);
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        run.status = Status::WaitingForUserQuestion;
        run.question = Some(body.question_id);
        self.set_stage_of(run_id, body.call_id, Stage::AwaitsAnswer(body.question_id));
        let pending = Pending {
            org,
            run: run_id,
            call: body.call_id,
            options: body.options.iter().map(|option| option.id.clone()).collect(),
            multi_select: body.multi_select,
            freeform: body.freeform,
            expires_at_ms: body.expires_at_ms,
        };
        self.questions.insert(body.question_id, pending);
    }

    pub(super) fn fold_question_answered(&mut self, record: &Record, body: &Answered) {
        let by = self.names.intern(&record.actor.id);
        self.end_question(body.question_id, End::Answered(by), Stage::Answered);
    }

    pub(super) fn fold_question_declined(&mut self, record: &Record, body: &Declined) {
        let by = self.names.intern(&record.actor.id);
        self.end_question(body.question_id, End::Declined(by), Stage::Answered);
    }

    pub(super) fn fold_question_expired(&mut self, body: &Expired) {
        self.end_question(body.question_id, End::Expired, Stage::Dropped);
    }

    pub(super) fn fold_question_withdrawn(&mut self, body: &Withdrawn) {
        self.end_question(body.question_id, End::Withdrawn(body.cause), Stage::Dropped);
    }

    fn end_question(&mut self, id: QuestionId, end: End, stage: Stage) {
        let Some(pending) = self.questions.remove(&id) else { return };
        self.questions_ended.insert(id, Past { org: pending.org, end });
        if let Some(run) = self.runs.get_mut(&pending.run) {
            run.question = None;
            run.status = Status::Running;
        }
        self.set_stage_of(pending.run, pending.call, stage);
    }
}
