//! Google's generated contents.

use chancery::domain::turn::{StopReason, Usage, UsageSource};
use serde_json::{Value, json};

use super::{Spoken, Wire};

pub struct Google;

fn counted() -> Value {
    json!({
        "promptTokenCount": 100, "candidatesTokenCount": 30, "thoughtsTokenCount": 20, "cachedContentTokenCount": 40,
        "totalTokenCount": 150,
    })
}

fn parts(spoken: &Spoken) -> Vec<Value> {
    let thoughts = spoken.think.iter().map(|words| json!({ "text": words, "thought": true }));
    let texts = spoken.text.iter().map(|words| json!({ "text": words }));
    let calls = spoken.calls.iter().map(|(id, name, pieces)| {
        let args: Value = serde_json::from_str(&pieces.concat()).unwrap();
        json!({ "functionCall": { "id": id, "name": name, "args": args }, "thoughtSignature": "c2lnbmVk" })
    });
    thoughts.chain(texts).chain(calls).collect()
}

impl Wire for Google {
    fn name(&self) -> &'static str {
        "google"
    }

    fn route(&self) -> &'static str {
        "driver = \"google\""
    }

    fn base(&self) -> &'static str {
        ""
    }

    fn path(&self) -> &'static str {
        "/v1beta/models/m:streamGenerateContent?alt=sse"
    }

    fn credential(&self) -> (&'static str, &'static str) {
        ("x-goog-api-key", "")
    }

    fn stops(&self) -> &'static [(&'static str, StopReason)] {
        &[
            ("STOP", StopReason::EndTurn),
            ("MAX_TOKENS", StopReason::MaxTokens),
            ("SAFETY", StopReason::ContentFilter),
            ("PROHIBITED_CONTENT", StopReason::ContentFilter),
            ("MALFORMED_FUNCTION_CALL", StopReason::Other),
            ("SOMETHING_NEW", StopReason::Other),
        ]
    }

    fn events(&self, spoken: &Spoken) -> Vec<Value> {
        let part = |part| json!({ "candidates": [{ "content": { "role": "model", "parts": [part] }, "index": 0 }], "modelVersion": "m" });
        let mut events: Vec<Value> = parts(spoken).into_iter().map(part).collect();
        events.push(json!({
            "candidates": [{ "content": { "role": "model", "parts": [{ "text": "" }] }, "finishReason": spoken.stop }],
            "usageMetadata": counted(),
        }));
        events
    }

    fn document(&self, spoken: &Spoken) -> Value {
        json!({
            "candidates": [{ "content": { "parts": parts(spoken) }, "finishReason": spoken.stop }],
            "usageMetadata": counted(),
        })
    }

    fn usage(&self) -> Usage {
        let all = Usage::new(100, 50, UsageSource::Reported);
        Usage { cached_tokens: Some(40), reasoning_tokens: Some(20), ..all }
    }

    fn request(&self) -> Value {
        let called = |args: Value| {
            let call = json!({ "name": "bash", "args": args });
            json!({ "functionCall": call, "thoughtSignature": "skip_thought_signature_validator" })
        };
        let result = |response: Value| json!({ "functionResponse": { "name": "bash", "response": response } });
        json!({
            "systemInstruction": { "parts": [{ "text": "be brief" }] },
            "contents": [
                { "role": "user", "parts": [
                    { "inlineData": { "mimeType": "image/png", "data": "aGk=" } }, { "text": "what is this?" },
                ] },
                { "role": "model", "parts": [
                    { "text": "I look." }, called(json!({ "n": 1 })), called(json!({ "invalid_json": "{oops" })),
                ] },
                { "role": "user", "parts": [
                    result(json!({ "output": "fine" })), result(json!({ "error": "no" })), { "text": "and now?" },
                ] },
            ],
            "tools": [{ "functionDeclarations": [
                { "name": "bash", "description": "runs", "parametersJsonSchema": { "type": "object" } },
            ] }],
            "generationConfig": { "maxOutputTokens": 9 },
        })
    }

    fn error(&self, message: &str) -> Value {
        json!([{ "error": { "code": 400, "message": message, "status": "INVALID_ARGUMENT" } }])
    }

    fn busy(&self) -> Value {
        json!({ "error": { "code": 429, "message": "busy", "status": "RESOURCE_EXHAUSTED" } })
    }
}
