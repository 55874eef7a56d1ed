//! Modes and owners of files, changed on a command's behalf. Landlock does not guard them: a confined command could
//! open the daemon's secrets to everyone with one `chmod`. So the kernel hands such calls to the supervisor, which
//! looks where the path leads and makes the change only in what the command may write.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::platform::handed_calls::{self, HandedCall};

/// `fchmodat2`, which the list of numbers lacks on some targets.
pub(super) const FCHMODAT2: i64 = 452;
/// Longest path, bytes, its end mark included.
const PATH_BYTES: usize = 4_096;
/// Bits that let whoever runs a file act as its owner or group.
const SET_ID: u32 = 0o6000;

/// The calls that are handed over.
pub(super) fn handed() -> Vec<i64> {
    let mut calls = vec![libc::SYS_fchmodat, FCHMODAT2, libc::SYS_fchownat, libc::SYS_fchmod, libc::SYS_fchown];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown]);
    calls
}

/// A change that a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Mode(u32),
    Owner(u32, u32),
}

/// What a call is about, before its path is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    folder: i32,
    /// Where its path stands in the caller's memory; nothing where the open file itself is meant. A descriptor that was
    /// opened for reading is enough for that, so these calls reach every file that the command may read.
    path: Option<u64>,
    flags: u32,
    change: Change,
}

/// The low half of an argument, which is all that these calls look at.
fn low(argument: u64) -> u32 {
    argument as u32
}

impl Asked {
    fn of(call: &HandedCall) -> Option<Self> {
        let [first, second, third, fourth, fifth, _] = call.arguments;
        let number = low(first).cast_signed();
        let at = |flags: u64, change| Self { folder: number, path: Some(second), flags: low(flags), change };
        let open = |change| Self { folder: number, path: None, flags: libc::AT_EMPTY_PATH.cast_unsigned(), change };
        #[cfg(target_arch = "x86_64")]
        {
            let bare = |flags: i32, change| Self {
                folder: libc::AT_FDCWD,
                path: Some(first),
                flags: flags.cast_unsigned(),
                change,
            };
            match call.number {
                libc::SYS_chmod => return Some(bare(0, Change::Mode(low(second)))),
                libc::SYS_chown => return Some(bare(0, Change::Owner(low(second), low(third)))),
                libc::SYS_lchown => {
                    return Some(bare(libc::AT_SYMLINK_NOFOLLOW, Change::Owner(low(second), low(third))));
                }
                _ => {}
            }
        }
        match call.number {
            libc::SYS_fchmodat => Some(at(0, Change::Mode(low(third)))),
            FCHMODAT2 => Some(at(fourth, Change::Mode(low(third)))),
            libc::SYS_fchownat => Some(at(fifth, Change::Owner(low(third), low(fourth)))),
            libc::SYS_fchmod => Some(open(Change::Mode(low(second)))),
            libc::SYS_fchown => Some(open(Change::Owner(low(second), low(third)))),
            _ => None,
        }
    }
}

/// The supervisor's side.
#[derive(Debug)]
pub(super) struct Keeper {
    listener: OwnedFd,
    roots: Vec<PathBuf>,
}

impl AsFd for Keeper {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Keeper {
    /// Answers what waits at the listener, within these folders.
    pub(super) fn new(listener: OwnedFd, roots: &[PathBuf]) -> Self {
        let roots = roots.iter().filter_map(|root| std::fs::canonicalize(root).ok()).collect();
        Self { listener, roots }
    }

    /// Answers one call.
    pub(super) fn attend(&self) {
        let Ok(call) = handed_calls::next(&self.listener) else { return };
        let outcome = self.change(&call);
        // Whoever asked may have been killed meanwhile; then nobody waits for the answer.
        let _ = handed_calls::answer(&self.listener, &call, outcome);
    }

