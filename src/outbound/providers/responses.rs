//! OpenAI's responses: items that are added, grow and are done. Nothing is stored with the provider.

use serde_json::{Value, json};

use super::assembly::Assembly;
use super::chat;
use super::exchange::{Dialect, Reader};
use super::line::Endpoint;
use super::{Image, Message, ModelRequest, ProviderError, RequestedCall, ToolSpec};
use crate::domain::turn::{StopReason, Usage, UsageSource};

/// The dialect.
#[derive(Debug)]
pub(super) struct Responses;

impl Dialect for Responses {
    fn path(&self, base: &str, _: &ModelRequest) -> String {
        format!("{base}/responses")
    }

    fn endpoint(&self, base: &str, endpoint: Endpoint) -> Option<String> {
        chat::endpoint(base, endpoint)
    }

    fn body(&self, request: &ModelRequest) -> Value {
        let input: Vec<Value> = request.messages.iter().flat_map(items).collect();
        let mut body = json!({ "model": request.model, "input": input, "stream": true, "store": false });
        if let Some(system) = &request.system {
            body["instructions"] = system.as_str().into();
        }
        if !request.tools.is_empty() {
            let tool = |tool: &ToolSpec| {
                json!({
                    "type": "function", "name": tool.name, "description": tool.description,
                    "parameters": tool.schema, "strict": false,
                })
            };
            body["tools"] = request.tools.iter().map(tool).collect();
        }
        if let Some(tokens) = request.max_output_tokens {
            body["max_output_tokens"] = tokens.into();
        }
        body
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Items)
    }
}

fn items(message: &Message) -> Vec<Value> {
    match message {
        Message::User { text, images } => {
            let image = |image: &Image| json!({ "type": "input_image", "image_url": image.data_url() });
            let words = json!({ "type": "input_text", "text": text });
            let parts: Vec<Value> = std::iter::once(words).chain(images.iter().map(image)).collect();
            vec![json!({ "role": "user", "content": parts })]
        }
        Message::Assistant { text, tool_calls } => {
            let words = text.as_ref().filter(|text| !text.is_empty());
            let said = words.map(|text| json!({ "role": "assistant", "content": text }));
            let call = |call: &RequestedCall| {
                json!({
                    "type": "function_call", "call_id": call.provider_id, "name": call.tool,
                    "arguments": call.arguments().to_string(),
                })
            };
            said.into_iter().chain(tool_calls.iter().map(call)).collect()
        }
        Message::ToolResult { provider_id, ok, output } => {
            let output = if *ok { output.clone() } else { format!("Failed: {output}") };
            vec![json!({ "type": "function_call_output", "call_id": provider_id, "output": output })]
        }
    }
}

/// Reads events, or one response.
#[derive(Debug)]
struct Items;

impl Reader for Items {
    fn event(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        let words = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let index = value.get("output_index").and_then(Value::as_u64);
        match words("/type") {
            "response.output_text.delta" | "response.refusal.delta" => assembly.say(words("/delta")),
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
                assembly.think(words("/delta"));
            }
            "response.output_item.added" if words("/item/type") == "function_call" => {
                assembly.call_piece(index, words("/item/call_id"), words("/item/name"), words("/item/arguments"));
            }
            "response.function_call_arguments.delta" => assembly.call_piece(index, "", "", words("/delta")),
            "response.completed" | "response.incomplete" | "response.failed" => {
                let Some(response) = value.get("response") else { return Ok(false) };
                // A server that does not stream may say all of it here.
                if assembly.is_empty() {
                    output(response, assembly);
                }
                end(response, assembly)?;
                return Ok(true);
            }
            "error" => return Err(assembly.error_object(value)),
            _ => {}
        }
        Ok(false)
    }

    fn document(&mut self, value: &Value, assembly: &mut Assembly) -> Result<bool, ProviderError> {
        if value.get("output").and_then(Value::as_array).is_none() {
            return Ok(false);
        }
        output(value, assembly);
        end(value, assembly)?;
        Ok(true)
    }
}

/// The items of a whole response.
fn output(response: &Value, assembly: &mut Assembly) {
    for item in response.get("output").and_then(Value::as_array).into_iter().flatten() {
        let words = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let parts = |name: &str| item.get(name).and_then(Value::as_array).into_iter().flatten();
        let text = |part: &Value, name: &str| part.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match words("type") {
            "message" => {
                for part in parts("content") {
                    assembly.say(&text(part, "text"));
                    assembly.say(&text(part, "refusal"));
                }
            }
            "reasoning" => {
                for part in parts("summary").chain(parts("content")) {
                    assembly.think(&text(part, "text"));
                }
            }
            "function_call" => assembly.call_whole(words("call_id"), words("name"), words("arguments").to_owned()),
            _ => {}
        }
    }
}

/// How a response ended, and what it took.
fn end(response: &Value, assembly: &mut Assembly) -> Result<(), ProviderError> {
    if let Some(error) = response.get("error").filter(|error| !error.is_null()) {
        return Err(assembly.error_object(error));
    }
    if let Some(usage) = response.get("usage").and_then(usage) {
        assembly.count(usage);
    }
    let words = |path: &str| response.pointer(path).and_then(Value::as_str).unwrap_or_default();
    assembly.finish(match (words("/status"), words("/incomplete_details/reason")) {
        (_, "max_output_tokens") => StopReason::MaxTokens,
        (_, "content_filter") => StopReason::ContentFilter,
        ("completed" | "", _) => StopReason::EndTurn,
        (_, _) => StopReason::Other,
    });
    Ok(())
}

fn usage(value: &Value) -> Option<Usage> {
    let tokens = |path: &str| value.pointer(path).and_then(Value::as_u64);
    let (input, output) = (tokens("/input_tokens")?, tokens("/output_tokens").unwrap_or(0));
    Some(Usage {
        cached_tokens: tokens("/input_tokens_details/cached_tokens"),
        reasoning_tokens: tokens("/output_tokens_details/reasoning_tokens"),
        ..Usage::new(input, output, UsageSource::Reported)
    })
}
