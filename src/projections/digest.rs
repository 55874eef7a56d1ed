//! Digests of the read models, so that whoever folds the same records can compare. Each is the SHA-256 of one line of
//! JSON per entry, `[id,{…}]` with sorted keys, in the order of the ids.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Models;

struct Lines(Sha256);

impl Lines {
    fn of<K: Serialize, V: Serialize>(rows: impl Iterator<Item = (K, V)>) -> String {
        let mut lines = Self(Sha256::new());
        for row in rows {
            lines.add(&row);
        }
        data_encoding::HEXLOWER.encode(&lines.0.finalize())
    }

    fn add(&mut self, row: &impl Serialize) {
        // Rows are plain numbers, words and ids; their JSON always exists. Going through a value sorts the keys.
        let line = serde_json::to_value(row).unwrap_or_default().to_string();
        self.0.update(line.as_bytes());
        self.0.update(b"\n");
    }
}

impl Models {
    /// The digest of each projection, by name.
    pub fn digests(&self) -> BTreeMap<String, String> {
        [
            ("sessions", Lines::of(self.sessions.rows())),
            ("runs", Lines::of(self.runs.rows())),
            ("runs_open", Lines::of(self.runs.open().map(|facts| (facts.id, facts.open)))),
            ("approvals", Lines::of(self.approvals.rows())),
            ("questions", Lines::of(self.questions.rows())),
            ("tasks", Lines::of(self.tasks.rows())),
            ("runtime", Lines::of(std::iter::once(("runtime", &self.runtime)))),
            ("ledger", Lines::of(std::iter::once(("ledger", &self.ledger)))),
            ("clock", Lines::of(std::iter::once(("clock", &self.clock)))),
            ("access_log", Lines::of(self.access_log.chunks())),
            ("tokens", Lines::of(std::iter::once(("tokens", &self.tokens)))),
            ("vault", Lines::of(std::iter::once(("vault", &self.vault)))),
            ("routes", Lines::of(std::iter::once(("routes", &self.routes)))),
            ("names", Lines::of(std::iter::once(("names", &self.names)))),
        ]
        .into_iter()
        .map(|(name, digest)| (name.to_owned(), digest))
        .collect()
    }
}
