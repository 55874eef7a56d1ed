//! A request as chat completions spell it.

use serde_json::{Value, json};

use crate::outbound::providers::{Image, Message, ModelRequest, RequestedCall, ToolSpec};

/// The request's body. `limit_key` is what the limit of tokens is called.
pub(super) fn body(request: &ModelRequest, limit_key: &str) -> Value {
    let system = request.system.iter().map(|text| json!({ "role": "system", "content": text }));
    let messages: Vec<Value> = system.chain(request.messages.iter().map(message)).collect();
    let mut body = json!({
        "model": request.model,
        "messages": messages,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    if !request.tools.is_empty() {
        let tool = |tool: &ToolSpec| {
            json!({ "type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.schema,
            }})
        };
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if let Some(tokens) = request.max_output_tokens {
        body[limit_key] = tokens.into();
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text, images } if images.is_empty() => json!({ "role": "user", "content": text }),
        Message::User { text, images } => {
            let image = |image: &Image| json!({ "type": "image_url", "image_url": { "url": image.data_url() } });
            let words = json!({ "type": "text", "text": text });
            let parts: Vec<Value> = std::iter::once(words).chain(images.iter().map(image)).collect();
            json!({ "role": "user", "content": parts })
        }
        Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
            json!({ "role": "assistant", "content": text.as_deref().unwrap_or_default() })
        }
        Message::Assistant { text, tool_calls } => {
            let calls: Vec<Value> = tool_calls.iter().map(call).collect();
            json!({ "role": "assistant", "content": text, "tool_calls": calls })
        }
        Message::ToolResult { provider_id, ok, output } => {
            let content = if *ok { output.clone() } else { format!("Failed: {output}") };
            json!({ "role": "tool", "tool_call_id": provider_id, "content": content })
        }
    }
}

fn call(call: &RequestedCall) -> Value {
    // What is an object stays as the model wrote it.
    let arguments = call.arguments();
    let input = if arguments.get("invalid_json").is_some() { arguments.to_string() } else { call.input.clone() };
    json!({ "id": call.provider_id, "type": "function", "function": { "name": call.tool, "arguments": input } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_spelled_as_chat_completions() {
        let asked = |input: &str| RequestedCall { provider_id: "p1".into(), tool: "bash".into(), input: input.into() };
        let request = ModelRequest {
            model: "m".into(),
            system: Some("s".into()),
            earlier_messages: 0,
            answered: 0,
            messages: vec![
                Message::user("u"),
                Message::Assistant { text: None, tool_calls: vec![asked("{\"a\":1}"), asked("{\"a\":")] },
                Message::ToolResult { provider_id: "p1".into(), ok: false, output: "o".into() },
                Message::Assistant { text: Some("t".into()), tool_calls: vec![] },
            ],
            tools: vec![ToolSpec { name: "bash".into(), description: "d".into(), schema: json!({ "type": "object" }) }],
            max_output_tokens: Some(9),
        };
        let called = |arguments: &str| json!({ "id": "p1", "type": "function", "function": { "name": "bash", "arguments": arguments } });
        let expected = json!({
            "model": "m", "stream": true, "stream_options": { "include_usage": true }, "max_tokens": 9,
            "messages": [
                { "role": "system", "content": "s" },
                { "role": "user", "content": "u" },
                { "role": "assistant", "content": null,
                  "tool_calls": [called("{\"a\":1}"), called("{\"invalid_json\":\"{\\\"a\\\":\"}")] },
                { "role": "tool", "tool_call_id": "p1", "content": "Failed: o" },
                { "role": "assistant", "content": "t" },
            ],
            "tools": [{ "type": "function",
                        "function": { "name": "bash", "description": "d", "parameters": { "type": "object" } } }],
        });
        assert_eq!(body(&request, "max_tokens"), expected);
    }
}
