//! An append-only text log of bounded size: when the file is full it becomes `NAME.<number>-<digest>`, a name that no other
//! chunk ever has; numbers rise and the oldest chunks are dropped. Nothing is synced: what is written here may be lost in
//! a power cut.

#![allow(clippy::disallowed_methods, reason = "file work lives in platform")]

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use sha2::Digest as _;

/// A file of the log that will not change any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedChunk {
    /// Where it lies now.
    pub path: PathBuf,
    /// Digest of its bytes, hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Lines in it.
    pub lines: u64,
}

/// Digits of a chunk's number, and hex digits of its digest, in its name.
const NUMBER_DIGITS: usize = 8;
const DIGEST_DIGITS: usize = 16;

fn chunk(path: PathBuf, bytes: &[u8]) -> ClosedChunk {
    let sha256 = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes));
    let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
    ClosedChunk { path, sha256, bytes: bytes.len() as u64, lines }
}

/// Reads a closed chunk.
pub fn read_chunk(path: &Path) -> io::Result<ClosedChunk> {
    Ok(chunk(path.to_owned(), &std::fs::read(path)?))
}

/// The closed chunks of a log that are on disk, oldest first, with their numbers.
pub fn closed_chunks(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let number = |entry: &str| chunk_number(entry.strip_prefix(name.to_str()?)?.strip_prefix('.')?);
        if let Some(number) = entry.to_str().and_then(number) {
            found.push((number, folder.join(entry)));
        }
    }
    found.sort();
    Ok(found)
}

/// The number in the ending of a chunk's name.
pub fn chunk_number(ending: &str) -> Option<u64> {
    let (number, digest) = ending.split_once('-')?;
    let formed = number.len() >= NUMBER_DIGITS
        && digest.len() == DIGEST_DIGITS
        && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if formed { number.parse().ok() } else { None }
}

/// The log, open for appending.
pub struct RotatedLog {
    path: PathBuf,
    /// Not yet there where the file system took no writes when the log was opened.
    file: Option<std::fs::File>,
    bytes: u64,
    limit_bytes: u64,
    keep: usize,
}

impl RotatedLog {
    /// Opens or makes the log; directories are made as needed. `keep` closed files are kept beside the open one. On a
    /// file system that takes no writes, each line tries again to open it.
    pub fn open(path: &Path, limit_bytes: u64, keep: usize) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            super::private_file::make_directory(parent).map_err(io::Error::other)?;
        }
        let (file, bytes) = match open_bounded(path, limit_bytes) {
            Err(error) if waits(&error) => (None, 0),
            opened => opened.map(|(file, bytes)| (Some(file), bytes))?,
        };
        Ok(Self { path: path.to_owned(), file, bytes, limit_bytes, keep })
    }

    fn file(&mut self) -> io::Result<&mut std::fs::File> {
        if self.file.is_none() {
            self.reopen()?;
        }
        self.file.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let (file, bytes) = open_append(&self.path)?;
        (self.file, self.bytes) = (Some(file), bytes);
        Ok(())
    }

    /// Refuses what lies at this path and is no such log. Writes nothing.
    pub fn look(path: &Path, limit_bytes: u64) -> io::Result<()> {
        match rustix::fs::statat(CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            _ => match open_bounded(path, limit_bytes) {
                Err(error) if !waits(&error) => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Appends one line; the newline is added. Returns the chunk that this closed, if it did.
    pub fn append(&mut self, line: &[u8]) -> io::Result<Option<ClosedChunk>> {
        let mut buffer = Vec::with_capacity(line.len() + 1);
        buffer.extend_from_slice(line);
        buffer.push(b'\n');
        let closed = if self.bytes > 0 && self.bytes + buffer.len() as u64 > self.limit_bytes {
            self.close_full()?
        } else {
            None
        };
        self.file()?.write_all(&buffer)?;
        self.bytes += buffer.len() as u64;
        Ok(closed)
    }

    /// Closes the full file. Where an earlier attempt got as far as its new name, only the next file is missing.
    fn close_full(&mut self) -> io::Result<Option<ClosedChunk>> {
        if self.path.try_exists()? {
            return self.rotate().map(Some);
        }
        self.reopen()?;
        Ok(None)
    }

    fn rotate(&mut self) -> io::Result<ClosedChunk> {
        let before = closed_chunks(&self.path)?;
        let number = before.last().map_or(1, |(number, _)| number + 1);
        let mut closed = chunk(self.path.clone(), &std::fs::read(&self.path)?);
        let short = closed.sha256.get(..DIGEST_DIGITS).unwrap_or_default();
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number:0NUMBER_DIGITS$}-{short}"));
        closed.path = name.into();
        std::fs::rename(&self.path, &closed.path)?;
        self.reopen()?;
        let surplus = (before.len() + 1).saturating_sub(self.keep);
        for (_, oldest) in before.iter().take(surplus) {
            std::fs::remove_file(oldest)?;
        }
        Ok(closed)
    }
}

/// Whether an error says that the file system takes no writes for the moment.
fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull)
}

