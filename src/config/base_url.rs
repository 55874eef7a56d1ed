//! Where a route's provider lives: an address whose parts are checked once and never put together from user input.

use std::fmt;

use super::limits::BASE_URL_BYTES;

/// A checked `http` or `https` address without query, fragment or user. It is also the operator's word for exactly this host and
/// port, so that a model server on the own machine or network can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl BaseUrl {
    /// Checks an address. The error is a sentence for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BASE_URL_BYTES {
            return Err(format!("the address is longer than {BASE_URL_BYTES} bytes"));
        }
        if text.contains(['#', '?', '@', '\\']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the address may hold no user, query, fragment, space or character outside ASCII".into());
        }
        let uri: http::Uri = text.parse().map_err(|error| format!("the address does not parse: {error}"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the address starts neither with https:// nor with http://".into()),
        };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let after_host = uri.authority().map_or("", |authority| &authority.as_str()[host.len()..]);
        let port = match after_host.strip_prefix(':') {
            None if secure => 443,
            None => 80,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err("the port is not between 1 and 65535".into()),
            },
        };
        if host.is_empty() {
            return Err("the address has no host".into());
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
        let odd_step = path.split('/').skip(1).any(|step| step.is_empty() || step == "." || step == "..");
        if !path.bytes().all(plain) || odd_step {
            return Err("the path holds something else than plain names between single slashes".into());
        }
        Ok(Self { secure, host, port, path })
    }

    /// `https`, or `http`, which is plain text.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The host: a name in lower case, or a literal address, with brackets where it is of version 6.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; where none was given, the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Scheme, host and port: where a call goes, and its secret with it.
    pub fn origin(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.port)
    }

    /// The path without a slash at its end; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let url = BaseUrl::parse("http://LocalHost:11434/v1/").unwrap();
        assert_eq!((url.host(), url.port(), url.path()), ("localhost", 11434, "/v1"));
        assert_eq!(BaseUrl::parse("http://[::1]:8080").unwrap().to_string(), "http://[::1]:8080");
        assert_eq!(BaseUrl::parse("http://models.example").unwrap().port(), 80);
        assert_eq!(BaseUrl::parse("HTTPS://Models.example/v1").unwrap().to_string(), "https://models.example:443/v1");
    }

    #[test]
    fn an_address_with_a_trick_in_it_is_refused() {
        for text in [
            "https://user:password@api.example/v1",
            "httpss://api.example/v1",
            "http://user@host/",
            "http://host/v1?key=1",
            "http://host/#x",
            "http://host:0/",
            "http://host:99999/",
            "http://host/../v1",
            "http://host/a//b",
            "http://host/%2e%2e",
            "ftp://host/",
            "http:///v1",
            "host:80",
            "http://host /",
            "http://host\r\n/",
            "http://host:/",
            "",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text:?}");
        }
    }
}
