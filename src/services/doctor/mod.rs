//! What an operator asks when something is wrong: one check a file, each looking at one thing of a state root, offline.
//! A check that could not be measured says so; it is never "ok".

mod clock;
mod disk;
mod journal;
mod keys;
mod modes;
mod tokens;
mod vault;
mod write_probe;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::platform::clock::Clock;
use crate::platform::files::Folder;
use crate::services::tokens::TokenFiles;

/// What a check came to, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Measured, and in order.
    Ok,
    /// Measured; it works, and could be better.
    Advice,
    /// It could not be measured.
    Unknown,
    /// Measured, and broken.
    Broken,
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
        }
    }

    /// Exit code of a doctor whose worst outcome is this one.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Advice => 1,
            Self::Broken => 2,
            Self::Unknown => 3,
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What it came to.
    pub outcome: Outcome,
    /// What was found, in one sentence.
    pub detail: String,
    /// What to do about it, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// In order.
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, detail: detail.into(), advice: None }
    }

    /// It works, and could be better.
    pub fn advice(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Advice, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It does not work.
    pub fn broken(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Broken, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// It could not be measured.
    pub fn unknown(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Unknown, detail: detail.into(), advice: Some(advice.into()) }
    }
}

/// What is known of the daemon on a state root without asking it.
#[derive(Debug, Clone, Default)]
pub struct Holder {
    /// Whether a daemon holds the lock.
    pub held: bool,
    /// Whether it asks for tokens; none where it does not say.
    pub asks: Option<bool>,
    /// The token files that it names.
    pub token_files: Option<TokenFiles>,
}

/// What a start says of a file system that does not keep all that the journal builds on; nothing where it does.
pub fn doubts_about_file_system(folder: &Folder) -> Option<Finding> {
    Some(disk::kind(folder)).filter(|finding| finding.outcome != Outcome::Ok)
}

/// Everything that can be looked at without a daemon.
pub fn examine(path: &Path, holder: &Holder, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let folder = match Folder::open(path) {
        Ok(folder) => folder,
        Err(error) => {
            let foreign = error.kind() == std::io::ErrorKind::PermissionDenied;
            let missing = "name it with --state-root, or make one with `chancery serve --workspace-root DIR`";
            let advice = if foreign { "run doctor as the user that the daemon runs as" } else { missing };
            return vec![Finding::unknown("state root", format!("{}: {error}", path.display()), advice)];
        }
    };
    vec![
        modes::check(&folder),
        keys::check(&folder),
        vault::check(&folder),
        write_probe::check(&folder),
        journal::check(&folder, holder.held, clock),
        tokens::check(path, holder),
        disk::space(&folder),
        disk::kind(&folder),
        clock::check(&folder, clock.as_ref()),
    ]
}
