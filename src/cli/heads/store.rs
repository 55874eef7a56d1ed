//! The file of kept heads: the newest note of each journal that this user's commands have seen, and the key it was
//! signed with. It lies beside the user's other state, never inside a state root, and several commands may write it at
//! the same time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::settings::Folders;
use crate::journal::layout;
use crate::journal::note::{Note, Origin};
use crate::platform::disk::{read_bounded, replace_atomically};
use crate::platform::files::Folder;

const FILE: &str = "heads.json";
const LOCK: &str = "heads.lock";
const FILE_BYTES: u64 = 4 << 20;
const VERSION: u32 = 1;
/// How long the lock is waited for: three seconds.
const LOCK_STEPS: u32 = 150;
const LOCK_STEP: Duration = Duration::from_millis(20);

/// What is kept of one journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The key that signs, as a C2SP verifier key; pinned when the journal was first seen, changed by handovers only.
    pub key: String,
    /// The newest note.
    pub note: String,
    /// When the journal was first seen, Unix milliseconds.
    pub first_seen_at_ms: u64,
}

impl Kept {
    /// The note, parsed.
    pub fn note(&self) -> Option<Note> {
        Note::parse(&self.note)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heads {
    version: u32,
    /// By root id, then by epoch.
    heads: BTreeMap<String, BTreeMap<String, Kept>>,
}

/// Where the file lies.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Store {
    /// The user's file.
    pub fn of_user(folders: &Folders) -> Option<Self> {
        // The default state root is a sibling; its parent is the folder of the user's state.
        let state = folders.default_state_root()?.parent()?.to_owned();
        Some(Self { folder: state.join("chancery-cli") })
    }

    /// The file's path, for messages.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn outside_of_state_roots(&self) -> io::Result<()> {
        let inside = |folder: &Path| folder.join(layout::STATE_ROOT).exists();
        match self.folder.ancestors().find(|folder| inside(folder)) {
            None => Ok(()),
            Some(root) => Err(wrong(format!("{} is a state root; nothing else is kept there", root.display()))),
        }
    }

    /// What is kept of a journal.
    pub fn kept(&self, origin: &Origin) -> io::Result<Option<Kept>> {
        let folder = match Folder::open(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut heads = read(&folder)?;
        let epochs = heads.heads.get_mut(&origin.root_id.to_string());
        Ok(epochs.and_then(|epochs| epochs.remove(&origin.epoch.to_string())))
    }

    /// What is kept of a state root's other epochs.
    pub fn of_other_epochs(&self, origin: &Origin) -> io::Result<Vec<(Origin, Kept)>> {
        let folder = match Folder::open(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let epochs = read(&folder)?.heads.remove(&origin.root_id.to_string()).unwrap_or_default();
        let named = |(epoch, kept): (String, Kept)| Some((Origin { epoch: epoch.parse().ok()?, ..*origin }, kept));
        Ok(epochs.into_iter().filter_map(named).filter(|(other, _)| other != origin).collect())
    }

    /// Puts `new` in the place of `old`, leaving all other journals as they are. False where someone else changed the
    /// entry in the meantime.
    pub fn replace(&self, origin: &Origin, old: Option<&Kept>, new: &Kept) -> io::Result<bool> {
        self.outside_of_state_roots()?;
        let folder = Folder::create(&self.folder)?;
        let _lock = lock(&folder)?;
        let mut heads = read(&folder)?;
        let epochs = heads.heads.entry(origin.root_id.to_string()).or_default();
        let epoch = origin.epoch.to_string();
        if epochs.get(&epoch) != old {
            return Ok(false);
        }
        epochs.insert(epoch, new.clone());
        let mut text = serde_json::to_vec_pretty(&heads).map_err(|error| wrong(error.to_string()))?;
        text.push(b'\n');
        replace_atomically(&folder, "", FILE, &text).map(|()| true)
    }
}

fn read(folder: &Folder) -> io::Result<Heads> {
    let bytes = match read_bounded(folder, FILE, FILE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Heads { version: VERSION, heads: BTreeMap::new() });
        }
        other => other?,
    };
    let heads: Heads = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("it does not parse: {error}")))?;
    if heads.version == VERSION { Ok(heads) } else { Err(wrong(format!("its version is {}", heads.version))) }
}

fn lock(folder: &Folder) -> io::Result<std::fs::File> {
    for _ in 0..LOCK_STEPS {
        if let Some(lock) = folder.try_lock(LOCK)? {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_STEP);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another command holds its lock"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{EpochId, RootId};

    fn origin(number: u128) -> Origin {
        let ulid = ulid::Ulid(number);
        Origin { root_id: RootId::from_ulid(ulid), epoch: EpochId::from_ulid(ulid) }
    }

    fn kept(note: &str) -> Kept {
        Kept { key: "k".to_owned(), note: note.to_owned(), first_seen_at_ms: 1 }
    }

    #[test]
    fn commands_that_write_at_the_same_time_lose_no_entry() {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store { folder: temporary.path().join("chancery-cli") };
        std::thread::scope(|scope| {
            for number in 1..=16 {
                let store = store.clone();
                scope.spawn(move || assert!(store.replace(&origin(number), None, &kept("n")).unwrap()));
            }
        });
        for number in 1..=16 {
            assert_eq!(store.kept(&origin(number)).unwrap(), Some(kept("n")), "{number}");
        }
    }

    #[test]
    fn an_entry_that_changed_meanwhile_is_not_written_over() {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store { folder: temporary.path().join("chancery-cli") };
        assert!(store.replace(&origin(1), None, &kept("one")).unwrap());
        assert!(!store.replace(&origin(1), None, &kept("two")).unwrap());
        assert!(!store.replace(&origin(1), Some(&kept("zero")), &kept("two")).unwrap());
        assert_eq!(store.kept(&origin(1)).unwrap(), Some(kept("one")));
        assert!(store.replace(&origin(1), Some(&kept("one")), &kept("two")).unwrap());
        assert_eq!(store.kept(&origin(1)).unwrap(), Some(kept("two")));
    }

    #[test]
    fn nothing_is_kept_inside_a_state_root() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Folder::create(&temporary.path().join("state")).unwrap();
        replace_atomically(&root, "", layout::STATE_ROOT, b"{}").unwrap();
        let store = Store { folder: temporary.path().join("state/chancery-cli") };
        assert!(store.replace(&origin(1), None, &kept("one")).is_err());
        assert!(!store.folder.exists());
    }
}
