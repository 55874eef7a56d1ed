//! Google's generated contents: parts of a candidate, whole calls, and the model's name in the path.

use std::fmt::Write as _;

use http::header::HeaderName;
use serde_json::{Value, json};

use super::assembly::Assembly;
use super::exchange::{Dialect, Reader};
use super::line::Endpoint;
use super::{Image, Message, ModelRequest, ProviderError, RequestedCall, ToolSpec};
use crate::domain::turn::{StopReason, Usage, UsageSource};

/// Stands in a call for the signature of the thoughts that led to it, which is not kept: newer models refuse a call
/// without one, and take this for a conversation that was held elsewhere.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The dialect.
#[derive(Debug)]
pub(super) struct Google;

/// A model's name as one step of a path, whatever it holds.
fn step(model: &str) -> String {
    let mut step = String::with_capacity(model.len());
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            step.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(step, "%{byte:02X}");
        }
    }
    step
}

impl Dialect for Google {
    fn path(&self, base: &str, request: &ModelRequest) -> String {
        let version = if base.is_empty() { "/v1beta" } else { "" };
        let model = request.model.strip_prefix("models/").unwrap_or(&request.model);
        format!("{base}{version}/models/{}:streamGenerateContent?alt=sse", step(model))
    }

    fn endpoint(&self, _: &str, _: Endpoint) -> Option<String> {
        None
    }

    fn credential(&self) -> (HeaderName, &'static str) {
        (HeaderName::from_static("x-goog-api-key"), "")
    }

    fn body(&self, request: &ModelRequest) -> Value {
        let mut body = json!({ "contents": contents(&request.messages) });
        if let Some(system) = request.system.as_ref().filter(|system| !system.is_empty()) {
            body["systemInstruction"] = json!({ "parts": [{ "text": system }] });
        }
        if !request.tools.is_empty() {
            let tool = |tool: &ToolSpec| json!({ "name": tool.name, "description": tool.description, "parametersJsonSchema": tool.schema });
            let tools: Vec<Value> = request.tools.iter().map(tool).collect();
            body["tools"] = json!([{ "functionDeclarations": tools }]);
        }
        if let Some(tokens) = request.max_output_tokens {
            body["generationConfig"] = json!({ "maxOutputTokens": tokens });
        }
        body
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Candidates)
    }
}

/// Messages in turns; neighbours of one role are one content.
fn contents(messages: &[Message]) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, parts) = parts(message, messages);
        match turns.last_mut() {
            Some((last, so_far)) if *last == role => so_far.extend(parts),
            _ if parts.is_empty() => {}
            _ => turns.push((role, parts)),
        }
    }
    turns.into_iter().map(|(role, parts)| json!({ "role": role, "parts": parts })).collect()
}

fn parts(message: &Message, all: &[Message]) -> (&'static str, Vec<Value>) {
    let words = |text: &str| (!text.is_empty()).then(|| json!({ "text": text }));
    match message {
        Message::User { text, images } => {
            let image = |image: &Image| json!({ "inlineData": { "mimeType": image.media_type, "data": image.base64 } });
            ("user", images.iter().map(image).chain(words(text)).collect())
        }
        Message::Assistant { text, tool_calls } => {
            let call = |call: &RequestedCall| {
                let body = json!({ "name": call.tool, "args": call.arguments() });
                json!({ "functionCall": body, "thoughtSignature": NO_SIGNATURE })
            };
            let text = text.as_deref().and_then(words);
            ("model", text.into_iter().chain(tool_calls.iter().map(call)).collect())
        }
        Message::ToolResult { provider_id, ok, output } => {
            let key = if *ok { "output" } else { "error" };
            let response = json!({ "name": tool_of(provider_id, all), "response": { key: output } });
            ("user", vec![json!({ "functionResponse": response })])
        }
    }
}

/// The tool of a call, which results are told apart by here; calls and their results stand in one order.
fn tool_of<'a>(provider_id: &str, all: &'a [Message]) -> &'a str {
    let calls = all.iter().rev().filter_map(|message| match message {
        Message::Assistant { tool_calls, .. } => Some(tool_calls),
        Message::User { .. } | Message::ToolResult { .. } => None,
    });
    calls.flatten().find(|call| call.provider_id == provider_id).map_or("unknown", |call| call.tool.as_str())
}

/// Reads chunks; each is a whole answer as far as its form goes.
#[derive(Debug)]
struct Candidates;

impl Reader for Candidates {
    fn event(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        self.document(value, assembly)?;
        Ok(false)
    }

    fn document(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        if let Some(usage) = value.get("usageMetadata").and_then(usage) {
            assembly.count(usage);
        }
        let blocked = value.pointer("/promptFeedback/blockReason").is_some_and(Value::is_string);
        if blocked {
            assembly.finish(StopReason::ContentFilter);
        }
        let Some(candidate) = value.pointer("/candidates/0") else { return Ok(blocked) };
        for part in candidate.pointer("/content/parts").and_then(Value::as_array).into_iter().flatten() {
            take(part, assembly);
        }
        if let Some(word) = candidate.get("finishReason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            assembly.finish(stop(word));
        }
        Ok(true)
    }
}

fn take(part: &Value, assembly: &mut Assembly) {
    let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
    if part.get("thought").and_then(Value::as_bool) == Some(true) {
        assembly.think(text);
    } else {
        assembly.say(text);
    }
    if let Some(call) = part.get("functionCall") {
        let words = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default();
        let input = call.get("args").filter(|args| !args.is_null()).map(Value::to_string).unwrap_or_default();
        assembly.call_whole(words("id"), words("name"), input);
    }
}

fn stop(word: &str) -> StopReason {
    match word {
        "STOP" => StopReason::EndTurn,
        "MAX_TOKENS" => StopReason::MaxTokens,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
            StopReason::ContentFilter
        }
        _ => StopReason::Other,
    }
}

fn usage(value: &Value) -> Option<Usage> {
    let tokens = |name: &str| value.get(name).and_then(Value::as_u64);
    let reasoning_tokens = tokens("thoughtsTokenCount");
    let output = tokens("candidatesTokenCount").unwrap_or(0).saturating_add(reasoning_tokens.unwrap_or(0));
    Some(Usage {
        cached_tokens: tokens("cachedContentTokenCount"),
        reasoning_tokens,
        ..Usage::new(tokens("promptTokenCount")?, output, UsageSource::Reported)
    })
}
