//! What the daemon tells the hidden verb, and what the verb answers: one JSON document a line over a socket, so that
//! nothing of it shows in a process list.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::limits;

/// Everything the verb needs to start one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its private temporary folder, removed at the end.
    pub scratch: PathBuf,
    /// What confines it; nothing where the sandbox is off.
    pub rules: Option<Rules>,
    /// After this long it is ended; never where absent.
    pub time_limit_ms: Option<u64>,
    /// Time between the request to end and the kill.
    pub grace_ms: u64,
    /// Largest file it may write.
    pub file_bytes: u64,
    /// The daemon.
    pub daemon_pid: i32,
    /// The daemon's process group.
    pub daemon_group: i32,
    /// The supervisor; filled in by the supervisor itself.
    pub supervisor_pid: i32,
}

/// The confinement of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    /// The Landlock ABI to build for.
    pub landlock_abi: u32,
    /// Whether internet sockets may be made.
    pub network: bool,
    /// What may be read and executed.
    pub read_only: Vec<PathBuf>,
    /// What may also be written.
    pub read_write: Vec<PathBuf>,
}

/// What the verb reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Report {
    /// The command runs.
    Started {
        /// Its process.
        pid: i32,
    },
    /// It was not started: the machine cannot confine it.
    NotConfined {
        /// Why.
        detail: String,
    },
    /// It was not started: the command itself is at fault.
    NotStarted {
        /// Why.
        detail: String,
    },
    /// It ended, and nothing of it is left but what `survivors` counts.
    Ended(Ended),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    /// What ended it.
    pub how: How,
    /// Its exit code, where it exited.
    pub code: Option<i32>,
    /// The signal, where one ended it.
    pub signal: Option<i32>,
    /// Processes that did not die in time.
    pub survivors: u32,
}

/// What ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Itself.
    Exited,
    /// A request to stop.
    Stopped,
    /// Its time limit.
    TimeLimit,
    /// It had too many processes.
    Processes,
    /// The daemon went away.
    DaemonGone,
    /// Its supervisor went away without a word.
    Lost,
}

/// The byte that asks for a stop.
pub(super) const STOP: u8 = b's';

/// The byte that goes with the descriptor of a listener.
pub(super) const LISTENER: u8 = b'l';

/// Reads one line and parses it.
pub(super) fn receive<T: serde::de::DeserializeOwned>(from: &mut impl Read) -> std::io::Result<Option<T>> {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line on this socket is not ours to take.
    while line.len() as u64 <= limits::PLAN_BYTES {
        match from.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.extend(byte),
            Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    serde_json::from_slice(&line).map(Some).map_err(std::io::Error::other)
}

/// Writes one line.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_up_to_its_newline_and_not_beyond() {
        let mut wire = Vec::new();
        send(&mut wire, &Report::Started { pid: 7 }).unwrap();
        wire.push(STOP);
        let mut from = wire.as_slice();
        assert_eq!(receive::<Report>(&mut from).unwrap(), Some(Report::Started { pid: 7 }));
        assert_eq!(from, [STOP]);
    }

    #[test]
    fn an_endless_line_and_an_unknown_field_are_refused() {
        assert!(receive::<Report>(&mut std::io::repeat(b' ')).is_err());
        assert!(receive::<Report>(&mut b"{\"started\":{\"pid\":1,\"x\":2}}\n".as_slice()).is_err());
        assert!(receive::<Report>(&mut b"".as_slice()).unwrap().is_none());
    }
}
