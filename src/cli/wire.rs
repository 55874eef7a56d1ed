//! HTTP/1.1 as a client of one daemon speaks it: one request a connection, over TCP or a unix socket; a body is read as it
//! comes, so that a stream can be followed.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Most bytes of an answer's head.
const HEAD_BYTES: u64 = 64 << 10;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    place: Place,
    host: String,
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(String),
    Unix(PathBuf),
}

/// A connection whose patience can be set.
trait Wire: Read + Write + Send {
    fn patience(&self, wait: Duration) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn patience(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait)).and_then(|()| self.set_write_timeout(Some(wait)))
    }
}

impl Wire for UnixStream {
    fn patience(&self, wait: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(wait)).and_then(|()| self.set_write_timeout(Some(wait)))
    }
}

/// A connection that nothing was sent over yet.
pub struct Connection(Box<dyn Wire>);

/// What is asked.
#[derive(Clone, Default)]
pub struct Ask<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Headers besides the usual ones.
    pub headers: Vec<(&'a str, String)>,
    /// A JSON body.
    pub body: Option<String>,
}

impl std::fmt::Debug for Ask<'_> {
    /// Headers hold the token, and a body may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ask({} {})", self.method, self.path)
    }
}

/// An answer whose body is still to be read.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Address {
    /// Reads `http://HOST:PORT[/PREFIX]`, `HOST:PORT` or `unix:PATH`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err("unix: needs the path of a socket".to_owned());
            }
            let place = Place::Unix(PathBuf::from(path));
            return Ok(Self { place, host: "localhost".to_owned(), prefix: String::new() });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if scheme.eq_ignore_ascii_case("https") {
            return Err("TLS is the proxy's work; name the address behind it: http://HOST:PORT or unix:PATH".to_owned());
        }
        let (host, prefix) = rest.split_once('/').map_or((rest, ""), |(host, prefix)| (host, prefix));
        let plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        let port = host_port(host).filter(|_| plain && scheme.eq_ignore_ascii_case("http"));
        let Some(numbered) = port else {
            return Err(format!("{text:?} is not an address; write http://HOST:PORT or unix:PATH"));
        };
        let target = if numbered { host.to_owned() } else { format!("{host}:80") };
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{}", prefix.trim_end_matches('/')) };
        Ok(Self { place: Place::Tcp(target), host: host.to_owned(), prefix })
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp(target) => {
                let host = target.rsplit_once(':').map_or(target.as_str(), |(host, _)| host);
                let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
                host == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// Connects. `wait` bounds each read and write that follows, not the whole.
    pub fn connect(&self, wait: Duration) -> io::Result<Connection> {
        let wire: Box<dyn Wire> = match &self.place {
            Place::Unix(path) => Box::new(UnixStream::connect(path)?),
            Place::Tcp(target) => {
                let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("{target} has no address"));
                let mut made = None;
                for address in target.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT) {
                        Ok(stream) => {
                            made = Some(stream);
                            break;
                        }
                        Err(error) => failed = error,
                    }
                }
                Box::new(made.ok_or(failed)?)
            }
        };
        wire.patience(wait)?;
        Ok(Connection(wire))
    }

    /// Sends a request over a new connection to this address and reads the answer's head.
    pub fn send(&self, connection: Connection, ask: &Ask<'_>) -> io::Result<Answer> {
        let Connection(mut wire) = connection;
        let mut head = format!(
            "{} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: chancery/{}\r\nConnection: close\r\n",
            ask.method,
            self.prefix,
            ask.path,
            self.host,
            env!("CARGO_PKG_VERSION")
        );
        for (name, value) in &ask.headers {
            head.extend([*name, ": ", value.as_str(), "\r\n"]);
        }
        if let Some(body) = &ask.body {
            let length = body.len().to_string();
            head.extend(["Content-Type: application/json\r\nContent-Length: ", length.as_str(), "\r\n"]);
        }
        head.push_str("\r\n");
        // A daemon that refuses early may close before it read everything; its answer still counts.
        let sent = wire.write_all(format!("{head}{}", ask.body.as_deref().unwrap_or_default()).as_bytes());
        match read_head(BufReader::new(wire)) {
            Ok(answer) => Ok(answer),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }
}

