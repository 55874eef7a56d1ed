//! What must not lie where agents can look. Paths are compared as the kernel will see them, so that a link does not hide
//! what holds what.

use std::path::{Path, PathBuf};

use super::launcher::Settings;
use super::{SandboxMode, restrict};

/// Where a path leads. What is not there yet is taken to come where its folder leads.
pub(super) fn real(path: &Path) -> PathBuf {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => path.to_owned(),
    }
}

/// Whether a path leads into this workspace, or through it: agents that work there could replace what it names.
pub fn leads_through(file: &Path, workspace: &Path) -> bool {
    let inside = real(workspace);
    file.ancestors().any(|part| real(part).starts_with(&inside))
}

impl Settings {
    /// The folder by which agents that work in this workspace could read or replace this file or folder; nothing where
    /// there is none. A path that leads through the workspace counts as well: who works there can lead it elsewhere.
    pub fn way_to(&self, file: &Path, workspace: &Path) -> Option<PathBuf> {
        if leads_through(file, workspace) {
            return Some(workspace.to_owned());
        }
        match self.mode {
            SandboxMode::On => self.readable().find(|open| real(file).starts_with(real(open))),
            // Then commands are not kept from any folder, and the operator has said so.
            SandboxMode::Off => None,
        }
    }

    /// What confined commands may read besides the workspace.
    pub(super) fn readable(&self) -> impl Iterator<Item = PathBuf> {
        restrict::READ_ONLY.iter().map(PathBuf::from).chain(self.read_only.iter().cloned())
    }
}
