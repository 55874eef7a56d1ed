//! Processes below this one: finding them, signalling them, reaping them. The supervisor of a command lives on this.

use std::collections::BTreeSet;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group};

/// Why the table of processes could not be read.
#[derive(Debug, thiserror::Error)]
#[error("/proc cannot be read: {0}")]
pub struct NoTable(#[from] std::io::Error);

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    pid: i32,
    parent: i32,
    group: i32,
    /// It has ended and is not reaped yet.
    zombie: bool,
}

fn table() -> Result<Vec<Line>, NoTable> {
    #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
    let entries = std::fs::read_dir("/proc")?;
    let mut lines = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        lines.extend(line_of(pid, &stat));
    }
    Ok(lines)
}

/// Reads `/proc/PID/stat`; the name in front of the numbers may itself hold spaces and parentheses.
fn line_of(pid: i32, stat: &str) -> Option<Line> {
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let zombie = matches!(words.next()?, "Z" | "X");
    Some(Line { pid, parent: words.next()?.parse().ok()?, group: words.next()?.parse().ok()?, zombie })
}

fn below(root: Pid) -> Result<Vec<Line>, NoTable> {
    Ok(below_all(&table()?, vec![root.as_raw_nonzero().get()]))
}

fn below_all(table: &[Line], mut parents: Vec<i32>) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    while let Some(parent) = parents.pop() {
        let children = table.iter().filter(|line| line.parent == parent && line.pid != parent);
        parents.extend(children.clone().map(|line| line.pid));
        found.extend(children);
    }
    found
}

/// Every process below `root`.
pub fn descendants(root: Pid) -> Result<Vec<Pid>, NoTable> {
    Ok(below(root)?.into_iter().filter_map(|line| Pid::from_raw(line.pid)).collect())
}

/// Sends a signal to every process below this one. Those that have gone meanwhile do not matter.
pub fn signal_descendants(signal: Signal) -> Result<usize, NoTable> {
    let all = descendants(rustix::process::getpid())?;
    for pid in &all {
        let _ = kill_process(*pid, signal);
    }
    Ok(all.len())
}

/// One attempt to kill every process below this one; says how many it saw. To be repeated until there are none.
///
/// What forks and exits faster than a table is read is still there afterwards. So whole groups are killed, which the
/// kernel does in one step, and then whoever has become a direct child, looked up again and again in one short file.
/// Groups are safe to kill where none of the descendants shares a session with others, as after `setsid`.
pub fn kill_descendants() -> Result<usize, NoTable> {
    let all = below(rustix::process::getpid())?;
    kill(&all);
    for _ in 0..100 {
        for pid in children("/proc/thread-self/children") {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(all.len())
}

/// Kills these and their groups, but not the group of this process.
fn kill(lines: &[Line]) {
    let own_group = rustix::process::getpgrp();
    for line in lines {
        if let Some(pid) = Pid::from_raw(line.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(group) = Pid::from_raw(line.group).filter(|group| *group != own_group && !group.is_init()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Whether a process, and all that it starts, can never gain privileges.
pub fn is_without_new_privileges(pid: i32) -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1"))
}

/// One attempt to kill those children of this process that are meant, and everything below them; says how many it saw
/// alive. To be repeated until there are none. Of what was killed the children are reaped that this process did not
/// start itself: nobody else waits for them.
pub fn kill_trees(meant: &dyn Fn(i32) -> bool, started: &BTreeSet<i32>) -> Result<usize, NoTable> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let table = table()?;
    let mut all: Vec<Line> =
        table.iter().filter(|line| line.parent == own && line.pid != own && meant(line.pid)).copied().collect();
    all.extend(below_all(&table, all.iter().map(|line| line.pid).collect()));
    kill(&all);
    for _ in 0..100 {
        // Whoever loses its parent comes to the first thread.
        for pid in children(&format!("/proc/self/task/{own}/children")) {
            if meant(pid.as_raw_nonzero().get()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
    for line in all.iter().filter(|line| !started.contains(&line.pid)) {
        // Those further below are no children yet, and say so.
        let _ = Pid::from_raw(line.pid).map(|pid| rustix::process::waitpid(Some(pid), WaitOptions::NOHANG));
    }
    Ok(all.iter().filter(|line| !line.zombie).count())
}

/// Direct children of a thread; none where the kernel does not list them.
fn children(list: &str) -> Vec<Pid> {
    #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
    let text = std::fs::read_to_string(list).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).collect()
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
        assert_eq!(line_of(7, "7 (a) S 1 (b)) R 42 8 9 0"), Some(Line { pid: 7, parent: 42, group: 8, zombie: false }));
        assert_eq!(line_of(8, "8 (x) Z 1 8 9 0"), Some(Line { pid: 8, parent: 1, group: 8, zombie: true }));
        assert_eq!(line_of(7, "7 (cut"), None);
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
