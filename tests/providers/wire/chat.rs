//! Chat completions: OpenAI's and compatible servers', OpenRouter's and xAI's.

use chancery::domain::turn::{StopReason, Usage, UsageSource};
use serde_json::{Value, json};

use super::{Spoken, Wire};

pub struct Chat {
    name: &'static str,
    route: &'static str,
    limit_key: &'static str,
    thinking_key: &'static str,
    thinking_apart: bool,
}

pub fn all() -> [Chat; 3] {
    [
        Chat {
            name: "openai",
            route: "driver = \"openai\"",
            limit_key: "max_tokens",
            thinking_key: "reasoning_content",
            thinking_apart: false,
        },
        Chat {
            name: "openrouter",
            route: "driver = \"openrouter\"",
            limit_key: "max_tokens",
            thinking_key: "reasoning",
            thinking_apart: false,
        },
        Chat {
            name: "xai",
            route: "driver = \"xai\"",
            limit_key: "max_completion_tokens",
            thinking_key: "reasoning_content",
            thinking_apart: true,
        },
    ]
}

fn chunk(delta: &Value) -> Value {
    json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

impl Chat {
    fn counted(&self) -> Value {
        let output = if self.thinking_apart { 30 } else { 50 };
        json!({
            "prompt_tokens": 100, "completion_tokens": output, "total_tokens": 150,
            "prompt_tokens_details": { "cached_tokens": 40 },
            "completion_tokens_details": { "reasoning_tokens": 20 },
        })
    }
}

impl Wire for Chat {
    fn name(&self) -> &'static str {
        self.name
    }

    fn route(&self) -> &'static str {
        self.route
    }

    fn path(&self) -> &'static str {
        "/v1/chat/completions"
    }

    fn head(&self) -> &'static [&'static str] {
        if self.name == "openrouter" { &["x-title: Chancery"] } else { &[] }
    }

    fn stops(&self) -> &'static [(&'static str, StopReason)] {
        &[
            ("stop", StopReason::EndTurn),
            ("length", StopReason::MaxTokens),
            ("content_filter", StopReason::ContentFilter),
            ("tool_calls", StopReason::Other),
            ("bored", StopReason::Other),
        ]
    }

    fn stop_of_calls(&self) -> &'static str {
        "tool_calls"
    }

    fn events(&self, spoken: &Spoken) -> Vec<Value> {
        let mut events = vec![chunk(&json!({ "role": "assistant", "content": "" }))];
        events.extend(spoken.think.iter().map(|words| chunk(&json!({ self.thinking_key: words }))));
        events.extend(spoken.text.iter().map(|words| chunk(&json!({ "content": words }))));
        for (index, (id, name, pieces)) in spoken.calls.iter().enumerate() {
            let function = json!({ "name": name, "arguments": "" });
            let begin = json!({ "index": index, "id": id, "type": "function", "function": function });
            events.push(chunk(&json!({ "tool_calls": [begin] })));
            for piece in *pieces {
                let more = json!({ "index": index, "function": { "arguments": piece } });
                events.push(chunk(&json!({ "tool_calls": [more] })));
            }
        }
        events.push(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": spoken.stop }] }));
        events.push(json!({ "choices": [], "usage": self.counted() }));
        events
    }

    fn mark(&self) -> &'static str {
        "data: [DONE]\n\n"
    }

    fn document(&self, spoken: &Spoken) -> Value {
        let call = |(id, name, pieces): &(&str, &str, &[&str])| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": pieces.concat() } });
        let calls: Vec<Value> = spoken.calls.iter().map(call).collect();
        let message = json!({
            "role": "assistant", "content": spoken.text.concat(), self.thinking_key: spoken.think.concat(),
            "tool_calls": calls,
        });
        json!({ "choices": [{ "message": message, "finish_reason": spoken.stop }], "usage": self.counted() })
    }

    fn usage(&self) -> Usage {
        let all = Usage::new(100, 50, UsageSource::Reported);
        Usage { cached_tokens: Some(40), reasoning_tokens: Some(20), ..all }
    }

    fn request(&self) -> Value {
        let called = |id: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": "bash", "arguments": arguments } });
        json!({
            "model": "m", "stream": true, "stream_options": { "include_usage": true }, self.limit_key: 9,
            "messages": [
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": [
                    { "type": "text", "text": "what is this?" },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } },
                ] },
                { "role": "assistant", "content": "I look.",
                  "tool_calls": [called("a", "{\"n\":1}"), called("b", "{\"invalid_json\":\"{oops\"}")] },
                { "role": "tool", "tool_call_id": "a", "content": "fine" },
                { "role": "tool", "tool_call_id": "b", "content": "Failed: no" },
                { "role": "user", "content": "and now?" },
            ],
            "tools": [{ "type": "function",
                        "function": { "name": "bash", "description": "runs", "parameters": { "type": "object" } } }],
        })
    }

    fn busy(&self) -> Value {
        json!({ "error": { "message": "busy", "code": 429 } })
    }
}
