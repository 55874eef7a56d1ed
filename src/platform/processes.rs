//! Processes below this one: finding them, signalling them, reaping them. The supervisor of a command lives on this.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, kill_process_group, waitid,
};

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
    let mut children: BTreeMap<i32, Vec<Line>> = BTreeMap::new();
    for line in table.iter().filter(|line| line.pid != line.parent) {
        children.entry(line.parent).or_default().push(*line);
    }
    let mut found: Vec<Line> = Vec::new();
    while let Some(parent) = parents.pop() {
        // Taken out: in a table that was read while it changed, nobody is gone through twice.
        let below = children.remove(&parent).unwrap_or_default();
        parents.extend(below.iter().map(|line| line.pid));
        found.extend(below);
    }
    found
}

/// Every process below `root`.
pub fn descendants(root: Pid) -> Result<Vec<Pid>, NoTable> {
    Ok(below(root)?.into_iter().filter_map(|line| Pid::from_raw(line.pid)).collect())
}

/// Whether more processes than this live below this one, which has one thread. What that costs goes by how many there
/// are, and not by how many the machine has, as long as they are few.
pub fn descendants_exceed(limit: usize) -> bool {
    let mut parents = children("/proc/thread-self/children");
    let mut count = parents.len();
    while count <= limit
        && let Some(parent) = parents.pop()
    {
        #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
        let threads = std::fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
        for thread in threads.into_iter().flatten().flatten() {
            let found = children(thread.path().join("children"));
            count += found.len();
            parents.extend(found);
        }
    }
    // Those that have ended are told from the others only where that decides: their files take longer to read.
    let alive = |lines: Vec<Line>| lines.iter().filter(|line| !line.zombie).count();
    count > limit && below(rustix::process::getpid()).map_or(true, |lines| alive(lines) > limit)
}

/// Sends a signal to every process below this one. Those that have gone meanwhile do not matter.
pub fn signal_descendants(signal: Signal) -> Result<usize, NoTable> {
    let all = descendants(rustix::process::getpid())?;
    for pid in &all {
        let _ = kill_process(*pid, signal);
    }
    Ok(all.len())
}

/// How often an attempt to kill looks for new children before the whole table is read again.
const LOOKS: usize = 100;

/// One attempt to kill every process below this one; `ended` hears of every child that ended. Says whether there is
/// none left; to be repeated until there is.
///
/// What forks and exits faster than a table is read is still there afterwards. So whole groups are killed, which the
/// kernel does in one step, and then whoever has become a direct child, looked up again and again in one short file.
/// Groups are safe to kill where none of the descendants shares a session with others, as after `setsid`.
pub fn kill_descendants(mut ended: impl FnMut(Pid, WaitStatus)) -> Result<bool, NoTable> {
    kill(&below(rustix::process::getpid())?);
    for _ in 0..LOOKS {
        for pid in children("/proc/thread-self/children") {
            let _ = kill_process(pid, Signal::KILL);
        }
        loop {
            match reap() {
                Reaped::Ended(pid, status) => ended(pid, status),
                Reaped::Quiet => break,
                Reaped::NoChildren => return Ok(true),
            }
        }
    }
    Ok(false)
}