/// Opens a log that is no longer than one can be.
fn open_bounded(path: &Path, limit_bytes: u64) -> io::Result<(std::fs::File, u64)> {
    let (file, bytes) = open_append(path)?;
    if bytes > limit_bytes.saturating_mul(2) {
        let why = format!("{} has {bytes} bytes, more than this log ever has", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok((file, bytes))
}

fn open_append(path: &Path) -> io::Result<(std::fs::File, u64)> {
    // NONBLOCK: opening a pipe without a reader must not hang.
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let descriptor = rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display())))?;
    if FileType::from_raw_mode(rustix::fs::fstat(&descriptor)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a plain file", path.display())));
    }
    let file = std::fs::File::from(descriptor);
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_rotates_and_keeps_only_the_newest_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit/log.jsonl");
        let mut log = RotatedLog::open(&path, 20, 2).unwrap();
        let closed: Vec<_> =
            (0..8).filter_map(|number| log.append(format!("line {number:04}").as_bytes()).unwrap()).collect();
        assert_eq!(closed.len(), 3);
        assert_eq!((closed[0].bytes, closed[0].lines), (20, 2));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0006\nline 0007\n");
        assert_eq!(std::fs::read_to_string(&closed[2].path).unwrap(), "line 0004\nline 0005\n");
        let kept: Vec<_> =
            closed_chunks(&path).unwrap().into_iter().map(|(_, path)| read_chunk(&path).unwrap()).collect();
        assert_eq!(kept, closed[1..]);
    }

    #[test]
    fn a_log_whose_next_file_could_not_be_made_goes_on_when_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RotatedLog::open(&path, 20, 2).unwrap();
        log.append(b"0123456789abcdef").unwrap();
        // As a rotation leaves it that renamed the file and then had no descriptor for the next one.
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        assert_eq!(log.append(b"first of the next").unwrap(), None);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first of the next\n");
    }

    #[test]
    fn a_pipe_a_device_a_link_and_a_huge_file_are_no_log_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, link, huge] = ["pipe", "link", "huge"].map(|name| folder.path().join(name));
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        std::fs::File::create(&huge).unwrap().set_len(4 << 30).unwrap();
        for path in [&pipe, &link, &huge, Path::new("/dev/null")] {
            for error in [RotatedLog::look(path, 1_000).err(), RotatedLog::open(path, 1_000, 2).err()] {
                let error = error.unwrap_or_else(|| panic!("{}", path.display())).to_string();
                assert!(error.contains(path.to_str().unwrap()), "{error}");
            }
        }
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        RotatedLog::open(&path, 1_000, 2).unwrap().append(b"one").unwrap();
        RotatedLog::open(&path, 1_000, 2).unwrap().append(b"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
