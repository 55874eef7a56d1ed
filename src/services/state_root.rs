//! The state root as a folder: taken by one process at a time, its secrets private, apart from the workspace.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::BootId;
use crate::domain::reason::{Reason, Refusal};
use crate::journal::create::{KEY_BYTES, read_key};
use crate::journal::error::OpenError;
use crate::journal::layout;
use crate::platform::disk::{Disk as _, sweep_temporaries, temporary_of};
use crate::platform::files::Folder;
use crate::vault::store;

/// How long a start waits for the lock: a verifier holds it for a moment only.
const LOCK_WAIT_MS: u64 = 500;
const LOCK_STEP_MS: u64 = 20;
/// Files that nobody else may read or write.
const SECRETS: [&str; 5] =
    [layout::SIGNING_KEY, layout::SIGNING_KEY_NEXT, layout::FINGERPRINT_KEY, store::PATH, store::DAMAGED_PATH];
/// Folders that are made at each start, besides those that their owners make.
const MADE: [&str; 7] = [layout::FOLDER, layout::AUTH, "tokens", "control-plane-auth", "tasks", "scratch", "debug"];
/// Further folders whose owner and mode are looked at.
const FURTHER: [&str; 5] = [".", layout::QUARANTINE, "snapshots", "artifacts", "index"];
/// Files at the top; with the folders, everything that a state root has there.
const FILES: [&str; 7] = [
    layout::LOCK,
    layout::STATE_ROOT,
    layout::SIGNING_KEY,
    layout::SIGNING_KEY_NEXT,
    layout::DAMAGE,
    "daemon.json",
    layout::REPAIR,
];
/// What a file system puts into its top folder by itself.
const OF_THE_FILE_SYSTEM: &str = "lost+found";
/// Bit of a folder in which everybody may make files.
const STICKY: u32 = 0o1000;
/// Folders in which files are replaced or made whole, besides those of artifacts.
const REPLACED: [&str; 4] = ["", layout::AUTH, "tokens", "snapshots"];

/// A state root that this process holds until it is dropped.
pub struct StateRoot {
    /// The folder.
    pub folder: Arc<Folder>,
    _lock: std::fs::File,
}

/// Opens the folder, making it if absent, takes its lock, and checks its modes. Blocks for half a second at most.
pub fn take(path: &Path, workspace: &Path, boot_id: BootId) -> Result<StateRoot, Refusal> {
    let io = |what: &str| OpenError::io(what.to_owned());
    let folder = Folder::create(path).map_err(|error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Refusal::new(Reason::ConfigInvalid, format!("--state-root: {} is no folder", path.display()))
        }
        _ => Refusal::from(io("opening the state root")(error)),
    })?;
    let (root, work) = (folder.path(), workspace.canonicalize().unwrap_or_else(|_| workspace.to_owned()));
    if root.starts_with(&work) || work.starts_with(root) {
        let detail = format!("{} and {} contain one another.", root.display(), work.display());
        return Err(Refusal::new(Reason::StateRootNested, detail));
    }
    check_purpose(&folder)?;
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
    // The lock is the kernel's; a disk that takes no words has it all the same.
    if let Err(error) = lock.set_len(0).and_then(|()| lock.write_all(words.as_bytes())) {
        tracing::warn!(%error, "the lock does not say who holds it");
    }
    check_modes(&folder)?;
    sweep(&folder);
    Ok(StateRoot { folder: Arc::new(folder), _lock: lock })
}

/// Whether a state root has an entry of this name at its top.
fn is_ours(name: &str) -> bool {
    FILES.contains(&name) || MADE.contains(&name) || FURTHER.contains(&name)
}

