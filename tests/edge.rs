//! The door over real sockets, byte by byte: what it lets through, what it refuses and how, and what it bounds.

#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod edge_support;

use std::time::Duration;

use chancery::http::limits::Limits;
use edge_support::{ADMIN, Answer, Door, LARGE, READONLY, post, raw};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

fn short(limits: &mut Limits) {
    limits.first_byte_ms = 300;
    limits.head_ms = 300;
    limits.idle_ms = 300;
    limits.body_ms = 2_000;
    limits.body_grace_ms = 300;
    limits.write_ms = 500;
}

/// Sends bytes that must be refused with this status and code on a connection that then closes, without an effect.
async fn refused(door: &Door, bytes: &[u8], status: u16, code: &str) {
    let before = door.notes();
    let answers = door.exchange(bytes).await;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(answers.len(), 1, "{shown:?}: {answers:?}");
    let answer = &answers[0];
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{shown:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown:?}");
    assert!(answer.header("x-request-id").is_some(), "{shown:?}");
    assert_eq!(door.notes(), before, "{shown:?} had an effect");
}

#[tokio::test]
async fn an_authenticated_post_reaches_its_handler_with_its_rights_and_facts() {
    let door = Door::open().await;
    let answer = door
        .one(&post("/v1/notes", ADMIN, "Idempotency-Key: k1\r\nX-Request-Id: trace-7\r\n", "{\"text\":\"a\"}"))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["principal"], "admin");
    assert_eq!(body["request"]["id"], "trace-7");
    assert_eq!(body["request"]["key"], "k1");
    assert_eq!(body["request"]["scope"], "admin POST /v1/notes");
    assert_eq!(body["request"]["body_mac"].as_str().map(str::len), Some(32));
    assert_eq!(answer.header("x-request-id"), Some("trace-7"));
    let bare = door.one(&post("/v1/notes", ADMIN, "", "{}")).await;
    assert!(bare.json()["request"]["body_mac"].is_null() && bare.header("x-request-id").unwrap().starts_with("req_"));
    assert_eq!(door.notes(), 2);
}

#[tokio::test]
async fn ambiguous_framing_is_answered_400_and_the_connection_closes() {
    let door = Door::open().await;
    let auth = format!("Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\n");
    let cases = [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 2, 2\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Content-Length : 2\r\n",
        "X-Folded: a\r\n b\r\nContent-Length: 2\r\n",
        "X-Null: a\0b\r\nContent-Length: 2\r\n",
        "X-Return: a\rb\r\nContent-Length: 2\r\n",
    ];
    for headers in cases {
        let bytes = format!("POST /v1/notes HTTP/1.1\r\nHost: {}\r\n{auth}{headers}\r\n{{}}", door.host);
        refused(&door, bytes.as_bytes(), 400, "request.malformed").await;
    }
    for bytes in [
        format!("GET /healthz HTTP/1.1\nHost: {}\n\n", door.host),
        format!("GET /healthz HTTP/1.1\r\nHost: {}\n\r\n", door.host),
        "GET /healthz HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET /healthz HTTP/1.1\r\nHost: {0}\r\nHost: {0}\r\n\r\n", door.host),
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}tls".to_owned(),
        format!("GET  /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", door.host),
    ] {
        refused(&door, bytes.as_bytes(), 400, "request.malformed").await;
    }
}

#[tokio::test]
async fn chunks_that_are_not_framed_plainly_are_answered_400_and_never_reach_a_handler() {
    let door = Door::open().await;
    for chunks in [
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r\n{}x\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n{}",
        "-2\r\n{}\r\n0\r\n\r\n",
    ] {
        refused(&door, &door.chunked("/v1/notes", chunks), 400, "request.malformed").await;
    }
    let endless = format!("2;{}", "x".repeat(100_000));
    refused(&door, &door.chunked("/v1/notes", &endless), 400, "request.malformed").await;
    // Trailers are read over: a credential there counts for nothing.
    let head = format!(
        "POST /v1/notes HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        door.host
    );
    let body = format!("2\r\n{{}}\r\n0\r\nAuthorization: Bearer {ADMIN}\r\n\r\n");
    assert_eq!(door.exchange_closing(format!("{head}{body}").as_bytes()).await[0].code(), "auth.missing");
    // And a plain chunked body is taken, extensions and trailers included.
    let plain =
        door.exchange_closing(&door.chunked("/v1/notes", "1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-Trailer: y\r\n\r\n")).await;
    assert_eq!(plain[0].status, 201);
}

