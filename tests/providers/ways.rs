//! The way that a request takes: kept connections, the operator's proxy and nobody else's, and requests that are passed
//! on as they are.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chancery::config::addresses::HostPort;
use chancery::config::routes::ResolvedRoute;
use chancery::domain::reason::Reason;
use chancery::outbound::client::SendFault;
use chancery::outbound::guard::{Boxed, Guard, Resolve};
use chancery::outbound::providers::{Endpoint, ModelRequest, Providers, Surroundings};
use chancery::outbound::trust::Trust;
use chancery::vault::secret::Secret;
use futures_util::StreamExt as _;
use http::header::{self, HeaderMap, HeaderValue};

use crate::server::{self, Act, Server, end, head_and_body, heard, words};
use crate::tls::{Authority, serve};

/// What a server that keeps its connections saw: how many there were, and the number of requests on each.
#[derive(Debug, Default)]
struct Kept {
    connections: usize,
    requests: usize,
}

/// Connections and requests so far.
fn counted(seen: &Mutex<Kept>) -> (usize, usize) {
    let seen = seen.lock().unwrap();
    (seen.connections, seen.requests)
}

fn answer(text: &str) -> Vec<u8> {
    let body = words(text) + &end("stop");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into()
}

/// Answers `on_each` requests on a connection and closes it then, after reading so many requests more without a word.
fn keeping(on_each: usize, swallowed: usize) -> (u16, Arc<Mutex<Kept>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Kept::default()));
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let seen = Arc::clone(&shared);
            seen.lock().unwrap().connections += 1;
            std::thread::spawn(move || {
                for number in 0..on_each + swallowed {
                    if head_and_body(&mut socket).is_none() {
                        return;
                    }
                    seen.lock().unwrap().requests += 1;
                    if number < on_each && socket.write_all(&answer("a")).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, seen)
}

fn openai(port: u16) -> (Providers, ResolvedRoute) {
    let text = format!(
        "version = 1\n[routes.it]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\n"
    );
    server::open(&text, std::path::Path::new("/")).unwrap()
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_and_one_that_was_closed_meanwhile_loses_none() {
    let (port, seen) = keeping(1_000, 0);
    let (providers, route) = openai(port);
    for _ in 0..20 {
        heard(&providers, &route, &server::request()).await.0.unwrap();
    }
    let found = counted(&seen);
    assert!(found.0 <= 3 && found.1 == 20, "{found:?}");
    // This one closes each connection behind its first answer: nothing of a further request was sent there.
    let (port, seen) = keeping(1, 0);
    let (providers, route) = openai(port);
    for _ in 0..20 {
        heard(&providers, &route, &server::request()).await.0.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = counted(&seen);
    assert_eq!(found, (20, 20));
}

#[tokio::test]
async fn a_request_that_a_kept_connection_took_is_not_made_again() {
    let (port, seen) = keeping(1, 1);
    let (providers, route) = openai(port);
    heard(&providers, &route, &server::request()).await.0.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = heard(&providers, &route, &server::request()).await.0.unwrap_err();
    assert_eq!(error.reason, Reason::ProviderStreamBroken, "{error}");
    assert_eq!(counted(&seen).1, 2, "the second was taken, and not sent once more");
}

/// The name is a public machine's, the proxy's name is this machine's.
#[derive(Debug)]
struct Two;

impl Resolve for Two {
    fn resolve<'a>(&'a self, name: &'a str) -> Boxed<'a, std::io::Result<Vec<IpAddr>>> {
        let address = match name {
            "proxy.example" => Ipv4Addr::LOCALHOST,
            "inside.example" => Ipv4Addr::new(10, 0, 0, 1),
            _ => Ipv4Addr::new(8, 8, 8, 8),
        };
        Box::pin(std::future::ready(Ok(vec![address.into()])))
    }
}

/// A proxy that leads everything to one port of this machine, and notes the line that it was asked with.
fn proxy(status: impl Into<String>, to: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let status = status.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&lines);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let Some(asked) = head_and_body(&mut socket) else { continue };
            shared.lock().unwrap().push(asked.lines().next().unwrap().to_owned());
            socket.write_all(format!("HTTP/1.1 {status}\r\nVia: it\r\n\r\n").as_bytes()).unwrap();
            if !status.starts_with('2') {
                continue;
            }
            let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (mut from, mut back) = (socket.try_clone().unwrap(), far.try_clone().unwrap());
            let (mut far, mut socket) = (far, socket);
            std::thread::spawn(move || std::io::copy(&mut from, &mut far));
            std::thread::spawn(move || std::io::copy(&mut back, &mut socket));
        }
    });
    (port, lines)
}

