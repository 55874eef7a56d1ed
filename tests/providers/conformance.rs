//! What every driver that speaks over the wire must do, one list of cases for all of them.

use std::sync::Arc;
use std::time::Duration;

use chancery::domain::reason::Reason;
use chancery::domain::turn::StopReason;
use chancery::outbound::guard::SystemResolver;
use chancery::outbound::limits;
use chancery::outbound::providers::{
    Delta, Image, Message, ModelAnswer, ModelRequest, ProviderError, RequestedCall, ToolSpec,
};
use chancery::outbound::trust::Trust;
use chancery::vault::secret::Secret;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{self, Act, Server, head, within};
use crate::wire::{self, Spoken, Wire};

const KEY: &str = "a-key-that-nobody-may-see-0123456789";

const FULL: Spoken = Spoken {
    think: &["h", "m…"],
    text: &["Grü", "ße, ", "日本🙂"],
    calls: &[
        ("call_a", "bash", &["{\"comm", "and\":\"l", "s é\"}"]),
        ("call_b", "list_files", &["{}"]),
        ("call_c", "bash", &["{\"command\":", "\"pwd\"}"]),
    ],
    stop: "",
};

/// A conversation with all there is in one.
pub fn conversation() -> ModelRequest {
    let called =
        |id: &str, input: &str| RequestedCall { provider_id: id.into(), tool: "bash".into(), input: input.into() };
    let result = |id: &str, ok, output: &str| Message::ToolResult { provider_id: id.into(), ok, output: output.into() };
    let images = vec![Image { media_type: "image/png".into(), base64: "aGk=".into() }];
    ModelRequest {
        model: "m".into(),
        system: Some("be brief".into()),
        messages: vec![
            Message::User { text: "what is this?".into(), images },
            Message::Assistant {
                text: Some("I look.".into()),
                tool_calls: vec![called("a", "{\"n\":1}"), called("b", "{oops")],
            },
            result("a", true, "fine"),
            result("b", false, "no"),
            Message::user("and now?"),
        ],
        earlier_messages: 0,
        answered: 0,
        tools: vec![ToolSpec { name: "bash".into(), description: "runs".into(), schema: json!({ "type": "object" }) }],
        max_output_tokens: Some(9),
    }
}

type Outcome = (Result<ModelAnswer, ProviderError>, Vec<Delta>);

/// Calls a server in a spelling, with the key.
async fn ask(wire: &dyn Wire, server: &Server, request: &ModelRequest, stop: CancellationToken) -> Outcome {
    let text = format!(
        "version = 1\n[routes.it]\n{}\ndefault_model = \"m\"\nbase_url = \"http://127.0.0.1:{}{}\"\ntimeout_ms = 20000\n",
        wire.route(),
        server.port,
        wire.base(),
    );
    let around = server::around(Arc::new(SystemResolver), Trust::of_machine(None).unwrap());
    let (providers, route) = server::open_in(&text, std::path::Path::new("/"), &around).unwrap();
    let (deltas, mut watcher) = tokio::sync::mpsc::channel(4_096);
    let key = Secret::parse(KEY.as_bytes()).unwrap();
    let answer = providers.call(&route, request, Some(key), deltas, stop).await;
    let mut pieces = Vec::new();
    while let Ok(piece) = watcher.try_recv() {
        pieces.push(piece);
    }
    (answer, pieces)
}

async fn told(wire: &dyn Wire, acts: Vec<Act>) -> Result<ModelAnswer, ProviderError> {
    ask(wire, &Server::start(vec![acts]), &server::request(), CancellationToken::new()).await.0
}

fn sent(text: impl Into<Vec<u8>>) -> Vec<Act> {
    vec![head(""), Act::Send(text.into())]
}

/// A body in pieces of so many bytes, each of which arrives by itself.
fn pieces(body: &[u8], size: usize) -> Vec<Act> {
    let mut bytes = Vec::new();
    for piece in body.chunks(size) {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
    }
    bytes.extend(b"0\r\n\r\n");
    vec![head("Transfer-Encoding: chunked\r\n"), Act::Send(bytes)]
}

fn refused(status: &str, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![Act::Send(
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}").into(),
    )]
}

fn full(wire: &dyn Wire) -> (Spoken, ModelAnswer) {
    let spoken = Spoken { stop: wire.stop_of_calls(), ..FULL };
    let call = |(id, tool, pieces): &(&str, &str, &[&str])| {
        // Arguments that come as a value are spelled without spaces, as these are.
        RequestedCall { provider_id: (*id).into(), tool: (*tool).into(), input: pieces.concat() }
    };
    let answer = ModelAnswer {
        text: Some(spoken.text.concat()),
        reasoning: Some(spoken.think.concat()),
        tool_calls: spoken.calls.iter().map(call).collect(),
        stop: StopReason::ToolUse,
        usage: Some(wire.usage()),
    };
    (spoken, answer)
}

