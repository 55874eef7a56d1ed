//! How far the index covers, and over which tree.

use serde::{Deserialize, Serialize};

use crate::domain::ids::RootId;
use crate::journal::merkle::Hash;

/// Version of everything that the index holds.
const VERSION: u32 = 2;

/// How far the index covers, and over which tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    version: u32,
    /// The state root.
    pub root_id: RootId,
    /// Everything before this sequence number is indexed; a segment begins here.
    pub covered: u64,
    /// Root of the tree that the seal before it signs.
    pub root: Hash,
    /// Records covered.
    pub records: u64,
    /// Segments covered.
    pub segments: u64,
    /// Why it is being built anew, until that is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<String>,
}

/// A closed segment as its entries were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// Its first sequence number.
    pub first_seq: u64,
    /// The sequence number behind its last seal.
    pub next_seq: u64,
    /// Root of the tree that this seal signs.
    pub root: Hash,
}

impl Mark {
    /// The mark of an index that covers nothing.
    pub(super) fn empty(root_id: RootId) -> Self {
        Self { version: VERSION, root_id, covered: 0, root: Hash::default(), records: 0, segments: 0, rebuilt: None }
    }

    pub(super) fn extend(&mut self, segment: &Closed, records: u64) {
        self.covered = segment.next_seq;
        self.root = segment.root;
        self.records += records;
        self.segments += 1;
    }

    pub(super) fn render(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a mark of this version.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|mark| mark.version == VERSION)
    }
}
