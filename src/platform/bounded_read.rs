//! Reads a whole plain file that an operator named, never more of it than a limit.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// The file's bytes. Fails where it is not a plain file (a pipe cannot make it wait) or holds more than the limit.
pub fn bounded_read(path: &Path, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(limit_bytes as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit_bytes} bytes")));
    }
    Ok(bytes)
}

/// The same, as text in UTF-8.
pub fn bounded_read_text(path: &Path, limit_bytes: usize) -> io::Result<String> {
    String::from_utf8(bounded_read(path, limit_bytes)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_limit_is_read_and_one_byte_more_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::io::Write::write_all(
            &mut std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap(),
            b"12345",
        )
        .unwrap();
        assert_eq!(bounded_read(&path, 5).unwrap(), b"12345");
        assert_eq!(bounded_read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_named_pipe_and_a_folder_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(bounded_read(&pipe, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(bounded_read(folder.path(), 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
