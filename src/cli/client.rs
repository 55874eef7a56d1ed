//! The client verbs' way to a daemon: who it is, who asks, and what became of it.

use std::cell::Cell;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::parser::ValueSource;
use serde_json::Value;

use super::heads::Keeper;
use super::output::{self, Format};
pub use super::trouble::{Trouble, problem};
use super::wire::{Address, Answer, Ask, Connection};
use crate::config::settings::Folders;
use crate::domain::reason::Refusal;
use crate::domain::token::TOKEN_BYTES;
use crate::journal::layout;
use crate::platform::bounded_read::bounded_read;
use crate::platform::disk::read_bounded;
use crate::platform::entropy::{Entropy as _, SystemEntropy};
use crate::platform::files::Folder;
use crate::services::tokens::TokenFiles;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_mins(1);
/// Largest answer that is read, bytes.
const ANSWER_BYTES: u64 = 64 << 20;
/// Pause before a change whose answer was lost is asked for again.
const REPEAT: Duration = Duration::from_millis(500);

/// Verbs that take a state root and are named in advice.
const VERBS: &str =
    "token journal index verify runtime approvals questions tasks status sessions runs receipt doctor secrets";

/// A token, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

impl From<String> for Hidden {
    fn from(token: String) -> Self {
        Self(token)
    }
}

/// Where the daemon is, who asks, and how answers are printed.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientArgs {
    /// Address: http://HOST:PORT or unix:PATH; found in the state root where absent
    #[arg(long, env = "CHANCERY_URL", hide_env_values = true, global = true, value_name = "ADDRESS")]
    pub url: Option<String>,
    /// Bearer token; others see it in the list of processes, so a file is better
    #[arg(long, env = "CHANCERY_TOKEN", global = true, hide_env_values = true)]
    token: Option<Hidden>,
    /// File with the bearer token; where absent, the state root's admin token, for its own daemon
    #[arg(long, env = "CHANCERY_TOKEN_FILE", hide_env_values = true, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// State root in which address and token are found
    #[arg(long, env = "CHANCERY_STATE_ROOT", hide_env_values = true, global = true, value_name = "DIR")]
    state_root: Option<PathBuf>,
    /// How answers are printed: for people, or as JSON as they came
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// Whether the command line names the state root.
    #[arg(skip)]
    root_flagged: bool,
    /// Two tokens that were named in the same place.
    #[arg(skip)]
    twice: Option<&'static str>,
}

/// An answer that was read.
#[derive(Debug)]
pub struct Heard {
    /// Its body.
    pub bytes: Vec<u8>,
    /// The journal's head that it names.
    pub head: Option<String>,
    /// The record as of which it is, where it is not of the present.
    pub as_of: Option<String>,
}

/// An address and the token shown there.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where.
    pub address: Address,
    token: Option<Hidden>,
}

impl Door {
    /// A door, if the token can be a header.
    pub fn new(address: Address, token: Option<String>) -> Result<Self, Trouble> {
        let fine = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(|token| !fine(token)) {
            return Err(Trouble::Usage("the token is empty or holds characters that no token has".to_owned()));
        }
        Ok(Self { address, token: token.map(Hidden) })
    }

    /// Whether the other leads to the same address with the same token.
    pub fn is(&self, other: &Door) -> bool {
        self.address == other.address && self.token == other.token
    }

    /// Sends a request; the body of the answer is still to be read.
    pub fn send(&self, ask: Ask<'_>, wait: Duration) -> std::io::Result<Answer> {
        self.send_over(self.address.connect(wait)?, ask)
    }

    fn send_over(&self, connection: Connection, mut ask: Ask<'_>) -> std::io::Result<Answer> {
        if let Some(token) = &self.token {
            ask.headers.push(("Authorization", format!("Bearer {}", token.0)));
        }
        self.address.send(connection, &ask)
    }

    /// Sends a request and reads the answer.
    pub fn exchange(&self, ask: Ask<'_>) -> Result<Heard, Trouble> {
        let told = |error: std::io::Error| format!("{}: {error}", self.address);
        let lost = |error| Trouble::Cut(told(error));
        let connection = self.address.connect(ANSWER).map_err(|error| Trouble::Unreachable(told(error)))?;
        let answer = self.send_over(connection, ask).map_err(lost)?;
        let named = |name: &str| answer.header(name).map(str::to_owned);
        let (status, head, as_of) = (answer.status, named("chancery-head"), named("chancery-as-of"));
        let mut bytes = Vec::new();
        answer.body.take(ANSWER_BYTES).read_to_end(&mut bytes).map_err(lost)?;
        if (200..300).contains(&status) {
            return Ok(Heard { bytes, head, as_of });
        }
        match problem(status, &bytes) {
            // A proxy that lost the daemon's answer says so; it knows no more than we do.
            Trouble::Refused(why) if matches!(status, 502 | 504) => {
                Err(Trouble::Cut(format!("{}: {why}", self.address)))
            }
            trouble => Err(trouble),
        }
    }

