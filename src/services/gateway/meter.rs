//! What a call takes, read off its answer while that passes: the provider's own numbers, and where it says none, the words.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::ledger::{Basis, Reservation, Tokens};
use crate::domain::limits::{TOKEN_BYTES, TOKEN_BYTES_MOST};
use crate::domain::model_call::{Dialect, Outcome, Taken};
use crate::domain::reason::Reason;
use crate::outbound::providers::reason_of_error;

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It belongs to the client.
    Pass,
    /// It tells what the client did not ask for.
    Keep,
}

/// What the last event of a chat completion says.
pub(super) const DONE: &str = "[DONE]";

/// Meters one answer.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the answer")]
pub(super) struct Meter {
    dialect: Dialect,
    /// Whether an event that tells nothing but the usage is passed on.
    wants_usage: bool,
    /// How many answers were asked for.
    answers: u64,
    /// Those that are over.
    over: BTreeSet<u64>,
    /// Whether anything of an answer came.
    begun: bool,
    /// Bytes of words that have passed.
    words: u64,
    /// What the provider said so far.
    said: Option<Tokens>,
    /// Whether that is all of it.
    is_final: bool,
    /// Whether the answer says of itself that it is over.
    pub(super) ended: bool,
    /// Why it is no whole one, where it says so.
    fault: Option<Reason>,
}

impl Meter {
    pub(super) fn new(dialect: Dialect, wants_usage: bool, answers: u64) -> Self {
        Self {
            dialect,
            wants_usage,
            answers,
            over: BTreeSet::new(),
            begun: false,
            words: 0,
            said: None,
            is_final: false,
            ended: false,
            fault: None,
        }
    }

    /// Takes an event of a stream, and tells what it says: nothing that is no JSON.
    pub(super) fn event(&mut self, data: &str) -> (Event, Value) {
        if data.trim() == DONE {
            self.ended = true;
            return (Event::Pass, DONE.into());
        }
        let value = serde_json::from_str(data).unwrap_or_default();
        (self.take(&value), value)
    }

    fn take(&mut self, value: &Value) -> Event {
        self.note_fault(value);
        self.begun |= self.fault.is_none() && !value.is_null() && value["type"] != "ping";
        match self.dialect {
            Dialect::ChatCompletions => return self.chunk(value),
            Dialect::Responses => {
                self.note(&value["response"]["usage"], true);
                let kind = value["type"].as_str().unwrap_or_default();
                self.ended |= ["response.completed", "response.incomplete", "response.failed"].contains(&kind);
            }
            Dialect::Messages => {
                self.note(&value["message"]["usage"], false);
                self.note(&value["usage"], true);
                self.ended |= value["type"] == "message_stop";
            }
        }
        self.words += words(&value["delta"]) + words(&value["content_block"]);
        if value["type"] == "response.output_item.added" {
            self.words += words(&value["item"]);
        }
        Event::Pass
    }

    fn chunk(&mut self, chunk: &Value) -> Event {
        self.note(&chunk["usage"], true);
        let choices = chunk["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        for choice in choices {
            self.words += words(&choice["delta"]);
            if choice["finish_reason"].is_string() {
                self.over.insert(choice["index"].as_u64().unwrap_or(0));
                self.ended |= self.over.len() as u64 >= self.answers;
            }
        }
        let only_usage = choices.is_empty() && chunk["usage"].is_object();
        if only_usage && !self.wants_usage { Event::Keep } else { Event::Pass }
    }

