//! `chancery journal repair`: offline, for a state root that refuses to start.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::client::ClientArgs;
use super::output::{self, Format};
use crate::domain::reason::{Reason, Refusal};
use crate::journal::layout;
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::disk::Disk;
use crate::platform::entropy::SystemEntropy;
use crate::platform::files::Folder;
use crate::services::repair::{Outcome, drop_index, repair};

/// Keeps all that verifies, moves the rest into the quarantine and begins a new epoch.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// How many sequence numbers may be lost, exactly; without it nothing is done but said
    #[arg(long, value_name = "N")]
    accept_loss: Option<u64>,
}

/// Runs the verb. Exit code: 0 repaired or not needed, 1 refused or not accepted, 2 no state root.
pub fn run(client: &ClientArgs, args: &RepairArgs) -> ExitCode {
    let Some(path) = client.root() else {
        output::talk("no state root is given and there is no default one");
        return ExitCode::from(2);
    };
    let folder = match Folder::open(&path) {
        Ok(folder) => folder,
        Err(error) => {
            output::talk(&format!("{}: {error}", path.display()));
            return ExitCode::from(2);
        }
    };
    if folder.mode(layout::STATE_ROOT).is_err() {
        return client
            .refused(&Refusal::new(Reason::StateRootNotFound, format!("{} is no state root.", path.display())));
    }
    match under_lock(folder, args.accept_loss) {
        Ok(outcome) => tell(client, &outcome),
        Err(refusal) => client.refused(&refusal),
    }
}

fn under_lock(folder: Folder, accepted: Option<u64>) -> Result<Outcome, Refusal> {
    let lock = folder.try_lock(layout::LOCK);
    let lock = lock.map_err(|error| Refusal::new(Reason::StorageJournalUnavailable, error.to_string()))?;
    let Some(_lock) = lock else {
        return Err(Refusal::new(Reason::StateRootLocked, "A daemon holds the state root: stop it first."));
    };
    if accepted.is_some() {
        drop_index(&folder).map_err(|error| Refusal::new(Reason::StorageJournalUnavailable, error.to_string()))?;
    }
    let disk: Arc<dyn Disk> = Arc::new(folder);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let digest = crate::platform::executable::digest().map_or_else(|_| "unknown".to_owned(), |d| format!("sha256.{d}"));
    let build = format!("{}+{digest}", env!("CARGO_PKG_VERSION"));
    repair(&disk, &clock, &SystemEntropy::default(), build, accepted)
}

fn tell(client: &ClientArgs, outcome: &Outcome) -> ExitCode {
    let code = ExitCode::from(u8::from(matches!(outcome, Outcome::WouldLose { .. })));
    if client.output == Format::Json {
        output::json(&serde_json::to_value(outcome).unwrap_or_default());
        return code;
    }
    let (lost, repaired) = match outcome {
        Outcome::NotNeeded => {
            output::data("The state root needs no repair: its journal verifies and a daemon can start.");
            return code;
        }
        Outcome::WouldLose { lost, repaired } | Outcome::Repaired { lost, repaired } => (*lost, repaired),
    };
    let done = matches!(outcome, Outcome::Repaired { .. });
    let kept = repaired.lost_from_seq;
    output::data(&format!("{kept} lines verify and {}.", if done { "were kept" } else { "would be kept" }));
    if lost > 0 {
        let (from, to) = (repaired.lost_from_seq, repaired.lost_to_seq);
        let word = if done { "are" } else { "would be" };
        output::data(&format!("Sequence numbers {from} to {to}, {lost} in all, {word} lost."));
    }
    for file in &repaired.files {
        let word = if done { "lie" } else { "would lie" };
        let (segment, offset) = (output::escape(&file.segment), file.offset);
        let to = output::escape(&file.file);
        output::data(&format!(
            "{} bytes of {segment} from byte {offset} {word} in journal/quarantine/{to}",
            file.bytes
        ));
    }
    if !done {
        output::talk("Nothing was done. Restore a backup if you have one: a repair loses what it cannot verify.");
        let command = client.here(&format!("chancery journal repair --accept-loss {lost}"));
        output::talk(&format!("To repair and lose that much: {}", output::escape(&command)));
    }
    code
}
