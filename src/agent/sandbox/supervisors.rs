//! The supervisors of this process, and what a lost one leaves: its command's processes come back to this process, which
//! has asked for that, and are killed here.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::limits;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::processes::{self, Hunt};

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

/// Kills such processes until there are none. Says how many it saw, and how many even that did not end in time. Takes as
/// long as there are many of them: never call it where others wait, and never hold the list meanwhile.
pub(super) fn end(whose: Whose) -> (usize, usize) {
    end_those(whose, &processes::is_without_new_privileges)
}

fn end_those(whose: Whose, confined: &dyn Fn(i32) -> bool) -> (usize, usize) {
    let clock = SystemClock;
    let give_up_at_ms = clock.boot_ms().saturating_add(limits::ORPHANS_MS);
    let started = |pid: i32| known().contains(&pid);
    // What a command starts can't gain privileges, and what else this process starts can: the supervisors too.
    let meant = |pid: i32| if started(pid) { whose == Whose::All } else { confined(pid) };
    let mut hunt = Hunt::new(&meant, &started);
    loop {
        // Where the table can't be read nothing can be found.
        let left = hunt.attempt().unwrap_or(0);
        if left == 0 || clock.boot_ms() >= give_up_at_ms {
            return (hunt.killed(), left);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test looks at the machine directly")]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::process::CommandExt as _;

    use super::*;

    /// The processes of the table whose command line holds this text.
    fn marked(mark: &str) -> Vec<i32> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holds = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|text| memchr::memmem::find(&text, mark.as_bytes()).is_some())
        };
        numbers.filter(holds).collect()
    }

    #[test]
    fn a_thousand_orphans_are_ended_while_others_use_the_list_and_each_is_judged_once() {
        crate::platform::own_process::adopt_orphans().unwrap();
        let seconds = format!("300.{}", std::process::id());
        let script = format!("for i in $(seq 1000); do sleep {seconds} & done; exit 0");
        let mut parent = std::process::Command::new("sh").args(["-c", &script]).process_group(0).spawn().unwrap();
        parent.wait().unwrap();
        let orphans = marked(&seconds);
        assert_eq!(orphans.len(), 1_000);
        let judged = Mutex::new(BTreeMap::new());
        let confined = |pid: i32| {
            // What another thread needs to start a supervisor.
            assert!(SUPERVISORS.try_lock().is_ok(), "the list is held while processes are looked at");
            let meant = orphans.binary_search(&pid).is_ok();
            if meant {
                *judged.lock().unwrap().entry(pid).or_insert(0) += 1;
            }
            meant
        };
        let said = end_those(Whose::Lost, &confined);
        assert_eq!(marked(&seconds), Vec::<i32>::new());
        assert_eq!(said, (1_000, 0));
        assert!(judged.lock().unwrap().values().all(|count| *count == 1));
    }
}
