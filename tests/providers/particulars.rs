//! What single providers say or want that no other does.

use std::path::Path;

use chancery::domain::reason::Reason;
use chancery::domain::turn::StopReason;
use chancery::outbound::providers::{Endpoint, Image, Message, ModelAnswer, ModelRequest, ProviderError};
use serde_json::{Value, json};

use crate::server::{self, Act, Server, end, event, head, heard};

const GOOGLE: &str = "driver = \"google\"";
const ANTHROPIC: &str = "driver = \"anthropic\"";
const CHAT: &str = "driver = \"openai\"";
const RESPONSES: &str = "driver = \"openai\"\napi = \"responses\"";

/// Asks a server that says this; gives what it was asked, too.
async fn asked(
    route: &str,
    base: &str,
    request: &ModelRequest,
    acts: Vec<Act>,
) -> (String, Result<ModelAnswer, ProviderError>) {
    let server = Server::start(vec![acts]);
    let address = format!("http://127.0.0.1:{}{base}", server.port);
    let text = format!("version = 1\n[routes.it]\n{route}\ndefault_model = \"m\"\nbase_url = \"{address}\"\n");
    let (providers, route) = server::open(&text, Path::new("/")).unwrap();
    let (answer, _) = heard(&providers, &route, request).await;
    let request = server.seen.lock().unwrap().requests.remove(0);
    (request, answer)
}

async fn told(route: &str, stream: String) -> Result<ModelAnswer, ProviderError> {
    asked(route, "", &server::request(), vec![head(""), Act::Send(stream.into())]).await.1
}

#[tokio::test]
async fn versions_and_prefixes_stand_once_in_a_path_and_blocks_hold_something() {
    for (route, base, model, path) in [
        (GOOGLE, "", "models/x", "/v1beta/models/x:streamGenerateContent?alt=sse"),
        (GOOGLE, "/v1", "x", "/v1/models/x:streamGenerateContent?alt=sse"),
        (ANTHROPIC, "", "x", "/v1/messages"),
        (ANTHROPIC, "/v1", "x", "/v1/messages"),
    ] {
        let request = ModelRequest { model: model.into(), ..server::request() };
        let (asked, _) = asked(route, base, &request, vec![]).await;
        assert!(asked.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{asked}");
    }
    let image = Image { media_type: "image/png".into(), base64: "aGk=".into() };
    let silent = Message::Assistant { text: Some(String::new()), tool_calls: vec![] };
    let shown = Message::User { text: String::new(), images: vec![image] };
    let request = ModelRequest { messages: vec![shown, silent, Message::user("so?")], ..server::request() };
    let (asked, _) = asked(ANTHROPIC, "", &request, vec![]).await;
    let body: Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["max_tokens"], 4_096, "it demands a limit");
    let kinds: Vec<&Value> =
        body["messages"][0]["content"].as_array().unwrap().iter().map(|block| &block["type"]).collect();
    assert_eq!((body["messages"].as_array().unwrap().len(), kinds), (1, vec![&json!("image"), &json!("text")]));
}

#[tokio::test]
async fn refusals_and_answers_that_come_all_at_once_are_heard() {
    let item = json!({ "type": "message", "content": [{ "type": "output_text", "text": "late" }] });
    let completed = |output: Value| {
        event(&json!({ "type": "response.completed", "response": { "status": "completed", "output": output } }))
    };
    let chat = |delta: Value| event(&json!({ "choices": [{ "delta": delta }] })) + &end("stop");
    let refusal = event(&json!({ "type": "response.refusal.delta", "delta": "no" }));
    for (route, stream, text) in [
        (RESPONSES, completed(json!([item])), "late"),
        (RESPONSES, refusal + &completed(json!([])), "no"),
        (CHAT, chat(json!({ "refusal": "no" })), "no"),
        (CHAT, chat(json!({ "content": [{ "type": "text", "text": "in " }, { "text": "parts" }] })), "in parts"),
        (CHAT, json!({ "choices": [{ "message": { "content": "open" } }] }).to_string(), "open"),
    ] {
        let answer = told(route, stream.clone()).await.unwrap();
        assert_eq!((answer.text.as_deref(), answer.stop), (Some(text), StopReason::EndTurn), "{stream}");
    }
    let blocked = told(GOOGLE, event(&json!({ "promptFeedback": { "blockReason": "SAFETY" } }))).await.unwrap();
    assert_eq!((blocked.text, blocked.stop), (None, StopReason::ContentFilter));
}

#[tokio::test]
async fn errors_are_found_wherever_a_provider_puts_them() {
    let busy = json!({ "code": "rate_limit_exceeded", "message": "busy" });
    let failed = json!({ "type": "response.failed", "response": { "status": "failed", "error": busy } });
    let within = json!({ "choices": [{ "delta": {}, "error": busy }] });
    for (route, value) in [(RESPONSES, failed), (CHAT, within)] {
        let error = told(route, event(&value)).await.unwrap_err();
        assert_eq!((error.reason, error.detail.as_str()), (Reason::ProviderRateLimited, "busy"), "{value}");
    }
    let body =
        json!({ "error": { "code": 429, "details": [{ "retryDelay": "3.5s" }], "message": "busy" } }).to_string();
    let refused = format!("HTTP/1.1 429 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let error = asked(GOOGLE, "", &server::request(), vec![Act::Send(refused.into())]).await.1.unwrap_err();
    assert_eq!((error.reason, error.retry_after_ms), (Reason::ProviderRateLimited, Some(4_000)));
}

#[tokio::test]
async fn calls_of_one_name_get_names_of_their_own_and_overlong_names_are_refused() {
    let call =
        |id: &str, name: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": "{}" } });
    let document = |calls: Value| {
        json!({ "choices": [{ "message": { "tool_calls": calls }, "finish_reason": "tool_calls" }] }).to_string()
    };
    let calls = json!([call("a", "bash"), call("b", "bash"), call("a", "list_files")]);
    let answer = told(CHAT, document(calls)).await.unwrap();
    let ids: std::collections::BTreeSet<String> = answer.tool_calls.into_iter().map(|call| call.provider_id).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    let error = told(CHAT, document(json!([call("a", &"x".repeat(201))]))).await.unwrap_err();
    assert_eq!(error.reason, Reason::ProviderRejected, "{error}");
}

#[test]
fn requests_are_passed_on_to_whoever_speaks_that_way() {
    let (chat, responses, messages) = (Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::Messages);
    for (driver, spoken) in [
        ("openai", &[chat, responses][..]),
        ("xai", &[chat, responses]),
        ("openrouter", &[chat]),
        ("anthropic", &[messages]),
        ("google", &[]),
    ] {
        let text = format!("version = 1\n[routes.it]\ndriver = \"{driver}\"\ndefault_model = \"m\"\n");
        let (providers, route) = server::open(&text, Path::new("/")).unwrap();
        for endpoint in [chat, responses, messages] {
            assert_eq!(providers.passes(&route, endpoint), spoken.contains(&endpoint), "{driver} {endpoint:?}");
        }
    }
}