fn behind(port: u16, base_url: &str, pem: &str) -> (Providers, ResolvedRoute) {
    let text = format!(
        "version = 1\n[routes.it]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"{base_url}\"\ntimeout_ms = 5000\n"
    );
    let proxy = Some(HostPort { host: "proxy.example".into(), port });
    let around = server::around(Arc::new(Two), Trust::only(pem.as_bytes()).unwrap());
    let around = Surroundings { proxy, ..around };
    server::open_in(&text, std::path::Path::new("/"), &around).unwrap()
}

#[tokio::test]
async fn a_proxy_of_the_operators_leads_to_the_vetted_address_and_the_host_behind_it_proves_who_it_is() {
    let authority = Authority::new();
    let (far, seen) = serve(authority.vouch("model.example", (2020, 2120)));
    let (port, lines) = proxy("200 Connection established", far);
    let (providers, route) = behind(port, "https://model.example/v1", &authority.pem);
    let answer = heard(&providers, &route, &server::request()).await.0.unwrap();
    assert_eq!(answer.text.as_deref(), Some("safe"));
    assert_eq!(*lines.lock().unwrap(), ["CONNECT 8.8.8.8:443 HTTP/1.1"]);
    assert_eq!(seen.lock().unwrap().names, [Some("model.example".to_owned())]);
    // A driver's own address is reached the same way, and OpenAI's own models are told of the limit in their own word.
    let (own, seen) = serve(authority.vouch("api.openai.com", (2020, 2120)));
    let (port, lines) = proxy("200 OK", own);
    let (providers, route) = behind(port, "https://api.openai.com/v1", &authority.pem);
    let request = ModelRequest { max_output_tokens: Some(9), ..server::request() };
    heard(&providers, &route, &request).await.0.unwrap();
    assert_eq!(*lines.lock().unwrap(), ["CONNECT 8.8.8.8:443 HTTP/1.1"]);
    assert!(seen.lock().unwrap().requests[0].contains("\"max_completion_tokens\":9"), "{seen:?}");
    // A proxy that leads elsewhere is found out.
    let (other, _) = serve(authority.vouch("other.example", (2020, 2120)));
    let (port, _) = proxy("200 OK", other);
    let (providers, route) = behind(port, "https://model.example/v1", &authority.pem);
    let error = heard(&providers, &route, &server::request()).await.0.unwrap_err();
    assert_eq!(error.reason, Reason::ProviderTls, "{error}");
    let (port, _) = proxy("407 Proxy Authentication Required", far);
    let (providers, route) = behind(port, "https://model.example/v1", &authority.pem);
    let error = heard(&providers, &route, &server::request()).await.0.unwrap_err();
    assert_eq!(error.reason, Reason::ProviderUnavailable, "{error}");
    assert!(error.detail.contains("the proxy answers with HTTP 407"), "{error}");
    let (port, _) = proxy("200 ".to_owned() + &"x".repeat(9_000), far);
    let (providers, route) = behind(port, "https://model.example/v1", &authority.pem);
    let error = heard(&providers, &route, &server::request()).await.0.unwrap_err();
    assert!(error.detail.contains("the proxy's answer is too long"), "{error}");
}

