//! Providers over TLS: who cannot prove that he is the host of the address hears nothing, and no plain text is spoken
//! instead.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use chancery::domain::reason::Reason;
use chancery::outbound::guard::{Boxed, Resolve};
use chancery::outbound::providers::{ModelAnswer, ProviderError};
use chancery::outbound::trust::Trust;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::{self, end, head_and_body, heard, words};

/// Every name is this machine.
#[derive(Debug)]
pub struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _: &'a str) -> Boxed<'a, std::io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Ok(vec![Ipv4Addr::LOCALHOST.into()])))
    }
}

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate with its key, for a name and between two years.
    pub fn vouch(&self, name: &str, years: (i32, i32)) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, years).signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn params(name: &str, (from, until): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

/// What a server heard: names asked for, first bytes of connections, and requests.
#[derive(Debug, Default)]
pub struct Heard {
    pub names: Vec<Option<String>>,
    pub first: Vec<u8>,
    pub requests: Vec<String>,
}

/// A server that answers well to whoever speaks TLS with it.
pub fn serve((certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>)) -> (u16, Arc<Mutex<Heard>>) {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Heard::default()));
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            let (config, seen) = (Arc::clone(&config), Arc::clone(&shared));
            std::thread::spawn(move || {
                let mut first = [0];
                let _ = socket.peek(&mut first);
                seen.lock().unwrap().first.push(first[0]);
                let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
                let Some(request) = head_and_body(&mut stream) else { return };
                let mut heard = seen.lock().unwrap();
                heard.names.push(stream.conn.server_name().map(str::to_owned));
                heard.requests.push(request);
                drop(heard);
                let body = words("safe") + &end("stop");
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all((head.to_owned() + &body).as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    (port, seen)
}

async fn call(port: u16, trust: Trust) -> Result<ModelAnswer, ProviderError> {
    let routes = format!(
        "version = 1\n[routes.it]\ndriver = \"openai\"\ndefault_model = \"m\"\n\
         base_url = \"https://model.example:{port}/v1\"\ntimeout_ms = 10000\n"
    );
    let around = server::around(Arc::new(Here), trust);
    let (providers, route) = server::open_in(&routes, std::path::Path::new("/"), &around).unwrap();
    heard(&providers, &route, &server::request()).await.0
}

#[tokio::test]
async fn a_provider_with_a_certificate_of_a_trusted_authority_is_asked_by_its_name() {
    let authority = Authority::new();
    let (port, seen) = serve(authority.vouch("model.example", (2020, 2120)));
    let answer = call(port, Trust::only(authority.pem.as_bytes()).unwrap()).await.unwrap();
    assert_eq!(answer.text.as_deref(), Some("safe"));
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.names, [Some("model.example".to_owned())]);
        assert!(seen.requests[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{seen:?}");
    }
    // The operator's own authority counts beside those of the machine.
    let (port, _) = serve(authority.vouch("model.example", (2020, 2120)));
    call(port, Trust::of_machine(Some(authority.pem.as_bytes())).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_ends_the_call_before_a_word_is_said() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own_key = KeyPair::generate().unwrap();
    let own = params("model.example", (2020, 2120)).self_signed(&own_key).unwrap();
    let own = (own.der().clone(), PrivateKeyDer::try_from(own_key.serialize_der()).unwrap());
    for (what, certificate, said) in [
        ("another host's", authority.vouch("other.example", (2020, 2120)), "another machine's"),
        ("expired", authority.vouch("model.example", (2019, 2020)), "it has expired"),
        ("of the future", authority.vouch("model.example", (2110, 2120)), "not valid yet"),
        ("signed by itself", own, "no trusted authority"),
        ("of another authority", other.vouch("model.example", (2020, 2120)), "no trusted authority"),
    ] {
        let (port, seen) = serve(certificate);
        let error = call(port, Trust::only(authority.pem.as_bytes()).unwrap()).await.unwrap_err();
        assert_eq!((error.reason, error.answer_begun), (Reason::ProviderTls, false), "{what}: {}", error.detail);
        assert!(error.detail.contains(said), "{what}: {}", error.detail);
        let seen = seen.lock().unwrap();
        assert_eq!((&seen.first[..], seen.requests.len()), (&[0x16][..], 0), "{what}: one connection, TLS, no request");
    }
}

#[tokio::test]
async fn a_server_without_tls_behind_an_https_address_hears_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 4096];
        let count = socket.read(&mut bytes).unwrap();
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        bytes.truncate(count);
        bytes
    });
    let error = call(port, Trust::of_machine(None).unwrap()).await.unwrap_err();
    assert_eq!(error.reason, Reason::ProviderTls, "{}", error.detail);
    let heard = heard.join().unwrap();
    assert_eq!(heard[0], 0x16, "the first byte of a TLS greeting");
    assert!(!heard.windows(4).any(|four| four == b"POST"), "plain text was spoken");
}

#[test]
fn a_file_of_authorities_that_holds_none_is_refused() {
    for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let refusal = Trust::of_machine(Some(text.as_bytes())).unwrap_err();
        assert_eq!(refusal.reason, Reason::ConfigInvalid, "{text}: {}", refusal.detail);
    }
}