/// Kills these and their groups, but not the group of this process.
fn kill(lines: &[Line]) {
    let own_group = rustix::process::getpgrp();
    // Each once: the kernel goes through all members, and nobody forks or ends meanwhile.
    let groups: BTreeSet<i32> = lines.iter().map(|line| line.group).collect();
    let groups = groups.into_iter().filter_map(Pid::from_raw);
    for group in groups.filter(|group| *group != own_group && !group.is_init()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    for pid in lines.iter().filter_map(|line| Pid::from_raw(line.pid)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process, and all that it starts, can never gain privileges.
pub fn is_without_new_privileges(pid: i32) -> bool {
    #[expect(clippy::disallowed_methods, reason = "this is the platform, and /proc is not a disk")]
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1"))
}

/// Kills those children of this process that are meant, and everything below them.
pub struct Hunt<'a> {
    meant: &'a dyn Fn(i32) -> bool,
    started: &'a dyn Fn(i32) -> bool,
    /// Who was found to be meant, and whether it has ended since. Nobody is judged twice.
    found: BTreeMap<i32, bool>,
    killed: usize,
}

impl<'a> Hunt<'a> {
    /// Nobody is killed yet. Of those that end the ones are reaped that this process has not `started` itself: nobody
    /// else waits for them.
    pub fn new(meant: &'a dyn Fn(i32) -> bool, started: &'a dyn Fn(i32) -> bool) -> Self {
        Self { meant, started, found: BTreeMap::new(), killed: 0 }
    }

    /// How many were found alive so far.
    pub fn killed(&self) -> usize {
        self.killed
    }

    /// One attempt; says how many live on. To be repeated until there are none.
    pub fn attempt(&mut self) -> Result<usize, NoTable> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let table = table()?;
        // Those that have ended are reaped further down.
        let children = table.iter().filter(|line| line.parent == own && line.pid != own && !line.zombie);
        let mut all: Vec<Line> = children.filter(|line| self.is_meant(line.pid)).copied().collect();
        all.extend(below_all(&table, all.iter().map(|line| line.pid).collect()));
        // The group of one that has ended may live on.
        kill(&all);
        all.retain(|line| !line.zombie);
        for line in &all {
            self.note(line.pid);
        }
        // Whoever loses its parent comes to the first thread.
        let list = format!("/proc/self/task/{own}/children");
        let mut left = 0;
        for _ in 0..LOOKS {
            match self.look(&self::children(&list)) {
                // Children of other threads are not on the list, nor those yet of whoever has just ended.
                (0, 0) => return Ok(all.len()),
                (alive, ended) => left = alive + ended,
            }
        }
        Ok(left.max(all.len()))
    }

    /// Kills and reaps whom it finds among these children. Says how many are alive, and how many are found to have ended.
    fn look(&mut self, children: &[Pid]) -> (usize, usize) {
        let (mut alive, mut ended) = (0, 0);
        for pid in children {
            let number = pid.as_raw_nonzero().get();
            if self.found.get(&number) == Some(&true) || !self.is_meant(number) {
                continue;
            }
            let _ = kill_process(*pid, Signal::KILL);
            let started = (self.started)(number);
            if !has_ended(*pid, started) {
                self.note(number);
                alive += 1;
                continue;
            }
            ended += 1;
            if started {
                self.found.insert(number, true);
            } else {
                // Its number is free again.
                self.found.remove(&number);
            }
        }
        (alive, ended)
    }

    /// A number that was found may have become that of a process that this one has started since.
    fn is_meant(&self, pid: i32) -> bool {
        (self.found.contains_key(&pid) && !(self.started)(pid)) || (self.meant)(pid)
    }

    fn note(&mut self, pid: i32) {
        self.killed += usize::from(self.found.insert(pid, false).is_none());
    }
}

/// Whether this child has ended. It is reaped then, unless somebody else waits for it.
fn has_ended(pid: Pid, awaited: bool) -> bool {
    let keep = if awaited { WaitIdOptions::NOWAIT } else { WaitIdOptions::empty() };
    let state = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | keep);
    // An error says that there is no such child any more.
    !matches!(state, Ok(None))
}

/// Direct children of a thread; none where the kernel does not list them.
fn children(list: impl AsRef<std::path::Path>) -> Vec<Pid> {
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

    #[test]
    fn an_attempt_that_found_somebody_alive_is_not_the_last() {
        // This thread's child: the list of the first thread's children does not hold it.
        let mut child = std::process::Command::new("sleep").arg("300").spawn().unwrap();
        let pid = Pid::from_child(&child).as_raw_nonzero().get();
        let (meant, started) = (|number: i32| number == pid, |number: i32| number == pid);
        let mut hunt = Hunt::new(&meant, &started);
        assert_eq!(hunt.attempt().unwrap(), 1, "what it left may not be on any list yet");
        child.wait().unwrap();
        assert_eq!((hunt.attempt().unwrap(), hunt.killed()), (0, 1));
    }

    #[test]
    fn processes_that_have_ended_do_not_count() {
        let start = |program: &str| std::process::Command::new(program).arg("300").spawn().unwrap();
        let mut all: Vec<std::process::Child> = (0..20).map(|_| start("true")).collect();
        let own = rustix::process::getpid();
        let has_ended = |child: &std::process::Child| {
            let pid = Pid::from_child(child).as_raw_nonzero().get();
            below(own).unwrap().iter().any(|line| line.pid == pid && line.zombie)
        };
        while !all.iter().all(has_ended) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!descendants_exceed(9));
        all.extend((0..10).map(|_| start("sleep")));
        assert!(descendants_exceed(9) && !descendants_exceed(10));
        for child in &mut all {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}
