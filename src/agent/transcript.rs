//! The conversation as a model is told it: folded from a session's records, one run after the other in the order in
//! which they began, and bounded.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::event::Event;
use crate::domain::ids::{CallId, QuestionId, RunId};
use crate::domain::personal::Personal;
use crate::domain::question;
use crate::domain::reason::Reason;
use crate::domain::record::Record;
use crate::domain::run::InputItem;
use crate::domain::turn;

/// What stands in for words that can no longer be read.
const UNAVAILABLE: &str = "(no longer available)";
/// What stands in for a result that did not fit.
const LEFT_OUT: &str = "(left out: the conversation is too long)";
/// Longest text of a shortened result, bytes; the mark is not counted.
const SHORTENED_BYTES: usize = 200;

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
    /// Earlier runs that did not fit.
    pub runs_left_out: usize,
    /// Results of the run itself that did not fit.
    pub results_shortened: usize,
}

/// Gives the words of a part, where they can be read.
pub type Words<'a> = dyn Fn(&Personal) -> Option<String> + 'a;

#[derive(Debug, Clone, Default)]
struct RunWords {
    input: String,
    turns: Vec<TurnWords>,
    questions: BTreeMap<QuestionId, question::Asked>,
}

#[derive(Debug, Clone)]
struct TurnWords {
    text: Option<String>,
    calls: Vec<CallWords>,
}

#[derive(Debug, Clone)]
struct CallWords {
    id: CallId,
    call: CallText,
    result: Option<(bool, String)>,
}

/// A session's words so far, as far as a conversation within the bounds may need them.
#[derive(Debug, Clone)]
pub struct Transcript {
    bounds: Bounds,
    runs: BTreeMap<RunId, RunWords>,
    begun: Vec<RunId>,
    forgotten: usize,
}

impl Transcript {
    /// No words yet.
    pub fn within(bounds: Bounds) -> Self {
        Self { bounds, runs: BTreeMap::new(), begun: Vec::new(), forgotten: 0 }
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
                self.runs.insert(id, RunWords { input, ..RunWords::default() });
            }
            Event::RunStarted(_) if self.runs.contains_key(&id) && !self.begun.contains(&id) => {
                self.forget();
                self.begun.push(id);
            }
            Event::TurnAnswered(body) => {
                let call = |asked: &turn::ToolCall| CallWords {
                    id: asked.call_id,
                    call: CallText {
                        provider_id: asked.provider_id.clone(),
                        tool: asked.tool.clone(),
                        input: read(&asked.input),
                    },
                    result: None,
                };
                let calls = body.tool_calls.iter().map(call).collect();
                if let Some(run) = self.runs.get_mut(&id) {
                    run.turns.push(TurnWords { text: body.text.as_ref().map(read), calls });
                }
            }
            Event::CallFinished(body) => self.result(id, body.call_id, body.ok, read(&body.output)),
            Event::CallRefused(body) => {
                let text = format!("Not done: {} {}", body.code.title(), body.detail);
                self.result(id, body.call_id, false, text.trim_end().to_owned());
            }
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

    fn result(&mut self, run: RunId, id: CallId, ok: bool, text: String) {
        let turns = self.runs.get_mut(&run).into_iter().flat_map(|run| run.turns.iter_mut().rev());
        if let Some(call) = turns.flat_map(|turn| turn.calls.iter_mut()).find(|call| call.id == id) {
            call.result = Some((ok, text));
        }
    }

    /// The question that was asked, as it was asked.
    pub fn question(&self, run: RunId, id: QuestionId) -> Option<&question::Asked> {
        self.runs.get(&run)?.questions.get(&id)
    }

    /// The conversation up to and with a run. Earlier runs that do not fit are left out whole, the oldest first; then
    /// the run's own results are shortened, the oldest first, so that every call keeps its result.
    pub fn conversation(&self, run: RunId) -> Conversation {
        let mut own = self.runs.get(&run).map(RunWords::messages).unwrap_or_default();
        let place = self.begun.iter().position(|id| *id == run).unwrap_or(self.begun.len());
        let first_kept = self.first_that_fits(place, bytes_of(&own), own.len());
        let results_shortened = shorten(&mut own, self.bounds.bytes);
        let kept = self.begun.iter().take(place).skip(first_kept);
        let mut messages: Vec<Message> = kept.filter_map(|id| self.runs.get(id)).flat_map(RunWords::messages).collect();
        messages.extend(own);
        Conversation { messages, runs_left_out: self.forgotten + first_kept, results_shortened }
    }

    /// The first of the runs before `place` from which on all fit beside so much that is taken already.
    fn first_that_fits(&self, place: usize, mut bytes: usize, mut count: usize) -> usize {
        let mut first = place;
        for id in self.begun.iter().take(place).rev() {
            let messages = self.runs.get(id).map(RunWords::messages).unwrap_or_default();
            bytes = bytes.saturating_add(bytes_of(&messages));
            count = count.saturating_add(messages.len());
            if bytes > self.bounds.bytes || count > self.bounds.messages {
                break;
            }
            first -= 1;
        }
        first
    }

    /// Forgets runs that no later conversation has room for.
    fn forget(&mut self) {
        let first = self.first_that_fits(self.begun.len(), 0, 0);
        for id in self.begun.drain(..first) {
            self.runs.remove(&id);
            self.forgotten += 1;
        }
    }
}

fn bytes_of(messages: &[Message]) -> usize {
    messages.iter().map(Message::bytes).sum()
}

impl RunWords {
    fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::User { text: self.input.clone() }];
        for turn in &self.turns {
            let calls = turn.calls.iter().map(|one| one.call.clone()).collect();
            messages.push(Message::Assistant { text: turn.text.clone(), calls });
            for one in &turn.calls {
                let (ok, text) = match &one.result {
                    Some((ok, text)) => (*ok, text.clone()),
                    None => (false, "Not done: the run ended before.".to_owned()),
                };
                let CallText { provider_id, tool, .. } = one.call.clone();
                messages.push(Message::Result { provider_id, tool, ok, text });
            }
        }
        messages
    }
}

/// Shortens results, the oldest first, until the words fit. Says how many.
fn shorten(messages: &mut [Message], limit: usize) -> usize {
    let mut bytes = bytes_of(messages);
    let mut shortened = 0;
    for message in messages {
        if bytes <= limit {
            break;
        }
        if let Message::Result { text, .. } = message
            && text.len() > SHORTENED_BYTES + LEFT_OUT.len() + 1
        {
            let cut = text.floor_char_boundary(SHORTENED_BYTES);
            let short = format!("{}\n{LEFT_OUT}", text.get(..cut).unwrap_or_default());
            bytes = bytes.saturating_sub(text.len()).saturating_add(short.len());
            *text = short;
            shortened += 1;
        }
    }
    shortened
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
