//! Small files that only their owner may read: tokens, keys, shared secrets. Reading is bounded and never blocks on a pipe.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::disk::TEMPORARY;

/// Why a private file was not read or made.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileFault {
    /// There is no such file.
    #[error("{path}: no such file", path = .0.display())]
    Missing(PathBuf),
    /// Others than the owner may read or write it, or it belongs to someone else.
    #[error("{path}: others may read or change it; run `chmod 600` on it", path = .0.display())]
    Loose(PathBuf),
    /// It is a directory, a pipe or a device.
    #[error("{path}: not a regular file", path = .0.display())]
    NotAFile(PathBuf),
    /// Something stands where a socket is to be, and is none.
    #[error("{path}: something other than a socket lies there, and is left alone", path = .0.display())]
    NotASocket(PathBuf),
    /// It is larger than asked for.
    #[error("{path}: larger than {limit} bytes", path = .0.display(), limit = .1)]
    TooLarge(PathBuf, usize),
    /// The machine refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(rustix::io::Errno) -> PrivateFileFault + '_ {
    move |errno| match errno {
        rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => PrivateFileFault::Missing(path.to_owned()),
        other => PrivateFileFault::Io { path: path.to_owned(), source: other.into() },
    }
}

/// Reads a whole file of at most `limit` bytes that belongs to this user (or root) and that nobody else may open.
/// Symbolic links are followed, as mounted secrets use them.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, PrivateFileFault> {
    // NONBLOCK: opening a pipe without a writer must not hang.
    let descriptor = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed(path))?;
    let facts = rustix::fs::fstat(&descriptor).map_err(failed(path))?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(PrivateFileFault::NotAFile(path.to_owned()));
    }
    let foreign = facts.st_uid != 0 && facts.st_uid != rustix::process::geteuid().as_raw();
    if facts.st_mode & 0o077 != 0 || foreign {
        return Err(PrivateFileFault::Loose(path.to_owned()));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(descriptor)
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| PrivateFileFault::Io { path: path.to_owned(), source })?;
    if bytes.len() > limit {
        return Err(PrivateFileFault::TooLarge(path.to_owned(), limit));
    }
    Ok(bytes)
}

/// Makes a file that only its owner may open, with these contents, and syncs it and its directory. Returns false and
/// changes nothing where the file exists already. After a power cut the file is whole or absent: it is written under
/// another name and linked into place.
pub fn create(path: &Path, contents: &[u8]) -> Result<bool, PrivateFileFault> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(directory)?;
    if rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(false);
    }
    let mut beside = path.to_owned().into_os_string();
    // A name by which a start knows what another one that was killed has left.
    beside.push(format!(".{}{TEMPORARY}", std::process::id()));
    let beside = PathBuf::from(beside);
    // A leftover of a crashed start under the same process id would be in the way.
    let _ = rustix::fs::unlinkat(CWD, &beside, rustix::fs::AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let descriptor = rustix::fs::openat(CWD, &beside, flags, Mode::RUSR | Mode::WUSR).map_err(failed(&beside))?;
    let mut file = std::fs::File::from(descriptor);
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    let linked = written.map(|()| rustix::fs::linkat(CWD, &beside, CWD, path, rustix::fs::AtFlags::empty()));
    let _ = rustix::fs::unlinkat(CWD, &beside, rustix::fs::AtFlags::empty());
    match linked {
        Ok(Ok(())) => {}
        Ok(Err(rustix::io::Errno::EXIST)) => return Ok(false),
        Ok(Err(errno)) => return Err(failed(path)(errno)),
        Err(source) => return Err(PrivateFileFault::Io { path: path.to_owned(), source }),
    }
    let parent =
        rustix::fs::openat(CWD, directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed(directory))?;
    rustix::fs::fsync(parent).map_err(failed(directory))?;
    Ok(true)
}

/// Makes a directory and its missing parents, open to the owner only. An existing directory is left as it is.
pub fn make_directory(path: &Path) -> Result<(), PrivateFileFault> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| PrivateFileFault::Io { path: path.to_owned(), source })
}

/// Removes a unix socket that nobody listens on any more. Anything that is not a socket is left alone and refused.
pub fn remove_socket(path: &Path) -> Result<(), PrivateFileFault> {
    match rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed(path)(errno)),
        Ok(facts) if FileType::from_raw_mode(facts.st_mode) == FileType::Socket => {
            rustix::fs::unlinkat(CWD, path, rustix::fs::AtFlags::empty()).map_err(failed(path))
        }
        Ok(_) => Err(PrivateFileFault::NotASocket(path.to_owned())),
    }
}

/// Opens a path to its owner only.
pub fn tighten(path: &Path) -> Result<(), PrivateFileFault> {
    rustix::fs::chmodat(CWD, path, Mode::RUSR | Mode::WUSR, rustix::fs::AtFlags::empty()).map_err(failed(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty()).unwrap();
    }

    #[test]
    fn a_created_file_is_private_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/admin.token");
        assert!(create(&path, b"first").unwrap());
        assert!(!create(&path, b"second").unwrap());
        assert_eq!(read(&path, 100).unwrap(), b"first");
        let mode = rustix::fs::statat(CWD, &path, rustix::fs::AtFlags::empty()).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn loose_large_missing_and_odd_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"0123456789").unwrap();
        assert!(matches!(read(&path, 9), Err(PrivateFileFault::TooLarge(..))));
        chmod(&path, 0o640);
        assert!(matches!(read(&path, 100), Err(PrivateFileFault::Loose(_))));
        assert!(matches!(read(&folder.path().join("absent"), 100), Err(PrivateFileFault::Missing(_))));
        assert!(matches!(read(folder.path(), 100), Err(PrivateFileFault::NotAFile(_))));
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(read(&pipe, 100), Err(PrivateFileFault::NotAFile(_))));
        assert!(matches!(remove_socket(&path), Err(PrivateFileFault::NotASocket(_))));
    }
}
