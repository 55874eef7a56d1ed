//! The workspace: one folder, and nothing outside of it. Every path is resolved by the kernel beneath an open
//! descriptor of the root, so neither `..` nor a link nor a folder swapped meanwhile leads out.
//!
//! Links inside are followed where they stay inside; a file that is written must be named by its own name.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::agent::tools::limits;
use crate::domain::ids::CallId;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::files;

/// An open workspace.
#[derive(Debug)]
pub struct Workspace {
    root: OwnedFd,
    path: PathBuf,
    id: String,
}

/// What was read of a file.
#[derive(Debug)]
pub struct Content {
    /// Its bytes, up to the limit.
    pub bytes: Vec<u8>,
    /// Its whole size.
    pub size: u64,
}

impl Content {
    /// Whether something was left out.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < self.size
    }
}

/// How the names of files begin that are not in their place yet.
const TEMPORARY: &str = ".chancery-";

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Workspace {
    /// Opens the folder.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let fault = |fault: &dyn std::fmt::Display| {
            Refusal::new(Reason::ToolFailed, format!("The workspace {} cannot be opened: {fault}.", path.display()))
        };
        let path = std::fs::canonicalize(path).map_err(|error| fault(&error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| fault(&error))?;
        let inode = rustix::fs::fstat(&root).map_err(|error| fault(&error))?.st_ino;
        // Path and inode, without the device: device numbers may change with a reboot, and approvals outlive one.
        let mut digest = Sha256::new();
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(inode.to_le_bytes());
        let id = data_encoding::HEXLOWER.encode(&digest.finalize()[..16]);
        Ok(Self { root, path, id })
    }

    /// Names this folder in approvals; the same after a restart, another for another folder.
    pub fn root_id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The one spelling of a path in the workspace: relative, without `.` and doubled slashes; `.` for the root.
    /// Absolute paths are taken where they begin with the workspace's own.
    pub fn normalise(&self, given: &str) -> Result<String, Refusal> {
        if given.len() > limits::PATH_BYTES {
            let detail = format!("The path is longer than {} bytes.", limits::PATH_BYTES);
            return Err(Refusal::new(Reason::ToolLimitExceeded, detail));
        }
        let relative = match Path::new(given).strip_prefix(&self.path) {
            Ok(inside) => inside,
            Err(_) if given.starts_with('/') => return Err(outside(given)),
            Err(_) => Path::new(given),
        };
        let mut parts = Vec::new();
        for part in relative.to_str().unwrap_or(given).split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(outside(given)),
                part if part.contains('\0') => return Err(outside(given)),
                part => parts.push(part),
            }
        }
        Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
    }

    fn beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..8 {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed while the kernel looked; it cannot tell whether the path stayed inside.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens a folder.
    pub fn folder(&self, path: &str) -> Result<OwnedFd, Refusal> {
        self.beneath(path, READ | OFlags::DIRECTORY).map_err(|errno| refusal(path, errno))
    }

    /// Reads a regular file, at most so many bytes of it. Pipes, devices and the like are refused without waiting.
    pub fn read(&self, path: &str, limit_bytes: u64) -> Result<Content, Refusal> {
        let file = self.beneath(path, READ).map_err(|errno| refusal(path, errno))?;
        read_regular(file, limit_bytes).map_err(|errno| refusal(path, errno))
    }

    /// Digest of a file, hex; nothing where there is no file. The name must be the file's own, not a link to it.
    pub fn digest(&self, path: &str) -> Result<Option<String>, Refusal> {
        let (folder, name) = split(path)?;
        match self.beneath(folder, READ | OFlags::DIRECTORY) {
            Ok(folder) => digest_at(&folder, name).map_err(|errno| refusal(path, errno)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(refusal(path, errno)),
        }
    }

    /// Replaces a file's content, or makes the file and the folders above it; readers see the old or the new, whole.
    /// Does nothing unless the file's digest is still `expected` (nothing: there is no file). Mode and owner stay. What a kill
    /// meanwhile leaves beside the file bears the call's own name, for [`Workspace::sweep`].
    pub fn replace(&self, path: &str, content: &[u8], expected: Option<&str>, call: CallId) -> Result<(), Refusal> {
        let (folder, name) = split(path)?;
        // Looked at before anything is made, and again before the swap.
        if self.digest(path)?.as_deref() != expected {
            return Err(changed(path));
        }
        let folder = self.make_folders(folder).map_err(|errno| refusal(path, errno))?;
        let temporary = temporary(call);
        let swapped = write_new(&folder, &temporary, name, content)
            .map_err(|errno| refusal(path, errno))
            .and_then(|()| swap(&folder, &temporary, name, path, expected));
        if swapped.is_err() {
            let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
        }
        swapped?;
        // Not before its name is on the disk is the new content there to stay.
        files::sync_names(&folder).map_err(|errno| {
            Refusal::new(Reason::ToolFailed, format!("{path} was written, but a power cut may undo that: {errno}."))
        })
    }

    /// Removes what a call left beside a file that it did not live to replace, if there is something. Says whether.
    pub fn sweep(&self, path: &str, call: CallId) -> bool {
        let Ok((folder, _)) = split(path) else { return false };
        let temporary = temporary(call);
        let left = self.beneath(folder, READ | OFlags::DIRECTORY).and_then(|folder| {
            regular(&rustix::fs::statat(&folder, &temporary, AtFlags::SYMLINK_NOFOLLOW)?)?;
            rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty())
        });
        left.is_ok()
    }

    fn make_folders(&self, path: &str) -> Result<OwnedFd, Errno> {
        let mut at = String::new();
        for part in path.split('/') {
            let parent = self.beneath(if at.is_empty() { "." } else { &at }, READ | OFlags::DIRECTORY)?;
            if part != "." {
                match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                    Ok(()) => files::sync_names(&parent)?,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(part);
        }
        self.beneath(path, READ | OFlags::DIRECTORY)
    }
}

/// Name of the file that a call writes before it takes the place of another: of this call's alone.
fn temporary(call: CallId) -> String {
    format!("{TEMPORARY}{:032x}.tmp", call.ulid().0)
}

/// Whether a file has such a name: it is nobody's yet, or what a kill left.
pub(super) fn is_temporary(name: &str) -> bool {
    let digits = name.strip_prefix(TEMPORARY).and_then(|rest| rest.strip_suffix(".tmp"));
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Folder and name of a normalised path.
fn split(path: &str) -> Result<(&str, &str), Refusal> {
    match path.rsplit_once('/') {
        Some(parts) => Ok(parts),
        None if path == "." => Err(refusal(path, Errno::ISDIR)),
        None => Ok((".", path)),
    }
}

/// Reads an open file if it is a regular one.
pub(super) fn read_regular(file: OwnedFd, limit_bytes: u64) -> Result<Content, Errno> {
    use std::io::Read as _;
    let stat = rustix::fs::fstat(&file)?;
    regular(&stat)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(limit_bytes)
        .read_to_end(&mut bytes)
        .map_err(|fault| Errno::from_io_error(&fault).unwrap_or(Errno::IO))?;
    // A file that grows while it is read is as long as what was read of it.
    Ok(Content { size: size.max(bytes.len() as u64), bytes })
}

fn regular(stat: &Stat) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::NXIO),
    }
}