#[tokio::test]
async fn every_driver_hears_the_same_answer_however_it_is_cut_and_spelled() {
    for wire in wire::all() {
        let (spoken, expected) = full(wire.as_ref());
        let stream = wire.stream(&spoken);
        let with_comments = stream.replace("data: ", ": alive\ndata:").replace("\n\n", "\n: x\nid: 7\n\n\n");
        let unmarked = stream.strip_suffix(wire.mark()).unwrap().to_owned();
        let strange = json!({ "type": "something.new", "choices": [], "weird": { "deep": [1] } });
        let mut ways: Vec<(String, String)> = vec![
            ("as it is".into(), stream.clone()),
            ("with CR LF".into(), stream.replace('\n', "\r\n")),
            ("with CR".into(), stream.replace('\n', "\r")),
            ("with a mark of its order of bytes".into(), format!("\u{feff}{stream}")),
            ("with comments".into(), with_comments),
            ("with something unknown".into(), format!("data: {strange}\n\n{stream}")),
            ("without its last line's end".into(), stream.trim_end().to_owned()),
            ("without the mark of its end".into(), unmarked),
            ("in one document".into(), wire.document(&spoken).to_string()),
        ];
        // All of it by name alone: no event says what kind it is.
        ways.push((
            "without names".into(),
            stream
                .lines()
                .filter(|line| !line.starts_with("event:"))
                .fold(String::new(), |all, line| all + line + "\n"),
        ));
        for (what, body) in ways {
            for size in [1, 2, 3, 7, 64, body.len()] {
                let server = Server::start(vec![pieces(body.as_bytes(), size)]);
                let (answer, deltas) = ask(wire.as_ref(), &server, &server::request(), CancellationToken::new()).await;
                assert_eq!(answer, Ok(expected.clone()), "{} {what}, {size} bytes a piece", wire.name());
                let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), 0);
                for delta in deltas {
                    match delta {
                        Delta::Text(words) => text.push_str(&words),
                        Delta::Reasoning(words) => reasoning.push_str(&words),
                        Delta::Call(bytes) => calls += bytes,
                    }
                }
                assert_eq!((Some(text), Some(reasoning)), (expected.text.clone(), expected.reasoning.clone()));
                let wanted: usize = expected.tool_calls.iter().map(|call| call.tool.len() + call.input.len()).sum();
                // Arguments that were not sent are `{}` in the answer.
                let unsent = 2 * expected.tool_calls.iter().filter(|call| call.input == "{}").count();
                assert!((wanted - unsent..=wanted).contains(&calls), "{} {what}: {calls} of {wanted}", wire.name());
            }
        }
    }
}

#[tokio::test]
async fn every_driver_spells_a_whole_conversation_and_sends_the_credential_in_one_header_only() {
    for wire in wire::all() {
        let (spoken, _) = full(wire.as_ref());
        let server = Server::start(vec![sent(wire.stream(&spoken))]);
        ask(wire.as_ref(), &server, &conversation(), CancellationToken::new()).await.0.unwrap();
        let asked = server.seen.lock().unwrap().requests.remove(0);
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert_eq!(head.lines().next().unwrap(), format!("POST {} HTTP/1.1", wire.path()));
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), wire.request(), "{}", wire.name());
        let (name, prefix) = wire.credential();
        for line in wire.head().iter().copied().chain([&*format!("{name}: {prefix}{KEY}")]) {
            assert!(head.lines().any(|one| one == line), "{} lacks {line}: {head}", wire.name());
        }
        assert_eq!(asked.matches(KEY).count(), 1, "{}: {asked}", wire.name());
        assert!(head.contains("accept-encoding: identity"), "{head}");
    }
}

#[tokio::test]
async fn every_driver_tells_why_the_model_stopped() {
    for wire in wire::all() {
        for (word, stop) in wire.stops() {
            let spoken = Spoken { think: &[], text: &["a"], calls: &[], stop: word };
            let answer = told(wire.as_ref(), sent(wire.stream(&spoken))).await.unwrap();
            assert_eq!((answer.stop, answer.text.as_deref()), (*stop, Some("a")), "{} {word}", wire.name());
            let answer = told(wire.as_ref(), sent(wire.document(&spoken).to_string())).await.unwrap();
            assert_eq!(answer.stop, *stop, "{} {word} in a document", wire.name());
        }
        let nothing = Spoken { think: &[], text: &[], calls: &[], stop: wire.stops()[0].0 };
        let answer = told(wire.as_ref(), sent(wire.stream(&nothing))).await.unwrap();
        let plain = (answer.text, answer.reasoning, answer.tool_calls, answer.stop);
        assert_eq!(plain, (None, None, vec![], StopReason::EndTurn), "{}", wire.name());
    }
}

