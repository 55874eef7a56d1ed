//! What stands behind the last batch that verifies: padding, the leavings of a crash, or rot.
//!
//! A crash takes both: (1) directly behind the last right byte stands a run of newline or NUL bytes that ends at a
//! multiple of 512 or at the end of the file — a lost sector shows what was there before; (2) at most one seal is
//! left, because only one batch is ever unsynced. Anything else means that acknowledged bytes were changed.

use super::line::{self, Shape};

/// Bytes that a disk writes or loses as one.
const SECTOR_BYTES: u64 = 512;

/// What the bytes behind the last good batch are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Newlines up to the end of the file.
    Padding,
    /// A batch that a crash cut: this many bytes, up to the last that is no newline.
    Crash {
        /// Length of the leavings.
        bytes: usize,
        /// The note of a seal among them.
        discarded_note: Option<String>,
    },
    /// No crash explains it.
    Rot {
        /// Offset from the beginning of the tail.
        at: usize,
        /// Sequence number that was due there.
        seq: u64,
        /// Why not.
        why: &'static str,
    },
}

/// Judges the bytes from the end of the last good batch, at `offset` in the segment, to the end of the file. `seq` is
/// the sequence number due next.
pub fn judge(tail: &[u8], offset: u64, seq: u64) -> Tail {
    let Some(last) = tail.iter().rposition(|byte| *byte != b'\n') else { return Tail::Padding };
    let rot = |at, seq, why| Tail::Rot { at, seq, why };
    let right = right_lines(tail, seq);
    if right.sealed {
        return rot(0, seq, "a whole batch stands here whose seal does not match its lines");
    }
    if !explained(tail, offset, &right) {
        return rot(right.end, right.seq, "the damage does not begin where a lost sector would");
    }
    let mut seals = seals(tail.get(..=last).unwrap_or_default());
    let discarded_note = seals.next();
    if seals.next().is_some() {
        return rot(right.end, right.seq, "more than one seal follows, so these bytes had been acknowledged");
    }
    Tail::Crash { bytes: last + 1, discarded_note }
}

/// Whether what stands behind the last whole line is the beginning of a line in which the file was cut; a whole line with
/// another byte in its newline's place is not.
pub(super) fn is_cut(behind: &[u8]) -> bool {
    let whole = |text: &[u8]| line::parse_record(text).is_ok() || line::parse_seal(text).is_some();
    !behind.contains(&b'\n') && !behind.split_last().is_some_and(|(_, text)| whole(text))
}

/// The lines that parse and bear the sequence numbers that are due.
struct Right {
    /// Where the first other line begins.
    end: usize,
    /// The sequence number due there.
    seq: u64,
    /// Whether a seal ends them.
    sealed: bool,
    /// Whether the line there parses, but bears another number.
    misnumbered: bool,
}

fn right_lines(tail: &[u8], first_seq: u64) -> Right {
    let mut right = Right { end: 0, seq: first_seq, sealed: false, misnumbered: false };
    while let Some(length) = tail.get(right.end..).and_then(|rest| memchr::memchr(b'\n', rest)) {
        let text = tail.get(right.end..right.end + length).unwrap_or_default();
        let parses = match line::shape(text) {
            Some(Shape::Record(_)) => line::parse_record(text).is_ok(),
            Some(Shape::Seal(_)) => line::parse_seal(text).is_some(),
            None => false,
        };
        match line::shape(text) {
            Some(Shape::Record(found)) if parses && found == right.seq => {}
            Some(Shape::Seal(found)) if parses && found == right.seq => return Right { sealed: true, ..right },
            Some(Shape::Record(_) | Shape::Seal(_)) if parses => return Right { misnumbered: true, ..right },
            Some(Shape::Record(_) | Shape::Seal(_)) | None => return right,
        }
        right.end += length + 1;
        right.seq += 1;
    }
    right
}

/// Whether a lost sector, or the end of the file, stands directly behind the last right byte.
fn explained(tail: &[u8], offset: u64, right: &Right) -> bool {
    if right.misnumbered {
        return false;
    }
    let hole = |byte: &u8| *byte == b'\n' || *byte == 0;
    let rest = tail.get(right.end..).unwrap_or_default();
    let fragment = rest.iter().position(hole).unwrap_or(rest.len());
    // What a cut line still shows is the beginning of the line that was due.
    let due = format!("{{\"seq\":{},\"", right.seq);
    let torn = rest.get(..fragment).unwrap_or_default();
    if !due.as_bytes().iter().zip(torn).all(|(wanted, found)| wanted == found) {
        return false;
    }
    let run = rest.iter().skip(fragment).take_while(|byte| hole(byte)).count();
    let end = right.end + fragment + run;
    let absolute = offset + end as u64;
    // A surviving sector may itself begin with the newline that ends a line.
    let newline_before = tail.get(end.wrapping_sub(1)) == Some(&b'\n') && absolute % SECTOR_BYTES == 1;
    end == tail.len() || (run > 0 && (absolute.is_multiple_of(SECTOR_BYTES) || newline_before))
}

/// Notes of the whole seals among these bytes.
fn seals(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.split(|byte| *byte == b'\n' || *byte == 0).filter_map(|text| Some(line::parse_seal(text)?.1.render()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_alone_is_padding() {
        assert_eq!(judge(b"", 100, 1), Tail::Padding);
        assert_eq!(judge(&[b'\n'; 2_000], 100, 1), Tail::Padding);
    }

    #[test]
    fn a_torn_line_before_padding_or_zeros_is_a_crash() {
        for filler in [b'\n', 0] {
            let mut tail = b"{\"seq\":1,\"at_ms\":17".to_vec();
            tail.resize(4_096, filler);
            assert!(matches!(judge(&tail, 100, 1), Tail::Crash { .. }), "{filler}");
        }
        assert!(matches!(judge(b"{\"seq\":1,\"at_ms\":17", 100, 1), Tail::Crash { bytes: 19, .. }));
    }

    #[test]
    fn a_lone_changed_byte_in_the_padding_is_rot_unless_a_sector_begins_there() {
        let mut tail = vec![b'\n'; 4_096];
        tail[1_000] = b'x';
        assert!(matches!(judge(&tail, 0, 1), Tail::Rot { .. }));
        let mut tail = vec![b'\n'; 4_096];
        tail[1_024] = b'x';
        assert!(matches!(judge(&tail, 0, 1), Tail::Crash { .. }));
    }
}
