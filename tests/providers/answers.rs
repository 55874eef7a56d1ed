//! The answers that both drivers must give in the same form.

use chancery::domain::reason::Reason;
use chancery::domain::turn::{StopReason, Usage, UsageSource};
use chancery::outbound::providers::{Delta, ModelAnswer, ProviderError, RequestedCall};
use serde_json::json;

use crate::server::{self, Act, Server, end, event, head, heard, words};

/// One answer: as a script, as a stream, and as it must come out. Names of calls and counts of tokens are the drivers' own.
struct Case {
    name: &'static str,
    steps: &'static str,
    stream: String,
    expected: Result<ModelAnswer, ProviderError>,
}

fn said(text: Option<&str>, calls: &[(&str, &str)], stop: StopReason) -> ModelAnswer {
    let call = |(tool, input): &(&str, &str)| RequestedCall {
        provider_id: String::new(),
        tool: (*tool).into(),
        input: (*input).into(),
    };
    ModelAnswer {
        text: text.map(Into::into),
        reasoning: None,
        tool_calls: calls.iter().map(call).collect(),
        stop,
        usage: None,
    }
}

fn called(index: u64, id: &str, name: &str, arguments: &str) -> String {
    let function = json!({ "name": name, "arguments": arguments });
    event(&json!({ "choices": [{ "delta": { "tool_calls": [{ "index": index, "id": id, "function": function }] } }] }))
}

fn thought(text: &str) -> String {
    event(&json!({ "choices": [{ "delta": { "reasoning_content": text } }] }))
}

fn more(index: u64, arguments: &str) -> String {
    let function = json!({ "arguments": arguments });
    event(&json!({ "choices": [{ "delta": { "tool_calls": [{ "index": index, "function": function }] } }] }))
}

