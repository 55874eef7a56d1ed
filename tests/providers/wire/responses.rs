//! OpenAI's responses.

use chancery::domain::turn::{StopReason, Usage, UsageSource};
use serde_json::{Value, json};

use super::{Spoken, Wire};

pub struct Responses;

fn output(spoken: &Spoken) -> Vec<Value> {
    let mut items = Vec::new();
    if !spoken.think.is_empty() {
        let summary = json!([{ "type": "summary_text", "text": spoken.think.concat() }]);
        items.push(json!({ "type": "reasoning", "id": "r", "summary": summary }));
    }
    if !spoken.text.is_empty() {
        let content = json!([{ "type": "output_text", "text": spoken.text.concat(), "annotations": [] }]);
        items.push(json!({ "type": "message", "role": "assistant", "content": content }));
    }
    for (id, name, pieces) in spoken.calls {
        items.push(json!({ "type": "function_call", "call_id": id, "name": name, "arguments": pieces.concat() }));
    }
    items
}

impl Wire for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn route(&self) -> &'static str {
        "driver = \"openai\"\napi = \"responses\""
    }

    fn path(&self) -> &'static str {
        "/v1/responses"
    }

    fn stops(&self) -> &'static [(&'static str, StopReason)] {
        &[
            ("completed", StopReason::EndTurn),
            ("max_output_tokens", StopReason::MaxTokens),
            ("content_filter", StopReason::ContentFilter),
            ("something_new", StopReason::Other),
        ]
    }

    fn events(&self, spoken: &Spoken) -> Vec<Value> {
        let mut events = vec![json!({ "type": "response.created", "response": { "status": "in_progress" } })];
        let thought =
            |words| json!({ "type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": words });
        events.extend(spoken.think.iter().map(thought));
        let said = |words| json!({ "type": "response.output_text.delta", "output_index": 1, "delta": words });
        events.extend(spoken.text.iter().map(said));
        for (index, (id, name, pieces)) in (2..).zip(spoken.calls) {
            let item = json!({ "type": "function_call", "id": "i", "call_id": id, "name": name, "arguments": "" });
            events.push(json!({ "type": "response.output_item.added", "output_index": index, "item": item }));
            let piece = |piece| json!({ "type": "response.function_call_arguments.delta", "output_index": index, "delta": piece });
            events.extend(pieces.iter().map(piece));
            events.push(json!({
                "type": "response.function_call_arguments.done", "output_index": index, "arguments": pieces.concat(),
            }));
        }
        let kind = if spoken.stop == "completed" { "response.completed" } else { "response.incomplete" };
        events.push(json!({ "type": kind, "response": self.document(spoken) }));
        events
    }

    fn document(&self, spoken: &Spoken) -> Value {
        let done = spoken.stop == "completed";
        let details = if done { Value::Null } else { json!({ "reason": spoken.stop }) };
        json!({
            "object": "response", "status": if done { "completed" } else { "incomplete" }, "error": null,
            "incomplete_details": details, "output": output(spoken),
            "usage": {
                "input_tokens": 100, "input_tokens_details": { "cached_tokens": 40 },
                "output_tokens": 50, "output_tokens_details": { "reasoning_tokens": 20 }, "total_tokens": 150,
            },
        })
    }

    fn usage(&self) -> Usage {
        let all = Usage::new(100, 50, UsageSource::Reported);
        Usage { cached_tokens: Some(40), reasoning_tokens: Some(20), ..all }
    }

    fn request(&self) -> Value {
        let called = |id: &str, arguments: &str| json!({ "type": "function_call", "call_id": id, "name": "bash", "arguments": arguments });
        json!({
            "model": "m", "stream": true, "store": false, "instructions": "be brief", "max_output_tokens": 9,
            "input": [
                { "role": "user", "content": [
                    { "type": "input_text", "text": "what is this?" },
                    { "type": "input_image", "image_url": "data:image/png;base64,aGk=" },
                ] },
                { "role": "assistant", "content": "I look." },
                called("a", "{\"n\":1}"),
                called("b", "{\"invalid_json\":\"{oops\"}"),
                { "type": "function_call_output", "call_id": "a", "output": "fine" },
                { "type": "function_call_output", "call_id": "b", "output": "Failed: no" },
                { "role": "user", "content": [{ "type": "input_text", "text": "and now?" }] },
            ],
            "tools": [{ "type": "function", "name": "bash", "description": "runs",
                        "parameters": { "type": "object" }, "strict": false }],
        })
    }

    fn busy(&self) -> Value {
        json!({ "type": "error", "code": "rate_limit_exceeded", "message": "busy", "param": null })
    }
}
