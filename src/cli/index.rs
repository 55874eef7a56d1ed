//! `chancery index rebuild|verify [STATE_ROOT]`: the disposable index of a state root that no daemon serves.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::ClientArgs;
use super::output;
use crate::services::index_offline::{self, Built, Compared};

/// Something about the index. A daemon that runs keeps its index by itself.
#[derive(Debug, Subcommand)]
pub enum Index {
    /// Removes it and builds it from the journal.
    Rebuild(Place),
    /// Compares it with the journal. Exit code: 0 the same, 1 different or refused.
    Verify(Place),
}

/// Which state root.
#[derive(Debug, Args)]
pub struct Place {
    /// The state root; that of --state-root where absent.
    path: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(client: &ClientArgs, verb: &Index) -> ExitCode {
    let (Index::Rebuild(place) | Index::Verify(place)) = verb;
    let Some(path) = place.path.clone().or_else(|| client.root()) else {
        output::talk("no path is given and there is no default state root");
        return ExitCode::from(2);
    };
    match verb {
        Index::Rebuild(_) => rebuild(client, &path),
        Index::Verify(place) => verify(client, place, &path),
    }
}

fn rebuild(client: &ClientArgs, path: &Path) -> ExitCode {
    match index_offline::rebuild(path) {
        Ok(Built { segments, records }) => {
            output::data(&format!("rebuilt: {records} records of {segments} closed segments"));
            ExitCode::SUCCESS
        }
        Err(refusal) => client.refused(&refusal),
    }
}

fn verify(client: &ClientArgs, place: &Place, path: &Path) -> ExitCode {
    match index_offline::verify(path) {
        Ok(Compared::Same { segments, entries, missing }) => {
            output::data(&format!("the same: {entries} entries over {segments} closed segments"));
            if missing > 0 {
                output::data(&format!("not covered yet: {missing} closed segments; a daemon adds them when it runs"));
            }
            ExitCode::SUCCESS
        }
        Ok(Compared::Absent) => {
            output::data("absent: there is no index; a daemon builds it when it runs");
            ExitCode::SUCCESS
        }
        Ok(Compared::Differs(why)) => {
            output::data(&format!("different: {}", output::escape(&why)));
            let named = place.path.as_ref().map(|path| output::shell_word(&path.to_string_lossy()));
            let command = named
                .map_or_else(|| client.here("chancery index rebuild"), |path| format!("chancery index rebuild {path}"));
            output::talk(&format!("next: {}", output::escape(&command)));
            ExitCode::FAILURE
        }
        Err(refusal) => client.refused(&refusal),
    }
}
