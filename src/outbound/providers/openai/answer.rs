//! Puts an answer together from what a server sends, with patience for servers that leave things out.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::sync::mpsc::Sender;

use super::faults;
use crate::domain::reason::Reason;
use crate::domain::turn::{StopReason, Usage, UsageSource};
use crate::outbound::limits;
use crate::outbound::providers::{Delta, ModelAnswer, ProviderError, RequestedCall, check_size, send_live};

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
    finish: Option<String>,
    usage: Option<Usage>,
    call_bytes: usize,
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
    /// Nothing yet. Calls without an id of the server's get one with this stem.
    pub(super) fn new(deltas: Sender<Delta>, id_stem: &str) -> Self {
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
        }
    }

    /// Passes on what came since the last time.
    pub(super) async fn pass_on(&mut self) {
        for delta in self.unsaid.drain(..) {
            send_live(&self.deltas, delta).await;
        }
    }

    fn say(&mut self, delta: Delta) {
        match (self.unsaid.last_mut(), delta) {
            (Some(Delta::Text(before)), Delta::Text(words))
            | (Some(Delta::Reasoning(before)), Delta::Reasoning(words)) => {
                before.push_str(&words);
            }
            (_, delta) => self.unsaid.push(delta),
        }
    }

    /// Takes one event of a stream. Says whether it was the last.
    pub(super) fn event(&mut self, data: &str) -> Result<bool, ProviderError> {
        let data = data.trim();
        if data == "[DONE]" {
            self.finish.get_or_insert_default();
            return Ok(true);
        }
        if data.is_empty() {
            return Ok(false);
        }
        let Ok(value) = serde_json::from_str::<Value>(data) else {
            return Err(self.broken("an event of the stream is not JSON".to_owned()));
        };
        self.chunk(&value, "delta")?;
        Ok(false)
    }

    /// Takes a whole answer in one document.
    pub(super) fn document(&mut self, bytes: &[u8]) -> Result<(), ProviderError> {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return Err(self.broken("the answer is not JSON".to_owned()));
        };
        if value.get("error").is_none_or(Value::is_null) && value.pointer("/choices/0").is_none() {
            let detail = "the answer holds no choice: is the address that of a chat completions server?";
            return Err(ProviderError::before(Reason::ProviderRejected, detail));
        }
        self.chunk(&value, "message")?;
        self.finish.get_or_insert_default();
        Ok(())
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

    fn chunk(&mut self, value: &Value, message_key: &str) -> Result<(), ProviderError> {
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            return Err(self.error_object(error));
        }
        if let Some(usage) = value.get("usage").and_then(usage) {
            self.usage = Some(usage);
        }
        let Some(choice) = value.pointer("/choices/0") else { return Ok(()) };
        if let Some(message) = choice.get(message_key).or_else(|| choice.get("message")) {
            self.message(message)?;
        }
        if let Some(word) = choice.get("finish_reason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            self.finish = Some(word.to_owned());
        }
        Ok(())
    }

    fn error_object(&mut self, error: &Value) -> ProviderError {
        let found = faults::of_object(error);
        if self.text.is_empty() && self.reasoning.is_empty() && self.calls.is_empty() {
            return found;
        }
        ProviderError::within(Reason::ProviderStreamBroken, found.detail, self.take_words())
    }

    fn message(&mut self, message: &Value) -> Result<(), ProviderError> {
        let reasoning = ["reasoning_content", "reasoning"].iter().find_map(|key| message.get(*key)?.as_str());
        if let Some(words) = reasoning.filter(|words| !words.is_empty()) {
            self.reasoning.push_str(words);
            self.say(Delta::Reasoning(words.to_owned()));
        }
        let words = match message.get("content") {
            Some(Value::String(words)) => words.clone(),
            Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
            _ => String::new(),
        };
        if !words.is_empty() {
            self.text.push_str(&words);
            self.say(Delta::Text(words));
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.call(call);
        }
        let bytes = self.text.len() + self.reasoning.len() + self.call_bytes;
        check_size(bytes, self.calls.len(), &mut self.text)
    }

    /// Adds a piece of a call to the call it belongs to.
    fn call(&mut self, piece: &Value) {
        let words = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = piece.get("index").and_then(Value::as_u64);
        let id = words(piece.get("id"));
        let function = piece.get("function");
        let name = words(function.and_then(|function| function.get("name")));
        let input = match function.and_then(|function| function.get("arguments")) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        self.call_bytes += id.len() + name.len() + input.len();
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
            slot.id = id;
        }
        if slot.name.is_empty() {
            slot.name = name;
        }
        slot.input.push_str(&input);
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
        let stop = match self.finish.as_deref().unwrap_or_default() {
            "length" => StopReason::MaxTokens,
            "content_filter" => StopReason::ContentFilter,
            "stop" | "" | "tool_calls" | "function_call" if !tool_calls.is_empty() => StopReason::ToolUse,
            "stop" | "" => StopReason::EndTurn,
            _ => StopReason::Other,
        };
        let filled = |words: String| Some(words).filter(|words| !words.is_empty());
        let (text, reasoning) = (filled(self.text), filled(self.reasoning));
        Ok(ModelAnswer { text, reasoning, tool_calls, stop, usage: self.usage })
    }
}