#[tokio::test]
async fn what_is_no_public_machine_is_not_reached_through_a_proxy_either() {
    let authority = Authority::new();
    let server = Server::start(vec![vec![server::head(""), Act::Send((words("near") + &end("stop")).into())]]);
    let (port, lines) = proxy("200 OK", server.port);
    // Nobody allowed this name of the provider's own, which leads inside.
    let guard = Guard::new(&[], Arc::new(Two));
    let proxy = HostPort { host: "proxy.example".into(), port };
    let guard = guard.through(Some(&proxy)).unwrap();
    for inside in ["https://inside.example/", &format!("http://proxy.example:{port}/"), "http://127.0.0.1/"] {
        let refusal = guard.check(inside).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::OutboundDestinationForbidden, "{inside}");
    }
    // What the operator allows on this machine is dialled as it is.
    let (providers, route) = behind(port, &format!("http://127.0.0.1:{}/v1", server.port), &authority.pem);
    let answer = heard(&providers, &route, &server::request()).await.0.unwrap();
    assert_eq!((answer.text.as_deref(), lines.lock().unwrap().len()), (Some("near"), 0));
}

#[test]
fn proxies_of_the_environment_are_not_asked() {
    const INNER: &str = "CHANCERY_TEST_IN_A_PROXIED_ENVIRONMENT";
    if std::env::var_os(INNER).is_some() {
        let server = Server::start(vec![vec![server::head(""), Act::Send((words("direct") + &end("stop")).into())]]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(server.call(5_000)).unwrap();
        assert_eq!(answer.text.as_deref(), Some("direct"));
        return;
    }
    let (port, lines) = proxy("200 OK", 9);
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", "ways::proxies_of_the_environment_are_not_asked"]).env(INNER, "yes");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        inner.env(name, format!("http://127.0.0.1:{port}"));
    }
    let output = inner.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(lines.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_request_is_passed_on_as_it_is_and_its_answer_handed_back_as_it_comes() {
    let first = b"HTTP/1.1 418 Odd\r\nX-Request-Id: r1\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\n".to_vec();
    let piece = vec![b'x'; 64 << 10];
    let server = Server::start(vec![vec![Act::Send(first), Act::Repeat(piece, 2_000)]]);
    let (providers, route) = openai(server.port);
    assert!(providers.passes(&route, Endpoint::ChatCompletions) && !providers.passes(&route, Endpoint::Messages));
    let mut headers = HeaderMap::new();
    headers.insert("x-stainless-lang", HeaderValue::from_static("python"));
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-client"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::COOKIE, HeaderValue::from_static("of-the-client=1"));
    headers.insert("x-goog-api-key", HeaderValue::from_static("of-the-client"));
    let body = Bytes::from_static(b"{ \"any\" :  1 }");
    let key = Secret::parse(b"the-key-of-the-route").unwrap();
    let given = (headers, body);
    let answer = providers.pass(&route, Endpoint::ChatCompletions, given.clone(), Some(&key)).await.unwrap();
    assert_eq!(answer.status(), 418);
    let names = [header::CONTENT_TYPE, header::HeaderName::from_static("x-request-id")];
    let kept: Vec<_> = answer.headers(&names).into_iter().collect();
    assert_eq!(kept, [(Some(header::HeaderName::from_static("x-request-id")), HeaderValue::from_static("r1"))]);
    let mut pieces = std::pin::pin!(answer.pieces(1 << 20));
    pieces.next().await.unwrap().unwrap();
    // Whoever does not ask for more is not sent more: what is on its way fills and then stands still.
    let sent = || server.seen.lock().unwrap().sent_bytes;
    let mut before = usize::MAX;
    while before != sent() {
        before = sent();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 64 << 20, "{before} bytes were sent to somebody who reads none");
    let mut read = 0;
    let fault = loop {
        match pieces.next().await.unwrap() {
            Ok(piece) => read += piece.len(),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault, SendFault::TooLarge(1 << 20));
    assert!(read <= 1 << 20 && pieces.next().await.is_none());
    let asked = server.seen.lock().unwrap().requests.remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{ \"any\" :  1 }");
    assert!(head.contains("x-stainless-lang: python") && head.contains("accept-encoding: identity"), "{head}");
    assert!(head.contains("authorization: Bearer the-key-of-the-route") && !head.contains("of-the-client"), "{head}");
    let refused = providers.pass(&route, Endpoint::Messages, given, None).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RequestInvalid);
}
