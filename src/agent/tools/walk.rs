//! Going through the folders of the workspace: by descriptors, never through a link, in order of names, with limits.
//! `.git` and files that a call has not put into their place are left out, and so is what `.gitignore` files name unless
//! the caller wants all.

use std::os::fd::OwnedFd;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, Dir, FileType};
use tokio_util::sync::CancellationToken;

use super::limits;
use crate::agent::workspace::{Workspace, is_temporary, open_entry, read_regular, refusal};
use crate::domain::reason::{Reason, Refusal};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Path in the workspace.
    pub path: &'a str,
    /// Path below the folder where the walk began.
    pub below: &'a str,
    /// The folder it is in.
    pub folder: &'a OwnedFd,
    /// Its name there.
    pub name: &'a str,
    pub kind: Kind,
    pub size: u64,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Enough,
}

/// How a walk is bounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Levels to go down; 1 is the folder itself.
    pub depth: u32,
    /// Whether ignored entries are shown too.
    pub ignored: bool,
}

/// What a walk did not see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// Folders that could not be read.
    pub unreadable: u64,
    /// Entries whose names are not UTF-8. Those cannot be said in JSON, so they cannot be asked for either.
    pub unnameable: u64,
    /// Whether it ended at the limit of entries.
    pub limit: bool,
}

impl Missed {
    /// What a result says about names that it cannot show.
    pub(super) fn unnameable_line(&self) -> Option<String> {
        let count = self.unnameable;
        (count > 0)
            .then(|| format!("[{count} entries have names that are not UTF-8; they and what they hold are left out]\n"))
    }
}

struct Walk<'a> {
    start: &'a str,
    stop: &'a CancellationToken,
    bounds: Bounds,
    visit: &'a mut dyn FnMut(&Entry<'_>) -> Flow,
    seen: u64,
    missed: Missed,
    ignores: Vec<(String, Gitignore)>,
}

/// Visits everything below a folder. Refuses as soon as `stop` resolves.
pub(super) fn walk(
    (workspace, start): (&Workspace, &str),
    bounds: Bounds,
    stop: &CancellationToken,
    visit: &mut dyn FnMut(&Entry<'_>) -> Flow,
) -> Result<Missed, Refusal> {
    let folder = workspace.folder(start)?;
    let mut walk = Walk { start, stop, bounds, visit, seen: 0, missed: Missed::default(), ignores: Vec::new() };
    // A folder that cannot be read at all is an error where it is the one asked for.
    let names = walk.names(&folder).map_err(|errno| refusal(start, errno))?;
    walk.folder(&folder, "", names, 1);
    let missed = walk.missed;
    if stop.is_cancelled() { Err(Refusal::new(Reason::ToolFailed, "Stopped on request.")) } else { Ok(missed) }
}

impl Walk<'_> {
    fn names(&mut self, folder: &OwnedFd) -> Result<Vec<String>, rustix::io::Errno> {
        let (mut names, mut unnameable) = (Vec::new(), 0);
        for entry in Dir::read_from(folder)? {
            match entry?.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => unnameable += 1,
            }
            if names.len() as u64 + unnameable > limits::WALK_ENTRIES {
                break;
            }
        }
        self.missed.unnameable += unnameable;
        names.sort_unstable();
        Ok(names)
    }

    fn folder(&mut self, folder: &OwnedFd, below: &str, names: Vec<String>, level: u32) -> Flow {
        let ignores = self.ignores.len();
        if !self.bounds.ignored && names.binary_search_by(|name| name.as_str().cmp(".gitignore")).is_ok() {
            self.heed(folder, below);
        }
        let mut flow = Flow::On;
        for name in names {
            flow = self.entry(folder, below, &name, level);
            if flow == Flow::Enough {
                break;
            }
        }
        self.ignores.truncate(ignores);
        flow
    }

    fn entry(&mut self, folder: &OwnedFd, parent: &str, name: &str, level: u32) -> Flow {
        if self.stop.is_cancelled() {
            return Flow::Enough;
        }
        self.seen += 1;
        if self.seen > limits::WALK_ENTRIES {
            self.missed.limit = true;
            return Flow::Enough;
        }
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return Flow::On };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        let below = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        if name == ".git" || is_temporary(name) || self.is_ignored(&below, kind == Kind::Folder) {
            return Flow::On;
        }
        let path = if self.start == "." { below.clone() } else { format!("{}/{below}", self.start) };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let flow = (self.visit)(&Entry { path: &path, below: &below, folder, name, kind, size });
        if flow == Flow::Enough || kind != Kind::Folder || level >= self.bounds.depth.min(limits::WALK_DEPTH) {
            return flow;
        }
        let Ok((names, inner)) = open_entry(folder, name).and_then(|inner| Ok((self.names(&inner)?, inner))) else {
            self.missed.unreadable += 1;
            return Flow::On;
        };
        self.folder(&inner, &below, names, level + 1)
    }

    /// Takes up the rules of a `.gitignore`. One that cannot be read has none.
    fn heed(&mut self, folder: &OwnedFd, below: &str) {
        let read = open_entry(folder, ".gitignore").and_then(|file| read_regular(file, limits::IGNORE_FILE_BYTES));
        let Ok(content) = read else { return };
        let mut builder = GitignoreBuilder::new("");
        // Many rules take long to compile; nobody waits for those of a walk that is over.
        for line in String::from_utf8_lossy(&content.bytes).lines() {
            if self.stop.is_cancelled() {
                return;
            }
            let _ = builder.add_line(None, line);
        }
        if let Ok(rules) = builder.build() {
            self.ignores.push((below.to_owned(), rules));
        }
    }

    /// The innermost file of rules that says something decides.
    fn is_ignored(&self, below: &str, is_folder: bool) -> bool {
        for (base, rules) in self.ignores.iter().rev() {
            let inside = below.strip_prefix(base.as_str()).unwrap_or(below).trim_start_matches('/');
            let found = rules.matched(inside, is_folder);
            if !found.is_none() {
                return found.is_ignore();
            }
        }
        false
    }
}

/// Compiles a glob over paths: `*` stays within a folder, `**` does not. One without a slash is about names alone.
pub(super) fn glob(pattern: &str) -> Result<globset::GlobMatcher, Refusal> {
    super::within("The glob", pattern, limits::PATTERN_BYTES)?;
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    globset::GlobBuilder::new(&anywhere)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|fault| super::invalid(format!("The glob does not parse: {fault}.")))
}