/// Refuses a folder that serves another purpose, before anything in it is changed: a state root closes its folder to
/// everybody else. It is either one already, or empty, or holds only what an unfinished first start leaves.
fn check_purpose(folder: &Folder) -> Result<(), Refusal> {
    let refuse = |why: String| {
        let detail = format!("--state-root: {} {why}; choose an empty folder", folder.path().display());
        Err(Refusal::new(Reason::ConfigInvalid, detail))
    };
    if own_mode(folder, ".")?.is_some_and(|mode| mode & STICKY != 0) {
        return refuse("is a folder that everybody uses".to_owned());
    }
    let entries = folder.list("").map_err(OpenError::io("looking into the state root".to_owned()))?;
    if entries.iter().any(|entry| entry.name == layout::STATE_ROOT) {
        return Ok(());
    }
    let known = |name: &str| name == OF_THE_FILE_SYSTEM || is_ours(temporary_of(name).unwrap_or(name));
    match entries.into_iter().map(|entry| entry.name).filter(|name| !known(name)).min() {
        Some(other) => refuse(format!("holds other things ({})", other.escape_debug())),
        None => Ok(()),
    }
}

/// Secrets that others can open or own refuse; folders of others refuse, loose ones are tightened.
fn check_modes(folder: &Folder) -> Result<(), Refusal> {
    for file in SECRETS {
        if let Some(mode) = own_mode(folder, file)?
            && mode & 0o077 != 0
        {
            return Err(OpenError::Loose { file: file.to_owned(), mode }.into());
        }
    }
    for name in FURTHER.into_iter().chain(MADE) {
        if own_mode(folder, name)?.is_some_and(|mode| mode & 0o077 != 0) {
            folder.tighten_dir(name).map_err(OpenError::io(format!("closing {name} to others")))?;
        }
    }
    Ok(())
}

/// Permission bits of an entry that belongs to this process's user or to root; none where there is no entry.
fn own_mode(folder: &Folder, name: &str) -> Result<Option<u32>, Refusal> {
    let owner = match folder.owner(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        owner => owner.map_err(OpenError::io(name.to_owned()))?,
    };
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        let detail = format!("{name} belongs to user {owner}: who owns a file can read and replace it");
        return Err(Refusal::new(Reason::StateRootInsecurePermissions, detail));
    }
    Ok(Some(folder.mode(name).map_err(OpenError::io(name.to_owned()))?))
}

