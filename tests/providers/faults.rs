//! What servers and networks do wrong, and what must come of it: a reason, kept words, a bound, no second host.

use std::sync::Arc;
use std::time::Duration;

use chancery::domain::reason::Reason;
use chancery::outbound::client::Deadlines;
use chancery::outbound::guard::SystemResolver;
use chancery::outbound::limits;
use chancery::outbound::providers::{ProviderError, Surroundings};
use chancery::outbound::trust::Trust;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::server::{Act, Server, around, end, event, head, heard, request, within, words};

/// Long enough for an answer however busy the machine is, and for nobody to wait for.
const LONG_MS: u64 = 20_000;
/// For servers that never answer.
const SHORT_MS: u64 = 500;

/// How long a call may take to a server that does this.
fn patience_ms(acts: &[Act]) -> u64 {
    if matches!(acts.last(), Some(Act::Hold)) { SHORT_MS } else { LONG_MS }
}

fn refused(status: &str, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![Act::Send(
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}").into(),
    )]
}

async fn fault(acts: Vec<Act>) -> ProviderError {
    let patience_ms = patience_ms(&acts);
    Server::start(vec![acts]).call(patience_ms).await.unwrap_err()
}

#[tokio::test]
async fn an_error_before_the_answer_keeps_the_servers_words_and_its_wish() {
    let body = json!({ "error": { "message": "the model is unknown", "type": "invalid_request_error" } }).to_string();
    let (rejected, limited, unavailable) =
        (Reason::ProviderRejected, Reason::ProviderRateLimited, Reason::ProviderUnavailable);
    let broken = Reason::ProviderStreamBroken;
    let day = "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
    for (status, headers, reason, retry_after_ms) in [
        ("400 Bad Request", "", rejected, None),
        ("401 Unauthorized", "", rejected, None),
        ("404 Not Found", "", rejected, None),
        ("204 No Content", "", broken, None),
        ("429 Too Many", "", limited, None),
        ("429 Too Many", "Retry-After: 7\r\n", limited, Some(7_000)),
        ("429 Too Many", day, limited, Some(0)),
        ("429 Too Many", "Retry-After: Fri, 31 Dec 2128 23:59:59 GMT\r\n", limited, Some(limits::RETRY_AFTER_MOST_MS)),
        ("429 Too Many", "Retry-After: 1000000000\r\n", limited, Some(limits::RETRY_AFTER_MOST_MS)),
        ("429 Too Many", "Retry-After: -5\r\n", limited, None),
        ("429 Too Many", "Retry-After: soon\r\n", limited, None),
        ("500 Broken", "", unavailable, None),
        ("503 Later", "Retry-After: 2\r\n", unavailable, Some(2_000)),
        ("529 Overloaded", "", limited, None),
    ] {
        let sent = if status.starts_with("204") { "" } else { &body };
        let error = fault(refused(status, headers, sent)).await;
        let expected = (reason, retry_after_ms, None, false);
        let found = (error.reason, error.retry_after_ms, error.partial, error.answer_begun);
        assert_eq!(found, expected, "{status} {headers}");
        assert!(error.detail.contains(&status[..3]), "{}", error.detail);
        assert!(sent.is_empty() || error.detail.contains("the model is unknown"), "{}", error.detail);
    }
    let page = "<html>".to_owned() + &"x".repeat(1 << 20) + "\u{1b}[31m\r\n";
    let error = fault(refused("500 Broken", "", &page)).await;
    assert!(error.detail.len() <= limits::ERROR_DETAIL_BYTES + 100, "{}", error.detail.len());
    assert!(!error.detail.contains(char::is_control), "{}", error.detail);
}

