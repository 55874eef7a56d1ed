//! The client verbs' way to a daemon: who it is, who asks, and what became of it.

use std::cell::Cell;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::heads::Keeper;
use super::output::{self, Format};
use super::wire::{Address, Answer, Ask};
use crate::config::settings::Folders;
use crate::domain::token::TOKEN_BYTES;
use crate::journal::layout;
use crate::platform::bounded_read::bounded_read;
use crate::platform::disk::read_bounded;
use crate::platform::files::Folder;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_mins(1);
/// Largest answer that is read, bytes.
const ANSWER_BYTES: u64 = 64 << 20;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// Where the daemon is, who asks, and how answers are printed.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientArgs {
    /// Address: http://HOST:PORT or unix:PATH; found in the state root where absent
    #[arg(long, env = "CHANCERY_URL", hide_env_values = true, global = true, value_name = "ADDRESS")]
    pub url: Option<String>,
    /// Bearer token; others see it in the list of processes, so a file is better
    #[arg(long, env = "CHANCERY_TOKEN", global = true, hide_env_values = true)]
    token: Option<String>,
    /// File with the bearer token; the state root's admin token where absent
    #[arg(long, env = "CHANCERY_TOKEN_FILE", hide_env_values = true, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// State root in which address and token are found
    #[arg(long, env = "CHANCERY_STATE_ROOT", hide_env_values = true, global = true, value_name = "DIR")]
    state_root: Option<PathBuf>,
    /// How answers are printed: for people, or as JSON as they came
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Format,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The command line cannot be meant.
    Usage(String),
    /// No daemon could be reached.
    Unreachable(String),
    /// The daemon refused: its problem document.
    Problem(Value),
    /// The answer is there, and is not what was asked for.
    Refused(String),
}

impl Trouble {
    /// Prints it and gives the exit code.
    pub fn tell(&self) -> ExitCode {
        match self {
            Self::Usage(why) => {
                output::talk(&output::escape(why));
                ExitCode::from(USAGE)
            }
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
            Self::Refused(why) => {
                output::talk(&output::escape(why));
                ExitCode::FAILURE
            }
        }
    }

    /// The code of the daemon's refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => problem["code"].as_str(),
            Self::Usage(_) | Self::Unreachable(_) | Self::Refused(_) => None,
        }
    }

    /// It in one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Usage(why) | Self::Unreachable(why) | Self::Refused(why) => why.clone(),
            Self::Problem(problem) => {
                let part = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", part("code"), part("detail"))
            }
        }
    }
}

/// An address and the token shown there.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where.
    pub address: Address,
    token: Option<String>,
}

impl Door {
    /// A door, if the token can be a header.
    pub fn new(address: Address, token: Option<String>) -> Result<Self, Trouble> {
        let fine = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(|token| !fine(token)) {
            return Err(Trouble::Usage("the token is empty or holds characters that no token has".to_owned()));
        }
        Ok(Self { address, token })
    }

    /// Whether the other leads to the same address with the same token.
    pub fn is(&self, other: &Door) -> bool {
        self.address == other.address && self.token == other.token
    }

    /// Sends a request; the body of the answer is still to be read.
    pub fn send(&self, mut ask: Ask<'_>, wait: Duration) -> std::io::Result<Answer> {
        if let Some(token) = &self.token {
            ask.headers.push(("Authorization", format!("Bearer {token}")));
        }
        self.address.send(&ask, wait)
    }

    /// Sends a request and reads the answer: its bytes and the head that it names.
    pub fn exchange(&self, ask: Ask<'_>) -> Result<(Vec<u8>, Option<String>), Trouble> {
        let lost = |error: std::io::Error| Trouble::Unreachable(format!("{}: {error}", self.address));
        let answer = self.send(ask, ANSWER).map_err(lost)?;
        let (status, head) = (answer.status, answer.header("chancery-head").map(str::to_owned));
        let mut bytes = Vec::new();
        answer.body.take(ANSWER_BYTES).read_to_end(&mut bytes).map_err(lost)?;
        if (200..300).contains(&status) {
            return Ok((bytes, head));
        }
        Err(problem(status, &bytes))
    }

    /// Reads something that is JSON.
    pub fn get(&self, path: &str) -> Result<Value, Trouble> {
        let (bytes, _) = self.exchange(Ask { method: "GET", path, ..Ask::default() })?;
        parse(&bytes)
    }
}

