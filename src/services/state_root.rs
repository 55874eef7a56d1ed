//! The state root as a folder: taken by one process at a time, its secrets private, apart from the workspace.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::BootId;
use crate::domain::reason::{Reason, Refusal};
use crate::journal::create::{KEY_BYTES, read_key};
use crate::journal::error::OpenError;
use crate::journal::layout;
use crate::platform::disk::Disk as _;
use crate::platform::files::Folder;

/// How long a start waits for the lock: a verifier holds it for a moment only.
const LOCK_WAIT_MS: u64 = 500;
const LOCK_STEP_MS: u64 = 20;
/// Files that nobody else may read or write.
const SECRETS: [&str; 3] = [layout::SIGNING_KEY, layout::SIGNING_KEY_NEXT, layout::FINGERPRINT_KEY];
/// Folders that are tightened.
const FOLDERS: [&str; 4] = [layout::FOLDER, layout::AUTH, "tokens", "control-plane-auth"];

/// A state root that this process holds until it is dropped.
pub struct StateRoot {
    /// The folder.
    pub folder: Arc<Folder>,
    _lock: std::fs::File,
}

/// Opens the folder, making it if absent, takes its lock, and checks its modes. Blocks for half a second at most.
pub fn take(path: &Path, workspace: &Path, boot_id: BootId) -> Result<StateRoot, Refusal> {
    let io = |what: &str| OpenError::io(what.to_owned());
    let folder = Folder::create(path).map_err(io("opening the state root"))?;
    let (root, work) = (folder.path(), workspace.canonicalize().unwrap_or_else(|_| workspace.to_owned()));
    if root.starts_with(&work) || work.starts_with(root) {
        let detail = format!("{} and {} contain one another.", root.display(), work.display());
        return Err(Refusal::new(Reason::StateRootNested, detail));
    }
    let mut waited = 0;
    let mut lock = loop {
        match folder.try_lock(layout::LOCK).map_err(io("taking the lock"))? {
            Some(lock) => break lock,
            None if waited >= LOCK_WAIT_MS => {
                let held = crate::platform::disk::read_bounded(&folder, layout::LOCK, 4_096).unwrap_or_default();
                let detail = format!("Held by {}.", String::from_utf8_lossy(&held).trim().escape_debug());
                return Err(Refusal::new(Reason::StateRootLocked, detail));
            }
            None => std::thread::sleep(Duration::from_millis(LOCK_STEP_MS)),
        }
        waited += LOCK_STEP_MS;
    };
    let words = format!("pid {} {boot_id}\n", std::process::id());
    let said = lock.set_len(0).and_then(|()| lock.write_all(words.as_bytes()));
    said.map_err(io("writing the lock's words"))?;
    check_modes(&folder)?;
    Ok(StateRoot { folder: Arc::new(folder), _lock: lock })
}

/// Secrets with loose modes refuse; folders are tightened.
fn check_modes(folder: &Folder) -> Result<(), Refusal> {
    for file in SECRETS {
        match folder.mode(file) {
            Ok(mode) if mode & 0o077 != 0 => return Err(OpenError::Loose { file: file.to_owned(), mode }.into()),
            _ => {}
        }
    }
    for name in ["", layout::FOLDER, layout::AUTH] {
        if folder.mode(if name.is_empty() { "." } else { name }).is_ok_and(|mode| mode & 0o077 != 0) {
            folder.tighten_dir(name).map_err(OpenError::io(name.to_owned()))?;
        }
    }
    Ok(())
}

impl StateRoot {
    /// Makes the folders that do not belong to the journal.
    pub fn make_folders(&self) -> Result<(), Refusal> {
        for name in FOLDERS.into_iter().chain(["tasks", "scratch"]) {
            self.folder.create_dir(name).map_err(OpenError::io(name.to_owned()))?;
        }
        Ok(())
    }

    /// The key of fingerprints and body MACs.
    pub fn fingerprint_key(&self) -> Result<[u8; KEY_BYTES], Refusal> {
        Ok(read_key(self.folder.as_ref(), layout::FINGERPRINT_KEY)?)
    }
}
