//! Where commands get their private temporary folders: in the system's folder for such, away from the journal, in one of
//! this daemon's own that goes at the drain. What dead daemons of the same state root left is removed at a start.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::platform::entropy::Entropy;
use crate::platform::scratch;

/// The folders of one state root.
#[derive(Debug, Clone)]
pub(super) struct ScratchPlace {
    /// This daemon's folder, made when the first command needs it.
    pub(super) folder: PathBuf,
    /// Where earlier daemons of this state root may have left theirs, and what those begin with.
    left: Vec<(PathBuf, String)>,
}

/// `$TMPDIR`, then `/tmp`; an empty variable names no folder.
fn temporary() -> impl Iterator<Item = PathBuf> {
    let named = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
    named.into_iter().chain([PathBuf::from("/tmp")])
}

impl ScratchPlace {
    /// Chooses the first folder for temporary files that can be used, or else one in the state root. `refuse` says why a
    /// folder cannot be used. Makes nothing.
    pub(super) fn choose(state_root: &Path, entropy: &dyn Entropy, refuse: impl Fn(&Path) -> Option<String>) -> Self {
        let own = state_root.join("scratch");
        let digest = Sha256::digest(state_root.as_os_str().as_encoded_bytes());
        let prefix = format!("chancery-scratch-{}-", data_encoding::HEXLOWER.encode(&digest[..8]));
        let mut usable = Vec::new();
        for given in temporary() {
            let tried = scratch::shared(&given).map_err(|error| error.to_string());
            match tried.and_then(|path| refuse(&path).map_or(Ok(path), Err)) {
                Ok(path) => usable.push(path),
                Err(why) => {
                    let folder = given.display();
                    tracing::warn!(%folder, why, "this folder is not used for temporary files of commands");
                }
            }
        }
        let parent = usable.first().unwrap_or(&own);
        if scratch::same_file_system(parent, state_root) {
            tracing::info!(folder = %parent.display(), "temporary files of commands share the journal's file system");
        }
        let folder = parent.join(format!("{prefix}{:032x}", entropy.u128()));
        let left = usable.into_iter().map(|path| (path, prefix.clone())).chain([(own, String::new())]).collect();
        Self { folder, left }
    }

    /// Removes what earlier daemons left. To be done with the state root's lock in hand: then they are dead.
    pub(super) fn sweep(&self) {
        for (parent, prefix) in &self.left {
            let folder = parent.display();
            match scratch::sweep(parent, prefix, &self.folder) {
                Ok((0, 0)) => {}
                Ok((removed, left)) => {
                    tracing::info!(%folder, removed, left, "temporary files of earlier daemons were removed");
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%folder, %error, "temporary files could not be removed"),
            }
        }
    }

    /// Removes this daemon's folder with what is left in it.
    pub(super) fn remove(&self) {
        if let Err(error) = scratch::remove(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "temporary files of commands could not be removed");
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests look at the disk themselves")]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;

    #[test]
    fn a_folder_that_agents_can_read_is_not_used_and_without_any_the_state_root_is() {
        let root = tempfile::tempdir().unwrap();
        let entropy = SystemEntropy::default();
        let usual = ScratchPlace::choose(root.path(), &entropy, |_| None);
        assert!(!usual.folder.starts_with(root.path()) && !usual.folder.exists(), "{usual:?}");
        let none = ScratchPlace::choose(root.path(), &entropy, |_| Some("agents could read it".to_owned()));
        assert_eq!(none.folder.parent(), Some(root.path().join("scratch").as_path()));
        let name = |place: &ScratchPlace| place.folder.file_name().unwrap().to_str().unwrap()[..34].to_owned();
        assert_eq!(name(&usual), name(&none), "the name says whose it is");
    }
}
