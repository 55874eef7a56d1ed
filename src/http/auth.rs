//! Who sends a request: the bearer token, or nobody on a daemon without authentication; and whom a trusted proxy speaks for.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, VIA};
use sha2::Digest as _;
use subtle::ConstantTimeEq as _;

use super::canonical::is_loopback_host;
use super::passage::Source;
use super::sources::Failures;
use crate::domain::reason::{Reason, Refusal};
use crate::services::authority::Caller;
use crate::services::gateway::Withdrawn;
use crate::services::tokens::Tokens;

/// The header by which a reverse proxy proves itself.
pub const PROXY_SECRET: HeaderName = HeaderName::from_static("x-chancery-proxy-secret");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Shortest secret of a proxy, bytes.
const PROXY_SECRET_BYTES: usize = 22;

/// How callers prove who they are.
#[derive(Clone)]
pub enum Authentication {
    /// By a bearer token.
    Bearer(Arc<Tokens>),
    /// Not at all; everybody is this caller.
    None(Caller),
}

impl Authentication {
    /// No authentication; `via` names the door.
    pub fn none(via: &str) -> Self {
        tracing::warn!("AUTHENTICATION IS OFF: everybody who can reach this address may do everything");
        Self::None(Caller::anonymous(via))
    }

    /// Whether this caller's token is still good.
    pub fn in_force(&self, caller: &Caller) -> bool {
        match self {
            Authentication::Bearer(tokens) => tokens.in_force(caller),
            Authentication::None(_) => true,
        }
    }

    /// Resolves when this caller's token is no longer in force.
    pub fn withdrawn(&self, caller: &Caller) -> Withdrawn {
        let Authentication::Bearer(tokens) = self else { return std::future::pending().boxed().shared() };
        let (tokens, caller, mut generations) = (Arc::clone(tokens), caller.clone(), tokens.generations());
        let withdrawn = async move {
            while tokens.in_force(&caller) {
                // The sender lives as long as the tokens do.
                let _ = generations.changed().await;
            }
        };
        withdrawn.boxed().shared()
    }

    /// What must hold before anything else where there is no authentication: nothing came through a proxy.
    pub(super) fn check_directness(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Authentication::None(_) = self else { return Ok(()) };
        let forwarded =
            |name: &HeaderName| *name == FORWARDED || *name == VIA || name.as_str().starts_with("x-forwarded-");
        if headers.keys().any(forwarded) {
            return Err(Reason::AuthProxyRefused.into());
        }
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if is_loopback_host(host) { Ok(()) } else { Err(Reason::RequestHostUnknown.into()) }
    }

    /// Who sends this request. A token may also stand in the header `api_key`, where there is one. Failures are counted by
    /// source; a valid token is never limited.
    pub(super) fn caller(
        &self,
        (headers, api_key): (&HeaderMap, Option<&HeaderName>),
        source: Source,
        failures: &Failures,
        now_ms: u64,
    ) -> Result<Caller, Refusal> {
        let tokens = match self {
            Authentication::None(caller) => return Ok(caller.clone()),
            Authentication::Bearer(tokens) => tokens,
        };
        let shown = match headers.get(AUTHORIZATION) {
            Some(value) => bearer(value.as_bytes()),
            None => match api_key.and_then(|name| headers.get(name)) {
                Some(value) => Some(value.as_bytes()),
                None => return Err(Reason::AuthMissing.into()),
            },
        };
        let fault = match shown {
            Some(token) => match tokens.caller(token) {
                Ok(caller) => return Ok(caller),
                Err(fault) => fault,
            },
            None => Reason::AuthInvalid.into(),
        };
        match failures.count(source, now_ms) {
            Some(wait_ms) => Err(Refusal::from(Reason::AuthRateLimited).retry_after_ms(wait_ms)),
            None => Err(fault),
        }
    }
}

/// The token of a `Bearer` header: one space, then no white space.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let plain = |byte: &u8| (0x21..=0x7e).contains(byte);
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.iter().all(plain)).then_some(token)
}

/// The secret that only the operator's proxy knows, as a digest.
#[derive(Clone)]
pub struct ProxySecret([u8; 32]);

impl ProxySecret {
    /// Takes the contents of the secret's file: one line of at least 22 visible characters.
    pub fn parse(contents: &[u8]) -> Result<Self, &'static str> {
        let text = contents.strip_suffix(b"\n").unwrap_or(contents);
        if text.len() < PROXY_SECRET_BYTES {
            return Err("the proxy's secret needs at least 22 characters");
        }
        if !text.iter().all(|byte| (0x21..=0x7e).contains(byte)) {
            return Err("the proxy's secret must be one line of visible ASCII characters");
        }
        Ok(Self(sha2::Sha256::digest(text).into()))
    }

    fn is(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = sha2::Sha256::digest(shown).into();
        self.0.ct_eq(&shown).into()
    }
}

/// Whom a request is counted to: the address a trusted proxy names, otherwise the peer. The secret is taken out of the
/// headers, so that nothing behind this point can log it.
pub(super) fn source(headers: &mut HeaderMap, peer: Source, secret: Option<&ProxySecret>) -> Source {
    let Some(shown) = headers.remove(PROXY_SECRET) else { return peer };
    if !secret.is_some_and(|secret| secret.is(shown.as_bytes())) {
        return peer;
    }
    // The proxy appends the address it saw; whatever stands before came from outside.
    let named = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
    let last = named.and_then(|list| list.rsplit(',').next()).and_then(|text| text.trim().parse::<IpAddr>().ok());
    last.map_or(peer, |address| Source::Address(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn only_the_bearer_scheme_with_one_space_carries_a_token() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer abc"), Some(&b"abc"[..]));
        for bad in [&b"Bearer"[..], b"Bearer ", b"Bearer  abc", b"Basic abc", b"Bearer a b", b"abc", b"Bearer\tabc"] {
            assert_eq!(bearer(bad), None);
        }
    }

    #[test]
    fn a_forwarded_address_counts_only_with_the_secret() {
        let secret = ProxySecret::parse(b"0123456789abcdefghijklmn\n").unwrap();
        let peer = Source::Address([127, 0, 0, 1].into());
        let with = |shown: Option<&'static str>, list: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED_FOR, HeaderValue::from_static(list));
            if let Some(shown) = shown {
                headers.insert(PROXY_SECRET, HeaderValue::from_static(shown));
            }
            let source = source(&mut headers, peer, Some(&secret));
            assert!(!headers.contains_key(PROXY_SECRET));
            source
        };
        assert_eq!(with(None, "192.0.2.7"), peer);
        assert_eq!(with(Some("wrong"), "192.0.2.7"), peer);
        let good = Some("0123456789abcdefghijklmn");
        assert_eq!(with(good, "6.6.6.6, 192.0.2.7"), Source::Address([192, 0, 2, 7].into()));
        assert_eq!(with(good, "nonsense"), peer);
        assert!(ProxySecret::parse(b"short\n").is_err() && ProxySecret::parse(&[b' '; 40]).is_err());
    }
}