/// Whether a host is followed by a port; none where it is no host at all.
fn host_port(text: &str) -> Option<bool> {
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (address, port)
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    let spelled = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if name.is_empty() || !name.bytes().all(spelled) {
        return None;
    }
    match port.strip_prefix(':') {
        None => port.is_empty().then_some(false),
        Some(number) => number.parse::<u16>().is_ok_and(|port| port != 0).then_some(true),
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Tcp(target) => write!(f, "http://{target}{}", self.prefix),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn not_http() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP")
}

fn read_head(mut wire: BufReader<Box<dyn Wire>>) -> io::Result<Answer> {
    let mut lines = Vec::new();
    let mut left = HEAD_BYTES;
    loop {
        let mut line = String::new();
        let read = wire.by_ref().take(left).read_line(&mut line)?;
        left = left.saturating_sub(read as u64);
        if read == 0 || left == 0 {
            return Err(not_http());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let first = lines.first().filter(|line| line.starts_with("HTTP/1.")).ok_or_else(not_http)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(not_http)?;
    let headers: Vec<(String, String)> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let framing = if find("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        Framing::Chunked(None)
    } else if let Some(length) = find("content-length") {
        Framing::Length(length.parse().map_err(|_| not_http())?)
    } else if matches!(status, 204 | 304) {
        Framing::Length(0)
    } else {
        Framing::UntilEnd
    };
    Ok(Answer { status, headers, body: Body { wire, framing } })
}

enum Framing {
    Length(u64),
    /// Bytes left of the present chunk; `None` in front of the first.
    Chunked(Option<u64>),
    UntilEnd,
    Ended,
}

/// A body, without the marks of its chunks.
pub struct Body {
    wire: BufReader<Box<dyn Wire>>,
    framing: Framing,
}

impl Body {
    fn chunk_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.wire.by_ref().take(1_024).read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err(cut()) }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first && !self.chunk_line()?.is_empty() {
            return Err(not_http());
        }
        let line = self.chunk_line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| not_http())?;
        self.framing = if size == 0 { Framing::Ended } else { Framing::Chunked(Some(size)) };
        Ok(())
    }

    fn limited(&mut self, out: &mut [u8], left: u64) -> io::Result<u64> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        match self.wire.read(&mut out[..most])? {
            0 if most > 0 => Err(cut()),
            read => Ok(read as u64),
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut")
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.framing {
                Framing::Ended | Framing::Length(0) => return Ok(0),
                Framing::UntilEnd => return self.wire.read(out),
                Framing::Length(left) => {
                    let read = self.limited(out, left)?;
                    self.framing = Framing::Length(left - read);
                    return Ok(read as usize);
                }
                Framing::Chunked(None) => self.next_chunk(true)?,
                Framing::Chunked(Some(0)) => self.next_chunk(false)?,
                Framing::Chunked(Some(left)) => {
                    let read = self.limited(out, left)?;
                    self.framing = Framing::Chunked(Some(left - read));
                    return Ok(read as usize);
                }
            }
        }
    }
}

/// A part of a path, with every character that is no plain part of an id or a name written as its percent code; a step
/// upwards is no name.
pub fn segment(text: &str) -> String {
    let steps = text == "." || text.contains("..");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && !steps);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Said(io::Cursor<Vec<u8>>);

    impl Read for Said {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.read(out)
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Wire for Said {
        fn patience(&self, _: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    fn heard(text: &str) -> io::Result<(u16, String)> {
        let wire: Box<dyn Wire> = Box::new(Said(io::Cursor::new(text.as_bytes().to_vec())));
        let mut answer = read_head(BufReader::new(wire))?;
        let mut body = String::new();
        answer.body.read_to_string(&mut body)?;
        Ok((answer.status, body))
    }

    #[test]
    fn an_answer_is_read_whole_in_chunks_or_to_its_end_and_a_cut_one_is_an_error() {
        assert_eq!(heard("HTTP/1.1 201 Created\r\nA: b\r\n\r\n{}").unwrap(), (201, "{}".to_owned()));
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n4\r\na\":1\r\n1\r\n}\r\n0\r\n\r\n";
        assert_eq!(heard(chunked).unwrap(), (200, "{\"a\":1}".to_owned()));
        assert_eq!(heard("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc").unwrap(), (200, "ab".to_owned()));
        assert!(heard("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").is_err());
        assert!(heard(&chunked[..chunked.len() - 8]).is_err());
        assert!(heard("HTTP/1.1 200 OK\r\n").is_err());
        assert!(heard("SSH-2.0-x\r\n\r\n").is_err());
    }

    #[test]
    fn an_address_is_http_or_a_socket_and_never_tls_or_a_header() {
        let shown = |text: &str| Address::parse(text).map(|address| (address.to_string(), address.is_local()));
        assert_eq!(shown("http://127.0.0.1:4000/"), Ok(("http://127.0.0.1:4000".to_owned(), true)));
        assert_eq!(shown("[::1]:4000"), Ok(("http://[::1]:4000".to_owned(), true)));
        assert_eq!(shown("unix:/run/c.sock"), Ok(("unix:/run/c.sock".to_owned(), true)));
        assert_eq!(shown("http://example.org/deep/"), Ok(("http://example.org:80/deep".to_owned(), false)));
        assert_eq!(shown("http://localhost.example.org:1"), Ok(("http://localhost.example.org:1".to_owned(), false)));
        assert_eq!(shown("HTTP://127.0.0.1:1"), Ok(("http://127.0.0.1:1".to_owned(), true)));
        let bad =
            ["", "https://example.org", "http://a b", "http://a\r\nX: y", "http://user@host", "HTTPS://a", "ftp://x"];
        let more =
            ["ftp://127.0.0.1:1", "http://http://x", "http:///x", "unix:", "unix://", "::1", "http://a:b", "http://a:"];
        for bad in bad.into_iter().chain(more) {
            assert!(shown(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_part_of_a_path_cannot_leave_its_place() {
        assert_eq!(segment("run_01J"), "run_01J");
        assert_eq!(segment("../a?b c"), "%2E%2E%2Fa%3Fb%20c");
    }
}
