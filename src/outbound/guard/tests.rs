//! Nothing but public machines is reached, however the address is spelled and whatever a resolver answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use tower::Service as _;

use super::*;

/// Answers with one list after the other, the last one for ever.
#[derive(Debug)]
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

fn scripted(answers: &[&[&str]]) -> Arc<Scripted> {
    let list = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Scripted { answers: answers.iter().map(list).collect(), asked: AtomicUsize::new(0) })
}

impl Resolve for Scripted {
    fn resolve<'a>(&'a self, _: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        Box::pin(std::future::ready(Ok(self.answers[turn].clone())))
    }
}

fn strict() -> Guard {
    Guard::new(&[], Arc::new(SystemResolver))
}

fn forbidden(result: Result<(), Refusal>) -> bool {
    result.is_err_and(|refusal| refusal.reason == Reason::OutboundDestinationForbidden)
}

async fn dialled(guard: &Guard, address: &str) -> Result<SocketAddr, Fault> {
    let stream = guard.clone().call(address.parse().unwrap()).await?;
    Ok(stream.inner().peer_addr().unwrap())
}

fn listed() -> Vec<String> {
    let text = include_str!("../../../tests/data/ssrf-targets.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    vectors["refuse"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// More spellings of closed addresses of version 4.
fn generated() -> Vec<String> {
    let mut all = Vec::new();
    for address in ["127.0.0.1", "169.254.169.254", "10.1.2.3", "192.168.0.9", "100.64.0.1", "0.0.0.0", "224.0.0.1"] {
        let [a, b, c, d] = address.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let bits = u32::from_be_bytes([a, b, c, d]);
        let (high, low) = (bits >> 16, bits & 0xffff);
        all.extend([
            format!("http://{a}.{b}.{low}/"),
            format!("http://{a}.{}/", bits & 0x00ff_ffff),
            format!("http://{bits}/"),
            format!("http://0x{bits:x}/"),
            format!("http://0X{bits:X}:443/"),
            format!("http://0{bits:o}/"),
            format!("http://0{a:o}.0{b:o}.0{c:o}.0{d:o}/"),
            format!("http://0x{a:x}.{b}.0{c:o}.{d}./"),
            format!("http://[::ffff:{address}]/"),
            format!("http://[0:0:0:0:0:FFFF:{high:x}:{low:x}]/"),
            format!("http://[::{address}]/"),
            format!("http://[64:ff9b::{high:x}:{low:x}]/"),
            format!("http://[2002:{high:x}:{low:x}::1]/"),
            format!("https://{address}:8443/"),
            format!("http://public.example@{address}/"),
            format!("http://public.example#@{address}/"),
            format!("http://public.example\\@{address}/"),
        ]);
    }
    all.extend(
        ["http://１２７.0.0.1/", "http://[fe80::1%25eth0]/", "http:127.0.0.1", "//127.0.0.1/"].map(String::from),
    );
    all
}

#[tokio::test]
async fn every_spelling_of_a_closed_destination_is_refused_when_checked_and_when_dialled() {
    let guard = strict();
    let (listed, generated) = (listed(), generated());
    assert!(listed.len() >= 22 && generated.len() > 100);
    for address in listed.iter().chain(&generated) {
        assert!(forbidden(guard.check(address).await), "{address} passed the check");
        if let Ok(uri) = address.parse::<Uri>()
            && !address.contains('#')
        {
            let result = guard.clone().call(uri).await;
            assert!(matches!(result, Err(Fault::Forbidden(_))), "{address} was dialled: {result:?}");
        }
    }
}

#[tokio::test]
async fn a_name_with_one_closed_address_among_its_answers_is_refused() {
    for answers in [["8.8.8.8", "127.0.0.1"], ["2001:4860:4860::8888", "fd00::1"], ["::ffff:10.0.0.1", "8.8.8.8"]] {
        let guard = Guard::new(&[], scripted(&[&answers]));
        assert!(forbidden(guard.check("http://public.example/").await), "{answers:?}");
    }
    let guard = Guard::new(&[], scripted(&[&["8.8.8.8", "2001:4860:4860::8888"]]));
    guard.check("http://public.example/").await.unwrap();
    assert!(forbidden(guard.check("http://public.example:22/").await));
}

#[tokio::test]
async fn a_name_that_turns_inwards_between_check_and_connection_is_refused() {
    let resolver = scripted(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let guard = Guard::new(&[], Arc::clone(&resolver) as Arc<dyn Resolve>);
    guard.check("http://public.example/").await.unwrap();
    assert!(matches!(dialled(&guard, "http://public.example/").await, Err(Fault::Forbidden(_))));
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 2, "one question a check, one a connection");
}

#[tokio::test]
async fn the_operators_word_opens_exactly_one_host_and_port() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let word = |host: &str| [HostPort { host: host.into(), port }];
    let resolver = scripted(&[&["127.0.0.1"]]);
    let by_address = Guard::new(&word("127.0.0.1"), Arc::clone(&resolver) as Arc<dyn Resolve>);
    assert_eq!(dialled(&by_address, &format!("http://127.0.0.1:{port}/")).await.unwrap().port(), port);
    assert_eq!(dialled(&by_address, &format!("http://127.1:{port}/")).await.unwrap().port(), port);
    for other in
        [format!("http://127.0.0.2:{port}/"), format!("http://local.example:{port}/"), "http://127.0.0.1/".into()]
    {
        assert!(matches!(dialled(&by_address, &other).await, Err(Fault::Forbidden(_))), "{other}");
    }
    let by_name = Guard::new(&word("local.example"), resolver);
    assert_eq!(dialled(&by_name, &format!("http://Local.Example.:{port}/")).await.unwrap().port(), port);
    assert!(matches!(dialled(&by_name, &format!("http://127.0.0.1:{port}/")).await, Err(Fault::Forbidden(_))));
}

#[derive(Debug)]
struct Silent;

impl Resolve for Silent {
    fn resolve<'a>(&'a self, _: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_says_nothing_is_given_up() {
    let result = dialled(&Guard::new(&[], Arc::new(Silent)), "http://public.example/").await;
    assert!(matches!(result, Err(Fault::Unreachable(_))), "{result:?}");
}