/// The problem that an answer tells; an answer that tells none is no daemon's.
pub fn problem(status: u16, bytes: &[u8]) -> Trouble {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value["code"].is_string() => Trouble::Problem(value),
        Ok(_) | Err(_) => Trouble::Refused(format!("what answers is no Chancery daemon: status {status}")),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Trouble> {
    serde_json::from_slice(bytes).map_err(|_| Trouble::Refused("the answer is not JSON".to_owned()))
}

/// A daemon, a token, and the memory of the heads that were seen.
pub struct Client {
    /// The way to the daemon.
    pub door: Door,
    keeper: Option<Keeper>,
    forked: Cell<bool>,
}

impl ClientArgs {
    /// The state root that is meant.
    pub fn root(&self) -> Option<PathBuf> {
        self.state_root.clone().or_else(|| Folders::from_environment().default_state_root())
    }

    /// Whether the daemon is named by its address rather than by its state root.
    pub fn is_remote(&self) -> bool {
        self.url.is_some()
    }

    /// Finds daemon and token.
    pub fn client(&self) -> Result<Client, Trouble> {
        let door = self.door()?;
        Ok(Client { door, keeper: Some(Keeper::of_user(self.root().as_deref())), forked: Cell::new(false) })
    }

    /// Finds daemon and token, without the memory of heads.
    pub fn door(&self) -> Result<Door, Trouble> {
        let root = self.root();
        let address = if let Some(url) = &self.url {
            Address::parse(url).map_err(Trouble::Usage)?
        } else {
            let unnamed = || Trouble::Usage("--url or --state-root is needed".to_owned());
            Address::parse(&address_of(root.as_deref().ok_or_else(unnamed)?)?).map_err(Trouble::Unreachable)?
        };
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(read_token(file).map_err(Trouble::Usage)?),
            // The token of a state root goes to its own daemon, or to this machine; never to an address elsewhere.
            (None, None) if self.url.is_none() || address.is_local() || self.state_root.is_some() => {
                root.and_then(|root| read_token(&root.join("tokens/admin.token")).ok())
            }
            (None, None) => None,
        };
        if token.is_some() && !address.is_local() {
            output::talk("warning: the token crosses the network without encryption; put a TLS proxy on this side");
        }
        Door::new(address, token)
    }
}

/// Reads a token file.
pub fn read_token(path: &Path) -> Result<String, String> {
    let bytes = bounded_read(path, TOKEN_BYTES + 2).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{}: not a token", path.display()))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Where the daemon of a state root listens, if one holds its lock.
pub fn address_of(root: &Path) -> Result<String, Trouble> {
    let none = |why: String| Trouble::Unreachable(why);
    let folder = Folder::open(root).map_err(|error| none(format!("{}: {error}", root.display())))?;
    if !folder.is_locked(layout::LOCK).unwrap_or(false) {
        return Err(none(format!("no daemon holds {}", root.display())));
    }
    let text = read_bounded(&folder, "daemon.json", 64 << 10).map_err(|error| none(format!("daemon.json: {error}")))?;
    let said: Value = serde_json::from_slice(&text).map_err(|error| none(format!("daemon.json: {error}")))?;
    said["address"].as_str().map(str::to_owned).ok_or_else(|| none("daemon.json names no address".to_owned()))
}

impl Client {
    /// A client of this address that remembers nothing.
    pub fn forgetful(door: Door) -> Self {
        Self { door, keeper: None, forked: Cell::new(false) }
    }

    /// Goes on through another door, and asks there for the proof that the journal is the one that was seen before.
    pub fn move_to(&mut self, door: Door) {
        self.door = door;
        let head = self.door.get("/v1/journal/head").ok();
        let note = head.as_ref().and_then(|head| head["note"].as_str());
        if let (Some(keeper), Some(note)) = (&self.keeper, note)
            && !keeper.saw(&self.door, &data_encoding::BASE64.encode(note.as_bytes()))
        {
            self.forked.set(true);
        }
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.door.get(path)
    }

    /// Reads something as text.
    pub fn text(&self, path: &str) -> Result<String, Trouble> {
        let (bytes, _) = self.door.exchange(Ask { method: "GET", path, ..Ask::default() })?;
        String::from_utf8(bytes).map_err(|_| Trouble::Refused("the answer is not text".to_owned()))
    }

    /// Changes something.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.change("POST", path, body)
    }

    /// Puts something.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.change("PUT", path, body)
    }

    fn change(&self, method: &str, path: &str, body: &Value) -> Result<Value, Trouble> {
        let ask = Ask { method, path, body: Some(body.to_string()), ..Ask::default() };
        let (bytes, head) = self.door.exchange(ask)?;
        if let (Some(keeper), Some(head)) = (&self.keeper, head)
            && !keeper.saw(&self.door, &head)
        {
            self.forked.set(true);
        }
        parse(&bytes)
    }

    /// The exit code of what went well, unless the daemon's journal turned out not to continue the one seen before.
    pub fn verdict(&self) -> ExitCode {
        if self.forked.get() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
