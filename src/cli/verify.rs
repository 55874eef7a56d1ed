//! `chancery verify [PATH]`: a state root or a receipt, offline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ed25519_dalek::VerifyingKey;

use super::output;
use crate::config::settings::Folders;
use crate::journal::layout;
use crate::journal::note::parse_verifier_key;
use crate::journal::proof::Receipt;
use crate::journal::verify::{Report, Verdict};
use crate::platform::bounded_read::bounded_read;
use crate::platform::files::Folder;
use crate::services::house_verify::verify;

/// Largest receipt that is read, bytes.
const RECEIPT_BYTES: u64 = 8 << 20;
const INVALID: u8 = 1;
const NO_SUCH_PATH: u8 = 2;
const UNVERIFIABLE: u8 = 3;

/// Verifies a state root, running or not, or a receipt. Exit code: 0 valid, 1 invalid, 2 no such path, 3 unverifiable.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A state root or a receipt; the default state root where absent.
    path: Option<PathBuf>,
    /// A C2SP verifier key from a source that you trust; a state root's own pin where absent.
    #[arg(long)]
    key: Option<String>,
}

/// Runs the verb.
pub fn run(args: &VerifyArgs) -> ExitCode {
    let key = match args.key.as_deref().map(parse_verifier_key) {
        None => None,
        Some(Some((_, key))) => Some(key),
        Some(None) => {
            output::talk("--key is not a C2SP verifier key");
            return ExitCode::from(NO_SUCH_PATH);
        }
    };
    let Some(path) = args.path.clone().or_else(|| Folders::from_environment().default_state_root()) else {
        output::talk("no path is given and there is no default state root");
        return ExitCode::from(NO_SUCH_PATH);
    };
    if path.is_dir() {
        state_root(&path, key.as_ref())
    } else if path.is_file() {
        receipt(&path, key.as_ref())
    } else {
        output::talk(&format!("{} does not exist", path.display()));
        ExitCode::from(NO_SUCH_PATH)
    }
}

fn state_root(path: &Path, key: Option<&VerifyingKey>) -> ExitCode {
    let folder = match Folder::open(path) {
        Ok(folder) => folder,
        Err(error) => {
            output::talk(&format!("{}: {error}", path.display()));
            return ExitCode::from(NO_SUCH_PATH);
        }
    };
    let held = folder.is_locked(layout::LOCK).unwrap_or(false);
    let house = verify(&folder, held);
    let report = house.journal;
    let pinned = parse_verifier_key(&report.key).map(|(_, key)| key);
    if key.is_some() && key != pinned.as_ref() {
        output::data("unverifiable: the state root's pinned key is not the key given");
        return ExitCode::from(UNVERIFIABLE);
    }
    if house.chunks + house.unnamed > 0 {
        let (chunks, unnamed) = (house.chunks, house.unnamed);
        output::talk(&format!("access log: {chunks} closed chunks verified, {unnamed} not named by the journal yet"));
    }
    show(&report)
}

fn show(report: &Report) -> ExitCode {
    let (lines, seals, segments) = (report.lines, report.seals, report.segments);
    let code = match &report.verdict {
        Verdict::Valid => {
            output::data(&format!("valid: {lines} lines under {seals} seals in {segments} segments verified"));
            if report.in_flight_bytes > 0 {
                output::data(&format!("in flight: {} bytes behind the newest seal", report.in_flight_bytes));
            }
            0
        }
        Verdict::Invalid { file, offset, seq, why } => {
            output::data(&format!("invalid: {file}, byte {offset}, sequence number {seq}: {why}"));
            INVALID
        }
        Verdict::Unverifiable { why } => {
            output::data(&format!("unverifiable: {why}"));
            UNVERIFIABLE
        }
    };
    if report.quarantined > 0 {
        output::data(&format!("quarantine: {} files, each named by a record", report.quarantined));
    }
    output::data(&format!("pinned key: {}", report.key));
    ExitCode::from(code)
}

fn receipt(path: &Path, key: Option<&VerifyingKey>) -> ExitCode {
    let text = match bounded_read(path, usize::try_from(RECEIPT_BYTES).unwrap_or(usize::MAX)) {
        Ok(text) => text,
        Err(error) => {
            output::data(&format!("unverifiable: {error}"));
            return ExitCode::from(UNVERIFIABLE);
        }
    };
    let Ok(receipt) = serde_json::from_slice::<Receipt>(&text) else {
        output::data("unverifiable: the file is neither a state root nor a receipt");
        return ExitCode::from(UNVERIFIABLE);
    };
    let checked = match key {
        Some(key) => receipt.verify(key),
        None => receipt.verify_unsigned(),
    };
    match checked {
        Err(fault) => {
            output::data(&format!("invalid: {fault}"));
            ExitCode::from(INVALID)
        }
        Ok(_) if key.is_none() => {
            output::data("unverifiable: the hashes lead to the note's root, but --key is needed to say who signed it");
            ExitCode::from(UNVERIFIABLE)
        }
        Ok(note) => {
            output::data(&format!(
                "valid: line {} is in the tree of {} lines of {}",
                receipt.seq, note.size, note.origin
            ));
            ExitCode::SUCCESS
        }
    }
}