    /// Takes an answer that came in one document.
    pub(super) fn document(&mut self, bytes: &[u8]) {
        self.ended = true;
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => {
                self.note_fault(&value);
                let answer = match self.dialect {
                    Dialect::ChatCompletions => "choices",
                    Dialect::Responses => "output",
                    Dialect::Messages => "content",
                };
                self.words = words(&value[answer]);
                self.note(&value["usage"], true);
            }
            Err(_) => self.words = bytes.len() as u64,
        }
    }

    /// Takes an error in place of the answer, or in the middle of it.
    fn note_fault(&mut self, value: &Value) {
        let within = [value.get("error"), value.pointer("/response/error")];
        let itself = Some(value).filter(|value| value["type"] == "error");
        let mut errors = within.into_iter().flatten().filter(|error| !error.is_null()).chain(itself);
        if let Some(error) = errors.next() {
            self.ended = true;
            self.fault.get_or_insert_with(|| reason_of_error(error));
        }
    }

    /// What becomes of a call whose answer says that it is over.
    pub(super) fn verdict(&self) -> (Outcome, Option<Reason>) {
        let outcome = match self.fault {
            None => Outcome::Answered,
            Some(code) if !self.begun && self.is_silent() => super::not_begun(code),
            Some(_) => Outcome::Broken,
        };
        (outcome, self.fault)
    }

    /// Whether nothing came that tells what the call took.
    fn is_silent(&self) -> bool {
        self.words == 0 && self.said.is_none()
    }

    fn note(&mut self, usage: &Value, is_final: bool) {
        if !usage.is_object() {
            return;
        }
        let number = |paths: &[&str]| paths.iter().find_map(|path| usage.pointer(path)?.as_u64()).unwrap_or(0);
        let cached = number(&[
            "/prompt_tokens_details/cached_tokens",
            "/input_tokens_details/cached_tokens",
            "/cache_read_input_tokens",
        ]);
        let cache_write = number(&["/cache_creation_input_tokens"]);
        // Anthropic counts what was kept beside the input, the others within it.
        let beside = if self.dialect == Dialect::Messages { cached.saturating_add(cache_write) } else { 0 };
        let said = Tokens {
            input: number(&["/prompt_tokens", "/input_tokens"]).saturating_add(beside),
            cached_input: cached,
            cache_write,
            output: number(&["/completion_tokens", "/output_tokens"]),
        };
        // A stream says its numbers in parts, and each only grows.
        let before = self.said.unwrap_or_default();
        self.said = Some(Tokens {
            input: before.input.max(said.input),
            cached_input: before.cached_input.max(said.cached_input),
            cache_write: before.cache_write.max(said.cache_write),
            output: before.output.max(said.output),
        });
        self.is_final |= is_final;
    }

    /// The most that may come under a reservation, tokens.
    fn most(&self, reservation: &Reservation) -> Option<u64> {
        reservation.output_tokens.map(|limit| limit.saturating_mul(self.answers))
    }

    /// Whether more words have come than what is set aside can be. What is over is not cut any more.
    pub(super) fn is_beyond(&self, reservation: &Reservation) -> bool {
        !self.ended && self.most(reservation).is_some_and(|most| self.words / TOKEN_BYTES_MOST as u64 > most)
    }

    /// What the call took, as far as the answer was seen. What was estimated is never more than was set aside.
    pub(super) fn taken(&self, reservation: &Reservation) -> Taken {
        if let Some(said) = self.said.filter(|_| self.is_final) {
            return Taken::Tokens(said, Basis::Reported);
        }
        // A document that nobody waited for may be as long as was asked.
        if self.is_silent() {
            return Taken::Unknown;
        }
        let counted = self.words.div_ceil(TOKEN_BYTES as u64).min(self.most(reservation).unwrap_or(u64::MAX));
        let said = self.said.unwrap_or(Tokens { input: reservation.input_tokens, ..Tokens::default() });
        Taken::Tokens(Tokens { output: said.output.max(counted), ..said }, Basis::Estimated)
    }
}

/// Fields whose texts a model wrote: what it says, thinks and wants called. Kinds, ids, signatures and the like are no words.
pub(super) const WRITTEN: [&str; 12] = [
    "arguments",
    "content",
    "input",
    "name",
    "partial_json",
    "reasoning",
    "reasoning_content",
    "refusal",
    "summary",
    "text",
    "thinking",
    "transcript",
];

