//! How entries are written. A key ends in the number of the first thing its value tells of, eight bytes, largest first,
//! so that "the last key that is not behind what I look for" finds the entry. Values are rising numbers, the first
//! whole and each further one as its distance, seven bits a byte.

use crate::domain::ids::RunId;
use crate::domain::stream::Stream;
use crate::journal::reader::Place;

/// Key of the mark.
pub(super) const MARK: &[u8] = b"m";
const OFFSETS: u8 = b'o';
const POSTINGS: u8 = b'p';
const RUN: u8 = b'r';
const TILES: u8 = b't';

/// Key of the offsets of a segment's lines from this block on.
pub(super) fn offsets(first_seq: u64, block: u64) -> Vec<u8> {
    [&[OFFSETS][..], &first_seq.to_be_bytes(), &block.to_be_bytes()].concat()
}

/// Key of the tiles of a height from this index on.
pub(super) fn tiles((height, index): Place) -> Vec<u8> {
    [&[TILES][..], &height.to_be_bytes(), &index.to_be_bytes()].concat()
}

/// Key of the session of a run that was queued with this sequence number.
pub(super) fn run(id: RunId, queued: u64) -> Vec<u8> {
    [&[RUN][..], &id.ulid().0.to_be_bytes(), &queued.to_be_bytes()].concat()
}

/// Key of a session's or run's sequence numbers from this one on; a session has those of its runs as well.
pub(super) fn postings(stream: Stream, first: u64) -> Option<Vec<u8>> {
    let (noun, id) = match stream.session() {
        Some(id) => (b's', id.ulid()),
        None => (b'r', stream.run()?.ulid()),
    };
    Some([&[POSTINGS, noun][..], &id.0.to_be_bytes(), &first.to_be_bytes()].concat())
}

/// The number at the end of a key.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk()?))
}

/// Behind which leaf the first tile of an entry ends.
fn tile_end(key: &[u8]) -> Option<u64> {
    let height = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    number(key)?.checked_add(1)?.checked_shl(height)
}

/// Whether an entry belongs to what lies before a sequence number that begins a segment.
pub(super) fn begins_before(key: &[u8], seq: u64) -> bool {
    match key.first() {
        Some(&OFFSETS) => key.get(1..9).and_then(number).is_some_and(|first| first < seq),
        Some(&POSTINGS | &RUN) => number(key).is_some_and(|first| first < seq),
        // A tile belongs to the segment that holds its last leaf.
        Some(&TILES) => tile_end(key).is_some_and(|end| end <= seq),
        _ => true,
    }
}

/// A key in words.
pub(super) fn describe(key: &[u8]) -> String {
    let what = match key.first() {
        Some(&OFFSETS) => "the places of lines",
        Some(&POSTINGS) => "the lines of a session or run",
        Some(&RUN) => "the session of a run",
        Some(&TILES) => "the hashes of tiles",
        _ => "an unknown entry",
    };
    format!("{what} from number {} on", number(key).unwrap_or_default())
}

/// Packs rising numbers; the first is left to the key, or written whole where `whole` says so.
pub(super) fn pack(numbers: &[u64], whole: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(numbers.len() * 2);
    let mut last = if whole { 0 } else { numbers.first().copied().unwrap_or(0) };
    for number in numbers.iter().skip(usize::from(!whole)) {
        let mut distance = number.saturating_sub(last);
        last = *number;
        while distance >= 0x80 {
            out.push((distance & 0x7f) as u8 | 0x80);
            distance >>= 7;
        }
        out.push(distance as u8);
    }
    out
}

/// Reads numbers that follow `last`; `None` where the bytes are no such numbers.
fn distances(bytes: &[u8], mut last: u64) -> Option<Vec<u64>> {
    let mut out = Vec::new();
    let mut bytes = bytes.iter();
    while let Some(mut byte) = bytes.next() {
        let mut distance = u64::from(byte & 0x7f);
        let mut shift = 7;
        while byte & 0x80 != 0 {
            byte = bytes.next()?;
            if shift > 63 {
                return None;
            }
            distance |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        last = last.checked_add(distance)?;
        out.push(last);
    }
    Some(out)
}

/// Numbers packed behind a first one that the key holds.
pub(super) fn unpack(first: u64, bytes: &[u8]) -> Option<Vec<u64>> {
    let mut numbers = vec![first];
    numbers.extend(distances(bytes, first)?);
    Some(numbers)
}

/// One of the numbers that were packed whole.
pub(super) fn unpack_one(bytes: &[u8], index: usize) -> Option<u64> {
    distances(bytes, 0)?.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_unpacks(mut numbers in proptest::collection::vec(any::<u64>(), 1..200)) {
            numbers.sort_unstable();
            prop_assert_eq!(unpack(numbers[0], &pack(&numbers, false)), Some(numbers.clone()));
            let whole = pack(&numbers, true);
            for (index, number) in numbers.iter().enumerate() {
                prop_assert_eq!(unpack_one(&whole, index), Some(*number));
            }
        }

        #[test]
        fn any_bytes_are_numbers_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpack(u64::MAX - 5, &bytes);
        }
    }
}
