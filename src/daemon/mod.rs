//! Wiring: open, lock, recover, catch up, start, drain.

mod agents;
mod beginning;
mod door_path;
mod drain;
pub mod log_level;
pub mod schema;
mod scratch_place;
pub mod serve;
mod signals;
mod status_source;
mod token_files;
mod workers;

/// Whether this machine can confine the commands of agents.
pub fn can_confine() -> bool {
    crate::agent::sandbox::Confinement::probe().is_enough()
}

/// The hidden verb that every child process starts through; `None` where the process was started for something else.
pub fn confined_child() -> Option<std::process::ExitCode> {
    let hidden = std::env::args_os().nth(1).is_some_and(|verb| verb == crate::agent::sandbox::VERB);
    hidden.then(crate::agent::sandbox::confined_child)
}
