//! Wiring: open, lock, recover, catch up, start, drain.

mod agents;
pub mod serve;

/// The hidden verb that every child process starts through; `None` where the process was started for something else.
pub fn confined_child() -> Option<std::process::ExitCode> {
    let hidden = std::env::args_os().nth(1).is_some_and(|verb| verb == crate::agent::sandbox::VERB);
    hidden.then(crate::agent::sandbox::confined_child)
}
