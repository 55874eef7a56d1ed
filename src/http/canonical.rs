//! One spelling for each request, decided before anything else: whatever a proxy and the daemon could read differently is
//! refused, so that both always mean the same path and the same host.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Version};

use crate::domain::reason::{Reason, Refusal};

/// Methods that any path may have.
pub const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Query parameters that would carry a credential into logs and histories.
const CREDENTIAL_PARAMETERS: [&str; 8] =
    ["token", "access_token", "auth_token", "api_key", "apikey", "bearer", "authorization", "auth"];
const CREDENTIAL_PREFIXES: [&str; 4] = ["chy_", "chi_", "chl_", "sk_live_"];

/// The names under which the daemon may be addressed.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    exact: Vec<String>,
    any_port: Vec<String>,
}

impl Hosts {
    /// The names of a daemon bound to this TCP address, and the operator's further names.
    pub fn of_tcp(address: std::net::SocketAddr, further: &[String]) -> Self {
        let port = address.port();
        let mut hosts = Self::further(further);
        for name in ["localhost", "127.0.0.1", "[::1]"] {
            hosts.with_port(name, port);
        }
        if !address.ip().is_unspecified() {
            hosts.exact.push(address.to_string());
        }
        hosts
    }

    /// The names of a daemon on a unix socket, and the operator's further names.
    pub fn of_unix(further: &[String]) -> Self {
        let mut hosts = Self::further(further);
        hosts.any_port.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        hosts
    }

    fn further(names: &[String]) -> Self {
        let mut hosts = Self::default();
        for name in names {
            if has_port(name) { hosts.exact.push(name.clone()) } else { hosts.any_port.push(name.clone()) }
        }
        hosts
    }

    fn with_port(&mut self, name: &str, port: u16) {
        self.exact.push(format!("{name}:{port}"));
        if port == 80 {
            self.exact.push(name.to_owned());
        }
    }

    /// Whether this Host header names the daemon.
    pub fn knows(&self, host: &str) -> bool {
        if self.exact.iter().any(|known| known.eq_ignore_ascii_case(host)) {
            return true;
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if has_port(host) && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        self.any_port.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(name, _)| !name.contains(':') || name.ends_with(']'))
}

/// Whether a Host header names this machine's loopback.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, _)) if has_port(host) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Checks the request line, the Host and the headers whose meaning must be single.
pub fn check(parts: &Parts, hosts: &Hosts, has_body: bool) -> Result<(), Refusal> {
    check_method(&parts.method)?;
    check_target(parts)?;
    let host = single(&parts.headers, &header::HOST)?.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if host.is_empty() {
        return Err(malformed("exactly one Host header is needed"));
    }
    if !hosts.knows(host) {
        return Err(Reason::RequestHostUnknown.into());
    }
    single(&parts.headers, &header::AUTHORIZATION)?;
    single(&parts.headers, &header::CONTENT_TYPE)?;
    single(&parts.headers, &header::ORIGIN)?;
    check_expectation(&parts.headers, parts.version)?;
    if has_body && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Err(malformed("a request with this method has no body"));
    }
    Ok(())
}

/// The one value of a header, if it is there at all.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(malformed(&format!("the header {name} stands more than once")));
    }
    Ok(first)
}

fn malformed(detail: &str) -> Refusal {
    Refusal::new(Reason::RequestMalformed, detail)
}

fn check_method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            Ok(())
        }
        _ => Err(Reason::RequestMethodNotAllowed.into()),
    }
}

fn check_target(parts: &Parts) -> Result<(), Refusal> {
    if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
        return Err(malformed("the request line must name a path, not a whole address"));
    }
    let path = parts.uri.path();
    if !is_canonical_path(path) {
        return Err(malformed("the path is not in its one canonical spelling"));
    }
    match parts.uri.query() {
        Some(query) => check_query(query),
        None => Ok(()),
    }
}

/// Paths are plain: no escapes, no parameters, no empty or dotted segments.
fn is_canonical_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@!$*+,=/".contains(&byte);
    if !rest.bytes().all(plain) {
        return false;
    }
    rest.is_empty() || rest.strip_suffix('/').unwrap_or(rest).split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn check_query(query: &str) -> Result<(), Refusal> {
    let bytes = query.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = |offset: usize| bytes.get(at + offset).is_some_and(u8::is_ascii_hexdigit);
        if !(0x21..=0x7e).contains(byte) || (*byte == b'%' && !(escaped(1) && escaped(2))) {
            return Err(malformed("the query is not plain ASCII with whole escapes"));
        }
    }
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name).to_ascii_lowercase(), unescape(value));
        let secret = CREDENTIAL_PREFIXES.iter().any(|prefix| value.starts_with(prefix));
        if secret || CREDENTIAL_PARAMETERS.contains(&name.as_str()) {
            return Err(malformed("a credential must not stand in the address; send it as `Authorization: Bearer`"));
        }
    }
    Ok(())
}

/// Undoes percent escapes as far as ASCII goes; enough to recognise a name.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (digits, tail) = after.split_at_checked(2).unwrap_or((after, ""));
        out.push(u8::from_str_radix(digits, 16).map_or('%', char::from));
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn check_expectation(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    match single(headers, &header::EXPECT)? {
        None => Ok(()),
        Some(value) if version == Version::HTTP_11 && value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        Some(_) => Err(Reason::RequestExpectationFailed.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for good in ["/", "/v1/sessions", "/v1/sessions/session_01J", "/v1/connectors/http/a.b-c~d", "/v1/x/"] {
            assert!(is_canonical_path(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "v1",
            "//",
            "/v1//x",
            "/v1/./x",
            "/v1/../x",
            "/v1/..",
            "/%2e%2e/x",
            "/v1%2fx",
            "/%00",
            "/v1/x;y",
            "/v1/ü",
            "/a\\b",
        ] {
            assert!(!is_canonical_path(bad), "{bad}");
        }
    }

    #[test]
    fn a_credential_in_the_query_is_refused_in_any_spelling() {
        for bad in [
            "token=x",
            "TOKEN=x",
            "%74oken=x",
            "a=1&access_token=x",
            "x=chy_abc",
            "x=%63hy_abc",
            "token",
            "x=%zz",
            "x=ü",
        ] {
            assert!(check_query(bad).is_err(), "{bad}");
        }
        for good in ["after=12", "limit=5&cursor=abc%20d", "", "tokens=1"] {
            assert!(check_query(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn only_known_hosts_are_known() {
        let hosts = Hosts::of_tcp(([127, 0, 0, 1], 4_000).into(), &["box.example".into(), "fixed.example:8443".into()]);
        for good in [
            "localhost:4000",
            "LOCALHOST:4000",
            "127.0.0.1:4000",
            "[::1]:4000",
            "box.example",
            "box.example:9",
            "fixed.example:8443",
        ] {
            assert!(hosts.knows(good), "{good}");
        }
        for bad in [
            "localhost",
            "localhost:4001",
            "evil.example",
            "127.0.0.1.evil.example:4000",
            "fixed.example",
            "box.example:x",
            "a@localhost:4000",
        ] {
            assert!(!hosts.knows(bad), "{bad}");
        }
        assert!(is_loopback_host("[::ffff:127.0.0.1]:1") && is_loopback_host("127.9.9.9") && !is_loopback_host("a:1"));
    }
}
