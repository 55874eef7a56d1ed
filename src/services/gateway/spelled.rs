//! Secrets that a model spells over several events. The words of each text of an answer are looked at as one text: an event
//! whose words hold a secret, or may begin one, goes on with what can be given out of them, and the rest comes with the
//! text's next event or before its end. Every other event goes on byte for byte.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use serde_json::{Value, json};

use super::meter::{DONE, WRITTEN};
use crate::domain::model_call::Dialect;
use crate::vault::redaction::{Redactor, StreamRedactor};

/// Texts of an answer that may hold words back at a time; those of further ones are looked at event by event.
const TEXTS: usize = 128;
/// Fields of an event that the event with the rest of its words repeats, and their longest value.
const ABOUT: [&str; 11] = [
    "content_index",
    "created",
    "id",
    "item_id",
    "model",
    "object",
    "output_index",
    "service_tier",
    "summary_index",
    "system_fingerprint",
    "type",
];
const NAME_BYTES: usize = 256;
/// What is held back of fewer bytes is a secret's beginning by chance: it does not stay behind what comes after it.
const CHANCE_BYTES: usize = 8;

/// A text within an answer: the number of its choice, block or item, and what of that it is.
type Place = (u64, String);

/// A text of which words are held back.
struct Held {
    text: StreamRedactor,
    /// What the event that brought the last of them was about.
    event: Value,
}

/// The words of one answer.
pub(super) struct Spelled {
    redactor: Redactor,
    dialect: Dialect,
    held: BTreeMap<Place, Held>,
}

impl Spelled {
    pub(super) fn new(redactor: &Redactor, dialect: Dialect) -> Self {
        Self { redactor: redactor.clone(), dialect, held: BTreeMap::new() }
    }

    /// Hands on an event, which says this.
    pub(super) fn pass(&mut self, bytes: &[u8], mut event: Value, out: &mut BytesMut) {
        if self.held.is_empty() && self.is_clean("", &event) {
            out.extend_from_slice(bytes);
            return;
        }
        self.give_before(&mut event, out);
        let ended = Ended::with(self.dialect, &event);
        let is_changed = self.clean(&mut event, &ended);
        give(self.dialect, self.held.extract_if(.., |(part, _), _| ended.has(*part)), out);
        if is_changed {
            write(self.dialect, &event, out);
        } else {
            out.extend_from_slice(bytes);
        }
    }

    /// Gives out what is held back by chance of texts that this event leaves for another text of the same part.
    fn give_before(&mut self, event: &mut Value, out: &mut BytesMut) {
        if self.held.is_empty() {
            return;
        }
        let signed = (event["delta"]["type"] == "signature_delta").then(|| (number(&event["index"], 0), String::new()));
        let brought: BTreeSet<Place> =
            texts(self.dialect, event).into_iter().map(|(place, _)| place).chain(signed).collect();
        let leaves = |place: &Place, held: &Held| {
            held.text.held_bytes() < CHANCE_BYTES
                && !brought.contains(place)
                && brought.iter().any(|(part, _)| *part == place.0)
        };
        give(self.dialect, self.held.extract_if(.., |place, held| leaves(place, held)), out);
    }

    /// What was held back of an answer that is over.
    pub(super) fn finish(&mut self, out: &mut BytesMut) {
        give(self.dialect, std::mem::take(&mut self.held), out);
    }

    /// Whether anything is held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether no words of an event hold or may begin a secret.
    fn is_clean(&self, name: &str, value: &Value) -> bool {
        match value {
            Value::String(text) if is_written(name) => {
                matches!(self.redactor.stream().push(text.as_bytes()), Cow::Borrowed(_))
            }
            Value::Array(items) => items.iter().all(|item| self.is_clean(name, item)),
            Value::Object(fields) => fields.iter().all(|(name, value)| self.is_clean(name, value)),
            _ => true,
        }
    }

    /// Leaves in an event the words that can be given out, and tells whether those are others than before.
    fn clean(&mut self, event: &mut Value, ended: &Ended) -> bool {
        let (carrier, mut is_changed) = (carrier(event), false);
        for (place, words) in texts(self.dialect, event) {
            let held = self.held.remove(&place).map(|held| held.text);
            let mut text = held.unwrap_or_else(|| self.redactor.stream());
            let mut given = text.push_text(words);
            if self.held.len() >= TEXTS || ended.has(place.0) || !goes_on(self.dialect, &place.1) {
                given.push_str(&text.finish_text());
            } else if text.held_bytes() > 0 {
                self.held.insert(place, Held { text, event: carrier.clone() });
            }
            is_changed |= given != *words;
            *words = given;
        }
        if is_changed {
            without_odds(event);
        }
        is_changed
    }
}