fn cases() -> Vec<Case> {
    use StopReason::{ContentFilter, EndTurn, MaxTokens, ToolUse};
    let case = |name, steps, stream, expected| Case { name, steps, stream, expected };
    let fault = |partial: Option<&str>, reason, detail: &str| {
        let error = match partial {
            Some(partial) => ProviderError::within(reason, detail, partial.to_owned()),
            None => ProviderError::before(reason, detail),
        };
        Err(error)
    };
    vec![
        case(
            "words in pieces",
            "{ chunks = [\"Grü\", \"ße, \", \"日本\"] }",
            words("Grü") + &words("ße, ") + &words("日本") + &end("stop"),
            Ok(said(Some("Grüße, 日本"), &[], EndTurn)),
        ),
        case("nothing at all", "", end("stop"), Ok(said(None, &[], EndTurn))),
        case(
            "thoughts and words",
            "{ reasoning = \"hm\" }, { text = \"a\" }",
            thought("hm") + &words("a") + &end("stop"),
            Ok(ModelAnswer { reasoning: Some("hm".into()), ..said(Some("a"), &[], EndTurn) }),
        ),
        case(
            "one call",
            "{ call = \"bash\", input = { command = \"ls\" } }",
            called(0, "a", "bash", "") + &more(0, "{\"comm") + &more(0, "and\":\"ls\"}") + &end("tool_calls"),
            Ok(said(None, &[("bash", r#"{"command":"ls"}"#)], ToolUse)),
        ),
        case(
            "words and several calls, their pieces mixed",
            "{ text = \"look\" }, { call = \"read_file\", input = { path = \"a\" } }, { call = \"list_files\" }",
            words("look")
                + &called(0, "a", "read_file", "{\"pa")
                + &called(1, "b", "list_files", "")
                + &more(0, "th\":\"a\"}")
                + &end("tool_calls"),
            Ok(said(Some("look"), &[("read_file", r#"{"path":"a"}"#), ("list_files", "{}")], ToolUse)),
        ),
        case(
            "arguments that are not JSON",
            "{ call = \"bash\", input = '{oops' }",
            called(0, "a", "bash", "{oops") + &end("tool_calls"),
            Ok(said(None, &[("bash", "{oops")], ToolUse)),
        ),
        case(
            "a limit of tokens",
            "{ text = \"a\" }, { stop = \"max_tokens\" }",
            words("a") + &end("length"),
            Ok(said(Some("a"), &[], MaxTokens)),
        ),
        case("a filter", "{ stop = \"content_filter\" }", end("content_filter"), Ok(said(None, &[], ContentFilter))),
        case("another end", "{ stop = \"other\" }", end("bored"), Ok(said(None, &[], StopReason::Other))),
        case(
            "an error in place of an answer",
            "{ error = \"provider.rejected\", detail = \"no such model\" }",
            event(&json!({ "error": { "message": "no such model" } })),
            fault(None, Reason::ProviderRejected, "no such model"),
        ),
        case(
            "an error within an answer",
            "{ text = \"half\" }, { error = \"provider.stream_broken\", detail = \"overheated\" }",
            words("half") + &event(&json!({ "error": { "message": "overheated", "code": 500 } })),
            fault(Some("half"), Reason::ProviderStreamBroken, "overheated"),
        ),
    ]
}

const LABEL: &str = "[rehearsal] ";

/// What the drivers may choose themselves, taken out; with what they must keep in it checked.
fn plain(outcome: Result<ModelAnswer, ProviderError>, name: &str) -> Result<ModelAnswer, ProviderError> {
    let unlabelled = |text: String| text.strip_prefix(LABEL).map_or(text.clone(), str::to_owned);
    match outcome {
        Ok(mut answer) => {
            let ids: std::collections::BTreeSet<_> = answer.tool_calls.iter().map(|call| &call.provider_id).collect();
            assert!(ids.len() == answer.tool_calls.len() && !ids.contains(&String::new()), "{name}: {answer:?}");
            answer.tool_calls.iter_mut().for_each(|call| call.provider_id.clear());
            Ok(ModelAnswer { text: answer.text.map(unlabelled), usage: None, ..answer })
        }
        Err(error) => {
            Err(ProviderError { detail: unlabelled(error.detail), partial: error.partial.map(unlabelled), ..error })
        }
    }
}

fn spoken(deltas: &[Delta]) -> (String, String) {
    let (mut text, mut reasoning) = (String::new(), String::new());
    for delta in deltas {
        match delta {
            Delta::Text(words) => text.push_str(words),
            Delta::Reasoning(words) => reasoning.push_str(words),
            Delta::Call(_) => {}
        }
    }
    (text, reasoning)
}

#[tokio::test]
async fn a_script_and_a_server_that_say_the_same_are_heard_the_same() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("version = 1\n[[turns]]\nsteps = [{}]\n", case.steps);
        std::fs::write(folder.path().join("script.toml"), script).unwrap();
        let routes =
            "version = 1\n[routes.r]\ndriver = \"rehearsal\"\ndefault_model = \"r\"\nscript = \"script.toml\"\n";
        let (rehearsal, practice) = server::open(routes, folder.path()).unwrap();
        let server = Server::start(vec![vec![head(""), Act::Send(case.stream.clone().into())]]);
        let (openai, real) = server.providers(20_000);
        for (providers, route) in [(&rehearsal, &practice), (&openai, &real)] {
            let (outcome, deltas) = heard(providers, route, &server::request()).await;
            if let Ok(answer) = &outcome {
                let whole = (answer.text.clone().unwrap_or_default(), answer.reasoning.clone().unwrap_or_default());
                assert_eq!(
                    spoken(&deltas),
                    whole,
                    "{} over {}: what is live is what is kept",
                    case.name,
                    route.route_id
                );
                let labelled = answer.text.as_ref().is_none_or(|text| text.starts_with(LABEL));
                assert!(labelled || !route.is_rehearsal(), "{}: a rehearsal must be labelled", case.name);
            }
            assert_eq!(plain(outcome, case.name), case.expected, "{} over {}", case.name, route.route_id);
        }
    }
}

/// Cuts bytes into pieces of so many.
fn cut(bytes: &[u8], size: usize) -> Vec<Act> {
    let mut acts = vec![head("")];
    for piece in bytes.chunks(size) {
        acts.push(Act::Send(piece.to_vec()));
        acts.push(Act::Wait(1));
    }
    acts
}

#[tokio::test]
async fn an_answer_is_the_same_however_the_network_cuts_it_and_the_server_ends_its_lines() {
    let stream = words("é日本🙂") + &called(0, "a", "bash", "{}") + &end("tool_calls");
    let expected = said(Some("é日本🙂"), &[("bash", "{}")], StopReason::ToolUse);
    let chunked: Vec<u8> = stream.bytes().flat_map(|byte| [b"1\r\n".as_slice(), &[byte], b"\r\n"].concat()).collect();
    let mut in_chunks = vec![head("Transfer-Encoding: chunked\r\n")];
    in_chunks.push(Act::Send([chunked.as_slice(), b"0\r\n\r\n"].concat()));
    let document = json!({
        "choices": [{ "finish_reason": "tool_calls", "message": { "content": "é日本🙂",
            "tool_calls": [{ "id": "a", "function": { "name": "bash", "arguments": "{}" } }] } }],
    });
    let replies = [
        cut(stream.as_bytes(), 1),
        cut(stream.as_bytes(), 7),
        cut(stream.replace('\n', "\r\n").as_bytes(), 3),
        cut(stream.replace('\n', "\r").as_bytes(), 2),
        cut(stream.replace("data: ", "data:").replace("\n\n", "\n: alive\n\n").as_bytes(), 5),
        cut(stream.replace("data: [DONE]\n\n", "").as_bytes(), 11),
        cut(stream.trim_end().as_bytes(), 64),
        in_chunks,
        cut(document.to_string().as_bytes(), 9),
    ];
    for (at, reply) in replies.into_iter().enumerate() {
        let answer = Server::start(vec![reply]).call(20_000).await;
        assert_eq!(plain(answer, "cut"), Ok(expected.clone()), "reply {at}");
    }
}

#[tokio::test]
async fn what_an_answer_took_is_what_the_server_says_or_unknown_and_an_estimate_says_that_it_is_one() {
    let counted = event(&json!({ "choices": [], "usage": { "prompt_tokens": 12, "completion_tokens": 3 } }));
    let stream = words("a") + &end("stop").replace("data: [DONE]\n\n", &(counted + "data: [DONE]\n\n"));
    let usage = |stream: String| async move {
        Server::start(vec![vec![head(""), Act::Send(stream.into())]]).call(5_000).await.unwrap().usage
    };
    let reported = Usage::new(12, 3, UsageSource::Reported);
    assert_eq!(usage(stream).await, Some(reported));
    assert_eq!(usage(words("a") + &end("stop")).await, None);
    let odd = event(&json!({ "usage": { "prompt_tokens": -1, "completion_tokens": "many" }, "choices": [] }));
    assert_eq!(usage(odd + &end("stop")).await, None);
    let routes = "version = 1\n[routes.r]\ndriver = \"rehearsal\"\ndefault_model = \"r\"\n";
    let (rehearsal, route) = server::open(routes, std::path::Path::new("/")).unwrap();
    let (answer, _) = heard(&rehearsal, &route, &server::request()).await;
    assert_eq!(answer.unwrap().usage.map(|usage| usage.source), Some(UsageSource::Estimated));
}

#[tokio::test]
async fn a_models_name_is_data_and_makes_no_header_and_no_address() {
    let server = Server::start(vec![vec![head(""), Act::Send(end("stop").into())]]);
    let (providers, route) = server.providers(5_000);
    let hostile = "m\r\nX-Evil: 1\r\n\r\n/../admin?x=@other#";
    let request = chancery::outbound::providers::ModelRequest { model: hostile.into(), ..server::request() };
    heard(&providers, &route, &request).await.0.unwrap();
    let asked = server.seen.lock().unwrap().requests.remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n") && !head.contains("Evil"), "{head}");
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["model"], hostile);
    for bad in [hostile, "../m", "a/../b", "m?x=1", "user@m", "m\r\n", "", "a b"] {
        assert!(chancery::config::routes::check_model(bad).is_err(), "{bad:?}");
    }
}
