//! How the daemon stands, for `status`, probes and readiness.

use std::sync::Arc;

use serde::Serialize;

use super::clerk::Clerk;
use super::published::{IndexState, Published};
use super::tokens::Tokens;
use crate::domain::reason::Refusal;
use crate::domain::runtime::Configuration;
use crate::platform::files::Folder;
use crate::projections::status::RunCounts;

/// Free space below which the storage probe warns: room for the written-ahead space and a segment.
const LOW_BYTES: u64 = 256 << 20;

/// Something that someone should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Warning {
    /// Stable code.
    pub code: &'static str,
    /// One sentence.
    pub detail: String,
}

/// Health as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Health {
    /// Whether everything that was measured is in order.
    pub ok: bool,
    /// What is not.
    pub warnings: Vec<Warning>,
}

/// One probe of the storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Probe {
    /// What was probed.
    pub name: &'static str,
    /// Whether it is in order; absent where it could not be measured.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
}

/// The storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Storage {
    /// Whether every probe is in order.
    pub ok: bool,
    /// The probes.
    pub probes: Vec<Probe>,
}

/// The control plane's posture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ControlPlane {
    /// Where the daemon listens.
    pub bind: String,
    /// Whether only this machine can connect.
    pub loopback: bool,
    /// `bearer` or `none`.
    pub auth_mode: &'static str,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Journal {
    /// Leaves in the newest sealed tree.
    pub size: u64,
    /// Its root, base64.
    pub root: String,
    /// Commands that wait for the clerk.
    pub queued_commands: usize,
    /// Age of the oldest of them, milliseconds.
    pub oldest_command_age_ms: u64,
}

/// The index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Index {
    /// `none`, `building`, `ready` or `unusable`.
    pub state: &'static str,
    /// Sequence number up to which records are found without reading the journal through.
    pub covered_seq: u64,
}

/// The build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Build {
    /// Version.
    pub version: &'static str,
}

/// Runtime configuration in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Runtime {
    /// Mode for sessions that set none.
    pub permission_mode: crate::domain::permission::Mode,
    /// Revision of the configuration.
    pub revision: u64,
}

/// How the daemon stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Status {
    /// Health as a whole.
    pub health: Health,
    /// The storage.
    pub storage: Storage,
    /// The runs.
    pub runs: RunCounts,
    /// Runtime configuration in short.
    pub runtime: Runtime,
    /// The control plane's posture.
    pub control_plane: ControlPlane,
    /// The journal.
    pub journal: Journal,
    /// The index.
    pub index: Index,
    /// What confines the commands of agents.
    pub sandbox: String,
    /// The build.
    pub build: Build,
}

/// Where status looks.
pub struct StatusSource {
    /// The write path.
    pub clerk: Clerk,
    /// The read side.
    pub published: Published,
    /// The token files, where tokens are demanded.
    pub tokens: Option<Arc<Tokens>>,
    /// The state root.
    pub folder: Arc<Folder>,
    /// The control plane's posture.
    pub control_plane: ControlPlane,
    /// What confines the commands of agents.
    pub sandbox: String,
}

impl StatusSource {
    /// Whether the daemon can take work now.
    pub fn ready(&self) -> Result<(), Refusal> {
        match self.clerk.trouble() {
            None => Ok(()),
            Some(refusal) => Err(refusal),
        }
    }

    /// Looks at everything now.
    pub fn look(&self) -> Status {
        let storage = self.storage();
        let mut warnings: Vec<Warning> = storage
            .probes
            .iter()
            .filter(|probe| probe.ok != Some(true))
            .map(|probe| Warning { code: "storage_probe", detail: format!("{}: {}", probe.name, probe.detail) })
            .collect();
        for problem in self.tokens.iter().flat_map(|tokens| tokens.problems().to_vec()) {
            warnings.push(Warning { code: "token_problem", detail: problem.detail });
        }
        let untrusted = self.published.models().clock.warning();
        warnings.extend(untrusted.map(|detail| Warning { code: "time_untrusted", detail }));
        let (index, trouble) = self.index();
        warnings.extend(trouble);
        let head = self.published.head();
        let (queued_commands, oldest_command_age_ms) = self.clerk.queue();
        let models = self.published.models();
        let runs = models.run_counts(self.published.clock().wall_ms());
        let Configuration { permission_mode, revision, .. } = models.runtime.configuration.clone();
        drop(models);
        Status {
            health: Health { ok: warnings.is_empty(), warnings },
            storage,
            runs,
            runtime: Runtime { permission_mode, revision },
            control_plane: self.control_plane.clone(),
            journal: Journal {
                size: head.note.size,
                root: data_encoding::BASE64.encode(&head.note.root),
                queued_commands,
                oldest_command_age_ms,
            },
            index,
            sandbox: self.sandbox.clone(),
            build: Build { version: env!("CARGO_PKG_VERSION") },
        }
    }

    fn index(&self) -> (Index, Option<Warning>) {
        let (state, covered_seq) = match self.published.index() {
            IndexState::None => ("none", 0),
            IndexState::Used(index, false) => ("building", index.covered()),
            IndexState::Used(index, true) => ("ready", index.covered()),
            IndexState::Unusable(why) => {
                let detail = format!("The journal is read instead: {why}");
                let warning = Warning { code: "index_unusable", detail };
                return (Index { state: "unusable", covered_seq: 0 }, Some(warning));
            }
        };
        (Index { state, covered_seq }, None)
    }

    fn storage(&self) -> Storage {
        let space = match self.folder.space() {
            Ok((free, total, _)) => {
                Probe { name: "space", ok: Some(free > LOW_BYTES), detail: format!("{free} of {total} bytes are free") }
            }
            Err(error) => Probe { name: "space", ok: None, detail: error.to_string() },
        };
        let journal = match self.clerk.trouble() {
            None => Probe { name: "journal", ok: Some(true), detail: "the last batch was written".to_owned() },
            Some(refusal) => Probe { name: "journal", ok: Some(false), detail: refusal.detail },
        };
        let probes = vec![journal, space];
        Storage { ok: probes.iter().all(|probe| probe.ok == Some(true)), probes }
    }
}
