//! The real disk: every path is resolved beneath one folder that was opened once, links are never followed, files are
//! plain, private and closed on exec.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use super::disk::{Disk, DiskFile, Entry, Open};

/// A folder, opened once; a later swap of a path component changes nothing.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
    path: PathBuf,
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

impl Folder {
    /// Opens the folder; a link as its last part is resolved here, once.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { root, path: path.canonicalize()? })
    }

    /// Makes the folder, and those above it, with mode 0700 if absent, and opens it. What was made has its name on disk
    /// when this returns, where the folder above it can be read.
    pub fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let absent: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for parent in absent.iter().filter_map(|made| made.parent()) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match Self::open(parent).and_then(|folder| Ok(sync_names(&folder.root)?)) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        Self::open(path)
    }

    /// The resolved path, for messages and for programs that must be given one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the folder for programs that must be given one, which leads there even after the folder has been
    /// renamed and a link stands in its place; valid in this process while the folder is open.
    pub fn anchored(&self, path: &str) -> PathBuf {
        Path::new("/proc/self/fd").join(self.root.as_raw_fd().to_string()).join(path)
    }

    fn at(&self, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, mode, BENEATH) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }

    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Takes the exclusive lock on a file, created if absent; `None` where someone else holds it. The lock lasts until
    /// the file is dropped or the process ends, and is tied to the file itself, whatever path led there.
    pub fn try_lock(&self, path: &str) -> io::Result<Option<std::fs::File>> {
        let fd = match self.at(path, OFlags::RDWR | OFlags::CREATE, Mode::RUSR | Mode::WUSR) {
            // The kernel locks what can be read only just as well.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                self.at(path, OFlags::RDONLY, Mode::empty()).map_err(|_| error)?
            }
            other => other?,
        };
        plain(&fd, path)?;
        let file = std::fs::File::from(fd);
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether someone holds the exclusive lock on a file, asked with a shared lock that is released at once.
    pub fn is_locked(&self, path: &str) -> io::Result<bool> {
        let fd = match self.at(path, OFlags::RDONLY, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        match std::fs::File::from(fd).try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Permission bits of an entry, without following a link.
    pub fn mode(&self, path: &str) -> io::Result<u32> {
        Ok(rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o7777)
    }

    /// Number of the user that an entry belongs to, without following a link.
    pub fn owner(&self, path: &str) -> io::Result<u32> {
        Ok(rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
    }

    /// Sets the permission bits of a folder.
    pub fn tighten_dir(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fchmod(self.folder(path)?, Mode::RWXU)?)
    }

    /// Free and total bytes of the file system, and free inodes.
    pub fn space(&self) -> io::Result<(u64, u64, u64)> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize, stat.f_favail))
    }
}

/// Puts the names in a folder on the disk; some file systems have nothing to do for that, and say so.
pub fn sync_names(folder: &OwnedFd) -> Result<(), rustix::io::Errno> {
    match rustix::fs::fsync(folder) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Refuses pipes, devices and folders.
fn plain(fd: &OwnedFd, path: &str) -> io::Result<()> {
    if FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::RegularFile {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is not a plain file")))
}

impl Disk for Folder {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Open::Replace => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        };
        let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
        let fd = self.at(path, flags, mode)?;
        plain(&fd, path)?;
        Ok(Arc::new(PlainFile(std::fs::File::from(fd))))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.root, from, &self.root, to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.root, path, AtFlags::empty())?)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.root, path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.folder(path).map(drop),
            // Which of the two a kernel says first of a folder that is there is its own affair.
            Err(error @ rustix::io::Errno::ROFS) => self.folder(path).map(drop).map_err(|_| error.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let folder = self.folder(path)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let stat = rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let bytes = u64::try_from(stat.st_size).unwrap_or(0);
            entries.push(Entry {
                name,
                plain: kind == FileType::RegularFile,
                folder: kind == FileType::Directory,
                bytes,
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Ok(sync_names(&self.folder(path)?)?)
    }
}

/// A plain file of the real disk.
#[derive(Debug)]
struct PlainFile(std::fs::File);

impl DiskFile for PlainFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.0.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn named_bytes(&self) -> io::Result<Option<u64>> {
        use std::os::unix::fs::MetadataExt as _;
        let facts = self.0.metadata()?;
        Ok((facts.nlink() > 0).then_some(facts.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::disk::{read_bounded, replace_atomically};

    fn folder() -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::create(&temporary.path().join("root")).unwrap();
        (temporary, folder)
    }

    #[test]
    fn files_and_folders_are_private_whatever_the_umask() {
        let (_keep, folder) = folder();
        folder.create_dir("a").unwrap();
        replace_atomically(&folder, "a", "f", b"x").unwrap();
        assert_eq!((folder.mode("a").unwrap(), folder.mode("a/f").unwrap()), (0o700, 0o600));
        assert_eq!(read_bounded(&folder, "a/f", 1).unwrap(), b"x");
        assert!(read_bounded(&folder, "a/f", 0).is_err());
    }

    #[test]
    fn links_pipes_and_paths_that_leave_are_refused_without_waiting() {
        let (keep, folder) = folder();
        std::os::unix::fs::symlink("/etc/passwd", keep.path().join("root/link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, keep.path().join("root/pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        for path in ["link", "pipe", "../outside", "/etc/passwd"] {
            assert!(folder.open(path, Open::Read).is_err(), "{path}");
        }
    }

    #[test]
    fn a_lock_is_exclusive_and_ends_with_its_file() {
        let (keep, folder) = folder();
        std::os::unix::fs::symlink(keep.path().join("root"), keep.path().join("other-name")).unwrap();
        let second = Folder::open(&keep.path().join("other-name")).unwrap();
        let held = folder.try_lock("LOCK").unwrap();
        assert!(held.is_some() && second.try_lock("LOCK").unwrap().is_none() && second.is_locked("LOCK").unwrap());
        // Another root whose LOCK is the same file is the same lock.
        let third = Folder::create(&keep.path().join("third")).unwrap();
        std::fs::hard_link(keep.path().join("root/LOCK"), keep.path().join("third/LOCK")).unwrap();
        assert!(third.try_lock("LOCK").unwrap().is_none());
        drop(held);
        assert!(!second.is_locked("LOCK").unwrap() && second.try_lock("LOCK").unwrap().is_some());
    }
}
