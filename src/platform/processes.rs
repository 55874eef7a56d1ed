//! Processes below this one: finding them, signalling them, reaping them. The supervisor of a command lives on this.

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};

/// Why the table of processes could not be read.
#[derive(Debug, thiserror::Error)]
#[error("/proc cannot be read: {0}")]
pub struct NoTable(#[from] std::io::Error);

/// Parent of every process that can be seen, as `(process, parent)`.
fn table() -> Result<Vec<(i32, i32)>, NoTable> {
    #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
    let entries = std::fs::read_dir("/proc")?;
    let mut pairs = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_in_stat(&stat) {
            pairs.push((pid, parent));
        }
    }
    Ok(pairs)
}

/// The parent in a line of `/proc/PID/stat`; the name before it may itself hold spaces and parentheses.
fn parent_in_stat(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Every process below `root`, parents before children.
pub fn descendants(root: Pid) -> Result<Vec<Pid>, NoTable> {
    let table = table()?;
    let mut found = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(table.iter().filter(|(pid, of)| *of == parent && *pid != parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found.into_iter().skip(1).filter_map(Pid::from_raw).collect())
}

/// Sends a signal to every process below this one. Those that have gone meanwhile do not matter.
pub fn signal_descendants(signal: Signal) -> Result<usize, NoTable> {
    let all = descendants(rustix::process::getpid())?;
    for pid in &all {
        let _ = kill_process(*pid, signal);
    }
    Ok(all.len())
}

/// What is left to wait for.
#[derive(Debug)]
pub enum Reaped {
    /// This child ended.
    Ended(Pid, WaitStatus),
    /// Children live, none ended.
    Quiet,
    /// There are no children.
    NoChildren,
}

/// Reaps one child, if one ended; never blocks.
pub fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Reaped::Ended(pid, status),
            Ok(None) => return Reaped::Quiet,
            Err(Errno::INTR) => {}
            Err(_) => return Reaped::NoChildren,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_a_hostile_name() {
        assert_eq!(parent_in_stat("7 (a) S 1 (b)) R 42 7 7 0"), Some(42));
        assert_eq!(parent_in_stat("7 (cut"), None);
    }

    #[test]
    fn a_grandchild_counts_as_a_descendant() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let mut below = Vec::new();
        for _ in 0..200 {
            below = descendants(pid).unwrap();
            if !below.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(below.len(), 1, "{below:?}");
        assert!(descendants(rustix::process::getpid()).unwrap().contains(&below[0]));
        kill_process(below[0], Signal::KILL).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
