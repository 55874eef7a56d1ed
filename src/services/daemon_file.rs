//! `daemon.json`: where the daemon that holds the state root's lock listens. Written when it does, removed at drain.

use serde::Serialize;

use crate::domain::ids::BootId;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonFile {
    /// Where it listens: `127.0.0.1:4000`, or `unix:` and the path of a socket.
    pub address: String,
    /// Its process.
    pub pid: u32,
    /// Its start.
    pub boot_id: BootId,
    /// Its version.
    pub version: String,
}
