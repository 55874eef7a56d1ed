//! Anthropic's messages: blocks that begin, grow and end by number.

use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::assembly::Assembly;
use super::exchange::{Dialect, Reader};
use super::line::Endpoint;
use super::{Image, Message, ModelRequest, ProviderError, RequestedCall, ToolSpec};
use crate::domain::turn::{StopReason, Usage, UsageSource};

/// The version of the interface that is spoken.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
/// The limit of tokens where the route names none: this provider demands one, and all its models take this much.
const OUTPUT_TOKENS: u32 = 4_096;

/// The dialect.
#[derive(Debug)]
pub(super) struct Anthropic;

fn path(base: &str) -> String {
    let version = if base.ends_with("/v1") { "" } else { "/v1" };
    format!("{base}{version}/messages")
}

impl Dialect for Anthropic {
    fn path(&self, base: &str, _: &ModelRequest) -> String {
        path(base)
    }

    fn endpoint(&self, base: &str, endpoint: Endpoint) -> Option<String> {
        (endpoint == Endpoint::Messages).then(|| path(base))
    }

    fn credential(&self) -> (HeaderName, &'static str) {
        (HeaderName::from_static("x-api-key"), "")
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        vec![(HeaderName::from_static("anthropic-version"), VERSION)]
    }

    fn body(&self, request: &ModelRequest) -> Value {
        let mut body = json!({
            "model": request.model,
            "max_tokens": request.max_output_tokens.unwrap_or(OUTPUT_TOKENS),
            "messages": messages(&request.messages),
            "stream": true,
        });
        if let Some(system) = request.system.as_ref().filter(|system| !system.is_empty()) {
            body["system"] = system.as_str().into();
        }
        if !request.tools.is_empty() {
            let tool = |tool: &ToolSpec| json!({ "name": tool.name, "description": tool.description, "input_schema": tool.schema });
            body["tools"] = request.tools.iter().map(tool).collect();
        }
        body
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Blocks::default())
    }
}

/// Messages in turns: neighbours of one role are one message, and no block is empty, as the interface demands.
fn messages(messages: &[Message]) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = blocks(message);
        match turns.last_mut() {
            Some((last, so_far)) if *last == role => so_far.extend(blocks),
            _ if blocks.is_empty() => {}
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, blocks)| json!({ "role": role, "content": blocks })).collect()
}

fn blocks(message: &Message) -> (&'static str, Vec<Value>) {
    let words = |text: &str| (!text.is_empty()).then(|| json!({ "type": "text", "text": text }));
    match message {
        Message::User { text, images } => {
            let image = |image: &Image| {
                let source = json!({ "type": "base64", "media_type": image.media_type, "data": image.base64 });
                json!({ "type": "image", "source": source })
            };
            ("user", images.iter().map(image).chain(words(text)).collect())
        }
        Message::Assistant { text, tool_calls } => {
            let call = |call: &RequestedCall| json!({ "type": "tool_use", "id": call.provider_id, "name": call.tool, "input": call.arguments() });
            let text = text.as_deref().and_then(words);
            ("assistant", text.into_iter().chain(tool_calls.iter().map(call)).collect())
        }
        Message::ToolResult { provider_id, ok, output } => {
            let result = json!({
                "type": "tool_result", "tool_use_id": provider_id, "is_error": !ok, "content": output,
            });
            ("user", vec![result])
        }
    }
}

/// Reads an answer. Counts of tokens come twice, and each time stand for the whole so far.
#[derive(Debug, Default)]
struct Blocks {
    counts: Value,
}

impl Reader for Blocks {
    fn event(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        let words = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let index = value.get("index").and_then(Value::as_u64);
        match words("/type") {
            "message_start" => self.count(value.pointer("/message/usage"), assembly),
            "content_block_start" => {
                if let Some(block) = value.get("content_block") {
                    begin(index, block, assembly);
                }
            }
            "content_block_delta" => {
                assembly.say(words("/delta/text"));
                assembly.think(words("/delta/thinking"));
                let input = words("/delta/partial_json");
                if !input.is_empty() {
                    assembly.call_piece(index, "", "", input);
                }
            }
            "message_delta" => {
                self.count(value.get("usage"), assembly);
                finish(value.pointer("/delta/stop_reason"), assembly);
            }
            "message_stop" => {
                assembly.finish_at_least(StopReason::EndTurn);
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn document(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        let Some(blocks) = value.get("content").and_then(Value::as_array) else { return Ok(false) };
        for (index, block) in (0..).zip(blocks) {
            begin(Some(index), block, assembly);
        }
        self.count(value.get("usage"), assembly);
        finish(value.get("stop_reason"), assembly);
        Ok(true)
    }
}

impl Blocks {
    fn count(&mut self, usage: Option<&Value>, assembly: &mut Assembly) {
        for (name, number) in usage.and_then(Value::as_object).into_iter().flatten().filter(|(_, one)| one.is_u64()) {
            self.counts[name] = number.clone();
        }
        let tokens = |name: &str| self.counts.get(name).and_then(Value::as_u64);
        let Some(fresh) = tokens("input_tokens") else { return };
        let (cached, written) = (tokens("cache_read_input_tokens"), tokens("cache_creation_input_tokens"));
        let input = fresh.saturating_add(cached.unwrap_or(0)).saturating_add(written.unwrap_or(0));
        let output = tokens("output_tokens").unwrap_or(0);
        assembly.count(Usage {
            cached_tokens: cached,
            cache_written_tokens: written,
            ..Usage::new(input, output, UsageSource::Reported)
        });
    }
}

/// A block that begins, or a whole one. A call's input is empty where it comes in pieces.
fn begin(index: Option<u64>, block: &Value, assembly: &mut Assembly) {
    let words = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
    match words("type") {
        "text" => assembly.say(words("text")),
        "thinking" => assembly.think(words("thinking")),
        "tool_use" => {
            let whole = block.get("input").filter(|input| input.as_object().is_none_or(|fields| !fields.is_empty()));
            let input = whole.filter(|input| !input.is_null()).map(Value::to_string).unwrap_or_default();
            assembly.call_piece(index, words("id"), words("name"), &input);
        }
        _ => {}
    }
}

fn finish(reason: Option<&Value>, assembly: &mut Assembly) {
    let Some(word) = reason.and_then(Value::as_str).filter(|word| !word.is_empty()) else { return };
    assembly.finish(match word {
        "end_turn" | "stop_sequence" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" | "model_context_window_exceeded" => StopReason::MaxTokens,
        "refusal" => StopReason::ContentFilter,
        _ => StopReason::Other,
    });
}