/// Whether the values of fields with this name are words of a model.
fn is_written(name: &str) -> bool {
    name == "delta" || WRITTEN.contains(&name)
}

/// Whether clients join the pieces of the text at this path. A tool's name, say, is whole, and no event can bring its rest.
fn goes_on(dialect: Dialect, path: &str) -> bool {
    match dialect {
        Dialect::ChatCompletions => {
            ["/content", "/refusal", "/reasoning", "/reasoning_content", "/function_call/arguments"].contains(&path)
                || path.ends_with("/function/arguments")
        }
        Dialect::Messages => ["/text", "/thinking", "/partial_json"].contains(&path),
        // The path of a delta that is a text itself is its kind.
        Dialect::Responses => !path.contains('/'),
    }
}

fn number(value: &Value, otherwise: usize) -> u64 {
    value.as_u64().unwrap_or(otherwise as u64)
}

/// The pieces of texts that an event brings.
fn texts(dialect: Dialect, event: &mut Value) -> Vec<(Place, &mut String)> {
    let mut found = Vec::new();
    let part = number(&event[if dialect == Dialect::Responses { "output_index" } else { "index" }], 0);
    let kind = ["type", "content_index", "summary_index"].map(|name| event[name].to_string()).join(" ");
    let Some(fields) = event.as_object_mut() else { return found };
    match dialect {
        Dialect::ChatCompletions => {
            let choices = fields.get_mut("choices").and_then(Value::as_array_mut);
            for (at, choice) in choices.into_iter().flatten().enumerate() {
                let part = number(&choice["index"], at);
                if let Some(delta) = choice.get_mut("delta") {
                    pieces((part, String::new()), "", delta, &mut found);
                }
            }
        }
        Dialect::Messages => {
            for (_, value) in fields.iter_mut().filter(|(name, _)| ["content_block", "delta"].contains(&name.as_str()))
            {
                pieces((part, String::new()), "", value, &mut found);
            }
        }
        Dialect::Responses => {
            if let Some(delta) = fields.get_mut("delta") {
                pieces((part, kind), "delta", delta, &mut found);
            }
        }
    }
    found
}

/// The pieces below a value, each with its path.
fn pieces<'a>(place: Place, name: &str, value: &'a mut Value, found: &mut Vec<(Place, &'a mut String)>) {
    let within = |step: &str| (place.0, format!("{}/{step}", place.1));
    match value {
        Value::String(text) if is_written(name) && !text.is_empty() => found.push((place, text)),
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                pieces(within(&number(&item["index"], at).to_string()), name, item, found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                pieces(within(name), name, value, found);
            }
        }
        _ => {}
    }
}

/// Whose texts an event ends.
enum Ended {
    All,
    Parts(BTreeSet<u64>),
}

impl Ended {
    fn with(dialect: Dialect, event: &Value) -> Self {
        let kind = event["type"].as_str().unwrap_or_default();
        let (is_over, parts) = match dialect {
            Dialect::ChatCompletions => {
                let choices = event["choices"].as_array().into_iter().flatten().enumerate();
                let ended = choices.filter(|(_, choice)| choice["finish_reason"].is_string());
                let parts = ended.map(|(at, choice)| number(&choice["index"], at)).collect();
                (event == DONE || event["error"].is_object(), parts)
            }
            Dialect::Messages => {
                let block = (kind == "content_block_stop").then(|| number(&event["index"], 0));
                (["message_delta", "message_stop", "error"].contains(&kind), block.into_iter().collect())
            }
            Dialect::Responses => {
                let item = kind.strip_suffix(".done").map(|_| number(&event["output_index"], 0));
                let over = ["response.completed", "response.incomplete", "response.failed", "error"];
                (over.contains(&kind), item.into_iter().collect())
            }
        };
        if is_over { Self::All } else { Self::Parts(parts) }
    }

    fn has(&self, part: u64) -> bool {
        match self {
            Self::All => true,
            Self::Parts(parts) => parts.contains(&part),
        }
    }
}

/// Takes out of an event what tells its words once more, token by token.
fn without_odds(event: &mut Value) {
    if let Some(odds) = event.get_mut("logprobs") {
        *odds = json!([]);
    }
    for choice in event.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(odds) = choice.get_mut("logprobs") {
            *odds = Value::Null;
        }
    }
}

/// What an event that gives out the rest of a text has of the one before: what both are about.
fn carrier(event: &Value) -> Value {
    let is_small = |value: &&Value| value.is_u64() || value.as_str().is_some_and(|text| text.len() <= NAME_BYTES);
    let fields = ABOUT.iter().filter_map(|name| Some(((*name).to_owned(), event.get(*name).filter(is_small)?.clone())));
    Value::Object(fields.collect())
}