/// Bytes of a model's words within a value.
fn words(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| words_of(key, value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn words_of(key: &str, value: &Value) -> u64 {
    match value {
        Value::String(_) if !WRITTEN.contains(&key) => 0,
        // The same words stand beside them as text.
        Value::Array(_) if key == "reasoning_details" => 0,
        // Arguments, whose fields have names of the tool's.
        Value::Object(_) if key == "input" => value.to_string().len() as u64,
        other => words(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation(output_tokens: Option<u64>) -> Reservation {
        Reservation {
            micros: 0,
            input_tokens: 50,
            output_tokens,
            price: None,
            principal: "admin".into(),
            session_id: None,
        }
    }

    fn tokens(input: u64, cached_input: u64, cache_write: u64, output: u64) -> Tokens {
        Tokens { input, cached_input, cache_write, output }
    }

    #[test]
    fn each_dialect_says_its_usage_in_its_own_way() {
        let metered = |dialect, events: &[&str]| {
            let mut meter = Meter::new(dialect, false, 1);
            let passed: Vec<Event> = events.iter().map(|event| meter.event(event).0).collect();
            (meter.taken(&reservation(None)), meter.ended, passed.contains(&Event::Keep))
        };
        let chat = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}"#;
        let done = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let reported = |tokens| Taken::Tokens(tokens, Basis::Reported);
        assert_eq!(metered(Dialect::ChatCompletions, &[done, chat]), (reported(tokens(9, 3, 0, 4)), true, true));
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"cache_read_input_tokens":3,"cache_creation_input_tokens":2,"output_tokens":1}}}"#;
        let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}"#;
        let stop = r#"{"type":"message_stop"}"#;
        let all = metered(Dialect::Messages, &[start, delta, stop]);
        assert_eq!(all, (reported(tokens(14, 3, 2, 4)), true, false));
        let completed = r#"{"type":"response.completed","response":{"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":3},"output_tokens":4}}}"#;
        assert_eq!(metered(Dialect::Responses, &[completed]), (reported(tokens(9, 3, 0, 4)), true, false));
        let words = r#"{"type":"content_block_delta","delta":{"text":"twelve bytes"}}"#;
        let broken = metered(Dialect::Messages, &[start, words]);
        assert_eq!(broken, (Taken::Tokens(tokens(14, 3, 2, 4), Basis::Estimated), false, false));
    }

    #[test]
    fn an_error_in_place_of_an_answer_or_within_it_is_no_answer() {
        let verdict = |dialect, events: &[&str]| {
            let mut meter = Meter::new(dialect, false, 1);
            for event in events {
                meter.event(event);
            }
            assert!(meter.ended);
            meter.verdict()
        };
        let words = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
        let done = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let error = r#"{"error":{"message":"later","type":"rate_limit_error"}}"#;
        assert_eq!(verdict(Dialect::ChatCompletions, &[words, done]), (Outcome::Answered, None));
        let limited = Some(Reason::ProviderRateLimited);
        assert_eq!(verdict(Dialect::ChatCompletions, &[error]), (Outcome::Refused, limited));
        assert_eq!(verdict(Dialect::ChatCompletions, &[words, error]), (Outcome::Broken, limited));
        let begun = r#"{"choices":[{"delta":{"role":"assistant"}}]}"#;
        assert_eq!(verdict(Dialect::ChatCompletions, &[begun, error]), (Outcome::Broken, limited), "it had begun");
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":9}}}"#;
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"later"}}"#;
        assert_eq!(verdict(Dialect::Messages, &[start, error]), (Outcome::Broken, limited));
        assert_eq!(verdict(Dialect::Messages, &[r#"{"type":"ping"}"#, error]), (Outcome::Refused, limited));
        let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"no"}}}"#;
        let event = r#"{"type":"error","code":"server_error","message":"no"}"#;
        for error in [failed, event] {
            let expected = (Outcome::Refused, Some(Reason::ProviderUnavailable));
            assert_eq!(verdict(Dialect::Responses, &[error]), expected);
        }
        let whole = r#"{"type":"response.completed","response":{"error":null}}"#;
        assert_eq!(verdict(Dialect::Responses, &[whole]), (Outcome::Answered, None));
        let mut meter = Meter::new(Dialect::ChatCompletions, false, 1);
        meter.document(br#"{"error":{"code":503}}"#);
        assert_eq!(meter.verdict(), (Outcome::Refused, Some(Reason::ProviderUnavailable)));
    }

    #[test]
    fn all_that_a_model_writes_counts_and_nothing_else_does() {
        let heard = |dialect, events: &[&str]| {
            let mut meter = Meter::new(dialect, false, 1);
            for event in events {
                meter.event(event);
            }
            meter.words
        };
        let chat = [
            r#"{"id":"x","choices":[{"delta":{"role":"assistant","reasoning":"12345","reasoning_details":[{"text":"12345"}]}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"123"}},{"delta":{"content":"12"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1","type":"function","function":{"name":"ab","arguments":"{}"}}]}}]}"#,
        ];
        assert_eq!(heard(Dialect::ChatCompletions, &chat), 5 + 3 + 2 + 4);
        let messages = [
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"toolu_1","name":"ab"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"12345"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"c2lnbmF0dXJl"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        ];
        assert_eq!(heard(Dialect::Messages, &messages), 2 + 5 + 2);
        let responses = [
            r#"{"type":"response.output_item.added","item":{"type":"function_call","call_id":"c","name":"ab","arguments":""}}"#,
            r#"{"type":"response.function_call_arguments.delta","item_id":"fc","delta":"{}"}"#,
            r#"{"type":"response.reasoning_summary_text.delta","obfuscation":"xyz","delta":"12345"}"#,
            r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"ab","arguments":"{}"}}"#,
        ];
        assert_eq!(heard(Dialect::Responses, &responses), 2 + 2 + 5);
        for (dialect, document, bytes) in [
            (
                Dialect::ChatCompletions,
                r#"{"model":"m","choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"123"}}]}"#,
                3,
            ),
            (
                Dialect::Responses,
                r#"{"instructions":"be good","output":[{"id":"r","summary":[{"type":"summary_text","text":"12345"}]}]}"#,
                5,
            ),
            (
                Dialect::Messages,
                r#"{"content":[{"type":"thinking","thinking":"12","signature":"x"},{"type":"tool_use","id":"t","name":"a","input":{"id":"7"}}]}"#,
                2 + 1 + 10,
            ),
        ] {
            let mut meter = Meter::new(dialect, false, 1);
            meter.document(document.as_bytes());
            assert_eq!(meter.words, bytes, "{document}");
        }
    }

    #[test]
    fn what_goes_on_past_the_limit_is_seen_and_what_is_estimated_stays_within_it() {
        let mut meter = Meter::new(Dialect::ChatCompletions, true, 1);
        let event = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "w".repeat(100));
        assert!(meter.event(&event).0 == Event::Pass && !meter.is_beyond(&reservation(Some(6))));
        meter.event(&event);
        assert!(meter.is_beyond(&reservation(Some(6))) && !meter.is_beyond(&reservation(Some(20))));
        let taken = meter.taken(&reservation(Some(6)));
        assert_eq!(taken, Taken::Tokens(tokens(50, 0, 0, 6), Basis::Estimated));
        meter.answers = 2;
        let two = meter.taken(&reservation(Some(6)));
        assert_eq!(two, Taken::Tokens(tokens(50, 0, 0, 12), Basis::Estimated), "each of two answers");
    }

    #[test]
    fn who_heard_nothing_knows_nothing_of_what_it_took() {
        let mut meter = Meter::new(Dialect::ChatCompletions, false, 1);
        assert_eq!(meter.taken(&reservation(Some(6))), Taken::Unknown, "a document that nobody waited for");
        meter.event(r#"{"choices":[{"delta":{"role":"assistant"}}]}"#);
        assert_eq!(meter.taken(&reservation(Some(6))), Taken::Unknown, "a stream before its first word");
    }

    #[test]
    fn of_several_answers_each_ends_for_itself() {
        let mut meter = Meter::new(Dialect::ChatCompletions, false, 2);
        let end = |index: u64| format!(r#"{{"choices":[{{"index":{index},"delta":{{}},"finish_reason":"stop"}}]}}"#);
        for event in [end(0), end(0)] {
            meter.event(&event);
            assert!(!meter.ended, "the other goes on");
        }
        meter.event(&end(1));
        assert!(meter.ended);
        let mut meter = Meter::new(Dialect::ChatCompletions, false, 2);
        meter.event("[DONE]");
        assert!(meter.ended, "whatever was asked for");
    }
}