/// Opens one entry of a folder, which may not be a link.
pub(super) fn open_entry(folder: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(folder, name, READ | OFlags::NOFOLLOW, Mode::empty())
}

fn digest_at(folder: &OwnedFd, name: &str) -> Result<Option<String>, Errno> {
    use std::io::Read as _;
    let file = match open_entry(folder, name) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    regular(&stat)?;
    if u64::try_from(stat.st_size).unwrap_or(0) > limits::DIGEST_FILE_BYTES {
        return Err(Errno::FBIG);
    }
    let mut file = std::fs::File::from(file).take(limits::DIGEST_FILE_BYTES);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(data_encoding::HEXLOWER.encode(&digest.finalize()))),
            Ok(count) => digest.update(&buffer[..count]),
            Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(Errno::from_io_error(&fault).unwrap_or(Errno::IO)),
        }
    }
}

/// Writes a new file beside the one it will replace, with the same mode and, where that is allowed, the same owner.
fn write_new(folder: &OwnedFd, temporary: &str, name: &str, content: &[u8]) -> Result<(), Errno> {
    use std::io::Write as _;
    let old = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => regular(&stat).map(|()| Some(stat))?,
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno),
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = std::fs::File::from(file);
    file.write_all(content).map_err(|fault| Errno::from_io_error(&fault).unwrap_or(Errno::IO))?;
    if let Some(stat) = &old {
        let _ = rustix::fs::fchown(&file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    }
    let mode = old.map_or(0o644, |stat| stat.st_mode & 0o777);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    rustix::fs::fdatasync(&file)
}

/// Puts the new file in place if the old one is still what it was.
fn swap(folder: &OwnedFd, temporary: &str, name: &str, path: &str, expected: Option<&str>) -> Result<(), Refusal> {
    let found = digest_at(folder, name).map_err(|errno| refusal(path, errno))?;
    if found.as_deref() != expected {
        return Err(changed(path));
    }
    let flags = if expected.is_none() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
    match rustix::fs::renameat_with(folder, temporary, folder, name, flags) {
        Err(Errno::EXIST) => Err(changed(path)),
        other => other.map_err(|errno| refusal(path, errno)),
    }
}

fn outside(path: &str) -> Refusal {
    Refusal::new(Reason::ToolPathOutsideWorkspace, format!("{path:?} is not a path inside the workspace."))
}

fn changed(path: &str) -> Refusal {
    Refusal::new(Reason::ToolFileChanged, format!("{path} changed after this call was prepared; nothing was written."))
}

/// What a system error means for a path of the workspace.
pub(super) fn refusal(path: &str, errno: Errno) -> Refusal {
    let text = match errno {
        Errno::XDEV => return outside(path),
        Errno::LOOP => "it is a link, or leads through too many of them; name the file itself".to_owned(),
        Errno::NOENT => "there is no such file or folder".to_owned(),
        Errno::NOTDIR => "a part of the path is not a folder".to_owned(),
        Errno::ISDIR => "it is a folder".to_owned(),
        Errno::NXIO => "it is neither a file nor a folder".to_owned(),
        Errno::FBIG => return Refusal::new(Reason::ToolLimitExceeded, format!("{path}: the file is too large.")),
        other => other.to_string(),
    };
    Refusal::new(Reason::ToolFailed, format!("{path}: {text}."))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk themselves")]
mod tests;
