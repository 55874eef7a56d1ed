//! A file that takes output without end and keeps the newest part of it. Nothing here survives power loss by promise.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// What the line at the head of a rotated file says behind the number of bytes.
const MARKER: &str = " bytes of output before this were dropped]";
/// More was never dropped: a line that says so is a command's own. Sums of offsets stay far from their end.
const DROPPED_BYTES: u64 = 1 << 53;
/// Longest such line.
const MARKER_BYTES: u64 = 1 + 20 + MARKER.len() as u64 + 1;

/// Output on its way into a file.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    cap_bytes: u64,
    kept_bytes: u64,
    total_bytes: u64,
    rotations: u32,
}

/// What a spool took and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolEnd {
    /// Bytes written in all.
    pub total_bytes: u64,
    /// How often older output was dropped.
    pub rotations: u32,
    /// SHA-256 of the file as it is, hex.
    pub sha256: String,
}

fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Spool {
    /// A fresh file that keeps at most about this many bytes.
    pub fn create(path: &Path, cap_bytes: u64) -> std::io::Result<Self> {
        let file = private(path)?;
        Ok(Self { path: path.to_owned(), file, cap_bytes, kept_bytes: 0, total_bytes: 0, rotations: 0 })
    }

    /// Bytes written in all.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Takes more output. When the file is full, its older half goes and a line at its head says how much is missing.
    pub fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.kept_bytes += bytes.len() as u64;
        self.total_bytes += bytes.len() as u64;
        if self.kept_bytes > self.cap_bytes { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let mut newer = Vec::new();
        self.file.seek(SeekFrom::Start(self.kept_bytes - self.cap_bytes / 2))?;
        self.file.read_to_end(&mut newer)?;
        // Begins with a whole line where lines are of an ordinary length.
        let begin = newer.iter().take(4_096).position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let newer = &newer[begin..];
        let dropped = self.total_bytes - newer.len() as u64;
        let marker = format!("[{dropped}{MARKER}\n");
        let temporary = self.path.with_extension("tmp");
        let mut file = private(&temporary)?;
        file.write_all(marker.as_bytes())?;
        file.write_all(newer)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the platform; nothing here needs to survive power loss"
        )]
        std::fs::rename(&temporary, &self.path)?;
        self.kept_bytes = (marker.len() + newer.len()) as u64;
        self.rotations += 1;
        self.file = file;
        Ok(())
    }

    /// Ends it and says what it holds.
    pub fn finish(mut self) -> std::io::Result<SpoolEnd> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        self.file.seek(SeekFrom::Start(0))?;
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
        }
        let sha256 = data_encoding::HEXLOWER.encode(&digest.finalize());
        Ok(SpoolEnd { total_bytes: self.total_bytes, rotations: self.rotations, sha256 })
    }
}

/// Removes the oldest files of a folder of spools until there are at most so many, which hold at most so many bytes, and
/// what a rotation left half done. Names say their age; what `kept` names by its stem stays. A file that cannot be removed
/// now is met again the next time.
pub fn prune(folder: &Path, files: usize, bytes: u64, kept: &dyn Fn(&str) -> bool) -> std::io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the platform; nothing here needs to survive power loss")]
    let remove = |path: &Path| drop(std::fs::remove_file(path));
    let mut found: Vec<(PathBuf, u64, bool)> = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "this is the platform")]
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let stays = path.file_stem().and_then(|stem| stem.to_str()).is_none_or(kept);
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("log") => found.push((path, entry.metadata().map_or(0, |facts| facts.len()), stays)),
            Some("tmp") if !stays => remove(&path),
            _ => {}
        }
    }
    found.sort_unstable();
    let (mut count, mut total) = (found.len(), found.iter().map(|(_, size, _)| size).sum::<u64>());
    for (path, size, _) in found.iter().filter(|(_, _, stays)| !stays) {
        if count <= files && total <= bytes {
            break;
        }
        remove(path);
        (count, total) = (count - 1, total - size);
    }
    Ok(())
}

/// The last so many bytes of a file, and how many come before them.
pub fn tail(path: &Path, bytes: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let size = file.metadata()?.len();
    let before = size.saturating_sub(bytes);
    file.seek(SeekFrom::Start(before))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok((text, before))
}

/// A piece of what was written. Offsets count everything that was written, what was dropped included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it begins: where it was asked for, or behind what was dropped.
    pub offset: u64,
    /// Bytes at the beginning that are no longer kept.
    pub dropped_bytes: u64,
    /// Bytes written so far.
    pub end: u64,
}

/// Reads a piece of a spool's file, also while it is written. `rotated` says whether it may have been: then a line at its
/// head is the spool's own. (A command that writes such a line first moves only the offsets of its own output.)
pub fn piece(path: &Path, offset: u64, limit_bytes: u64, rotated: bool) -> std::io::Result<Piece> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    let (marker_bytes, dropped_bytes) = if rotated { marker(&mut file)? } else { (0, 0) };
    let size = file.metadata()?.len();
    let end = dropped_bytes + size.saturating_sub(marker_bytes);
    let offset = offset.max(dropped_bytes);
    if offset > end {
        return Ok(Piece { bytes: Vec::new(), offset, dropped_bytes, end });
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset - dropped_bytes + marker_bytes))?;
    file.take(limit_bytes).read_to_end(&mut bytes)?;
    // The file may have grown since its size was asked for.
    let end = end.max(if bytes.is_empty() { 0 } else { offset + bytes.len() as u64 });
    Ok(Piece { bytes, offset, dropped_bytes, end })
}