    fn change(&self, call: &HandedCall) -> Result<(), Errno> {
        let asked = Asked::of(call).ok_or(Errno::PERM)?;
        let known = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let flags = AtFlags::from_bits(asked.flags).filter(|flags| known.contains(*flags)).ok_or(Errno::INVAL)?;
        let path = asked.path.map_or_else(|| Ok(Vec::new()), |at| self.path(call, at))?;
        let descriptor = own_descriptor(&path);
        let (folder, path) = descriptor.map_or((asked.folder, path), |number| (number, Vec::new()));
        let base = base(call.thread, folder, &path)?;
        // From here on the thread's number is not used again.
        if !handed_calls::still_waits(&self.listener, call) {
            return Err(Errno::SRCH);
        }
        let file = if path.is_empty() {
            if descriptor.is_some() || flags.contains(AtFlags::EMPTY_PATH) { base } else { return Err(Errno::NOENT) }
        } else {
            let link = if flags.contains(AtFlags::SYMLINK_NOFOLLOW) { OFlags::NOFOLLOW } else { OFlags::empty() };
            let open = OFlags::PATH | OFlags::CLOEXEC | link;
            rustix::fs::openat2(&base, path.as_slice(), open, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?
        };
        self.within(&file)?;
        make(&file, asked.change)
    }

    /// Reads a path out of the caller's memory.
    fn path(&self, call: &HandedCall, at: u64) -> Result<Vec<u8>, Errno> {
        let memory = format!("/proc/{}/mem", call.thread);
        let memory = rustix::fs::open(memory, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if !handed_calls::still_waits(&self.listener, call) {
            return Err(Errno::SRCH);
        }
        let mut path = vec![0; PATH_BYTES];
        let mut read = 0;
        while read < path.len() {
            let here = at.checked_add(read as u64).ok_or(Errno::FAULT)?;
            let count = match rustix::io::pread(&memory, &mut path[read..], here) {
                Ok(0) | Err(_) => return Err(Errno::FAULT),
                Ok(count) => count,
            };
            if let Some(end) = memchr::memchr(0, &path[read..read + count]) {
                path.truncate(read + end);
                return Ok(path);
            }
            read += count;
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Whether the command may write what was opened. What a file is called is asked of the open file itself.
    fn within(&self, file: &OwnedFd) -> Result<(), Errno> {
        let real = rustix::fs::readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
        let real = Path::new(std::ffi::OsStr::from_bytes(real.as_bytes()));
        if self.roots.iter().any(|root| real.starts_with(root)) { Ok(()) } else { Err(Errno::ACCESS) }
    }
}

/// The number in a path that names one of the caller's own descriptors. The C library goes that way where it must not
/// follow a link; here the same words would mean a descriptor of the supervisor.
fn own_descriptor(path: &[u8]) -> Option<i32> {
    let starts = [b"/proc/self/fd/".as_slice(), b"/proc/thread-self/fd/", b"/dev/fd/"];
    let digits = starts.into_iter().find_map(|start| path.strip_prefix(start))?;
    let number = std::str::from_utf8(digits).ok()?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

/// Where a path begins, as the calling thread sees it.
fn base(thread: u32, folder: i32, path: &[u8]) -> Result<OwnedFd, Errno> {
    let start = match folder {
        _ if path.starts_with(b"/") => "/".to_owned(),
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        number if number >= 0 => format!("/proc/{thread}/fd/{number}"),
        _ => return Err(Errno::BADF),
    };
    rustix::fs::open(start, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Errno::BADF,
        other => other,
    })
}

fn make(file: &OwnedFd, change: Change) -> Result<(), Errno> {
    match change {
        Change::Mode(mode) => {
            let kind = FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
            if kind == FileType::RegularFile && mode & SET_ID != 0 {
                return Err(Errno::PERM);
            }
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::chmodat(CWD, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
        }
        Change::Owner(user, group) => {
            let some = |id: u32| (id != u32::MAX).then_some(id);
            let (user, group) = (some(user).map(Uid::from_raw), some(group).map(Gid::from_raw));
            rustix::fs::chownat(file, "", user, group, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}