/// Writes events that give out what is held back of these texts.
fn give(dialect: Dialect, held: impl IntoIterator<Item = (Place, Held)>, out: &mut BytesMut) {
    for ((part, path), Held { text, mut event }) in held {
        let text = text.finish_text();
        match dialect {
            Dialect::ChatCompletions => {
                let delta = nested(&path, text);
                event["choices"] = json!([{ "index": part, "delta": delta, "finish_reason": null }]);
            }
            Dialect::Messages => {
                let kind = match path.as_str() {
                    "/thinking" => "thinking_delta",
                    "/partial_json" => "input_json_delta",
                    _ => "text_delta",
                };
                let delta = json!({ "type": kind, path.trim_start_matches('/'): text });
                event = json!({ "type": "content_block_delta", "index": part, "delta": delta });
            }
            Dialect::Responses => event["delta"] = json!(text),
        }
        write(dialect, &event, out);
    }
}

/// A delta with this text at this path.
fn nested(path: &str, text: String) -> Value {
    path.split('/').skip(1).collect::<Vec<_>>().into_iter().rfold(Value::String(text), |mut within, step| {
        match step.parse::<u64>() {
            Ok(index) => {
                if let Some(fields) = within.as_object_mut() {
                    fields.insert("index".to_owned(), json!(index));
                }
                json!([within])
            }
            Err(_) => json!({ step: within }),
        }
    })
}

