//! An append-only text log of bounded size: when the file is full it becomes `NAME.1`, the one before `NAME.2`, and so on;
//! the oldest is dropped. Nothing is synced: what is written here may be lost in a power cut.

#![allow(clippy::disallowed_methods, reason = "file work lives in platform")]

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
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
}

/// The log, open for appending.
pub struct RotatedLog {
    path: PathBuf,
    file: std::fs::File,
    bytes: u64,
    limit_bytes: u64,
    keep: usize,
}

impl RotatedLog {
    /// Opens or makes the log; directories are made as needed. `keep` closed files are kept beside the open one.
    pub fn open(path: &Path, limit_bytes: u64, keep: usize) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            super::private_file::make_directory(parent).map_err(io::Error::other)?;
        }
        let (file, bytes) = open_append(path)?;
        Ok(Self { path: path.to_owned(), file, bytes, limit_bytes, keep })
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
        self.file.write_all(&buffer)?;
        self.bytes += buffer.len() as u64;
        Ok(closed)
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Closes the full file. Where an earlier attempt got as far as its new name, only the next file is missing.
    fn close_full(&mut self) -> io::Result<Option<ClosedChunk>> {
        if self.path.try_exists()? {
            return self.rotate().map(Some);
        }
        (self.file, self.bytes) = open_append(&self.path)?;
        Ok(None)
    }

    fn rotate(&mut self) -> io::Result<ClosedChunk> {
        for number in (1..self.keep).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        let first = self.numbered(1);
        std::fs::rename(&self.path, &first)?;
        let bytes = std::fs::read(&first)?;
        let sha256 = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(&bytes));
        (self.file, self.bytes) = open_append(&self.path)?;
        Ok(ClosedChunk { path: first, sha256, bytes: bytes.len() as u64 })
    }
}

fn open_append(path: &Path) -> io::Result<(std::fs::File, u64)> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let descriptor = rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?;
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
        assert_eq!(closed[0].bytes, 20);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0006\nline 0007\n");
        assert_eq!(std::fs::read_to_string(log.numbered(1)).unwrap(), "line 0004\nline 0005\n");
        assert!(!log.numbered(3).exists());
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
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        RotatedLog::open(&path, 1_000, 2).unwrap().append(b"one").unwrap();
        RotatedLog::open(&path, 1_000, 2).unwrap().append(b"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
