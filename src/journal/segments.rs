//! The segment files as a set: their names, their chain, and the short check of those that a start does not walk.

use std::io;
use std::sync::Arc;

use super::error::OpenError;
use super::keys::{KeyRing, StateRoot};
use super::layout;
use super::line::{self, Header, LineError};
use super::note::Note;
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
        let segment = |first_seq| SegmentFile { first_seq, path: path.clone(), bytes: entry.bytes };
        match layout::parse_segment_name(&entry.name).map(segment) {
            Some(file) if !entry.plain || file.bytes == 0 => {
                return Err(OpenError::file(&file.path, "a segment is a plain file that is not empty"));
            }
            Some(file) if file.bytes > limits::SEGMENT_FILE_BYTES => {
                let why = format!("a segment has at most {} bytes, not {}", limits::SEGMENT_FILE_BYTES, file.bytes);
                return Err(file.fault(why));
            }
            Some(file) => files.push(file),
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
pub fn header_fault(file: &SegmentFile, error: &LineError) -> OpenError {
    match error {
        LineError::TooNew(_) => OpenError::TooNew(format!("{}: {error}", file.path)),
        LineError::Shape(_) | LineError::Spelling | LineError::Event(_) => {
            file.fault(format!("the segment's header is wrong: {error}"))
        }
    }
}

impl SegmentFile {
    /// Something is wrong with the segment as a whole.
    pub fn fault(&self, why: impl Into<String>) -> OpenError {
        OpenError::Corrupt { file: self.path.clone(), from: 0, to: self.bytes, seq: self.first_seq, why: why.into() }
    }

    fn open(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, OpenError> {
        disk.open(&self.path, Open::Read).map_err(OpenError::io(self.path.clone()))
    }

    /// The header, which must belong to this file and this state root.
    fn header(&self, disk: &dyn Disk, root: &StateRoot) -> Result<Header, OpenError> {
        let found = walk::open(self.open(disk)?).map_err(OpenError::io(self.path.clone()))?;
        let (header, _) = found.map_err(|error| header_fault(self, &error))?;
        if header.first_seq == self.first_seq && header.root_id == root.id {
            return Ok(header);
        }
        Err(self.fault("the header does not belong to this file or this state root"))
    }
}

/// A closed segment with newlines behind its last seal, and where that ends.
pub type Padded = (String, u64);

/// Checks the segments before `start`: there, with a header of this root, ending in the seal that the next one names.
/// Says which of them have newlines behind that.
pub fn check_skipped(
    disk: &dyn Disk,
    files: &[SegmentFile],
    start: usize,
    (root, ring): (&StateRoot, &KeyRing),
) -> Result<Vec<Padded>, OpenError> {
    let mut padded = Vec::new();
    for pair in files.get(..=start).unwrap_or_default().windows(2) {
        let [file, next] = pair else { continue };
        let end = check_closed(disk, (root, ring), file, next)?;
        if end < file.bytes {
            padded.push((file.path.clone(), end));
        }
    }
    Ok(padded)
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

/// The same for one closed segment. Says where its data ends.
pub fn check_closed(
    disk: &dyn Disk,
    (root, ring): (&StateRoot, &KeyRing),
    file: &SegmentFile,
    next: &SegmentFile,
) -> Result<u64, OpenError> {
    file.header(disk, root)?;
    let Some(note) = next.header(disk, root)?.checkpoint else {
        return Err(next.fault("it names no seal that ended the segment before"));
    };
    let opened = file.open(disk)?;
    let (last, end) = last_line(opened.as_ref()).map_err(OpenError::io(file.path.clone()))?;
    let bytes = opened.bytes().map_err(OpenError::io(file.path.clone()))?;
    // A line without its newline is cut.
    if last == line::render_seal(note.size, &note) && end <= bytes {
        return Ok(end);
    }
    match line::parse_seal(&last) {
        Some((_, older)) if older.size < note.size && ring.accepts(&older) => Err(missing_before(next, &older, &note)),
        Some(_) | None => Err(file.fault("it does not end in the seal that the next segment names")),
    }
}

/// What stood between a seal and the segment that names a later one.
pub fn missing_before(next: &SegmentFile, older: &Note, note: &Note) -> OpenError {
    OpenError::Rollback {
        file: next.path.clone(),
        from_seq: older.size + 1,
        to_seq: note.size,
        why: "a segment before this one is missing or was cut".to_owned(),
    }
}

/// The last line of a closed segment, and where it ends: newlines behind it are left out.
fn last_line(file: &dyn DiskFile) -> io::Result<(Vec<u8>, u64)> {
    let bytes = file.bytes()?;
    // Newlines behind the last seal can be as long as the written-ahead space.
    let window = (limits::WRITTEN_AHEAD_BYTES * 2).min(bytes);
    let mut length = (64 << 10).min(window);
    loop {
        let tail = rest(file, bytes - length)?;
        if let Some(end) = tail.iter().rposition(|byte| *byte != b'\n') {
            let text = tail.get(..=end).unwrap_or_default();
            // A line counts with the newline that ends it.
            let data_end = bytes - length + end as u64 + 2;
            if let Some(start) = text.iter().rposition(|byte| *byte == b'\n') {
                return Ok((text.get(start + 1..).unwrap_or_default().to_vec(), data_end));
            }
            if length == bytes {
                return Ok((text.to_vec(), data_end));
            }
        }
        if length == window {
            return Ok((Vec::new(), bytes));
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
