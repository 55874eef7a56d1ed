//! Closed chunks of the access log that the journal names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::journal::AccessLogClosed;

/// Chunks that are remembered: more than are kept on disk.
const CHUNKS: usize = 64;

/// The newest closed chunks, by file name; names rise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    chunks: BTreeMap<String, String>,
}

impl AccessLog {
    pub(super) fn closed(&mut self, body: &AccessLogClosed) {
        self.chunks.insert(body.file.clone(), body.sha256.clone());
        while self.chunks.len() > CHUNKS {
            self.chunks.pop_first();
        }
    }

    /// Whether the journal names a chunk.
    pub fn names(&self, file: &str) -> bool {
        self.chunks.contains_key(file)
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = (&String, &String)> {
        self.chunks.iter()
    }
}