    /// Reads something that is JSON.
    pub fn get(&self, path: &str) -> Result<Value, Trouble> {
        parse(&self.exchange(Ask { method: "GET", path, ..Ask::default() })?.bytes)
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
    /// What the command line names goes before what the environment names, also where the two are of different kinds: a
    /// token or the file of one, an address or a state root.
    pub fn settle(&mut self, line: &clap::ArgMatches) {
        let from = |id: &str| line.value_source(id).filter(|source| *source != ValueSource::DefaultValue);
        match (from("token"), from("token_file")) {
            (Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)) => self.token_file = None,
            (Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)) => self.token = None,
            (Some(ValueSource::CommandLine), Some(_)) => {
                self.twice = Some("--token and --token-file both name a token");
            }
            (Some(_), Some(_)) => self.twice = Some("CHANCERY_TOKEN and CHANCERY_TOKEN_FILE both name a token"),
            (_, None) | (None, _) => {}
        }
        self.root_flagged = from("state_root") == Some(ValueSource::CommandLine);
        // An address and a state root from one place go together: the state root's token is for its daemon at its address.
        if self.root_flagged && from("url") == Some(ValueSource::EnvVariable) {
            self.url = None;
        }
    }

    /// The state root that is meant.
    pub fn root(&self) -> Option<PathBuf> {
        self.state_root.clone().or_else(|| Folders::from_environment().default_state_root())
    }

    /// The state root that was named, by the flag or the variable.
    pub fn named_root(&self) -> Option<&Path> {
        self.state_root.as_deref()
    }

    /// Advice, with the state root that the command line named in each command that would go to another one without it.
    pub fn here(&self, advice: &str) -> String {
        let Some(root) = self.state_root.as_ref().filter(|_| self.root_flagged) else { return advice.to_owned() };
        let flag = format!("--state-root {}", output::shell_word(&root.to_string_lossy()));
        VERBS.split(' ').fold(advice.to_owned(), |text, verb| {
            text.replace(&format!("chancery {verb}"), &format!("chancery {flag} {verb}"))
        })
    }

    /// Prints a refusal that no daemon gave: for people, and for a script as the document that a daemon gives. The exit code.
    pub fn refused(&self, refusal: &Refusal) -> std::process::ExitCode {
        if self.output == output::Format::Json {
            let reason = refusal.reason;
            output::json(&serde_json::json!({
                "code": reason.code(),
                "title": reason.title(),
                "detail": refusal.detail,
                "surely_no_effect": reason.surely_no_effect(),
                "next": self.here(reason.next()),
            }));
        }
        output::refusal_with(refusal, &|advice| self.here(advice))
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
        if let Some(twice) = self.twice {
            return Err(Trouble::Usage(format!("{twice}; which one is meant? Name one")));
        }
        let address = self.address()?;
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.0.clone()),
            (None, Some(file)) => Some(read_token(file).map_err(Trouble::Usage)?),
            (None, None) => self.own_token(&address)?,
        };
        if token.is_some() && !address.is_local() {
            output::talk("warning: the token crosses the network without encryption; put a TLS proxy on this side");
        }
        Door::new(address, token)
    }

    /// Finds the daemon, and shows it no token.
    pub fn open_door(&self) -> Result<Door, Trouble> {
        Ok(Door { address: self.address()?, token: None })
    }

    fn address(&self) -> Result<Address, Trouble> {
        if let Some(url) = &self.url {
            return Address::parse(url).map_err(Trouble::Usage);
        }
        let unnamed = || Trouble::Usage("--url or --state-root is needed".to_owned());
        Address::parse(&address_of(&self.root().ok_or_else(unnamed)?)?).map_err(Trouble::Unreachable)
    }

    /// The token of a state root. It goes to the very address where that root's daemon says it listens, and nowhere else:
    /// what answers elsewhere, also on this machine, may be anybody's.
    fn own_token(&self, address: &Address) -> Result<Option<String>, Trouble> {
        let Some(root) = self.root() else { return Ok(None) };
        let listens = address_of(&root).ok().and_then(|said| Address::parse(&said).ok());
        if listens.as_ref() != Some(address) {
            return Ok(None);
        }
        let file = token_files(&root).admin;
        // Whoever may not read it is told by the daemon that a token is missing.
        let Ok(bytes) = bounded_read(&file, TOKEN_BYTES + 2) else { return Ok(None) };
        let refuse = |why| Trouble::Usage(format!("{why}; {}", self.here("`chancery token rotate` writes a new one")));
        as_token(&file, bytes).map(Some).map_err(refuse)
    }
}

