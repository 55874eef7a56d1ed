//! How the daemon stands, for `status`, probes and readiness.

mod past;
mod readiness;
mod warnings;

use std::sync::Arc;

use serde::Serialize;

use super::clerk::Clerk;
use super::credentials::Credentials;
use super::past::Past;
use super::published::{IndexState, Published};
use super::snapshotter::Snapshotter;
use super::tokens::Tokens;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::runtime::{Configuration, DebugLevel};
use crate::platform::files::Folder;
use crate::platform::tasks::Milestone;
use crate::projections::status::RunCounts;

pub use past::{PastJournal, PastStatus};
pub use readiness::{Outcome, ProviderReadiness, Readiness, RouteReadiness};
pub use warnings::{Severity, Warning};

/// Free space below which the storage probe warns: room for the written-ahead space and a segment.
const LOW_BYTES: u64 = 256 << 20;

/// Health as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Health {
    /// Whether nothing that was measured is a failure.
    pub ok: bool,
    /// What someone should look at, advice included.
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
    /// C2SP id of the key that signed it, hex.
    pub key_id: Option<String>,
    /// How long ago it was sealed, milliseconds.
    pub last_seal_age_ms: u64,
    /// Sequence number of the newest snapshot; null where there is none yet.
    pub snapshot_seq: Option<u64>,
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
    /// SHA-256 of the running program, hex; null where it could not be read.
    pub digest: Option<String>,
}

/// A reader of the journal that keeps something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Projection {
    /// Which.
    pub name: &'static str,
    /// Sequence numbers between what is sealed and what it shows; 0 where it shows everything.
    pub lag: u64,
    /// What broke it; null where nothing did.
    pub last_error: Option<&'static str>,
}

/// What is owed to other people's machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Delivery {
    /// Deliveries not yet acknowledged.
    pub pending: u64,
    /// Deliveries that were given up and that nobody has settled.
    pub unresolved_dead_lettered: u64,
}

/// Copies elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Backup {
    /// When the last backup succeeded, Unix milliseconds; null where none has.
    pub last_success_at_ms: Option<u64>,
    /// When a copy was last proven to equal the original; null where none was.
    pub last_drill_at_ms: Option<u64>,
}

/// Runtime configuration in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Runtime {
    /// Mode for sessions that set none.
    pub permission_mode: crate::domain::permission::Mode,
    /// Revision of the configuration.
    pub revision: u64,
    /// How much the daemon says in its log.
    pub debug_level: DebugLevel,
}

impl Runtime {
    fn of(configuration: &Configuration) -> Self {
        let Configuration { permission_mode, revision, debug_level, .. } = *configuration;
        Self { permission_mode, revision, debug_level }
    }
}

/// How the daemon stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Status {
    /// Health as a whole.
    pub health: Health,
    /// The storage.
    pub storage: Storage,
    /// The routes to models.
    pub provider_readiness: ProviderReadiness,
    /// The runs.
    pub runs: RunCounts,
    /// What is owed to other people's machines; nothing can be owed in this version.
    pub delivery: Delivery,
    /// Runtime configuration in short.
    pub runtime: Runtime,
    /// The control plane's posture.
    pub control_plane: ControlPlane,
    /// The journal.
    pub journal: Journal,
    /// What is folded from it.
    pub projections: Vec<Projection>,
    /// The index.
    pub index: Index,
    /// What confines the commands of agents.
    pub sandbox: String,
    /// The build.
    pub build: Build,
    /// Copies elsewhere; none can be made in this version.
    pub backup: Backup,
}

/// Where status looks.
pub struct StatusSource {
    /// The write path.
    pub clerk: Clerk,
    /// The start is recorded.
    pub begun: Milestone,
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
    /// The routes to models.
    pub readiness: Readiness,
    /// The door of the vault.
    pub credentials: Credentials,
    /// The worker of snapshots.
    pub snapshots: Snapshotter,
    /// SHA-256 of the running program, hex.
    pub build_digest: Option<String>,
    /// Who can say how things stood.
    pub past: Past,
}

