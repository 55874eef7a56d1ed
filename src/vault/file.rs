//! The file of slots, `auth/global-slots.json`: one JSON document that is read slot by slot, so that damage costs the slot
//! it struck and no other.
//!
//! First line `{"format":1,"root_id":"…","check":"…","slots":[`, then a line a slot, sorted, separated by commas, then `]}`.

use serde::{Deserialize, Serialize};

use super::seal::{Place, Sealed};

/// The format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;
/// How each slot begins.
const BEGIN: &[u8] = b"{\"org\":";

/// What stands before the slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the format.
    pub format: u32,
    /// The state root whose secrets these are.
    pub root_id: String,
    /// The master key's check value.
    pub check: String,
}

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// What stands before the slots; none where it cannot be read.
    pub head: Option<Head>,
    /// The slots that can be read, by place.
    pub sealed: std::collections::BTreeMap<Place, Sealed>,
    /// How many cannot.
    pub unreadable: usize,
}

impl Slots {
    /// Writes the file.
    pub fn render(head: &Head, sealed: impl Iterator<Item = Sealed>) -> Vec<u8> {
        let json = |value: String| value.strip_suffix('}').map(str::to_owned).unwrap_or_default();
        let head = serde_json::to_string(head).map(json).unwrap_or_default();
        let slots: Vec<String> = sealed.filter_map(|slot| serde_json::to_string(&slot).ok()).collect();
        let end = if slots.is_empty() { "" } else { "\n" };
        format!("{head},\"slots\":[\n{}{end}]}}\n", slots.join(",\n")).into_bytes()
    }

    /// Reads the file, whatever state it is in.
    pub fn read(bytes: &[u8]) -> Self {
        let begins: Vec<usize> = memchr::memmem::find_iter(bytes, BEGIN).collect();
        let head = bytes.get(..begins.first().copied().unwrap_or(bytes.len())).and_then(read_head);
        let mut slots = Self { head, ..Self::default() };
        for begin in begins {
            // What follows the slot is not looked at: a neighbour whose beginning was struck is not this one's harm.
            let mut values = serde_json::Deserializer::from_slice(&bytes[begin..]).into_iter::<Sealed>();
            match values.next() {
                Some(Ok(sealed)) => drop(slots.sealed.insert(sealed.place.clone(), sealed)),
                Some(Err(_)) | None => slots.unreadable += 1,
            }
        }
        let expected = bytes.iter().filter(|byte| **byte == b'\n').count().saturating_sub(2);
        slots.unreadable = slots.unreadable.max(expected.saturating_sub(slots.sealed.len()));
        slots
    }
}

fn read_head(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?.lines().next()?;
    serde_json::from_str(&format!("{}}}", text.strip_suffix(",\"slots\":[")?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;
    use crate::vault::master_key::MasterKey;
    use crate::vault::secret::Secret;

    fn master() -> MasterKey {
        MasterKey::parse(&format!("{}1", "0".repeat(63)), "here").unwrap()
    }

    fn slot(reference: &str) -> Sealed {
        let place = Place { org: "default".into(), reference: reference.into(), version: 1 };
        let secret = Secret::parse(reference.repeat(4).as_bytes()).unwrap();
        Sealed::new(&master(), place, &secret, &SystemEntropy::default()).unwrap()
    }

    fn written() -> Vec<u8> {
        let head = Head { format: FORMAT, root_id: "root_x".into(), check: "ab".repeat(16) };
        Slots::render(&head, ["anthropic.prod", "openai.prod", "xai.prod"].map(slot).into_iter())
    }

    fn opened(slots: &Slots) -> usize {
        slots.sealed.values().filter(|sealed| sealed.open(&master()).is_some()).count()
    }

    #[test]
    fn the_file_is_a_json_document_and_reads_back() {
        let bytes = written();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(document["slots"][1]["ref"], "openai.prod");
        let read = Slots::read(&bytes);
        assert_eq!((read.sealed.len(), read.unreadable, opened(&read)), (3, 0, 3));
        assert_eq!(Slots::render(&read.head.clone().unwrap(), read.sealed.into_values()), bytes);
        let empty = Slots::read(&Slots::render(&read.head.unwrap(), std::iter::empty()));
        assert_eq!((empty.sealed.len(), empty.unreadable), (0, 0));
    }

    #[test]
    fn a_flipped_bit_costs_one_slot_at_most() {
        let bytes = written();
        for at in 0..bytes.len() * 8 {
            let mut struck = bytes.clone();
            struck[at / 8] ^= 1 << (at % 8);
            let read = Slots::read(&struck);
            let good = opened(&read);
            assert!(good >= 2, "bit {at}: {good} of 3 open");
            let harmed = read.head.is_none() || read.head != Slots::read(&bytes).head;
            assert!(good == 3 || !harmed || read.unreadable > 0, "bit {at}");
        }
    }

    #[test]
    fn a_cut_file_keeps_what_is_whole() {
        let bytes = written();
        for end in 0..bytes.len() {
            let read = Slots::read(&bytes[..end]);
            let whole = memchr::memmem::find_iter(&bytes[..end], b"\"}").filter(|at| at + 2 <= end).count();
            assert_eq!(opened(&read), whole, "{end}");
        }
    }
}