#[tokio::test]
async fn hosts_methods_and_addresses_have_one_spelling() {
    let door = Door::open().await;
    let get = |target: &str, host: &str| raw("GET", target, host, &format!("Authorization: Bearer {ADMIN}\r\n"), "");
    for host in ["evil.example", "localhost", "localhost:1", "127.0.0.1.nip.example"] {
        let answer = door.one(&get("/healthz", host)).await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "request.host_unknown"), "{host}");
    }
    assert_eq!(door.one(&get("/healthz", &door.host)).await.status, 200);
    assert_eq!(door.one(&get("/healthz", &door.host.replace("127.0.0.1", "LOCALHOST"))).await.status, 200);
    let bad = [
        "//healthz",
        "/a/../healthz",
        "/./healthz",
        "/%2e%2e/healthz",
        "/v1%2fnotes",
        "/healthz%00",
        "/healthz;x",
        "/ü",
        "http://evil.example/healthz",
        "*",
        "/healthz?token=x",
        "/healthz?access_token=x",
        "/healthz?x=chy_a",
    ];
    for target in bad {
        let answer = door.one(&get(target, &door.host)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "request.malformed"), "{target}");
    }
    assert_eq!(door.one(&get("/healthz.", &door.host)).await.status, 404);
    for method in ["TRACE", "BREW", "PROPFIND"] {
        let answer = door.one(&raw(method, "/healthz", &door.host, "", "")).await;
        assert_eq!((answer.status, answer.header("allow").is_some()), (405, true), "{method}");
    }
    let connect = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", door.host);
    assert_eq!(door.one(connect.as_bytes()).await.status, 405);
    let wrong =
        door.one(&raw("DELETE", "/v1/notes", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "")).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST, GET, HEAD")));
}

#[tokio::test]
async fn expectations_upgrades_and_bodies_of_reads_are_answered_safely() {
    let door = Door::open().await;
    let auth = format!("Authorization: Bearer {ADMIN}\r\n");
    refused(
        &door,
        &post("/v1/notes", ADMIN, "Expect: weird\r\n", "{}").replace_host(&door.host),
        417,
        "request.expectation_failed",
    )
    .await;
    let body = raw("GET", "/v1/notes", &door.host, &format!("{auth}Content-Length: 2\r\n"), "{}");
    refused(&door, &body, 400, "request.malformed").await;
    let upgrade = raw(
        "GET",
        "/healthz",
        &door.host,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "",
    );
    assert_eq!(door.one(&upgrade).await.status, 200);
    let hop = raw("GET", "/v1/notes", &door.host, &format!("Connection: close, Authorization\r\n{auth}"), "");
    assert_eq!(door.one(&hop).await.status, 200);
    let over = raw("GET", "/v1/notes", &door.host, &format!("X-HTTP-Method-Override: POST\r\n{auth}"), "");
    assert_eq!((door.one(&over).await.status, door.notes()), (200, 0));
    let twice = raw("GET", "/v1/notes", &door.host, &format!("{auth}{auth}"), "");
    let twice = door.one(&twice).await;
    assert_eq!((twice.status, twice.code().as_str()), (400, "request.malformed"));
    // What a client says about its own address or path decides nothing.
    let reader = format!(
        "Authorization: Bearer {READONLY}\r\nX-Original-URL: /v1/secrets\r\nX-Rewrite-URL: /v1/secrets\r\n\
         X-Forwarded-Host: evil.example\r\nX-Accel-Redirect: /v1/secrets\r\n"
    );
    let plain = door.one(&raw("GET", "/v1/notes", &door.host, &reader, "")).await;
    assert_eq!((plain.status, plain.header("x-accel-redirect"), plain.header("location")), (200, None, None));
    let open = reader.replace("/v1/secrets", "/healthz");
    assert_eq!(door.one(&raw("GET", "/v1/secrets", &door.host, &open, "")).await.status, 403);
}

#[tokio::test]
async fn sizes_are_refused_before_they_are_read() {
    let door = Door::open().await;
    let declared = raw(
        "POST",
        "/v1/notes",
        &door.host,
        &format!("Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 2147483648\r\n"),
        "",
    );
    let start = Instant::now();
    refused(&door, &declared, 413, "request.too_large").await;
    assert!(start.elapsed() < Duration::from_secs(3));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    refused(&door, &door.chunked("/v1/notes", &chunk.repeat(20)), 413, "request.too_large").await;
    let many = "X-Header: y\r\n".repeat(120);
    refused(&door, &raw("GET", "/healthz", &door.host, &many, ""), 431, "request.headers_too_large").await;
    let huge = format!("X: {}\r\n", "y".repeat(600_000));
    refused(&door, &raw("GET", "/healthz", &door.host, &huge, ""), 431, "request.headers_too_large").await;
    let long = format!("/{}", "a".repeat(70_000));
    refused(&door, &raw("GET", &long, &door.host, "", ""), 414, "request.uri_too_long").await;
    let line = format!("/{}", "a".repeat(9_000));
    refused(&door, &raw("GET", &line, &door.host, "", ""), 414, "request.uri_too_long").await;
}

