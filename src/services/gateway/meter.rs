//! What a call takes, read off its answer while that passes: the provider's own numbers, and where it says none, the words.

use serde_json::Value;

use crate::domain::ledger::{Basis, Reservation, Tokens};
use crate::domain::limits::{TOKEN_BYTES, TOKEN_BYTES_MOST};
use crate::domain::model_call::{Dialect, Taken};

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It belongs to the client.
    Pass,
    /// It tells what the client did not ask for.
    Keep,
}

/// Meters one answer.
#[derive(Debug)]
pub(super) struct Meter {
    dialect: Dialect,
    /// Whether an event that tells nothing but the usage is passed on.
    wants_usage: bool,
    /// Bytes of words that have passed.
    words: u64,
    /// What the provider said so far.
    said: Option<Tokens>,
    /// Whether that is all of it.
    is_final: bool,
    /// Whether the answer says of itself that it is over.
    pub(super) ended: bool,
}

impl Meter {
    pub(super) fn new(dialect: Dialect, wants_usage: bool) -> Self {
        Self { dialect, wants_usage, words: 0, said: None, is_final: false, ended: false }
    }

    /// Takes an event of a stream.
    pub(super) fn event(&mut self, data: &str) -> Event {
        if data.trim() == "[DONE]" {
            self.ended = true;
            return Event::Pass;
        }
        let Ok(value) = serde_json::from_str::<Value>(data) else { return Event::Pass };
        match self.dialect {
            Dialect::ChatCompletions => return self.chunk(&value),
            Dialect::Responses => {
                self.note(&value["response"]["usage"], true);
                let kind = value["type"].as_str().unwrap_or_default();
                self.ended |= ["response.completed", "response.incomplete", "response.failed", "error"].contains(&kind);
            }
            Dialect::Messages => {
                self.note(&value["message"]["usage"], false);
                self.note(&value["usage"], true);
                self.ended |= matches!(value["type"].as_str(), Some("message_stop" | "error"));
            }
        }
        self.words += words(&value["delta"]);
        Event::Pass
    }

    fn chunk(&mut self, chunk: &Value) -> Event {
        self.note(&chunk["usage"], true);
        let choices = chunk["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        for choice in choices {
            self.words += words(&choice["delta"]);
            self.ended |= choice["finish_reason"].is_string();
        }
        self.ended |= chunk["error"].is_object();
        let only_usage = choices.is_empty() && chunk["usage"].is_object();
        if only_usage && !self.wants_usage { Event::Keep } else { Event::Pass }
    }

    /// Takes an answer that came in one document.
    pub(super) fn document(&mut self, bytes: &[u8]) {
        self.ended = true;
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => {
                self.words = words(&value);
                self.note(&value["usage"], true);
            }
            Err(_) => self.words = bytes.len() as u64,
        }
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

    /// Whether more words have come than so many tokens can be.
    pub(super) fn is_beyond(&self, tokens: u64) -> bool {
        self.words / TOKEN_BYTES_MOST as u64 > tokens
    }

    /// What the call took, as far as the answer was seen. What was estimated is never more than was set aside.
    pub(super) fn taken(&self, reservation: &Reservation, answers: u64) -> Taken {
        if let Some(said) = self.said.filter(|_| self.is_final) {
            return Taken::Tokens(said, Basis::Reported);
        }
        let most = reservation.output_tokens.map_or(u64::MAX, |limit| limit.saturating_mul(answers));
        let counted = self.words.div_ceil(TOKEN_BYTES as u64).min(most);
        let said = self.said.unwrap_or(Tokens { input: reservation.input_tokens, ..Tokens::default() });
        Taken::Tokens(Tokens { output: said.output.max(counted), ..said }, Basis::Estimated)
    }
}

/// Bytes of all texts within a value.
fn words(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(words).sum(),
        Value::Object(fields) => fields.values().map(words).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
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
            let mut meter = Meter::new(dialect, false);
            let passed: Vec<Event> = events.iter().map(|event| meter.event(event)).collect();
            (meter.taken(&reservation(None), 1), meter.ended, passed.contains(&Event::Keep))
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
    fn what_goes_on_past_the_limit_is_seen_and_what_is_estimated_stays_within_it() {
        let mut meter = Meter::new(Dialect::ChatCompletions, true);
        let event = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "w".repeat(100));
        assert!(meter.event(&event) == Event::Pass && !meter.is_beyond(6));
        meter.event(&event);
        assert!(meter.is_beyond(6) && !meter.is_beyond(20));
        let taken = meter.taken(&reservation(Some(6)), 1);
        assert_eq!(taken, Taken::Tokens(tokens(50, 0, 0, 6), Basis::Estimated));
    }
}