fn usage(value: &Value) -> Option<Usage> {
    let tokens = |key: &str| value.get(key).and_then(Value::as_u64);
    let (input_tokens, output_tokens) = (tokens("prompt_tokens")?, tokens("completion_tokens").unwrap_or(0));
    Some(Usage { input_tokens, output_tokens, source: UsageSource::Reported })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assembled(pieces: &[Value]) -> ModelAnswer {
        let (deltas, _watcher) = tokio::sync::mpsc::channel(1);
        let mut assembly = Assembly::new(deltas, "x");
        for piece in pieces {
            let event =
                json!({ "choices": [{ "delta": { "tool_calls": [piece] }, "finish_reason": "" }], "usage": {} });
            assert!(!assembly.event(&event.to_string()).unwrap());
        }
        assert!(assembly.event("[DONE]").unwrap());
        assembly.into_answer().unwrap()
    }

    fn call(id: &str, tool: &str, input: &str) -> RequestedCall {
        RequestedCall { provider_id: id.into(), tool: tool.into(), input: input.into() }
    }

    #[test]
    fn calls_are_told_apart_whatever_the_server_leaves_out() {
        let function = |name: &str, input: &str| json!({ "name": name, "arguments": input });
        let interleaved = assembled(&[
            json!({ "index": 0, "id": "a", "function": function("f", "") }),
            json!({ "index": 1, "id": "b", "function": function("g", "{\"n\"") }),
            json!({ "index": 0, "function": { "arguments": "{}" } }),
            json!({ "index": 1, "id": "", "function": { "name": null, "arguments": ":1}" } }),
        ]);
        assert_eq!(interleaved.tool_calls, [call("a", "f", "{}"), call("b", "g", "{\"n\":1}")]);
        assert_eq!((interleaved.stop, interleaved.usage), (StopReason::ToolUse, None));
        let same_number = assembled(&[
            json!({ "index": 0, "id": "a", "function": function("f", "{}") }),
            json!({ "index": 0, "id": "b", "function": function("f", "{}") }),
        ]);
        assert_eq!(same_number.tool_calls, [call("a", "f", "{}"), call("b", "f", "{}")]);
        let bare = assembled(&[
            json!({ "function": { "name": "f", "arguments": { "n": 1 } } }),
            json!({ "function": { "name": "g" } }),
        ]);
        assert_eq!(bare.tool_calls, [call("call_x_0", "f", "{\"n\":1}"), call("call_x_1", "g", "{}")]);
        let repeated = assembled(&[
            json!({ "id": "a", "function": function("f", "{") }),
            json!({ "id": "a", "function": function("f", "}") }),
        ]);
        assert_eq!(repeated.tool_calls, [call("a", "f", "{}")]);
    }

    #[test]
    fn a_call_without_a_name_is_refused() {
        let (deltas, _watcher) = tokio::sync::mpsc::channel(1);
        let mut assembly = Assembly::new(deltas, "x");
        let answer = json!({ "choices": [{ "message": { "tool_calls": [{ "id": "a" }] } }] });
        assembly.document(answer.to_string().as_bytes()).unwrap();
        assert_eq!(assembly.into_answer().unwrap_err().reason, Reason::ProviderRejected);
    }
}
