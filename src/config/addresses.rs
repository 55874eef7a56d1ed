//! Addresses as operators spell them: where to listen, and the names, origins and destinations that are allowed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// A TCP address; port 0 lets the machine choose.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Bind {
    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match self {
            Bind::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Bind::Unix(_) => true,
        }
    }

    /// How clients on this machine reach it: one that is bound to every address, by loopback.
    pub fn from_here(&self) -> Self {
        match self {
            Bind::Tcp(SocketAddr::V4(address)) if address.ip().is_unspecified() => {
                Bind::Tcp((Ipv4Addr::LOCALHOST, address.port()).into())
            }
            Bind::Tcp(SocketAddr::V6(address)) if address.ip().is_unspecified() => {
                Bind::Tcp((Ipv6Addr::LOCALHOST, address.port()).into())
            }
            Bind::Tcp(_) | Bind::Unix(_) => self.clone(),
        }
    }
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bind::Tcp(address) => write!(f, "{address}"),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A host and a port, as the operator named them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address, lower case, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

pub(super) fn parse_bind(text: &str) -> Result<Bind, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        // Clients read the path in daemon.json and may stand in another folder. The kernel takes 107 bytes.
        return match std::path::absolute(path) {
            Ok(path) if path.as_os_str().len() <= 107 => Ok(Bind::Unix(path)),
            Ok(_) => Err("the path of a unix socket has at most 107 bytes".to_owned()),
            Err(_) => Err("unix: needs a path".to_owned()),
        };
    }
    let spelled = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = spelled.as_deref().unwrap_or(text);
    address.parse().map(Bind::Tcp).map_err(|_| "is neither ADDRESS:PORT nor unix:PATH".to_owned())
}

pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good_name = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(name),
    };
    if good_name && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0)) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("is not a host name, with or without a port".to_owned())
    }
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
        })
}

pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let Some(host) = rest.filter(|rest| parse_host(rest).is_ok()) else {
        return Err("is not an origin such as http://localhost:5173".to_owned());
    };
    let name = host
        .rsplit_once(':')
        .filter(|(name, _)| !name.contains(':') || name.ends_with(']'))
        .map_or(host, |pair| pair.0);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    if name == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
        Ok(lower)
    } else {
        Err("is not a loopback origin; only pages of this machine may be allowed".to_owned())
    }
}

pub(super) fn parse_host_port(text: &str) -> Result<HostPort, String> {
    let fault = || "is not HOST:PORT".to_owned();
    let host = parse_host(text).map_err(|_| fault())?;
    let (name, port) = host.rsplit_once(':').ok_or_else(fault)?;
    let port = port.parse().map_err(|_| fault())?;
    Ok(HostPort { host: name.trim_start_matches('[').trim_end_matches(']').to_owned(), port })
}

pub(super) fn parse_proxy(text: &str) -> Result<HostPort, String> {
    let place = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    place.and_then(|place| parse_host_port(place).ok()).ok_or_else(|| "is not http://HOST:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_on_every_address_is_reached_by_loopback_from_here() {
        let from_here = |text: &str| parse_bind(text).unwrap().from_here().to_string();
        let found = ["0.0.0.0:4000", "[::]:4000", "192.0.2.1:4000", "127.0.0.1:1", "unix:/run/c.sock"].map(from_here);
        assert_eq!(found, ["127.0.0.1:4000", "[::1]:4000", "192.0.2.1:4000", "127.0.0.1:1", "unix:/run/c.sock"]);
    }

    #[test]
    fn origins_hosts_and_destinations_are_read_exactly() {
        assert_eq!(parse_origin("HTTP://LocalHost:5173"), Ok("http://localhost:5173".to_owned()));
        assert_eq!(parse_origin("http://[::1]:5173"), Ok("http://[::1]:5173".to_owned()));
        for bad in
            ["*", "null", "localhost", "http://localhost/", "http://127.0.0.1.evil.example", "http://u@localhost"]
        {
            assert!(parse_origin(bad).is_err(), "{bad}");
        }
        let port = |host: &str, port| Ok(HostPort { host: host.to_owned(), port });
        assert_eq!(parse_host_port("10.0.0.7:8080"), port("10.0.0.7", 8080));
        assert_eq!(parse_host_port("[fd00::1]:443"), port("fd00::1", 443));
        assert_eq!(parse_proxy("http://Proxy.example:3128/"), port("proxy.example", 3128));
        for bad in ["proxy:3128", "https://proxy:3128", "http://proxy", "http://user@proxy:1", "http://proxy:1/a"] {
            assert!(parse_proxy(bad).is_err(), "{bad}");
        }
        assert!(parse_host_port("10.0.0.7").is_err() && parse_host_port("a:0").is_err());
    }
}
