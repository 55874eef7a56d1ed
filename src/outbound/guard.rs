//! The one door to other machines: a connector that resolves a name once, vets every answer, and dials exactly an address
//! that it vetted. A proxy is what the operator names and no variable of others, and whoever uses it follows no redirect.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::address::{Host, is_public};
use super::{limits, tunnel};
use crate::config::addresses::HostPort;
use crate::domain::reason::{Reason, Refusal};

/// Ports of public machines that may be reached without the operator's word.
const PORTS: [u16; 3] = [443, 80, 8443];

/// A future in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Turns a name into addresses.
pub trait Resolve: Send + Sync + std::fmt::Debug {
    /// Every address of the name.
    fn resolve<'a>(&'a self, name: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// Why a machine was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It may not be reached.
    #[error("the destination is not allowed: {0}")]
    Forbidden(String),
    /// It could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It cannot prove who it is.
    #[error("{0}")]
    Untrusted(String),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Forbidden(detail) => Refusal::new(Reason::OutboundDestinationForbidden, detail),
            Fault::Unreachable(detail) => Refusal::new(Reason::ProviderUnavailable, detail),
            Fault::Untrusted(detail) => Refusal::new(Reason::ProviderTls, detail),
        }
    }
}

/// The connector. Its rules belong to one client, so that what is allowed for one purpose opens nothing for another.
#[derive(Debug, Clone)]
pub struct Guard {
    allowed: Arc<[(Host, u16)]>,
    resolver: Arc<dyn Resolve>,
    proxy: Option<(Host, u16)>,
}

/// A destination that passed the rules which need no resolver.
#[derive(Debug)]
struct Target {
    host: Host,
    port: u16,
    allowed: bool,
}

impl Guard {
    /// A connector that reaches public machines, and these hosts and ports wherever they are.
    pub fn new(allowed: &[HostPort], resolver: Arc<dyn Resolve>) -> Self {
        let pair = |one: &HostPort| Host::parse(&one.host).map(|host| (host, one.port));
        Self { allowed: allowed.iter().filter_map(pair).collect(), resolver, proxy: None }
    }

    /// The same, which reaches public machines through this proxy. What the operator allows elsewhere is dialled as before.
    /// The operator's word for the proxy opens it as a proxy only.
    pub fn through(self, proxy: Option<&HostPort>) -> Result<Self, Refusal> {
        let pair = |proxy: &HostPort| match Host::parse(&proxy.host) {
            Some(host) => Ok((host, proxy.port)),
            None => Err(Refusal::new(Reason::ConfigInvalid, format!("{:?} is no host", proxy.host))),
        };
        Ok(Self { proxy: proxy.map(pair).transpose()?, ..self })
    }

    /// Checks an address as text, with all that its name resolves to now. A connection is checked again when it is made.
    pub async fn check(&self, address: &str) -> Result<(), Refusal> {
        let forbidden = |why: &str| Refusal::new(Reason::OutboundDestinationForbidden, why);
        if !address.bytes().all(|byte| byte.is_ascii_graphic()) || address.contains(['\\', '#']) {
            return Err(forbidden("the address holds a space, a fragment or a character outside ASCII"));
        }
        let uri: Uri = address.parse().map_err(|_| forbidden("the address does not parse"))?;
        self.vetted(&uri).await?;
        Ok(())
    }

    fn target(&self, uri: &Uri) -> Result<Target, Fault> {
        let forbidden = |why: &str| Err(Fault::Forbidden(why.to_owned()));
        let default_port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return forbidden("only http and https are spoken"),
        };
        let Some(authority) = uri.authority() else { return forbidden("there is no host") };
        if authority.as_str().contains('@') {
            return forbidden("the address names a user");
        }
        let Some(host) = Host::parse(authority.host()) else { return forbidden("the host is no name or address") };
        let port = match authority.as_str().get(authority.host().len()..) {
            None | Some("") => default_port,
            Some(_) => match authority.port_u16() {
                Some(port) if port > 0 => port,
                _ => return forbidden("the port is no port"),
            },
        };
        let allowed = self.allowed.iter().any(|(one, its_port)| *one == host && *its_port == port);
        if !allowed && !PORTS.contains(&port) {
            return Err(Fault::Forbidden(format!("port {port} needs the operator's word")));
        }
        Ok(Target { host, port, allowed })
    }

    /// Resolves once and vets all answers.
    async fn vetted(&self, uri: &Uri) -> Result<Vec<SocketAddr>, Fault> {
        let Target { host, port, allowed } = self.target(uri)?;
        let addresses = self.resolve(host).await?;
        if addresses.len() > limits::ADDRESSES_VETTED {
            return Err(Fault::Forbidden(format!("the name has more than {} addresses", limits::ADDRESSES_VETTED)));
        }
        if !allowed && !addresses.iter().all(|address| is_public(*address)) {
            return Err(Fault::Forbidden("not every address of the host is public".to_owned()));
        }
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn resolve(&self, host: Host) -> Result<Vec<IpAddr>, Fault> {
        let name = match host {
            Host::Address(address) => return Ok(vec![address]),
            Host::Name(name) => name,
        };
        let answer = self.resolver.resolve(&name);
        match tokio::time::timeout(Duration::from_millis(limits::RESOLVE_MS), answer).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            Ok(Ok(_)) => Err(Fault::Unreachable(format!("the name {name} has no address"))),
            Ok(Err(_)) => Err(Fault::Unreachable(format!("the name {name} does not resolve"))),
            Err(_) => Err(Fault::Unreachable(format!("resolving the name {name} took too long"))),
        }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Fault> {
        let addresses = self.vetted(&uri).await?;
        let public = addresses.iter().all(|address| is_public(address.ip()));
        match (&self.proxy, addresses.first()) {
            (Some((host, port)), Some(target)) if public => {
                let proxies = self.resolve(host.clone()).await?;
                let proxies = proxies.into_iter().map(|address| SocketAddr::new(address, *port)).collect();
                let mut stream = Self::dial(proxies).await?;
                tunnel::open(&mut stream, *target).await?;
                Ok(TokioIo::new(stream))
            }
            _ => Ok(TokioIo::new(Self::dial(addresses).await?)),
        }
    }

    async fn dial(addresses: Vec<SocketAddr>) -> Result<TcpStream, Fault> {
        let mut last = "no address".to_owned();
        for address in addresses.into_iter().take(limits::ADDRESSES_TRIED) {
            let limit = Duration::from_millis(limits::CONNECT_MS);
            match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it small requests wait for acknowledgements; with a socket that refuses it they only do that.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.kind().to_string(),
                Err(_) => last = String::from("connecting took too long"),
            }
        }
        Err(Fault::Unreachable(format!("no connection: {last}")))
    }
}

impl tower::Service<Uri> for Guard {
    type Response = TokioIo<TcpStream>;
    type Error = Fault;
    type Future = Boxed<'static, Result<Self::Response, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests;
