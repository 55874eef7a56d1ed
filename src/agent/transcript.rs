//! The conversation as a model is told it: folded from a session's records, one run after the other in the order in
//! which they began, and bounded.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::call;
use crate::domain::event::Event;
use crate::domain::ids::{CallId, QuestionId, RunId};
use crate::domain::personal::Personal;
use crate::domain::question;
use crate::domain::reason::Reason;
use crate::domain::record::Record;
use crate::domain::run::InputItem;
use crate::domain::turn;

mod words;

use self::words::{CallWords, RunWords, Size, TurnWords, shorten};

/// What stands in for words that can no longer be read.
const UNAVAILABLE: &str = "(no longer available)";

/// One message, whatever the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What a person or a connector said.
    User {
        /// The words.
        text: String,
    },
    /// What the model said and wanted called.
    Assistant {
        /// The words, if there were any.
        text: Option<String>,
        /// In order.
        calls: Vec<CallText>,
    },
    /// What came of a call.
    Result {
        /// The provider's name for the call.
        provider_id: String,
        /// Name of the tool.
        tool: String,
        /// Whether it did what it says.
        ok: bool,
        /// What the model is shown.
        text: String,
    },
}

/// A call as the model wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallText {
    /// The provider's name for it.
    pub provider_id: String,
    /// Name of the tool.
    pub tool: String,
    /// Arguments, JSON text as the model wrote it.
    pub input: String,
}

impl Message {
    /// Bytes of its words.
    pub fn bytes(&self) -> usize {
        match self {
            Self::User { text } | Self::Result { text, .. } => text.len(),
            Self::Assistant { text, calls } => {
                let of_calls: usize = calls.iter().map(|call| call.input.len() + call.tool.len()).sum();
                text.as_ref().map_or(0, String::len) + of_calls
            }
        }
    }
}

/// How long a conversation may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all words together.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

/// A conversation within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// In order.
    pub messages: Vec<Message>,
    /// What did not fit.
    pub left_out: LeftOut,
}

/// What a conversation lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Earlier runs, whole: the oldest.
    pub runs: u32,
    /// Turns of the runs that are told: the oldest of each.
    pub turns: u32,
    /// Words, arguments and results of which only the beginning is told.
    pub parts: u32,
}

impl LeftOut {
    /// What a model is told of it, if it lacks anything.
    pub fn line(self) -> Option<String> {
        let lacks = [
            (self.runs, "earlier messages of the session with what came of them"),
            (self.turns, "older turns between those that are told"),
            (self.parts, "the ends of long texts, which say so"),
        ];
        let lacks: Vec<String> =
            lacks.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what} ({count})")).collect();
        (!lacks.is_empty())
            .then(|| format!("Left out of the conversation, because it is too long: {}.", lacks.join("; ")))
    }
}

/// Gives the words of a part, where they can be read.
pub type Words<'a> = dyn Fn(&Personal) -> Option<String> + 'a;

/// A session's words so far, as far as a conversation within the bounds may need them.
#[derive(Debug, Clone)]
pub struct Transcript {
    bounds: Bounds,
    runs: BTreeMap<RunId, RunWords>,
    begun: Vec<RunId>,
    forgotten: u32,
}

impl Transcript {
    /// No words yet.
    pub fn within(bounds: Bounds) -> Self {
        Self { bounds, runs: BTreeMap::new(), begun: Vec::new(), forgotten: 0 }
    }

    /// So many earlier runs will not be told.
    pub fn leave_out(&mut self, runs: usize) {
        self.forgotten = self.forgotten.saturating_add(u32::try_from(runs).unwrap_or(u32::MAX));
    }