/// Length of the line at the head of a rotated file, and how many bytes it says were dropped.
fn marker(file: &mut File) -> std::io::Result<(u64, u64)> {
    let mut head = Vec::new();
    file.take(MARKER_BYTES).read_to_end(&mut head)?;
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let dropped = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix('[')?.strip_suffix(MARKER));
    let dropped = dropped.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let dropped = dropped.and_then(|digits| digits.parse().ok()).filter(|dropped| *dropped <= DROPPED_BYTES);
    Ok(dropped.map_or((0, 0), |dropped| (line.len() as u64 + 1, dropped)))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk themselves")]
mod tests {
    use super::*;

    #[test]
    fn the_newest_part_is_kept_and_the_head_says_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("output.log");
        let mut spool = Spool::create(&path, 1_000).unwrap();
        let mut written = String::new();
        for number in 0..500 {
            let line = format!("line {number}\n");
            spool.append(line.as_bytes()).unwrap();
            written.push_str(&line);
            assert!(std::fs::metadata(&path).unwrap().len() <= 1_000);
        }
        assert_eq!(spool.total_bytes(), written.len() as u64);
        let kept = std::fs::read_to_string(&path).unwrap();
        let (marker, rest) = kept.split_once('\n').unwrap();
        assert!(written.ends_with(rest) && rest.starts_with("line "), "{kept}");
        assert_eq!(marker.matches(" bytes of output before this were dropped").count(), 1);
        let end = spool.finish().unwrap();
        assert!(end.rotations > 3, "{end:?}");
        assert_eq!(end.sha256, data_encoding::HEXLOWER.encode(&Sha256::digest(kept.as_bytes())));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn pieces_put_together_are_what_was_written_behind_what_was_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("output.log");
        let mut spool = Spool::create(&path, 1_000).unwrap();
        let written = (0..400).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n") + "\n";
        for line in written.split_inclusive('\n') {
            spool.append(line.as_bytes()).unwrap();
        }
        let (mut offset, mut together, mut dropped) = (0, Vec::new(), 0);
        loop {
            let found = piece(&path, offset, 77, true).unwrap();
            assert_eq!(found.end, written.len() as u64);
            if offset == 0 {
                assert!(found.dropped_bytes > 0 && found.offset == found.dropped_bytes, "{found:?}");
                dropped = found.dropped_bytes;
            }
            if found.bytes.is_empty() {
                break;
            }
            offset = found.offset + found.bytes.len() as u64;
            together.extend(found.bytes);
        }
        assert_eq!(String::from_utf8(together).unwrap(), written[usize::try_from(dropped).unwrap()..]);
        let forged = b"[12 bytes of output before this were dropped]\nx";
        std::fs::write(&path, forged).unwrap();
        let found = piece(&path, 0, 100, false).unwrap();
        assert_eq!((found.bytes.as_slice(), found.dropped_bytes), (&forged[..], 0));
    }

    #[test]
    fn a_line_that_claims_more_than_can_be_is_output_like_any_other_and_no_offset_is_too_large() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("output.log");
        for claimed in [u64::MAX, u64::MAX - 60, 1 << 60] {
            let forged = format!("[{claimed} bytes of output before this were dropped]\nx");
            std::fs::write(&path, &forged).unwrap();
            let found = piece(&path, 0, 100, true).unwrap();
            let whole =
                Piece { bytes: forged.clone().into_bytes(), offset: 0, dropped_bytes: 0, end: forged.len() as u64 };
            assert_eq!(found, whole);
            for offset in [u64::MAX, u64::MAX - 10, 1 << 63] {
                let found = piece(&path, offset, 100, true).unwrap();
                assert_eq!(found, Piece { bytes: Vec::new(), offset, ..whole.clone() });
            }
        }
    }

    #[test]
    fn the_oldest_files_go_first_and_those_that_are_written_stay() {
        let root = tempfile::tempdir().unwrap();
        let fill = || {
            for name in ["task_1.log", "task_2.log", "task_3.log", "task_4.log", "task_1.tmp", "task_2.tmp", "notes"] {
                std::fs::write(root.path().join(name), "0123456789").unwrap();
            }
        };
        let names = || {
            let mut names: Vec<_> = root
                .path()
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.join(" ")
        };
        for (files, bytes, left) in [
            (9, 100, "notes task_1.log task_1.tmp task_2.log task_3.log task_4.log"),
            (2, 100, "notes task_1.log task_1.tmp task_4.log"),
            (9, 25, "notes task_1.log task_1.tmp task_4.log"),
            (0, 0, "notes task_1.log task_1.tmp"),
        ] {
            fill();
            prune(root.path(), files, bytes, &|stem| stem == "task_1").unwrap();
            assert_eq!(names(), left, "{files} {bytes}");
        }
    }

    #[test]
    fn what_fits_is_kept_whole_and_its_tail_can_be_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("output.log");
        let mut spool = Spool::create(&path, 100).unwrap();
        spool.append(b"hello ").unwrap();
        spool.append(b"world").unwrap();
        assert_eq!(tail(&path, 5).unwrap(), (b"world".to_vec(), 6));
        assert_eq!(tail(&path, 50).unwrap(), (b"hello world".to_vec(), 0));
        let end = spool.finish().unwrap();
        assert_eq!((end.total_bytes, end.rotations), (11, 0));
    }
}