#[tokio::test]
async fn slow_clients_are_cut_off_at_every_stage() {
    let door = Door::with(short).await;
    // Silent from the start, and silent between two requests: closed without a word.
    let mut silent = door.connect().await;
    assert!(silent.rest(Duration::from_secs(2)).await.is_empty() && !silent.is_open().await);
    let mut idle = door.connect().await;
    idle.send(&raw("GET", "/healthz", &door.host, "", "")).await;
    let start = Instant::now();
    let rest = idle.rest(Duration::from_secs(2)).await;
    assert_eq!(Answer::all(&rest).len(), 1);
    assert!(start.elapsed() >= Duration::from_millis(250) && !idle.is_open().await);
    // A head that never ends.
    let mut slow = door.connect().await;
    slow.send(b"GET /healthz HTTP/1.1\r\n").await;
    let rest = Answer::all(&slow.rest(Duration::from_secs(2)).await);
    assert_eq!((rest[0].status, rest[0].code().as_str()), (408, "request.timeout"));
    // A head that drips.
    let mut drip = door.connect().await;
    for byte in b"GET /healthz HTTP/1.1\r\nX: y" {
        let _ = drip.socket.write_all(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(Answer::all(&drip.rest(Duration::from_secs(2)).await)[0].status, 408);
    // A body that never comes.
    let mut never = door.connect().await;
    never.send(&long_body(&door)).await;
    assert_eq!(Answer::all(&never.rest(Duration::from_secs(3)).await)[0].status, 408);
    assert_eq!(door.notes(), 0);
}

/// The head of a request whose body is long.
fn long_body(door: &Door) -> Vec<u8> {
    let headers =
        format!("Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n");
    raw("POST", "/v1/notes", &door.host, &headers, "")
}

/// A body that drips is answered 408 within some seconds by this door.
async fn assert_drip_is_cut(door: Door) {
    let mut slowly = door.connect().await;
    slowly.send(&long_body(&door)).await;
    let start = Instant::now();
    let mut writer = slowly.split_off();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(Answer::all(&slowly.rest(Duration::from_secs(6)).await)[0].status, 408);
    assert!(start.elapsed() < Duration::from_secs(5));
    dripping.abort();
    assert_eq!(door.notes(), 0);
}

#[tokio::test]
async fn a_body_has_a_least_rate_and_a_time_as_a_whole() {
    let rated = |limits: &mut Limits| {
        short(limits);
        limits.body_ms = 60_000;
    };
    let timed = |limits: &mut Limits| {
        short(limits);
        limits.body_rate_bytes_per_s = 0;
    };
    tokio::join!(assert_drip_is_cut(Door::with(rated).await), assert_drip_is_cut(Door::with(timed).await));
}

#[tokio::test]
async fn a_long_answer_is_not_cut_by_the_read_deadlines() {
    let door = Door::with(short).await;
    let answer = door.one(&raw("GET", "/v1/slow", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off_and_its_memory_freed() {
    let door = Door::with(short).await;
    let mut deaf = Vec::new();
    for _ in 0..50 {
        let mut client = door.connect().await;
        client.send(&raw("GET", "/v1/flood", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "")).await;
        deaf.push(client);
    }
    door.until(|text| text.contains("chancery_sse_connections 50\n"), Duration::from_secs(20)).await;
    door.until(|text| text.contains("chancery_sse_connections 0\n"), Duration::from_secs(20)).await;
}

#[tokio::test]
async fn bodies_must_be_plain_strict_json() {
    let door = Door::open().await;
    let with = |headers: &str, body: &str| {
        raw(
            "POST",
            "/v1/notes",
            &door.host,
            &format!("Authorization: Bearer {ADMIN}\r\n{headers}Content-Length: {}\r\n", body.len()),
            body,
        )
    };
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/json; charset=latin1\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Encoding: secret\r\n",
    ] {
        assert_eq!(door.one(&with(headers, "{}")).await.code(), "request.unsupported_media_type", "{headers:?}");
    }
    let json = "Content-Type: application/json; charset=UTF-8\r\n";
    let deep = format!("{{\"text\":{}", "[".repeat(100_000));
    for body in [
        "",
        "{",
        "{}x",
        "\u{feff}{}",
        "{\"text\":\"a\",\"text\":\"b\"}",
        "{\"text\":1e999}",
        "{\"text\":\"\\ud800\"}",
        &deep,
    ] {
        let answer = door.one(&with(json, body)).await;
        // No body at all has no media type to look at.
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "request.bad_json"),
            "{:?}",
            &body[..body.len().min(30)]
        );
    }
    // As many keys as fit, and the million that does not.
    let keys = |most: usize| (0..most).map(|number| format!("\"{number:x}\":0")).collect::<Vec<_>>().join(",");
    let many = door.one(&with(json, &format!("{{{}}}", keys(110_000)))).await;
    assert_eq!((many.status, many.code().as_str()), (400, "request.malformed"));
    let repeated = door.one(&with(json, &format!("{{{},\"ffff\":0}}", keys(100_000)))).await;
    assert_eq!((repeated.status, repeated.code().as_str()), (400, "request.bad_json"));
    refused(&door, &with(json, &format!("{{{}}}", keys(1_000_000))), 413, "request.too_large").await;
    let shape = door.one(&with(json, "{\"text\":7}")).await;
    assert_eq!((shape.code().as_str(), shape.json()["pointer"].as_str()), ("request.malformed", Some("/text")));
    let unknown = door.one(&with(json, "{\"txet\":\"a\"}")).await;
    assert_eq!(unknown.json()["pointer"].as_str(), Some("/txet"));
    assert_eq!(door.notes(), 0);
    let odd = door.one(&with(json, "{\"text\":\"\\r\\n\\u001b[31m\u{202e}\"}")).await;
    assert_eq!(odd.json()["text"].as_str(), Some("\r\n\u{1b}[31m\u{202e}"));
}

#[tokio::test]
async fn the_answers_that_nobody_reads_are_bounded_together_and_what_they_held_is_given_back() {
    let door = Door::with(|limits| limits.all_answers_bytes = LARGE as u64 + 30_000).await;
    let read = |target: &str| raw("GET", target, &door.host, &format!("Authorization: Bearer {READONLY}\r\n"), "");
    let mut idle = door.connect().await;
    idle.send(&read("/v1/large")).await;
    idle.until("content-length").await;
    let refused = door.one(&read("/v1/large")).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "request.overloaded"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(door.one(&read("/v1/notes")).await.status, 200, "small answers go on");
    let text = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    let done = door.one(&post("/v1/notes", ADMIN, "", &text)).await;
    assert_eq!((done.status, door.notes()), (201, 1), "what was done is told all the same");
    drop(idle);
    let deadline = Instant::now() + Duration::from_secs(5);
    while door.one(&read("/v1/large")).await.status != 200 {
        assert!(Instant::now() < deadline, "what it held is not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..3 {
        assert_eq!(door.one(&read("/v1/large")).await.status, 200, "one that was read holds nothing");
    }
}

/// Reads a little at a time, for this long; whether the connection was open all the while.
async fn sips(door: &Door, target: &str, most: Duration) -> bool {
    let mut client = door.connect().await;
    client.send(&raw("GET", target, &door.host, &format!("Authorization: Bearer {READONLY}\r\n"), "")).await;
    let start = Instant::now();
    let mut part = vec![0; 40_000];
    while start.elapsed() < most {
        if !matches!(tokio::io::AsyncReadExt::read(&mut client.socket, &mut part).await, Ok(1..)) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

#[tokio::test]
async fn whoever_reads_an_answer_by_sips_is_cut_off_and_whoever_follows_a_stream_so_is_not() {
    let change = |limits: &mut Limits| {
        limits.answer_grace_ms = 300;
        limits.answer_rate_bytes_per_s = 8 << 20;
    };
    let door = Door::with(change).await;
    let (large, flood) = tokio::join!(
        sips(&door, "/v1/large", Duration::from_secs(6)),
        sips(&door, "/v1/flood", Duration::from_secs(6))
    );
    assert!(!large, "two megabytes a second of an answer are too slow for this door");
    assert!(flood, "a stream is as slow as its reader");
    let rated = Door::with(|limits| limits.answer_grace_ms = 300).await;
    assert!(sips(&rated, "/v1/large", Duration::from_secs(3)).await, "fast enough for the rate of the daemon");
    let read = raw("GET", "/v1/large", &door.host, &format!("Authorization: Bearer {READONLY}\r\n"), "");
    assert_eq!(door.one(&read).await.status, 200, "the control: it is read at once");
    let mut client = door.connect().await;
    for _ in 0..2 {
        client.send(&read).await;
        assert_eq!(client.answer().await.status, 200, "the time between two answers counts for neither");
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

#[tokio::test]
async fn callers_are_known_by_their_bearer_and_strangers_learn_nothing() {
    let door = Door::open().await;
    let get = |target: &str, headers: &str| raw("GET", target, &door.host, headers, "");
    let none = door.one(&get("/v1/notes", "")).await;
    assert_eq!((none.status, none.code().as_str()), (401, "auth.missing"));
    assert!(none.header("www-authenticate").unwrap().starts_with("Bearer"));
    assert_eq!(door.one(&get("/nowhere", "")).await.status, 401);
    assert_eq!(door.one(&get("/metrics", "")).await.status, 401);
    assert_eq!(door.one(&raw("DELETE", "/v1/notes", &door.host, "", "")).await.status, 401);
    for headers in [
        "Authorization: Basic abc\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer wrong\r\n",
        &format!("Cookie: token={ADMIN}\r\n"),
    ] {
        assert_eq!(door.one(&get("/v1/notes", headers)).await.status, 401, "{headers}");
    }
    let admin = format!("Authorization: Bearer {ADMIN}\r\n");
    assert_eq!(door.one(&get("/nowhere", &admin)).await.code(), "request.not_found");
    let reader = format!("Authorization: Bearer {READONLY}\r\n");
    assert_eq!(door.one(&get("/v1/notes", &reader)).await.status, 200);
    assert_eq!(door.one(&get("/v1/secrets", &reader)).await.code(), "auth.read_only");
    assert_eq!(door.one(&raw("HEAD", "/v1/secrets", &door.host, &reader, "")).await.status, 403);
    assert_eq!(door.one(&get("/v1/secrets", &admin)).await.status, 200);
    assert_eq!(door.one(&post("/v1/notes", READONLY, "", "{}")).await.code(), "auth.read_only");
    assert_eq!(
        door.one(&post("/v1/notes", READONLY, "X-HTTP-Method-Override: GET\r\n", "{}")).await.code(),
        "auth.read_only"
    );
    assert_eq!(door.notes(), 0);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_a_valid_token_is_not() {
    let door = Door::with(|limits| limits.auth_failures = 3).await;
    let wrong = raw("GET", "/v1/notes", &door.host, "Authorization: Bearer wrong\r\n", "");
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(door.one(&wrong).await.code());
    }
    assert_eq!(codes, ["auth.invalid", "auth.invalid", "auth.invalid", "auth.rate_limited", "auth.rate_limited"]);
    let limited = door.one(&wrong).await;
    assert!(limited.status == 429 && limited.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(door.one(&post("/v1/notes", ADMIN, "", "{}")).await.status, 201);
}

#[tokio::test]
async fn forwarded_addresses_count_only_with_the_proxys_secret() {
    let door = Door::with(|limits| limits.auth_failures = 1).await;
    let guess =
        |headers: &str| raw("GET", "/v1/notes", &door.host, &format!("Authorization: Bearer wrong\r\n{headers}"), "");
    let spoof = |last: u8| {
        format!("X-Forwarded-For: 192.0.2.{last}\r\nX-Real-IP: 192.0.2.{last}\r\nForwarded: for=192.0.2.{last}\r\n")
    };
    assert_eq!(door.one(&guess(&spoof(1))).await.status, 401);
    assert_eq!(door.one(&guess(&spoof(2))).await.status, 429);
    let proven = |last: u8| format!("X-Chancery-Proxy-Secret: {}\r\n{}", edge_support::PROXY_SECRET, spoof(last));
    assert_eq!(door.one(&guess(&proven(3))).await.status, 401);
    assert_eq!(door.one(&guess(&proven(3))).await.status, 429);
    assert_eq!(door.one(&guess(&proven(4))).await.status, 401);
    let log = door.close_and_read_audit().await;
    assert!(log.contains("\"source\":\"192.0.2.3\",\"peer\":\"127.0.0.1\""), "{log}");
    assert!(log.contains("\"code\":\"auth.rate_limited\",\"seed_code\":\"auth_rate_limited\""), "{log}");
    assert!(!log.contains("wrong") && !log.contains(edge_support::PROXY_SECRET));
}

#[tokio::test]
async fn without_authentication_only_direct_loopback_requests_are_taken() {
    let door = Door::anonymous().await;
    assert_eq!(door.one(&raw("GET", "/v1/notes", &door.host, "", "")).await.status, 200);
    for header in [
        "Forwarded: for=1.2.3.4\r\n",
        "X-Forwarded-For: 1.2.3.4\r\n",
        "X-Forwarded-Proto: https\r\n",
        "Via: 1.1 proxy\r\n",
    ] {
        assert_eq!(
            door.one(&raw("GET", "/v1/notes", &door.host, header, "")).await.code(),
            "auth.proxy_refused",
            "{header}"
        );
    }
    assert_eq!(door.one(&raw("GET", "/v1/notes", "box.example", "", "")).await.code(), "request.host_unknown");
}

#[tokio::test]
async fn pages_of_other_origins_can_change_nothing() {
    let door = Door::with(|limits| limits.origin_refusals = 2).await;
    let page = |origin: &str| post("/v1/notes", ADMIN, &format!("Origin: {origin}\r\n"), "{}");
    let allowed = door.one(&page("http://localhost:5173")).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (201, Some("http://localhost:5173")));
    let own = door.one(&page(&format!("http://{}", door.host))).await;
    assert_eq!((own.status, own.header("access-control-allow-origin")), (201, None));
    let preflight = |origin: &str| {
        raw(
            "OPTIONS",
            "/v1/notes",
            &door.host,
            &format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"),
            "",
        )
    };
    let asked = door.one(&preflight("http://localhost:5173")).await;
    assert_eq!((asked.status, asked.header("access-control-allow-headers").is_some()), (204, true));
    assert_eq!(door.one(&preflight("https://evil.example")).await.code(), "cors.origin_refused");
    let evil = door.one(&page("https://evil.example")).await;
    assert_eq!((evil.code().as_str(), evil.header("access-control-allow-origin")), ("cors.origin_refused", None));
    assert_eq!(door.one(&page("null")).await.code(), "cors.origin_rate_limited");
    assert_eq!(door.notes(), 2);
    let read = raw(
        "GET",
        "/v1/notes",
        &door.host,
        &format!("Origin: https://evil.example\r\nAuthorization: Bearer {ADMIN}\r\n"),
        "",
    );
    let read = door.one(&read).await;
    assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn too_many_connections_are_told_503_early_and_the_others_are_served() {
    let door = Door::with(|limits| limits.connections = 4).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = door.connect().await;
        client.send(&raw("GET", "/healthz", &door.host, "", "")).await;
        client.answer().await;
        held.push(client);
    }
    let mut extra = door.connect().await;
    let told = Answer::all(&extra.rest(Duration::from_secs(3)).await);
    assert_eq!((told[0].status, told[0].code().as_str()), (503, "request.overloaded"));
    held[0].send(&raw("GET", "/healthz", &door.host, "", "")).await;
    assert_eq!(held[0].answer().await.status, 200);
    drop(held);
    door.until(|text| text.contains("chancery_http_connections 0\n"), Duration::from_secs(3)).await;
}

#[tokio::test]
async fn ten_thousand_pipelined_requests_are_answered_in_order() {
    let door = Door::open().await;
    let mut client = door.connect().await;
    let mut writer = client.split_off();
    let request = raw("GET", "/healthz", &door.host, "", "");
    let sending = tokio::spawn(async move { writer.write_all(&request.repeat(10_000)).await });
    for _ in 0..10_000 {
        assert_eq!(client.answer().await.status, 200);
    }
    sending.await.unwrap().unwrap();
    // A refused request in a pipeline is answered in its turn, and nothing behind it is.
    let mut mixed = raw("GET", "/healthz", &door.host, "", "");
    mixed.extend(b"GET /healthz HTTP/1.1\nHost: x\n\n");
    mixed.extend(raw("GET", "/healthz", &door.host, "", ""));
    let statuses: Vec<u16> = door.exchange(&mixed).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 400]);
}

#[tokio::test]
async fn a_panic_is_a_500_with_the_requests_id_and_the_door_stays_open() {
    let door = Door::open().await;
    let answer =
        door.one(&raw("GET", "/v1/panic", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal.error"));
    assert_eq!(answer.json()["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(answer.json()["surely_no_effect"], false);
    let said = answer.json().to_string();
    assert!(!said.contains("on purpose") && !said.contains(".rs"), "{said}");
    assert_eq!(door.one(&raw("GET", "/healthz", &door.host, "", "")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_a_mutation() {
    let door = Door::open().await;
    let mut client = door.connect().await;
    client.send(&post("/v1/notes/slowly", ADMIN, "", "").replace_host(&door.host)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    let start = Instant::now();
    while door.notes() == 0 && start.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(door.notes(), 1);
}

#[tokio::test]
async fn streams_carry_ids_unbuffered_and_beat_and_end_with_the_drain() {
    let door = Door::with(|limits| (limits.heartbeat_ms, limits.recheck_ms) = (200, 100)).await;
    let mut client = door.connect().await;
    client
        .send(&raw("GET", "/v1/stream?after=3", &door.host, &format!("Authorization: Bearer {READONLY}\r\n"), ""))
        .await;
    let text = client.until("data: {\"n\":5}\n\n").await;
    assert!(text.contains("x-accel-buffering: no\r\n") && text.contains("cache-control: no-store\r\n"), "{text}");
    assert!(text.contains("id: 4\nevent: note\ndata: {\"n\":4}\n\nid: 5\n"), "{text}");
    client.until(": beat\n\n").await;
    door.tasks.stop();
    client.until(": the daemon is stopping\n\n").await;
    assert!(client.rest(Duration::from_secs(2)).await.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn wrong_cursors_are_refused_or_told_in_the_stream() {
    let door = Door::open().await;
    let auth = format!("Authorization: Bearer {READONLY}\r\n");
    let get = |target: &str, more: &str| raw("GET", target, &door.host, &format!("{auth}{more}"), "");
    for cursor in ["x", "-1", "18446744073709551616", "01", "1%00", "", &"9".repeat(5_000)] {
        let answer = door.one(&get(&format!("/v1/stream?after={cursor}"), "")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "cursor.malformed"), "{cursor}");
    }
    for (headers, status, code) in [
        ("Last-Event-ID: 1e3\r\n".to_owned(), 400, "cursor.malformed"),
        ("Last-Event-ID: 1\r\nLast-Event-ID: 2\r\n".to_owned(), 400, "cursor.malformed"),
        ("Last-Event-ID: 1\0\r\n".to_owned(), 400, "request.malformed"),
        (format!("Last-Event-ID: {}\r\n", "9".repeat(1 << 20)), 431, "request.headers_too_large"),
        (format!("Last-Event-ID: {}\r\n", u64::MAX), 409, "cursor.ahead"),
    ] {
        let answer = door.one(&get("/v1/stream", &headers)).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{:?}", &headers[..headers.len().min(60)]);
    }
    assert_eq!(door.one(&get("/v1/stream?after=99", "")).await.code(), "cursor.ahead");
    let told = door.one(&get("/v1/stream?after=x&cursor_errors=in_stream", "")).await;
    assert_eq!(told.status, 200);
    let text = String::from_utf8(told.body).unwrap();
    assert!(
        text.starts_with("event: reset\ndata: ") && text.contains("cursor.malformed") && text.ends_with("\n\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_token_is_replaced() {
    let door = Door::open().await;
    let mut reader = door.connect().await;
    reader
        .send(&raw("GET", "/v1/stream?after=5", &door.host, &format!("Authorization: Bearer {READONLY}\r\n"), ""))
        .await;
    let mut admin = door.connect().await;
    admin.send(&raw("GET", "/v1/stream?after=5", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "")).await;
    reader.until(": open\n\n").await;
    admin.until(": open\n\n").await;
    door.replace_token(|files| &files.readonly, "another-readers-own-string-0123456789");
    let start = Instant::now();
    reader.until(": the token is no longer in force\n\n").await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!String::from_utf8_lossy(&admin.rest(Duration::from_secs(1)).await).contains("no longer"));
    assert!(admin.is_open().await);
    let mut calling = door.connect().await;
    calling.send(&raw("GET", "/v1/slow", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "")).await;
    door.replace_token(|files| &files.admin, "another-admins-own-string-0123456789");
    admin.until(": the token is no longer in force\n\n").await;
    assert_eq!(calling.answer().await.status, 200, "a call that is under way ends as it began");
    let old = raw("GET", "/v1/notes", &door.host, &format!("Authorization: Bearer {READONLY}\r\n"), "");
    assert_eq!(door.one(&old).await.code(), "auth.invalid");
}

#[tokio::test]
async fn the_description_names_every_route_and_the_numbers_name_no_path() {
    let door = Door::open().await;
    let auth = format!("Authorization: Bearer {ADMIN}\r\n");
    let document = door.one(&raw("GET", "/v1/openapi.json", &door.host, &auth, "")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["paths"]["/v1/notes"]["post"]["x-action"], "session.create");
    assert_eq!(document["paths"]["/v1/notes/{name}"]["get"]["parameters"][0]["name"], "name");
    assert_eq!(document["paths"]["/healthz"]["get"]["security"], serde_json::json!([]));
    let reference =
        document["paths"]["/v1/notes"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            .as_str()
            .unwrap();
    let name = reference.strip_prefix("#/components/schemas/").unwrap();
    assert_eq!(document["components"]["schemas"][name]["additionalProperties"], false);
    assert_eq!(door.one(&raw("GET", "/v1/notes/private-name", &door.host, &auth, "")).await.status, 200);
    let text = door.metrics();
    assert!(text.contains("route=\"/v1/notes/{name}\",status=\"2xx\"} 1") && !text.contains("private-name"), "{text}");
}

#[tokio::test]
async fn readiness_follows_the_daemon_and_a_drain_ends_idle_connections_at_once() {
    let door = Door::open().await;
    assert_eq!(door.one(&raw("GET", "/readyz", &door.host, "", "")).await.status, 200);
    door.make_unready();
    assert_eq!(door.one(&raw("GET", "/readyz", &door.host, "", "")).await.code(), "storage.journal_unavailable");
    let mut fresh = door.connect().await;
    let mut idle = door.connect().await;
    idle.send(&raw("GET", "/healthz", &door.host, "", "")).await;
    idle.answer().await;
    door.tasks.stop();
    let start = Instant::now();
    assert!(door.tasks.drained(Duration::from_secs(2)).await);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(fresh.rest(Duration::from_secs(1)).await.is_empty() && idle.rest(Duration::from_secs(1)).await.is_empty());
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_only() {
    let door = Door::on_unix_socket().await;
    let answer = door.one(&post("/v1/notes", ADMIN, "", "{}").replace_host("localhost")).await;
    assert_eq!((answer.status, answer.json()["via"].as_str()), (201, Some("unix")));
    assert_eq!(door.socket_mode(), 0o600);
    assert!(door.bind_again().await.is_err());
}

#[tokio::test]
async fn the_access_log_counts_admissions_and_names_callers_by_fingerprint() {
    let door = Door::open().await;
    let mut client = door.connect().await;
    for _ in 0..5 {
        client.send(&post("/v1/notes", ADMIN, "", "{}").replace_host(&door.host)).await;
        assert_eq!(client.answer().await.status, 201);
    }
    drop(client);
    let log = door.close_and_read_audit().await;
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let admitted: u64 =
        lines.iter().filter(|line| line["code"] == "admitted").map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(admitted, 5, "{log}");
    assert!(
        lines.len() <= 2 && lines[0]["fp"].as_str().is_some_and(|fp| fp.len() == 32) && !log.contains(ADMIN),
        "{log}"
    );
}

trait ReplaceHost {
    fn replace_host(&self, host: &str) -> Vec<u8>;
}

impl ReplaceHost for Vec<u8> {
    fn replace_host(&self, host: &str) -> Vec<u8> {
        String::from_utf8_lossy(self).replace("Host: HOST\r\n", &format!("Host: {host}\r\n")).into_bytes()
    }
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_announces_the_end_and_hears_the_client_out() {
    let door = Door::open().await;
    for token in ["chy_wrong", READONLY] {
        let mut client = door.connect().await;
        let head = raw(
            "POST",
            "/v1/notes",
            &door.host,
            &format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"),
            "",
        );
        client.send(&head).await;
        let answer = client.answer().await;
        assert_eq!((answer.status >= 401, answer.header("connection")), (true, Some("close")), "{answer:?}");
        client.send(&vec![b' '; 50_000]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut writer = client.split_off();
        let late = tokio::io::AsyncWriteExt::write_all(&mut writer, &vec![b' '; 50_000]).await;
        assert!(late.is_ok(), "the rest of the body met a closed door: {late:?}");
    }
    // A body that was read leaves the connection as it was.
    let mut client = door.connect().await;
    for _ in 0..2 {
        let headers =
            format!("Authorization: Bearer {ADMIN}\r\nContent-Type: application/json\r\nContent-Length: 12\r\n");
        client.send(&raw("POST", "/v1/notes", &door.host, &headers, "{\"text\":\"a\"}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (201, None), "{answer:?}");
    }
}

#[tokio::test]
async fn the_bodies_of_all_clients_together_are_bounded_and_what_they_took_is_given_back() {
    let door = Door::with(|limits| limits.all_bodies_bytes = 10_000).await;
    let whole = |size: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(size - 11));
    let small = post("/v1/notes", ADMIN, "", &whole(200));
    // Each has sent half of its body, and waits.
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut client = door.connect().await;
        let bytes = post("/v1/notes", ADMIN, "", &whole(1_980)).replace_host(&door.host);
        let (sent, rest) = bytes.split_at(bytes.len() - 990);
        client.send(sent).await;
        slow.push((client, rest.to_vec()));
    }
    let start = Instant::now();
    let refusal = loop {
        let answer = door.one(&small).await;
        if answer.status != 201 {
            break answer;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "there is room beyond the limit");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((refusal.status, refusal.code().as_str()), (503, "request.overloaded"), "{refusal:?}");
    assert_eq!((refusal.header("retry-after"), refusal.header("connection")), (Some("1"), Some("close")));
    assert_eq!(refusal.json()["surely_no_effect"], true);
    // Reads and refusals need no body, so nothing is in their way.
    let read = raw("GET", "/v1/notes", &door.host, &format!("Authorization: Bearer {ADMIN}\r\n"), "");
    assert_eq!(door.one(&read).await.status, 200);
    let before = door.notes();
    let (mut last, rest) = slow.pop().unwrap();
    last.send(&rest).await;
    assert_eq!(last.answer().await.status, 503, "whose body is half there is refused as well");
    let (mut kept, rest) = slow.pop().unwrap();
    drop(slow);
    kept.send(&rest).await;
    assert_eq!(kept.answer().await.status, 201);
    let large = post("/v1/notes", ADMIN, "", &whole(9_900));
    let start = Instant::now();
    while door.one(&large).await.status != 201 {
        assert!(start.elapsed() < Duration::from_secs(5), "those who hung up still take their room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..100 {
        assert_eq!(door.one(&small).await.status, 201, "what was answered takes no room");
    }
    assert_eq!(door.notes(), before + 102);
}