/// Reads a token file.
pub fn read_token(path: &Path) -> Result<String, String> {
    let bytes = bounded_read(path, TOKEN_BYTES + 2).map_err(|error| format!("{}: {error}", path.display()))?;
    as_token(path, bytes)
}

fn as_token(path: &Path, bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim_end_matches('\n');
    let fine = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fine { Ok(token.to_owned()) } else { Err(format!("{} holds no token", path.display())) }
}

/// The token files that the daemon of a state root names. They may be anywhere: look at them, and show them to nobody.
pub fn named_token_files(said: &Value) -> Option<TokenFiles> {
    let named = |role: &str| said["token_files"][role].as_str().map(PathBuf::from);
    Some(TokenFiles { admin: named("admin")?, readonly: named("readonly")? })
}

/// The token files of a state root: those that its daemon names, or else those below it.
pub fn token_files(root: &Path) -> TokenFiles {
    files_in_use(root).unwrap_or_else(|| TokenFiles::below(root))
}

/// The token files that the daemon of a state root reads, where one holds it. Only a state root of one's own may name
/// files elsewhere, as they are read and written in the name of whoever asks.
pub fn files_in_use(root: &Path) -> Option<TokenFiles> {
    let own = Folder::open(root).and_then(|folder| Ok((folder.owner(".")?, folder.mode(".")?)));
    let own = own.is_ok_and(|(owner, mode)| owner == rustix::process::geteuid().as_raw() && mode.trailing_zeros() >= 6);
    daemon_of(root).ok().filter(|_| own).and_then(|said| named_token_files(&said))
}

/// Where the daemon of a state root listens, if one holds its lock.
pub fn address_of(root: &Path) -> Result<String, Trouble> {
    let said = daemon_of(root)?;
    let unsaid = || Trouble::Unreachable("daemon.json names no address".to_owned());
    said["address"].as_str().map(str::to_owned).ok_or_else(unsaid)
}

/// What the daemon of a state root says of itself, if one holds its lock.
pub fn daemon_of(root: &Path) -> Result<Value, Trouble> {
    let none = |why: String| Trouble::Unreachable(why);
    let folder = Folder::open(root).map_err(|error| none(format!("{}: {error}", root.display())))?;
    if !folder.is_locked(layout::LOCK).unwrap_or(false) {
        return Err(none(format!("no daemon holds {}", root.display())));
    }
    let text = read_bounded(&folder, "daemon.json", 64 << 10).map_err(|error| none(format!("daemon.json: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| none(format!("daemon.json: {error}")))
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
        let heard = self.door.exchange(Ask { method: "GET", path, ..Ask::default() })?;
        if let Some(seq) = heard.as_of {
            output::talk(&format!("As of record {}.", output::escape(&seq)));
        }
        parse(&heard.bytes)
    }

    /// Reads something as text.
    pub fn text(&self, path: &str) -> Result<String, Trouble> {
        let heard = self.door.exchange(Ask { method: "GET", path, ..Ask::default() })?;
        String::from_utf8(heard.bytes).map_err(|_| Trouble::Refused("the answer is not text".to_owned()))
    }

    /// Changes something.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.change("POST", path, body)
    }

    /// Puts something.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.change("PUT", path, body)
    }

    /// Asks for a change, under a key: where the answer is lost it is asked for once more, and made once.
    pub fn change(&self, method: &str, path: &str, body: &Value) -> Result<Value, Trouble> {
        let key = format!("cli-{:032x}", SystemEntropy::default().u128());
        let headers = vec![("Idempotency-Key", key)];
        let ask = Ask { method, path, headers, body: Some(body.to_string()) };
        let heard = match self.door.exchange(ask.clone()) {
            Err(trouble) if trouble.is_lost() => {
                std::thread::sleep(REPEAT);
                self.door.exchange(ask).map_err(|trouble| match trouble {
                    Trouble::Cut(why) | Trouble::Unreachable(why) => Trouble::Unsure(why),
                    other => other,
                })
            }
            heard => heard,
        };
        let Heard { bytes, head, .. } = heard?;
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
