//! `daemon.json`: where the daemon that holds the state root's lock listens. Written when it does, removed at drain.

use std::path::Path;

use serde::Serialize;

use super::tokens::TokenFiles;
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
    /// The token files in force; absent where nobody is asked for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_files: Option<NamedTokenFiles>,
}

/// Paths of the two token files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedTokenFiles {
    /// The admin token's file.
    pub admin: String,
    /// The read-only token's file.
    pub readonly: String,
}

impl From<&TokenFiles> for NamedTokenFiles {
    fn from(files: &TokenFiles) -> Self {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        Self { admin: shown(&files.admin), readonly: shown(&files.readonly) }
    }
}