/// Removes what an earlier start left half written. What cannot be removed is in nobody's way.
fn sweep(folder: &Folder) {
    for name in REPLACED {
        // The top folder is the one that others may have put files into.
        match sweep_temporaries(folder, name, |file| !name.is_empty() || is_ours(file)) {
            Ok(0) => {}
            Ok(files) => tracing::info!(folder = name, files, "what an earlier start left half written was removed"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(folder = name, %error, "half written files could not be removed"),
        }
    }
}

impl StateRoot {
    /// Makes the folders that do not belong to the journal.
    pub fn make_folders(&self) -> Result<(), Refusal> {
        for name in MADE {
            // One that stands there is opened, also where none can be made.
            self.folder.create_dir(name).map_err(OpenError::io(name.to_owned()))?;
        }
        Ok(())
    }

    /// The key of fingerprints and body MACs.
    pub fn fingerprint_key(&self) -> Result<[u8; KEY_BYTES], Refusal> {
        Ok(read_key(self.folder.as_ref(), layout::FINGERPRINT_KEY)?)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests change owners and modes the way a careless operator does")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use ulid::Ulid;

    use super::*;

    struct House(tempfile::TempDir);

    impl House {
        fn new() -> Self {
            let house = Self(tempfile::tempdir().unwrap());
            house.take().unwrap().make_folders().unwrap();
            std::fs::write(house.path(layout::STATE_ROOT), "{}").unwrap();
            house
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join("state").join(name)
        }

        fn take(&self) -> Result<StateRoot, Refusal> {
            let boot_id = BootId::from_ulid(Ulid::from_parts(1, 1));
            take(&self.path(""), &self.0.path().join("work"), boot_id)
        }
    }

    #[test]
    fn loose_folders_are_tightened_and_half_written_files_are_gone_after_a_start() {
        let house = House::new();
        for name in ["snapshots", "artifacts", "index", "journal/quarantine"] {
            std::fs::create_dir(house.path(name)).unwrap();
        }
        std::fs::write(house.path("snapshots/one.7.tmp"), "half").unwrap();
        std::fs::write(house.path("snapshots/one"), "whole").unwrap();
        std::fs::write(house.path("daemon.json.3.tmp"), "half").unwrap();
        std::fs::write(house.path("tokens/admin.token.77.tmp"), "half").unwrap();
        for foreign in ["notes.tmp", "notes.3.tmp", "daemon.json.tmp"] {
            std::fs::write(house.path(foreign), "somebody's").unwrap();
        }
        let folders = ["", "tokens", "control-plane-auth", "auth", "journal", "journal/quarantine"];
        let folders: Vec<PathBuf> = folders
            .into_iter()
            .chain(["snapshots", "artifacts", "tasks", "scratch", "index"])
            .map(|name| house.path(name))
            .collect();
        for folder in &folders {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        house.take().unwrap();
        for folder in &folders {
            let mode = std::fs::metadata(folder).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o700, "{}", folder.display());
        }
        for swept in ["snapshots/one.7.tmp", "daemon.json.3.tmp", "tokens/admin.token.77.tmp"] {
            assert!(!house.path(swept).exists(), "{swept}");
        }
        for kept in ["snapshots/one", "notes.tmp", "notes.3.tmp", "daemon.json.tmp"] {
            assert!(house.path(kept).exists(), "{kept}");
        }
    }

    #[test]
    fn a_folder_that_serves_another_purpose_is_refused_and_left_as_it_is() {
        let mode_of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let names = |path: &Path| {
            let mut names: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for (mode, held) in [(0o1777, &[][..]), (0o1777, &["other.txt"][..]), (0o755, &["LOCK", "a.tmp"][..])] {
            let house = House(tempfile::tempdir().unwrap());
            std::fs::create_dir(house.path("")).unwrap();
            for name in held {
                std::fs::write(house.path(name), "x").unwrap();
            }
            std::fs::set_permissions(house.path(""), std::fs::Permissions::from_mode(mode)).unwrap();
            let refusal = house.take().err().unwrap();
            assert_eq!(refusal.reason, Reason::ConfigInvalid, "{held:?}");
            assert_eq!(
                (mode_of(&house.path("")), names(&house.path(""))),
                (mode, held.iter().map(Into::into).collect())
            );
        }
    }

    #[test]
    fn an_empty_folder_and_an_unfinished_first_start_are_taken() {
        for held in [&[][..], &["lost+found"], &["LOCK", "audit-signing.key.0.tmp", "daemon.json"]] {
            let house = House(tempfile::tempdir().unwrap());
            std::fs::create_dir(house.path("")).unwrap();
            for name in held {
                std::fs::write(house.path(name), "x").unwrap();
            }
            std::fs::set_permissions(house.path(""), std::fs::Permissions::from_mode(0o700)).unwrap();
            assert!(house.take().is_ok(), "{held:?}");
        }
    }

    #[test]
    fn secrets_and_folders_of_another_user_refuse() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        for name in ["audit-signing.key", "auth/fingerprint.key", "tokens", "journal", ""] {
            let house = House::new();
            if name.ends_with("key") {
                std::fs::write(house.path(name), [7; 32]).unwrap();
                std::fs::set_permissions(house.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
            }
            house.take().unwrap();
            std::os::unix::fs::chown(house.path(name), Some(12_345), None).unwrap();
            let refusal = house.take().err().unwrap();
            assert_eq!(refusal.reason, Reason::StateRootInsecurePermissions, "{name}");
            assert!(refusal.detail.contains("12345"), "{}", refusal.detail);
        }
    }

    #[test]
    fn what_cannot_be_looked_at_refuses() {
        let house = House::new();
        std::fs::remove_dir(house.path("auth")).unwrap();
        std::fs::write(house.path("auth"), "a file where a folder should be").unwrap();
        assert!(house.take().is_err());
    }
}
