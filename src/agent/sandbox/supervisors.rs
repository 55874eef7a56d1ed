//! The supervisors of this process, and what a lost one leaves: its command's processes come back to this process, which
//! has asked for that, and are killed here.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::limits;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::processes;

/// Children are a thing of the whole process, and so is the list of those that are supervisors.
static SUPERVISORS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn known() -> MutexGuard<'static, BTreeSet<i32>> {
    // Whoever panicked held a set in order.
    SUPERVISORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose processes are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of supervisors that are gone.
    Lost,
    /// Those of every supervisor, and the supervisors.
    All,
}

/// A supervisor that this process has started.
#[derive(Debug)]
pub(super) struct Supervisor {
    process: Child,
    pid: i32,
}

impl Supervisor {
    /// Starts one.
    pub(super) fn start(command: &mut Command) -> std::io::Result<Self> {
        // Held until it is on the list: nobody takes it for what a lost one left.
        let mut known = known();
        let process = command.spawn()?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        known.insert(pid);
        drop(known);
        Ok(Self { process, pid })
    }

    /// Kills it; its command is then among what a lost one left.
    pub(super) fn kill(&mut self) {
        let _ = self.process.start_kill();
    }

    /// Waits for its end. May be dropped and called again.
    pub(super) async fn wait(&mut self) {
        let _ = self.process.wait().await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        known().remove(&self.pid);
    }
}

/// Kills such processes until there are none. Says how many it saw, and how many even that did not end in time.
pub(super) fn end(whose: Whose) -> (usize, usize) {
    let clock = SystemClock;
    let give_up_at_ms = clock.boot_ms().saturating_add(limits::ORPHANS_MS);
    let mut seen = 0;
    loop {
        let left = {
            let known = known();
            // What a command starts can't gain privileges, and what else this process starts can: the supervisors too.
            let ours = |pid: i32| {
                if known.contains(&pid) { whose == Whose::All } else { processes::is_without_new_privileges(pid) }
            };
            // Where the table can't be read nothing can be found.
            processes::kill_trees(&ours, &known).unwrap_or(0)
        };
        seen = seen.max(left);
        if left == 0 || clock.boot_ms() >= give_up_at_ms {
            return (seen, left);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
