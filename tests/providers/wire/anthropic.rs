//! Anthropic's messages.

use chancery::domain::turn::{StopReason, Usage, UsageSource};
use serde_json::{Value, json};

use super::{Spoken, Wire};

pub struct Anthropic;

fn counted() -> Value {
    json!({
        "input_tokens": 50, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10, "output_tokens": 50,
        "service_tier": "standard",
    })
}

impl Wire for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn route(&self) -> &'static str {
        "driver = \"anthropic\""
    }

    fn base(&self) -> &'static str {
        ""
    }

    fn path(&self) -> &'static str {
        "/v1/messages"
    }

    fn credential(&self) -> (&'static str, &'static str) {
        ("x-api-key", "")
    }

    fn head(&self) -> &'static [&'static str] {
        &["anthropic-version: 2023-06-01"]
    }

    fn stops(&self) -> &'static [(&'static str, StopReason)] {
        &[
            ("end_turn", StopReason::EndTurn),
            ("stop_sequence", StopReason::EndTurn),
            ("max_tokens", StopReason::MaxTokens),
            ("model_context_window_exceeded", StopReason::MaxTokens),
            ("refusal", StopReason::ContentFilter),
            ("pause_turn", StopReason::Other),
        ]
    }

    fn stop_of_calls(&self) -> &'static str {
        "tool_use"
    }

    fn events(&self, spoken: &Spoken) -> Vec<Value> {
        let mut events = vec![
            json!({ "type": "message_start", "message": { "id": "m", "content": [], "usage": {
                "input_tokens": 50, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10, "output_tokens": 1,
            } } }),
            json!({ "type": "ping" }),
        ];
        let mut index = 0;
        let mut block = |begin: Value, deltas: Vec<Value>| {
            events.push(json!({ "type": "content_block_start", "index": index, "content_block": begin }));
            let delta = |delta| json!({ "type": "content_block_delta", "index": index, "delta": delta });
            events.extend(deltas.into_iter().map(delta));
            events.push(json!({ "type": "content_block_stop", "index": index }));
            index += 1;
        };
        if !spoken.think.is_empty() {
            let mut deltas: Vec<Value> =
                spoken.think.iter().map(|words| json!({ "type": "thinking_delta", "thinking": words })).collect();
            deltas.push(json!({ "type": "signature_delta", "signature": "c2lnbmVk" }));
            block(json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas);
        }
        if !spoken.text.is_empty() {
            let deltas = spoken.text.iter().map(|words| json!({ "type": "text_delta", "text": words })).collect();
            block(json!({ "type": "text", "text": "" }), deltas);
        }
        for (id, name, pieces) in spoken.calls {
            let deltas =
                pieces.iter().map(|piece| json!({ "type": "input_json_delta", "partial_json": piece })).collect();
            block(json!({ "type": "tool_use", "id": id, "name": name, "input": {} }), deltas);
        }
        events.push(json!({
            "type": "message_delta", "delta": { "stop_reason": spoken.stop, "stop_sequence": null },
            "usage": { "output_tokens": 50 },
        }));
        events.push(json!({ "type": "message_stop" }));
        events
    }

    fn document(&self, spoken: &Spoken) -> Value {
        let mut content = Vec::new();
        if !spoken.think.is_empty() {
            content.push(json!({ "type": "thinking", "thinking": spoken.think.concat(), "signature": "c2lnbmVk" }));
        }
        if !spoken.text.is_empty() {
            content.push(json!({ "type": "text", "text": spoken.text.concat() }));
        }
        for (id, name, pieces) in spoken.calls {
            let input: Value = serde_json::from_str(&pieces.concat()).unwrap();
            content.push(json!({ "type": "tool_use", "id": id, "name": name, "input": input }));
        }
        json!({
            "type": "message", "role": "assistant", "content": content, "stop_reason": spoken.stop, "usage": counted(),
        })
    }

    fn usage(&self) -> Usage {
        let all = Usage::new(100, 50, UsageSource::Reported);
        Usage { cached_tokens: Some(40), cache_written_tokens: Some(10), ..all }
    }

    fn request(&self) -> Value {
        let called = |id: &str, input: Value| json!({ "type": "tool_use", "id": id, "name": "bash", "input": input });
        json!({
            "model": "m", "stream": true, "max_tokens": 9, "system": "be brief",
            "messages": [
                { "role": "user", "content": [
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } },
                    { "type": "text", "text": "what is this?" },
                ] },
                { "role": "assistant", "content": [
                    { "type": "text", "text": "I look." },
                    called("a", json!({ "n": 1 })),
                    called("b", json!({ "invalid_json": "{oops" })),
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "a", "is_error": false, "content": "fine" },
                    { "type": "tool_result", "tool_use_id": "b", "is_error": true, "content": "no" },
                    { "type": "text", "text": "and now?" },
                ] },
            ],
            "tools": [{ "name": "bash", "description": "runs", "input_schema": { "type": "object" } }],
        })
    }

    fn error(&self, message: &str) -> Value {
        json!({ "type": "error", "error": { "type": "invalid_request_error", "message": message } })
    }

    fn busy(&self) -> Value {
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "busy" } })
    }
}