    /// Folds one record of the session or its runs; other records change nothing.
    pub fn apply(&mut self, record: &Record, words: &Words<'_>) {
        let Some(id) = record.stream.run() else { return };
        let read = |part: &Personal| words(part).unwrap_or_else(|| UNAVAILABLE.to_owned());
        match &record.event {
            Event::RunQueued(body) => {
                let texts = body.input.iter().map(|item| match item {
                    InputItem::Text { text } => read(text),
                });
                let input = texts.collect::<Vec<_>>().join("\n\n");
                self.runs.insert(id, RunWords::of(input));
            }
            Event::RunStarted(_) if self.runs.contains_key(&id) && !self.begun.contains(&id) => {
                self.forget();
                self.begun.push(id);
            }
            Event::TurnFailed(turn::Failed { partial: Some(partial), .. }) => {
                let mut words = read(partial);
                shorten(&mut words, self.bounds.bytes / 4);
                if let Some(run) = self.runs.get_mut(&id) {
                    run.partial = Some(words);
                }
            }
            Event::RunFailed(body) => self.ended(id, &format!("the run failed: {}", body.code.title())),
            Event::RunInterrupted(_) => self.ended(id, "the run was interrupted."),
            Event::RunCancelled(_) => self.ended(id, "the run was cancelled."),
            Event::TurnAnswered(body) => self.answered(id, body, words),
            Event::CallFinished(body) => self.result(id, body.call_id, body.ok, read(&body.output)),
            Event::CallRefused(body) => self.result(id, body.call_id, false, refused(body)),
            Event::CallOutcomeUnknown(body) => {
                self.result(id, body.call_id, false, Reason::RunOutcomeUnknown.title().to_owned());
            }
            Event::QuestionAsked(body) => {
                if let Some(run) = self.runs.get_mut(&id) {
                    run.questions.insert(body.question_id, body.clone());
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, run: RunId, body: &turn::Answered, words: &Words<'_>) {
        let read = |part: &Personal| words(part).unwrap_or_else(|| UNAVAILABLE.to_owned());
        let call = |asked: &turn::ToolCall| CallWords {
            id: asked.call_id,
            call: CallText {
                provider_id: asked.provider_id.clone(),
                tool: asked.tool.clone(),
                input: read(&asked.input),
            },
            result: None,
        };
        if let Some(run) = self.runs.get_mut(&run) {
            run.partial = None;
            let text = body.text.as_ref().map(read);
            run.turns.push(TurnWords { text, calls: body.tool_calls.iter().map(call).collect(), shortened: 0 });
            run.fit(self.bounds);
        }
    }

    fn result(&mut self, run: RunId, id: CallId, ok: bool, text: String) {
        let Some(run) = self.runs.get_mut(&run) else { return };
        run.questions.retain(|_, asked| asked.call_id != id);
        let mut calls = run.turns.iter_mut().rev().flat_map(|turn| turn.calls.iter_mut());
        if let Some(call) = calls.find(|call| call.id == id) {
            call.result = Some((ok, text));
            run.fit(self.bounds);
        }
    }

    fn ended(&mut self, run: RunId, how: &str) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.end(how);
        }
    }

    /// The question that was asked, as it was asked.
    pub fn question(&self, run: RunId, id: QuestionId) -> Option<&question::Asked> {
        self.runs.get(&run)?.questions.get(&id)
    }

    /// The conversation up to and with a run, which has its own words within the bounds already. Earlier runs that do not
    /// fit beside it are left out whole, the oldest first; of the newest a part is told, where half of the room is enough.
    pub fn conversation(&self, run: RunId) -> Conversation {
        let place = self.begun.iter().position(|id| *id == run).unwrap_or(self.begun.len());
        let own = self.runs.get(&run);
        let taken = own.map(RunWords::size).unwrap_or_default();
        let mut first_kept = self.first_that_fits(place, taken);
        let part = if first_kept == place { self.part_of_newest(place, taken) } else { None };
        first_kept -= usize::from(part.is_some());
        let whole = self.begun.iter().take(place).skip(first_kept).filter_map(|id| self.runs.get(id));
        let kept = part.iter().chain(whole.filter(|_| part.is_none())).chain(own);
        let mut messages = Vec::new();
        let mut left_out = LeftOut::default();
        for run in kept {
            messages.extend(run.messages());
            left_out.turns = left_out.turns.saturating_add(run.turns_left_out);
            left_out.parts = left_out.parts.saturating_add(run.shortened());
        }
        left_out.runs = self.forgotten.saturating_add(u32::try_from(first_kept).unwrap_or(u32::MAX));
        Conversation { messages, left_out }
    }

    /// The first of the runs before `place` from which on all fit beside what is taken already.
    fn first_that_fits(&self, place: usize, mut taken: Size) -> usize {
        let mut first = place;
        for id in self.begun.iter().take(place).rev() {
            taken += self.runs.get(id).map(RunWords::size).unwrap_or_default();
            if !taken.is_within(self.bounds) {
                break;
            }
            first -= 1;
        }
        first
    }

    /// The last of the runs before `place`, in half of the room beside what is taken already: the other half is for what
    /// comes.
    fn part_of_newest(&self, place: usize, taken: Size) -> Option<RunWords> {
        let mut run = self.runs.get(self.begun.get(place.checked_sub(1)?)?)?.clone();
        let half = |most: usize, taken: usize| most.saturating_sub(taken) / 2;
        let (bytes, messages) = (half(self.bounds.bytes, taken.bytes), half(self.bounds.messages, taken.messages));
        let bounds = Bounds { bytes, messages };
        run.fit(bounds);
        run.size().is_within(bounds).then_some(run)
    }

    /// Forgets runs that no later conversation has room for. Of the newest a part may be told.
    fn forget(&mut self) {
        let all = self.begun.len();
        let first = self.first_that_fits(all, Size::default()).min(all.saturating_sub(1));
        for id in self.begun.drain(..first) {
            self.runs.remove(&id);
        }
        self.leave_out(first);
    }
}

/// What the model is told of a call that was not made. The title is left out where the detail says it.
fn refused(body: &call::Refused) -> String {
    let title = body.code.title();
    if body.detail.is_empty() {
        format!("Not done: {title}")
    } else if body.code == Reason::PermissionDenied || body.detail.starts_with(title) {
        format!("Not done: {}", body.detail)
    } else {
        format!("Not done: {title} {}", body.detail)
    }
}

/// What the model is told of the answer to its question.
pub fn answer_text(asked: &question::Asked, ended: &Event, words: &Words<'_>) -> String {
    let read = |part: &Personal| words(part).unwrap_or_else(|| UNAVAILABLE.to_owned());
    if let Event::QuestionAnswered(body) = ended {
        let label = |id: &String| {
            let option = asked.options.iter().find(|option| option.id == *id);
            option.map_or_else(|| id.clone(), |option| format!("{id}: {}", read(&option.label)))
        };
        let mut lines: Vec<String> = body.selected.iter().map(|id| format!("Chosen: {}", label(id))).collect();
        lines.extend(body.freeform.as_ref().map(|text| format!("Answer: {}", read(text))));
        return lines.join("\n");
    }
    if let Event::QuestionDeclined(body) = ended {
        let note = body.note.as_ref().map_or_else(String::new, |note| format!(" {note}"));
        return format!("The person declined to answer.{note}");
    }
    "The question was not answered.".to_owned()
}

#[cfg(test)]
mod tests;
