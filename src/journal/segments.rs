//! The segment files as a set: their names, their chain, and the short check of those that a start does not walk.

use std::io;

use super::error::OpenError;
use super::keys::StateRoot;
use super::layout;
use super::line::{self, Header, LineError};
use super::walk;
use crate::domain::limits;
use crate::platform::disk::{Disk, DiskFile, Open, join};

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// Sequence number in its name.
    pub first_seq: u64,
    /// Path below the state root.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// The segments in order. Anything else that stands in the journal's folder is refused.
pub fn list(disk: &dyn Disk) -> Result<Vec<SegmentFile>, OpenError> {
    let mut files = Vec::new();
    for entry in disk.list(layout::FOLDER).map_err(OpenError::io("listing the journal"))? {
        let path = join(layout::FOLDER, &entry.name);
        match layout::parse_segment_name(&entry.name) {
            Some(_) if !entry.plain || entry.bytes == 0 => {
                return Err(OpenError::file(&path, "a segment is a plain file that is not empty"));
            }
            Some(_) if entry.bytes > limits::SEGMENT_FILE_BYTES => {
                let why = format!("a segment has at most {} bytes, not {}", limits::SEGMENT_FILE_BYTES, entry.bytes);
                return Err(OpenError::file(&path, why));
            }
            Some(first_seq) => files.push(SegmentFile { first_seq, path, bytes: entry.bytes }),
            None if path == super::acked::PATH || path == layout::NEXT || path == layout::QUARANTINE => {}
            None => return Err(OpenError::file(&path, "nothing but the journal's files may stand here")),
        }
    }
    match files.first() {
        None => Err(OpenError::file(layout::FOLDER, "there is no segment")),
        Some(first) if first.first_seq != 0 => Err(OpenError::Rollback {
            file: first.path.clone(),
            from_seq: 0,
            to_seq: first.first_seq - 1,
            why: "the segments before this one are missing".to_owned(),
        }),
        Some(_) => Ok(files),
    }
}

/// What a header that does not parse means.
pub fn header_fault(path: &str, error: &LineError) -> OpenError {
    match error {
        LineError::TooNew(_) => OpenError::TooNew(format!("{path}: {error}")),
        LineError::Shape(_) | LineError::Spelling | LineError::Event(_) => {
            OpenError::file(path, format!("the segment's header is wrong: {error}"))
        }
    }
}

fn header(disk: &dyn Disk, file: &SegmentFile) -> Result<Header, OpenError> {
    let opened = disk.open(&file.path, Open::Read).map_err(OpenError::io(file.path.clone()))?;
    let found = walk::open(opened).map_err(OpenError::io(file.path.clone()))?;
    found.map(|(header, _)| header).map_err(|error| header_fault(&file.path, &error))
}

/// Checks the segments before `start`: there, with a header of this root, ending in the seal that the next one names.
pub fn check_skipped(disk: &dyn Disk, files: &[SegmentFile], start: usize, root: &StateRoot) -> Result<(), OpenError> {
    for pair in files.get(..=start).unwrap_or_default().windows(2) {
        let [file, next] = pair else { continue };
        let (header, next_header) = (header(disk, file)?, header(disk, next)?);
        let fault = |why: &str| OpenError::file(&file.path, why);
        if header.first_seq != file.first_seq || header.root_id != root.id {
            return Err(fault("the header does not belong to this file or this state root"));
        }
        let Some(note) = &next_header.checkpoint else { return Err(fault("the segment after it names no seal")) };
        let opened = disk.open(&file.path, Open::Read).map_err(OpenError::io(file.path.clone()))?;
        let last = last_line(opened.as_ref()).map_err(OpenError::io(file.path.clone()))?;
        if last != line::render_seal(note.size, note) {
            return Err(OpenError::Corrupt {
                file: file.path.clone(),
                from: 0,
                to: file.bytes,
                seq: file.first_seq,
                why: "it does not end in the seal that the next segment names".to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether these bytes stand in the segment that holds a sequence number, or in a later one. Nothing is verified.
pub fn mention(disk: &dyn Disk, seq: u64, wanted: &[u8]) -> Result<bool, OpenError> {
    const CHUNK_BYTES: usize = 1 << 20;
    let files = list(disk)?;
    let start = files.partition_point(|file| file.first_seq <= seq).saturating_sub(1);
    let mut buffer = vec![0; wanted.len() + CHUNK_BYTES];
    for SegmentFile { path, .. } in files.get(start..).unwrap_or_default() {
        let file = disk.open(path, Open::Read).map_err(OpenError::io(path.clone()))?;
        let mut offset = 0;
        loop {
            let read = file.read_at(offset, &mut buffer).map_err(OpenError::io(path.clone()))?;
            if memchr::memmem::find(buffer.get(..read).unwrap_or_default(), wanted).is_some() {
                return Ok(true);
            }
            if read < buffer.len() {
                break;
            }
            offset += CHUNK_BYTES as u64;
        }
    }
    Ok(false)
}

/// The last line of a closed segment, newlines behind it left out.
pub fn last_line(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let bytes = file.bytes()?;
    // Newlines behind the last seal can be as long as the written-ahead space.
    let window = (limits::WRITTEN_AHEAD_BYTES * 2).min(bytes);
    let mut length = (64 << 10).min(window);
    loop {
        let tail = rest(file, bytes - length)?;
        if let Some(end) = tail.iter().rposition(|byte| *byte != b'\n') {
            let text = tail.get(..=end).unwrap_or_default();
            if let Some(start) = text.iter().rposition(|byte| *byte == b'\n') {
                return Ok(text.get(start + 1..).unwrap_or_default().to_vec());
            }
            if length == bytes {
                return Ok(text.to_vec());
            }
        }
        if length == window {
            return Ok(Vec::new());
        }
        length = (length * 8).min(window);
    }
}

/// The bytes of a file from an offset to its end.
pub fn rest(file: &dyn DiskFile, offset: u64) -> io::Result<Vec<u8>> {
    let length = file.bytes()?.saturating_sub(offset);
    let mut out = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = file.read_at(offset, &mut out)?;
    out.truncate(read);
    Ok(out)
}