#[tokio::test]
async fn every_driver_gives_an_error_its_reason_and_its_wish_and_never_shows_the_key() {
    let (rejected, limited) = (Reason::ProviderRejected, Reason::ProviderRateLimited);
    let (unavailable, broken) = (Reason::ProviderUnavailable, Reason::ProviderStreamBroken);
    let cases = [
        ("400 Bad Request", "", rejected, None),
        ("401 Unauthorized", "", rejected, None),
        ("403 Forbidden", "", rejected, None),
        ("404 Not Found", "", rejected, None),
        ("429 Too Many", "Retry-After: 7\r\n", limited, Some(7_000)),
        ("429 Too Many", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", limited, Some(0)),
        ("429 Too Many", "Retry-After: 1000000000\r\n", limited, Some(limits::RETRY_AFTER_MOST_MS)),
        ("429 Too Many", "Retry-After: -5\r\n", limited, None),
        ("529 Overloaded", "", limited, None),
        ("500 Broken", "", unavailable, None),
        ("503 Later", "Retry-After: 2\r\n", unavailable, Some(2_000)),
        ("504 Gateway Timeout", "", broken, None),
    ];
    for wire in wire::all() {
        for (status, headers, reason, retry_after_ms) in cases {
            let body = wire.error(&format!("no, {KEY} is not (\"{KEY}\")")).to_string();
            let error = told(wire.as_ref(), refused(status, headers, &body)).await.unwrap_err();
            let found = (error.reason, error.retry_after_ms, error.answer_begun);
            assert_eq!(found, (reason, retry_after_ms, false), "{} {status} {headers}", wire.name());
            assert!(error.detail.contains("no, [hidden] is not"), "{}: {}", wire.name(), error.detail);
            assert!(!format!("{error:?}").contains("nobody-may-see"), "{}: {error:?}", wire.name());
            let about_key = error.detail.contains("the route's credential");
            assert_eq!(about_key, matches!(&status[..3], "401" | "403"), "{}: {}", wire.name(), error.detail);
        }
        // An echo that the limit of what is shown cuts in two.
        let padding = "x".repeat(limits::ERROR_DETAIL_BYTES - 10);
        let body = wire.error(&format!("{padding}{KEY}")).to_string();
        let error = told(wire.as_ref(), refused("400 Bad Request", "", &body)).await.unwrap_err();
        assert!(!error.detail.contains("a-key"), "{}: {}", wire.name(), error.detail);
    }
}

#[tokio::test]
async fn every_driver_takes_an_error_within_a_stream_for_what_it_is() {
    for wire in wire::all() {
        let busy = wire.event(&wire.busy());
        let error = told(wire.as_ref(), sent(busy.clone())).await.unwrap_err();
        let found = (error.reason, error.detail.as_str(), error.answer_begun);
        assert_eq!(found, (Reason::ProviderRateLimited, "busy", false), "{}", wire.name());
        let half = half(wire.as_ref());
        let error = told(wire.as_ref(), sent(half + &busy)).await.unwrap_err();
        let found = (error.reason, error.partial.as_deref(), error.answer_begun);
        assert_eq!(found, (Reason::ProviderStreamBroken, Some("half"), true), "{}", wire.name());
    }
}

/// The beginning of an answer, up to its first words.
fn half(wire: &dyn Wire) -> String {
    let spoken = Spoken { think: &[], text: &["half"], calls: &[], stop: wire.stops()[0].0 };
    let events = wire.events(&spoken);
    let words = events.iter().position(|event| event.to_string().contains("\"half\"")).unwrap();
    events[..=words].iter().map(|event| wire.event(event)).collect()
}

#[tokio::test]
async fn every_driver_keeps_the_words_of_an_answer_that_breaks_off_and_calls_it_broken() {
    for wire in wire::all() {
        let half = half(wire.as_ref());
        let promised = vec![head("Content-Length: 100000\r\n"), Act::Send(half.clone().into())];
        let cases: [(&str, Vec<Act>); 6] = [
            ("closed", sent(half.clone())),
            ("closed within a line", sent(half.clone() + "data: {\"choi")),
            ("shorter than promised", promised),
            ("not UTF-8", sent([half.as_bytes(), b"data: \xff\xfe\n\n"].concat())),
            ("not JSON", sent(half.clone() + "data: {oops}\n\n")),
            (
                "a line without end",
                vec![head(""), Act::Send((half.clone() + "data: ").into()), Act::Repeat(vec![b'x'; 1 << 16], 1 << 10)],
            ),
        ];
        for (what, acts) in cases {
            let error = told(wire.as_ref(), acts).await.unwrap_err();
            let found = (error.reason, error.partial.as_deref(), error.answer_begun);
            assert_eq!(found, (Reason::ProviderStreamBroken, Some("half"), true), "{} {what}: {error}", wire.name());
        }
        // Cut anywhere, an answer is whole only where the model had said that it stops.
        let (spoken, expected) = full(wire.as_ref());
        let events = wire.events(&spoken);
        for count in 0..events.len() {
            let stream: String = events[..count].iter().map(|event| wire.event(event)).collect();
            match told(wire.as_ref(), sent(stream)).await {
                Ok(answer) => {
                    assert_eq!((answer.stop, answer.tool_calls), (expected.stop, expected.tool_calls.clone()));
                }
                Err(error) => {
                    assert_eq!(error.reason, Reason::ProviderStreamBroken, "{} {count}: {error}", wire.name());
                    assert!(!error.detail.contains(KEY));
                }
            }
        }
        let nearly: String = events[..events.len() - 3].iter().map(|event| wire.event(event)).collect();
        assert!(told(wire.as_ref(), sent(nearly)).await.is_err(), "{}: a stream without an end passed", wire.name());
    }
}

#[tokio::test]
async fn every_driver_ends_an_answer_that_is_larger_than_the_limits() {
    const LONG: &str = include_str!("conformance.rs");
    for wire in wire::all() {
        let spoken = Spoken { think: &[], text: &[LONG], calls: &[], stop: wire.stops()[0].0 };
        let events = wire.events(&spoken);
        let words = events.iter().position(|event| event.to_string().len() > LONG.len()).unwrap();
        let start: String = events[..words].iter().map(|event| wire.event(event)).collect();
        let acts = vec![head(""), Act::Send(start.into()), Act::Repeat(wire.event(&events[words]).into(), 1 << 14)];
        let error = told(wire.as_ref(), acts).await.unwrap_err();
        assert_eq!(error.reason, Reason::ProviderRejected, "{}: {error}", wire.name());
        assert!(error.detail.contains("bytes of words and arguments"), "{}: {error}", wire.name());
    }
}

#[tokio::test]
async fn every_driver_lets_go_when_the_call_is_given_up() {
    for wire in wire::all() {
        let server = Server::start(vec![vec![head(""), Act::Send(half(wire.as_ref()).into()), Act::Hold]]);
        let stop = CancellationToken::new();
        let request = server::request();
        let (call, ()) = tokio::join!(ask(wire.as_ref(), &server, &request, stop.clone()), async {
            while server.asked() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.cancel();
        });
        let error = call.0.unwrap_err();
        let found = (error.detail.as_str(), error.partial.as_deref());
        assert_eq!(found, ("the call was cancelled", Some("half")), "{}", wire.name());
        let gone = async {
            while server.seen.lock().unwrap().hung_up == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(Duration::from_secs(10), wire.name(), gone).await;
    }
}

#[tokio::test]
async fn no_driver_follows_a_redirect_and_the_key_goes_to_no_second_host() {
    let second = Server::start(vec![sent("")]);
    for wire in wire::all() {
        for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
            let location = format!("Location: http://127.0.0.1:{}/{KEY}\r\n", second.port);
            let error = told(wire.as_ref(), refused(status, &location, "")).await.unwrap_err();
            assert_eq!(error.reason, Reason::ProviderRejected, "{}: {error}", wire.name());
            assert!(error.detail.contains("redirects are not followed") && !error.detail.contains(KEY), "{error}");
        }
    }
    assert_eq!(second.asked(), 0);
}

#[tokio::test]
async fn no_name_of_a_model_leads_to_another_path_or_host() {
    for wire in wire::all() {
        for hostile in
            ["../../admin", "m?key=1", "m#x", "m@other.example", "m\r\nX-Evil: 1\r\n\r\n", "%2e%2e/x", "", "é"]
        {
            let (spoken, _) = full(wire.as_ref());
            let server = Server::start(vec![sent(wire.stream(&spoken))]);
            let request = ModelRequest { model: hostile.into(), ..server::request() };
            ask(wire.as_ref(), &server, &request, CancellationToken::new()).await.0.unwrap();
            let asked = server.seen.lock().unwrap().requests.remove(0);
            let line = asked.lines().next().unwrap();
            let path = line.strip_prefix("POST ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
            let (before, after) = wire.path().split_once("/m:").unwrap_or((wire.path(), ""));
            let model = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).unwrap();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
            let model = model.trim_start_matches('/').trim_end_matches(':');
            assert!(model.bytes().all(plain) && model != "..", "{}: {line}", wire.name());
            assert!(!asked.to_lowercase().contains("\nx-evil"), "{}: {asked}", wire.name());
        }
    }
}