#[tokio::test]
async fn a_call_is_one_request_and_what_may_have_been_paid_is_told_from_what_was_not_taken() {
    let good = || vec![head(""), Act::Send((words("a") + &end("stop")).into())];
    let (unavailable, broken) = (Reason::ProviderUnavailable, Reason::ProviderStreamBroken);
    for (first, reason) in [
        (refused("503 Later", "", ""), unavailable),
        (refused("429 Too Many", "Retry-After: 1\r\n", ""), Reason::ProviderRateLimited),
        (refused("400 Bad Request", "", ""), Reason::ProviderRejected),
        (refused("504 Gateway Timeout", "", ""), broken),
        (vec![], broken),
        (vec![Act::Hold], broken),
        (vec![head(""), Act::Send(words("half").into())], broken),
    ] {
        let server = Server::start(vec![first.clone(), good()]);
        let (outcome, _) = within(Duration::from_secs(8), "an answer", server.call(patience_ms(&first))).await;
        assert_eq!((outcome.unwrap_err().reason, server.asked()), (reason, 1), "{first:?}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Server { port: closed, seen: std::sync::Arc::default() };
    assert_eq!(nobody.call(LONG_MS).await.unwrap_err().reason, unavailable, "nothing was sent");
}

#[tokio::test]
async fn an_answer_that_breaks_off_keeps_its_words_as_partial() {
    let half = words("half");
    let broken = Reason::ProviderStreamBroken;
    let send = |text: String| vec![head(""), Act::Send(text.into())];
    let promised = |rest: Vec<u8>| vec![head("Content-Length: 100000\r\n"), Act::Send(rest)];
    let cases: [(&str, Vec<Act>, Reason); 8] = [
        ("closed in the middle", send(half.clone()), broken),
        ("closed within a line", send(half.clone() + "data: {\"choi"), broken),
        ("shorter than promised", promised(half.clone().into()), broken),
        ("an error object", send(half.clone() + &event(&json!({ "error": { "message": "no" } }))), broken),
        ("not UTF-8", vec![head(""), Act::Send([half.as_bytes(), b"data: \xff\xfe\n\n"].concat())], broken),
        ("not JSON", send(half.clone() + "data: {oops}\n\n"), broken),
        ("a slow drip", vec![head(""), Act::Send(half.clone().into()), Act::Repeat(b":".into(), 3), Act::Hold], broken),
        (
            "a call without a name",
            send(
                half + &event(&json!({ "choices": [{ "delta": { "tool_calls": [{ "index": 0 }] } }] })) + &end("stop"),
            ),
            Reason::ProviderRejected,
        ),
    ];
    for (name, acts, reason) in cases {
        let error = fault(acts).await;
        let found = (error.reason, error.partial.as_deref(), error.answer_begun);
        assert_eq!(found, (reason, Some("half"), true), "{name}: {}", error.detail);
    }
    let page = fault(send("<html>not a model</html>".into())).await;
    assert_eq!((page.reason, page.partial), (broken, None));
    let other = fault(send("{\"hello\":1}".into())).await;
    assert_eq!((other.reason, other.partial, other.answer_begun), (Reason::ProviderRejected, None, false));
}

#[tokio::test]
async fn no_server_makes_the_answer_larger_than_the_limits() {
    let chunk = vec![b'x'; 64 << 10];
    let start = |text: &str| vec![head(""), Act::Send(text.into())];
    let arguments = event(&json!({ "choices": [{ "delta": { "tool_calls": [{ "index": 0, "function": {
        "arguments": "x".repeat(64 << 10) } }] } }] }));
    let named = event(&json!({ "choices": [{ "delta": { "tool_calls": [{ "index": 0, "id": "a", "function": {
        "name": "bash", "arguments": "" } }] } }] }));
    let many = |at: usize| {
        event(&json!({ "choices": [{ "delta": { "tool_calls": [
        { "index": at, "id": format!("c{at}"), "function": { "name": "bash" } }] } }] }))
    };
    let calls: String = (0..5_000).map(many).collect();
    let plus = |mut acts: Vec<Act>, act: Act| {
        acts.push(act);
        acts
    };
    let broken = Reason::ProviderStreamBroken;
    let passes = |limit: &str| Some(format!("the answer passes a limit: {limit}"));
    let (of_document, of_words) =
        ("4194304 bytes that are no stream of events", "2097152 bytes of words and arguments");
    let cases = [
        ("one line of a gigabyte", plus(start("data: "), Act::Repeat(chunk.clone(), 16 << 10)), None, 32 << 20),
        (
            "one document of a gigabyte",
            plus(start("{\"a\":\""), Act::Repeat(chunk.clone(), 16 << 10)),
            passes(of_document),
            32 << 20,
        ),
        (
            "nothing but spaces",
            plus(start(" "), Act::Repeat(vec![b' '; 64 << 10], 16 << 10)),
            passes(of_document),
            32 << 20,
        ),
        (
            "comments without end",
            plus(start(""), Act::Repeat(": alive\n".repeat(8 << 10).into(), 16 << 10)),
            passes("67108864 bytes as sent"),
            96 << 20,
        ),
        ("arguments of 50 MB", plus(start(&named), Act::Repeat(arguments.into(), 800)), passes(of_words), 32 << 20),
        ("thousands of calls", start(&calls), passes("64 calls"), 32 << 20),
        (
            "words without end",
            plus(start(""), Act::Repeat(words(&"y".repeat(32 << 10)).into(), 1 << 15)),
            passes(of_words),
            32 << 20,
        ),
    ];
    for (name, acts, limit, most) in cases {
        let server = Server::start(vec![acts]);
        let (outcome, _) = within(Duration::from_secs(20), name, server.call(60_000)).await;
        let error = outcome.unwrap_err();
        // Of a document nothing is heard before its end.
        let is_heard = limit.as_ref().is_some_and(|limit| !limit.contains(of_document));
        let reason = if is_heard { Reason::ProviderRejected } else { broken };
        assert_eq!(error.reason, reason, "{name}: {}", error.detail);
        assert_eq!(error.detail, limit.unwrap_or(error.detail.clone()), "{name}");
        assert!(error.partial.is_none_or(|words| words.len() <= limits::ANSWER_WORDS_BYTES + (64 << 10)), "{name}");
        let sent = server.seen.lock().unwrap().sent_bytes;
        assert!(sent < most, "{name}: {sent} bytes were taken");
        assert_eq!(server.asked(), 1, "{name}: what was refused is not asked for again");
    }
    let head = [b"HTTP/1.1 200 OK\r\nX-Long: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    assert_eq!(fault(vec![Act::Send(head)]).await.reason, broken);
}

#[tokio::test]
async fn a_server_that_is_slow_at_any_point_is_left_at_the_deadline() {
    let drip = |text: &str| {
        let acts = text.bytes().flat_map(|byte| [Act::Send(vec![byte]), Act::Wait(30)]);
        acts.chain([Act::Hold]).collect::<Vec<_>>()
    };
    let kept_alive = vec![head(""), Act::Send(": alive\n\n".into()), Act::Wait(50), Act::Send(": alive\n\n".into())];
    let mut endless = kept_alive.clone();
    endless.extend((0..200).flat_map(|_| [Act::Wait(20), Act::Send(": alive\n\n".into())]));
    let dripped = [vec![head("")], drip(&words("never comes to its end"))].concat();
    for (name, acts) in [
        ("says nothing", vec![Act::Hold]),
        ("drips its head", drip("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")),
        ("stops after its head", vec![head(""), Act::Hold]),
        ("drips its words", dripped),
        ("only says that it lives", endless),
    ] {
        let server = Server::start(vec![acts]);
        let (outcome, took) = within(Duration::from_secs(3), name, server.call(500)).await;
        let error = outcome.unwrap_err();
        assert_eq!((error.reason, server.asked()), (Reason::ProviderStreamBroken, 1), "{name}: {}", error.detail);
        assert!(took >= Duration::from_millis(400), "{name}: given up after {took:?}: {}", error.detail);
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_for_long_is_left_before_the_call_has_taken_its_time() {
    let around = around(Arc::new(SystemResolver), Trust::of_machine(None).unwrap());
    let deadlines = Deadlines { first_byte: Duration::from_millis(300), idle: Duration::from_millis(300) };
    for (acts, slow) in [
        (vec![Act::Hold], "the start of the answer took too long"),
        (vec![head(""), Act::Send(words("half").into()), Act::Hold], "the next piece of the answer took too long"),
    ] {
        let server = Server::start(vec![acts]);
        let around = Surroundings { deadlines, ..around.clone() };
        let (providers, route) = server.providers_in(60_000, &around);
        let request = request();
        let call = heard(&providers, &route, &request);
        let ((outcome, _), _) = within(Duration::from_secs(30), slow, call).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.reason, Reason::ProviderStreamBroken, "{error}");
        assert!(error.detail.contains(slow), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_no_second_host_hears_of_the_call() {
    let second = Server::start(vec![vec![head(""), Act::Send((words("stolen") + &end("stop")).into())]]);
    for status in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"] {
        let location = format!("Location: http://127.0.0.1:{}/v1/chat/completions\r\n", second.port);
        let error = fault(refused(status, &location, "")).await;
        assert_eq!(error.reason, Reason::ProviderRejected, "{}", error.detail);
        assert!(error.detail.contains("redirect"), "{}", error.detail);
    }
    assert_eq!(second.asked(), 0);
}

#[tokio::test]
async fn a_compressed_answer_is_refused_unread() {
    let bomb = |encoding: &str| {
        vec![head(&format!("Content-Encoding: {encoding}\r\n")), Act::Repeat(vec![0x1f; 64 << 10], 16 << 10)]
    };
    for encoding in ["gzip", "br", "deflate, gzip", "zstd"] {
        let server = Server::start(vec![bomb(encoding)]);
        let error = server.call(5_000).await.unwrap_err();
        assert_eq!((error.reason, server.asked()), (Reason::ProviderStreamBroken, 1), "{encoding}: {}", error.detail);
        assert!(server.seen.lock().unwrap().sent_bytes < 16 << 20);
    }
    let asked = {
        let server = Server::start(vec![bomb("gzip")]);
        let _ = server.call(5_000).await;
        server.seen.lock().unwrap().requests.remove(0).to_lowercase()
    };
    assert!(asked.contains("accept-encoding: identity\r\n"), "{asked}");
}

#[tokio::test]
async fn a_call_that_is_given_up_closes_its_connection_and_keeps_its_words() {
    let server = Server::start(vec![vec![head(""), Act::Send(words("half").into()), Act::Hold]]);
    let stop = CancellationToken::new();
    let (call, ()) = tokio::join!(server.call_until(60_000, &stop), async {
        while server.asked() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
    });
    let error = call.unwrap_err();
    assert_eq!((error.reason, error.partial.as_deref()), (Reason::ProviderStreamBroken, Some("half")));
    for _ in 0..200 {
        if server.seen.lock().unwrap().hung_up == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is still open");
}
