//! The client verbs' way to a daemon: plain HTTP/1.1, one request a connection, over TCP or a unix socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::output;
use crate::config::settings::Folders;
use crate::journal::layout;
use crate::platform::bounded_read::bounded_read;
use crate::platform::disk::read_bounded;
use crate::platform::files::Folder;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_mins(1);
/// Largest answer that is read, bytes.
const ANSWER_BYTES: u64 = 64 << 20;
const UNREACHABLE: u8 = 3;

/// Where the daemon is and who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientArgs {
    /// Address: `http://HOST:PORT` or `unix:PATH`; found in the state root where absent.
    #[arg(long, env = "CHANCERY_URL", global = true)]
    url: Option<String>,
    /// Bearer token; visible to others in the list of processes, so a file is better.
    #[arg(long, env = "CHANCERY_TOKEN", global = true, hide_env_values = true)]
    token: Option<String>,
    /// File with the bearer token; the state root's admin token where absent.
    #[arg(long, env = "CHANCERY_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// State root in which address and token are found.
    #[arg(long, env = "CHANCERY_STATE_ROOT", global = true)]
    state_root: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// No daemon could be reached.
    Unreachable(String),
    /// The daemon refused: its problem document.
    Problem(Value),
}

impl Trouble {
    /// Prints it and gives the exit code.
    pub fn tell(&self) -> ExitCode {
        match self {
            Self::Unreachable(why) => {
                output::talk(&format!("no daemon can be reached: {}", output::escape(why)));
                output::talk("next: start one with `chancery serve`, or name it with --url");
                ExitCode::from(UNREACHABLE)
            }
            Self::Problem(problem) => {
                let part = |name: &str| output::escape(problem[name].as_str().unwrap_or_default());
                output::talk(&format!("{}: {}", part("code"), part("detail")));
                output::talk(&format!("next: {}", part("next")));
                ExitCode::FAILURE
            }
        }
    }
}

/// A daemon and a token.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    token: String,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl ClientArgs {
    /// The state root that is meant.
    pub fn root(&self) -> Option<PathBuf> {
        self.state_root.clone().or_else(|| Folders::from_environment().default_state_root())
    }

    /// Finds daemon and token.
    pub fn client(&self) -> Result<Client, Trouble> {
        let unreachable = |why: &str| Trouble::Unreachable(why.to_owned());
        let root = self.root();
        let address = match &self.url {
            Some(url) => url.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            None => address_of(root.as_deref().ok_or_else(|| unreachable("no address is given"))?)?,
        };
        let token = match (&self.token, &self.token_file, root) {
            (Some(token), _, _) => token.clone(),
            (None, Some(file), _) => read_token(file)?,
            (None, None, Some(root)) => read_token(&root.join("tokens/admin.token"))?,
            (None, None, None) => return Err(unreachable("no token is given")),
        };
        Ok(Client { address, token })
    }
}

/// Reads a token file.
pub fn read_token(path: &Path) -> Result<String, Trouble> {
    let bytes =
        bounded_read(path, 4_096).map_err(|error| Trouble::Unreachable(format!("{}: {error}", path.display())))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

/// Where the daemon of a state root listens, if one holds its lock.
fn address_of(root: &Path) -> Result<String, Trouble> {
    let none = |why: String| Trouble::Unreachable(why);
    let folder = Folder::open(root).map_err(|error| none(format!("{}: {error}", root.display())))?;
    if !folder.is_locked(layout::LOCK).unwrap_or(false) {
        return Err(none(format!("no daemon holds {}", root.display())));
    }
    let text = read_bounded(&folder, "daemon.json", 64 << 10).map_err(|error| none(error.to_string()))?;
    let said: Value = serde_json::from_slice(&text).map_err(|error| none(error.to_string()))?;
    said["address"].as_str().map(str::to_owned).ok_or_else(|| none("daemon.json names no address".to_owned()))
}

impl Client {
    /// A client of this address.
    pub fn new(address: String, token: String) -> Self {
        Self { address, token }
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.send("GET", path, None)
    }

    /// Changes something.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.send("POST", path, Some(body.to_string()))
    }

    fn send(&self, method: &str, path: &str, body: Option<String>) -> Result<Value, Trouble> {
        let (status, body) =
            self.exchange(method, path, body).map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if (200..300).contains(&status) { Ok(value) } else { Err(Trouble::Problem(value)) }
    }

    fn exchange(&self, method: &str, path: &str, body: Option<String>) -> std::io::Result<(u16, Vec<u8>)> {
        let (mut wire, host): (Box<dyn Wire>, &str) = if let Some(path) = self.address.strip_prefix("unix:") {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(ANSWER))?;
            (Box::new(socket), "localhost")
        } else {
            let socket = TcpStream::connect(&self.address)?;
            socket.set_read_timeout(Some(ANSWER))?;
            (Box::new(socket), &self.address)
        };
        let content = body.as_ref().map_or_else(String::new, |body| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        });
        let token = &self.token;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{content}\r\n"
        );
        wire.write_all(format!("{head}{}", body.unwrap_or_default()).as_bytes())?;
        let mut answer = Vec::new();
        wire.take(ANSWER_BYTES).read_to_end(&mut answer)?;
        read_answer(&answer).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
    }
}

/// Status and body of an answer; the connection's end is the body's, unless it came in chunks.
fn read_answer(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer.get(end + 4..)?;
    let chunked = head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    if !chunked {
        return Some((status, body.to_vec()));
    }
    let (mut rest, mut whole) = (body, Vec::new());
    loop {
        let line = memchr::memmem::find(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(rest.get(..line)?).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some((status, whole));
        }
        whole.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 4 + size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_in_chunks() {
        let plain = b"HTTP/1.1 201 Created\r\nA: b\r\n\r\n{}";
        assert_eq!(read_answer(plain), Some((201, b"{}".to_vec())));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n4\r\na\":1\r\n1\r\n}\r\n0\r\n\r\n";
        assert_eq!(read_answer(chunked), Some((200, b"{\"a\":1}".to_vec())));
        assert_eq!(read_answer(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