/// Why no work is taken before the start is recorded.
pub fn not_begun(clerk: &Clerk, begun: &Milestone) -> Option<Refusal> {
    if begun.is_reached() {
        return None;
    }
    let starting = || Refusal::new(Reason::RequestOverloaded, "the daemon is starting").retry_after_ms(1_000);
    Some(clerk.trouble().unwrap_or_else(starting))
}

impl StatusSource {
    /// Whether the daemon can take work now.
    pub fn ready(&self) -> Result<(), Refusal> {
        self.clerk.trouble().or_else(|| not_begun(&self.clerk, &self.begun)).map_or(Ok(()), Err)
    }

    /// Looks at everything now.
    pub fn look(&self) -> Status {
        let storage = self.storage();
        let provider_readiness = self.readiness.look();
        let now_ms = self.published.clock().wall_ms();
        let models = self.published.models();
        let runs = models.run_counts(now_ms);
        let (startable_age_ms, running_idle_ms) = (models.startable_age_ms(now_ms), models.running_idle_ms(now_ms));
        let runtime = Runtime::of(&models.runtime.configuration);
        drop(models);
        let mut found: Vec<Warning> = warnings::storage(&storage).collect();
        for problem in self.tokens.iter().flat_map(|tokens| tokens.problems().to_vec()) {
            found.push(Warning::failure("token_problem", problem.detail));
        }
        let untrusted = self.published.models().clock.warning();
        found.extend(untrusted.map(|detail| Warning::failure("time_untrusted", detail)));
        let (index, trouble) = self.index();
        found.extend(trouble);
        found.extend(warnings::runs(startable_age_ms, running_idle_ms));
        found.extend(warnings::authentication(self.control_plane.auth_mode));
        found.extend(warnings::sandbox(&self.sandbox));
        found.extend(warnings::routes(&provider_readiness));
        found.extend(warnings::secrets(&self.credentials.corrupt()));
        found.extend(warnings::debug(runtime.debug_level));
        Status {
            health: Health { ok: found.iter().all(|warning| warning.severity == Severity::Advice), warnings: found },
            storage,
            provider_readiness,
            runs,
            delivery: Delivery::default(),
            runtime,
            control_plane: self.control_plane.clone(),
            journal: self.journal(),
            projections: self.projections(),
            index,
            sandbox: self.sandbox.clone(),
            build: Build { version: env!("CARGO_PKG_VERSION"), digest: self.build_digest.clone() },
            backup: Backup::default(),
        }
    }

    fn journal(&self) -> Journal {
        let note = self.published.head().note;
        let (queued_commands, oldest_command_age_ms) = self.clerk.queue();
        Journal {
            size: note.size,
            root: data_encoding::BASE64.encode(&note.root),
            // At a handover of keys the new one signs last.
            key_id: note.signatures.last().map(|signature| data_encoding::HEXLOWER.encode(&signature.key_id)),
            last_seal_age_ms: self.published.last_seal_age_ms(),
            snapshot_seq: self.snapshots.newest(),
            queued_commands,
            oldest_command_age_ms,
        }
    }

    /// What is folded from the journal, and how far each is behind what is sealed.
    pub fn projections(&self) -> Vec<Projection> {
        // What the models and the feed show is read first, so that neither can seem to be ahead.
        let (folded, fed) = (self.published.models().last_seq, self.published.feed().next_seq());
        let sealed = self.published.head().next_seq;
        // The seal stands behind the last record of its batch.
        let shown = folded.map_or(0, |seq| seq.saturating_add(2));
        let broken = self.published.fold_broke_off().then_some("a fold broke off; restart the daemon");
        vec![
            Projection { name: "models", lag: sealed.saturating_sub(shown), last_error: broken },
            Projection { name: "feed", lag: sealed.saturating_sub(fed), last_error: None },
        ]
    }

    fn index(&self) -> (Index, Option<Warning>) {
        let (state, covered_seq) = match self.published.index() {
            IndexState::None => ("none", 0),
            IndexState::Used(index, false) => ("building", index.covered()),
            IndexState::Used(index, true) => ("ready", index.covered()),
            IndexState::Unusable(why) => {
                let detail = format!("The journal is read instead: {why}");
                let warning = Warning::advice("index_unusable", &detail);
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
