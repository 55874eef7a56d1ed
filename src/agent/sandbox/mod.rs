//! Every child process starts here: through a hidden verb of our own binary, confined by Landlock and seccomp, under
//! a supervisor that leaves nothing of it running.
//!
//! daemon → `__confine` (supervisor, outside of the sandbox) → `__confine enter` (confines itself, becomes the
//! command). Plans and reports travel over a socket that is also the supervisor's life line. Where a supervisor is lost,
//! what it watched over comes back to the daemon, which kills it.

mod child;
mod confinement;
mod enter;
mod filter;
mod launcher;
pub mod limits;
mod ownership;
mod places;
mod plan;
mod restrict;
mod supervisor;
mod supervisors;

pub use child::{Child, Exit, Stopper};
pub use confinement::{Confinement, LANDLOCK_ABI_FLOOR, LANDLOCK_ABI_SIGNALS, SandboxMode};
pub use launcher::{Command, Launcher, Profile, Settings};
pub use places::leads_through;
pub use plan::How;

/// The hidden verb.
pub const VERB: &str = "__confine";
/// Its second half.
const ENTER: &str = "enter";

/// Kills every command of this process and everything they started. Says how many processes that were, and how many of
/// them live on all the same. Blocks for about two seconds at most.
pub fn end_all() -> (usize, usize) {
    supervisors::end(supervisors::Whose::All)
}

/// Runs the hidden verb in this process. Without a daemon at the other end of standard input it does nothing.
pub fn confined_child() -> std::process::ExitCode {
    let outcome = match std::env::args().nth(2).as_deref() {
        Some(ENTER) => enter::enter(),
        _ => supervisor::supervise(),
    };
    // Who wants to know was told over the socket; a code is for the process table only.
    if outcome.is_ok() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
