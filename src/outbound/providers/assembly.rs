//! Puts an answer together from what a server sends, with patience for servers that leave things out.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::sync::mpsc::Sender;

use super::{Delta, ModelAnswer, ProviderError, RequestedCall, check_size, faults, send_live};
use crate::domain::reason::Reason;
use crate::domain::turn::{StopReason, Usage};
use crate::outbound::limits;
use crate::vault::secret::Secret;

/// An answer as far as it came.
#[derive(Debug)]
pub(super) struct Assembly {
    deltas: Sender<Delta>,
    /// Live pieces that came since the last were passed on, neighbours of one kind joined.
    unsaid: Vec<Delta>,
    id_stem: String,
    text: String,
    reasoning: String,
    calls: Vec<Slot>,
    finish: Option<StopReason>,
    usage: Option<Usage>,
    call_bytes: usize,
    credential: Option<Secret>,
}

/// A call as far as it came.
#[derive(Debug, Default)]
struct Slot {
    index: Option<u64>,
    id: String,
    name: String,
    input: String,
}

impl Assembly {
    /// Nothing yet. Calls without an id of the server's get one with this stem. The credential is kept out of errors.
    pub(super) fn new(deltas: Sender<Delta>, id_stem: &str, credential: Option<Secret>) -> Self {
        Self {
            deltas,
            unsaid: Vec::new(),
            id_stem: id_stem.to_owned(),
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            finish: None,
            usage: None,
            call_bytes: 0,
            credential,
        }
    }

    /// Passes on what came since the last time.
    pub(super) async fn pass_on(&mut self) {
        for delta in self.unsaid.drain(..) {
            send_live(&self.deltas, delta).await;
        }
    }

    fn pass_on_later(&mut self, delta: Delta) {
        match (self.unsaid.last_mut(), delta) {
            (Some(Delta::Text(before)), Delta::Text(words))
            | (Some(Delta::Reasoning(before)), Delta::Reasoning(words)) => {
                before.push_str(&words);
            }
            (Some(Delta::Call(before)), Delta::Call(bytes)) => *before += bytes,
            (_, delta) => self.unsaid.push(delta),
        }
    }

    /// The server closed the connection in order: whole where it said that it had finished.
    pub(super) fn end(&mut self) -> Result<(), ProviderError> {
        match self.finish {
            Some(_) => Ok(()),
            None => Err(self.broken("the stream ended before the answer did".to_owned())),
        }
    }

    /// The error of an answer that breaks off here.
    pub(super) fn broken(&mut self, detail: String) -> ProviderError {
        ProviderError::within(Reason::ProviderStreamBroken, detail, self.take_words())
    }

    /// The words so far, taken out.
    pub(super) fn take_words(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// The words so far.
    pub(super) fn into_words(self) -> String {
        self.text
    }

    /// An error object in place of the answer, or in the middle of it.
    pub(super) fn error_object(&mut self, error: &Value) -> ProviderError {
        let found = faults::of_object(error, self.credential.as_ref());
        if self.is_empty() {
            return found;
        }
        ProviderError::within(Reason::ProviderStreamBroken, found.detail, self.take_words())
    }

    /// Whether nothing of an answer came.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty() && self.calls.is_empty()
    }

    /// Adds words.
    pub(super) fn say(&mut self, words: &str) {
        if !words.is_empty() {
            self.text.push_str(words);
            self.pass_on_later(Delta::Text(words.to_owned()));
        }
    }

    /// Adds thinking aloud.
    pub(super) fn think(&mut self, words: &str) {
        if !words.is_empty() {
            self.reasoning.push_str(words);
            self.pass_on_later(Delta::Reasoning(words.to_owned()));
        }
    }

    /// Notes why the model stopped.
    pub(super) fn finish(&mut self, stop: StopReason) {
        self.finish = Some(stop);
    }

    /// Notes that the model stopped, where nothing better is known.
    pub(super) fn finish_at_least(&mut self, stop: StopReason) {
        self.finish.get_or_insert(stop);
    }

    /// Notes what the answer took, as the provider says.
    pub(super) fn count(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// Fails where the answer passes a limit.
    pub(super) fn check(&mut self) -> Result<(), ProviderError> {
        let bytes = self.text.len() + self.reasoning.len() + self.call_bytes;
        check_size(bytes, self.calls.len(), &mut self.text)
    }

    fn note_call(&mut self, id: &str, name: &str, input_bytes: usize) {
        self.call_bytes += id.len() + name.len() + input_bytes;
        self.pass_on_later(Delta::Call(name.len() + input_bytes));
    }

    /// Adds a whole call.
    pub(super) fn call_whole(&mut self, id: &str, name: &str, input: String) {
        self.note_call(id, name, input.len());
        self.calls.push(Slot { index: None, id: id.to_owned(), name: name.to_owned(), input });
    }

    /// Adds a piece of a call to the call it belongs to.
    pub(super) fn call_piece(&mut self, index: Option<u64>, id: &str, name: &str, input: &str) {
        self.note_call(id, name, input.len());
        // Servers that number no calls tell them apart by id or by naming the tool again; some number all of them 0.
        let belongs = |slot: &&mut Slot| {
            let same_id = id.is_empty() || slot.id.is_empty() || slot.id == id;
            let same_place = match index {
                Some(_) => slot.index == index,
                None => slot.id == id && !id.is_empty() || name.is_empty() || slot.name.is_empty(),
            };
            same_id && same_place
        };
        let found = match index {
            Some(_) => self.calls.iter_mut().rev().find(belongs),
            None => self.calls.last_mut().filter(belongs),
        };
        #[allow(clippy::single_match_else, reason = "the borrow of the one found ends here")]
        let slot = match found {
            Some(slot) => slot,
            None => {
                self.calls.push(Slot { index, ..Slot::default() });
                let Some(slot) = self.calls.last_mut() else { return };
                slot
            }
        };
        if slot.id.is_empty() {
            id.clone_into(&mut slot.id);
        }
        if slot.name.is_empty() {
            name.clone_into(&mut slot.name);
        }
        slot.input.push_str(input);
    }

    /// The whole answer.
    pub(super) fn into_answer(mut self) -> Result<ModelAnswer, ProviderError> {
        let too_long = |slot: &Slot| slot.name.len().max(slot.id.len()) > limits::ANSWER_NAME_BYTES;
        if self.calls.iter().any(|slot| slot.name.is_empty() || too_long(slot)) {
            let detail = "the answer asks for a call without a proper name".to_owned();
            return Err(ProviderError::within(Reason::ProviderRejected, detail, self.take_words()));
        }
        let mut taken = BTreeSet::new();
        let mut tool_calls = Vec::new();
        for (place, slot) in self.calls.into_iter().enumerate() {
            let fresh = !slot.id.is_empty() && taken.insert(slot.id.clone());
            let provider_id = if fresh { slot.id } else { format!("call_{}_{place}", self.id_stem) };
            let input = if slot.input.trim().is_empty() { "{}".to_owned() } else { slot.input };
            tool_calls.push(RequestedCall { provider_id, tool: slot.name, input });
        }
        let stop = match self.finish.unwrap_or(StopReason::EndTurn) {
            StopReason::EndTurn | StopReason::ToolUse if !tool_calls.is_empty() => StopReason::ToolUse,
            StopReason::ToolUse => StopReason::Other,
            stop => stop,
        };
        let filled = |words: String| Some(words).filter(|words| !words.is_empty());
        let (text, reasoning) = (filled(self.text), filled(self.reasoning));
        Ok(ModelAnswer { text, reasoning, tool_calls, stop, usage: self.usage })
    }
}
