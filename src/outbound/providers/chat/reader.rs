//! An answer as chat completions spell it, with patience for servers that leave things out.

use serde_json::Value;

use crate::domain::turn::{StopReason, Usage, UsageSource};
use crate::outbound::providers::ProviderError;
use crate::outbound::providers::assembly::Assembly;
use crate::outbound::providers::exchange::Reader;

/// Reads chunks, or one completion.
#[derive(Debug)]
pub(super) struct ChatReader {
    pub(super) thinking_apart: bool,
}

impl Reader for ChatReader {
    fn event(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        self.chunk(value, "delta", assembly)?;
        Ok(false)
    }

    fn document(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        self.chunk(value, "message", assembly)?;
        Ok(value.pointer("/choices/0").is_some())
    }
}

impl ChatReader {
    fn chunk(&self, value: &Value, message_key: &str, assembly: &mut Assembly) -> Result<(), ProviderError> {
        if let Some(usage) = value.get("usage").and_then(|usage| self.usage(usage)) {
            assembly.count(usage);
        }
        let Some(choice) = value.pointer("/choices/0") else { return Ok(()) };
        if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
            return Err(assembly.error_object(error));
        }
        if let Some(said) = choice.get(message_key).or_else(|| choice.get("message")) {
            message(said, assembly);
        }
        if let Some(word) = choice.get("finish_reason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            assembly.finish(stop(word));
        }
        Ok(())
    }

    fn usage(&self, value: &Value) -> Option<Usage> {
        let tokens = |path: &str| value.pointer(path).and_then(Value::as_u64);
        let (input, output) = (tokens("/prompt_tokens")?, tokens("/completion_tokens").unwrap_or(0));
        let reasoning_tokens = tokens("/completion_tokens_details/reasoning_tokens");
        let apart = reasoning_tokens.filter(|_| self.thinking_apart).unwrap_or(0);
        Some(Usage {
            cached_tokens: tokens("/prompt_tokens_details/cached_tokens"),
            reasoning_tokens,
            ..Usage::new(input, output.saturating_add(apart), UsageSource::Reported)
        })
    }
}

fn stop(word: &str) -> StopReason {
    match word {
        "stop" => StopReason::EndTurn,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::ContentFilter,
        _ => StopReason::Other,
    }
}

fn message(message: &Value, assembly: &mut Assembly) {
    let reasoning = ["reasoning_content", "reasoning"].iter().find_map(|key| message.get(*key)?.as_str());
    assembly.think(reasoning.unwrap_or_default());
    match message.get("content") {
        Some(Value::String(words)) => assembly.say(words),
        Some(Value::Array(parts)) => {
            for part in parts {
                assembly.say(part.get("text").and_then(Value::as_str).unwrap_or_default());
            }
        }
        _ => {}
    }
    assembly.say(message.get("refusal").and_then(Value::as_str).unwrap_or_default());
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let words = |path: &str| call.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let index = call.get("index").and_then(Value::as_u64);
        let input = match call.pointer("/function/arguments") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        assembly.call_piece(index, words("/id"), words("/function/name"), &input);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::reason::Reason;
    use crate::outbound::providers::{ModelAnswer, RequestedCall};

    fn fresh() -> Assembly {
        Assembly::new(tokio::sync::mpsc::channel(1).0, "x", None)
    }

    fn assembled(pieces: &[Value]) -> ModelAnswer {
        let (mut reader, mut assembly) = (ChatReader { thinking_apart: false }, fresh());
        for piece in pieces {
            let event =
                json!({ "choices": [{ "delta": { "tool_calls": [piece] }, "finish_reason": "" }], "usage": {} });
            assert!(!reader.event(&event, &mut assembly).unwrap());
        }
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
        let mut assembly = fresh();
        let answer = json!({ "choices": [{ "message": { "tool_calls": [{ "id": "a" }] } }] });
        assert!(ChatReader { thinking_apart: false }.document(&answer, &mut assembly).unwrap());
        assert_eq!(assembly.into_answer().unwrap_err().reason, Reason::ProviderRejected);
    }
}