fn write(dialect: Dialect, event: &Value, out: &mut BytesMut) {
    if let (Dialect::Messages | Dialect::Responses, Some(kind)) = (dialect, event["type"].as_str()) {
        out.extend_from_slice(format!("event: {kind}\n").as_bytes());
    }
    out.extend_from_slice(format!("data: {event}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::secret::Secret;

    const KEY: &str = "sk-spelled-7Qx2Lw9ZpR4tVb8NmK3sD6fH";

    /// What comes of these events, and its values.
    fn passed(dialect: Dialect, events: &[Value]) -> (String, Vec<Value>) {
        let secret = Secret::parse(KEY.as_bytes()).unwrap();
        let mut spelled = Spelled::new(&Redactor::knowing("far.key", &secret), dialect);
        let mut out = BytesMut::new();
        for event in events {
            spelled.pass(format!("data: {event}\n\n").as_bytes(), event.clone(), &mut out);
        }
        spelled.finish(&mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let values = data.map(|data| serde_json::from_str(data).unwrap()).collect();
        (text, values)
    }

    /// The words at this pointer of all events that have this at another.
    fn joined(values: &[Value], pointer: &str, (at, is): (&str, Value)) -> String {
        let of = values.iter().filter(|value| value.pointer(at) == Some(&is));
        of.filter_map(|value| value.pointer(pointer)?.as_str()).collect()
    }

    fn split(text: &str) -> impl Iterator<Item = (&str, &str)> {
        (1..text.len()).map(|at| text.split_at(at))
    }

    const CLEAN: &str = "So: [redacted:far.key]!";

    #[test]
    fn a_key_is_not_spelled_in_the_words_of_a_chat_completion() {
        let chunk = |index: u64, delta: Value| json!({ "id": "c", "choices": [{ "index": index, "delta": delta }] });
        let text = format!("So: {KEY}!");
        // Each character in an event of its own, for two choices in turn.
        let mut events: Vec<Value> = text
            .chars()
            .flat_map(|c| [chunk(0, json!({ "content": c })), chunk(1, json!({ "reasoning_content": c }))])
            .collect();
        events.push(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }));
        let (all, values) = passed(Dialect::ChatCompletions, &events);
        for (index, field) in [(0, "content"), (1, "reasoning_content")] {
            let pointer = format!("/choices/0/delta/{field}");
            assert_eq!(joined(&values, &pointer, ("/choices/0/index", json!(index))), CLEAN, "{all}");
        }
        for (first, second) in split(&text) {
            let call = |text: &str| json!({ "tool_calls": [{ "index": 3, "function": { "arguments": text } }] });
            let events = [chunk(0, call(first)), chunk(0, call(second))];
            let (all, values) = passed(Dialect::ChatCompletions, &events);
            let pointer = "/choices/0/delta/tool_calls/0/function/arguments";
            assert_eq!(joined(&values, pointer, ("/choices/0/delta/tool_calls/0/index", json!(3))), CLEAN, "{all}");
        }
    }

    #[test]
    fn a_key_is_not_spelled_in_the_words_of_a_message_or_a_response() {
        let text = format!("So: {KEY}!");
        for (kind, field) in
            [("text_delta", "text"), ("thinking_delta", "thinking"), ("input_json_delta", "partial_json")]
        {
            let delta = |text: &str| json!({ "type": "content_block_delta", "index": 2, "delta": { "type": kind, field: text } });
            let one: Vec<Value> = text.chars().map(|c| delta(&c.to_string())).collect();
            let two = split(&text).map(|(first, second)| vec![delta(first), delta(second)]);
            for events in two.chain([one]) {
                let (all, values) = passed(Dialect::Messages, &events);
                assert_eq!(joined(&values, &format!("/delta/{field}"), ("/delta/type", json!(kind))), CLEAN, "{all}");
            }
        }
        for kind in ["response.output_text.delta", "response.function_call_arguments.delta"] {
            let delta = |text: &str| {
                let odds = [json!({ "token": text })];
                json!({ "type": kind, "item_id": "i", "output_index": 1, "delta": text, "logprobs": odds })
            };
            let events: Vec<Value> = text.chars().map(|c| delta(&c.to_string())).collect();
            let (all, values) = passed(Dialect::Responses, &events);
            assert_eq!(joined(&values, "/delta", ("/item_id", json!("i"))), CLEAN, "{all}");
            assert!(!joined(&values, "/logprobs/0/token", ("/item_id", json!("i"))).contains("7Qx2"), "{all}");
        }
    }

    #[test]
    fn what_is_held_back_comes_before_the_end_of_its_text_and_nothing_else_is_touched() {
        let said = |kind: &str, delta: Value| json!({ "type": kind, "index": 0, "delta": delta });
        let (begins, stops) = (&KEY[..6], json!({ "type": "content_block_stop", "index": 0 }));
        let text = |text: &str| said("content_block_delta", json!({ "type": "text_delta", "text": text }));
        let (all, values) = passed(Dialect::Messages, &[text(begins), json!({ "type": "ping" }), stops.clone()]);
        assert_eq!(values, [text(""), json!({ "type": "ping" }), text(begins), stops], "{all}");
        let part = |kind: &str, delta: Value| json!({ "type": kind, "output_index": 0, "delta": delta });
        let (delta, done) = ("response.output_text.delta", json!({ "type": "response.output_text.done" }));
        let (all, values) = passed(Dialect::Responses, &[part(delta, json!(begins)), done.clone()]);
        assert_eq!(values, [part(delta, json!("")), part(delta, json!(begins)), done], "{all}");
        let chunk = |content: &str, end: Value| {
            let choice = json!({ "index": 0, "delta": { "content": content }, "finish_reason": end });
            json!({ "id": "c", "choices": [choice] })
        };
        let (all, values) =
            passed(Dialect::ChatCompletions, &[chunk("so s", json!(null)), chunk("k-", json!("stop")), json!(DONE)]);
        assert_eq!(values, [chunk("so ", json!(null)), chunk("sk-", json!("stop")), json!(DONE)], "{all}");
        let (all, values) = passed(Dialect::ChatCompletions, &[chunk("so s", json!(null)), json!(DONE)]);
        assert_eq!(values, [chunk("so ", json!(null)), chunk("s", json!(null)), json!(DONE)], "{all}");
        // Without an end, and clean: as it came.
        let (_, values) = passed(Dialect::Messages, &[text(begins)]);
        assert_eq!(values, [text(""), text(begins)]);
        let clean = [text("!!"), json!({ "b": 1, "type": "x", "a": [begins] })];
        let (all, _) = passed(Dialect::Messages, &clean);
        assert_eq!(all, clean.map(|event| format!("data: {event}\n\n")).concat());
    }

    #[test]
    fn a_name_stays_whole_and_what_is_held_by_chance_stays_before_what_follows_it() {
        let start = json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "name": "list_files", "input": {} } });
        let (_, values) = passed(Dialect::Messages, std::slice::from_ref(&start));
        assert_eq!(values, [start]);
        let chunk =
            |delta: Value| json!({ "id": "c", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
        let call =
            |name: &str| json!({ "tool_calls": [{ "index": 0, "function": { "name": name, "arguments": "{}" } }] });
        let (_, values) = passed(Dialect::ChatCompletions, &[chunk(call("list_files")), chunk(call(KEY))]);
        assert_eq!(values, [chunk(call("list_files")), chunk(call("[redacted:far.key]"))]);
        let thought = |text: &str| chunk(json!({ "reasoning_content": text }));
        let said = chunk(json!({ "content": "Done" }));
        let (_, values) = passed(Dialect::ChatCompletions, &[thought("of files"), said.clone()]);
        assert_eq!(values, [thought("of file"), thought("s"), said]);
        let delta = |delta: Value| json!({ "type": "content_block_delta", "index": 0, "delta": delta });
        let thought = |text: &str| delta(json!({ "type": "thinking_delta", "thinking": text }));
        let signed = delta(json!({ "type": "signature_delta", "signature": "x" }));
        let (_, values) = passed(Dialect::Messages, &[thought("of files"), signed.clone()]);
        assert_eq!(values, [thought("of file"), thought("s"), signed]);
    }
}
