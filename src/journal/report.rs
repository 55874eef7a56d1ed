//! What a verification says.

use super::keys::WalkedKey;

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything holds.
    Valid,
    /// Something was changed.
    Invalid {
        /// The file.
        file: String,
        /// Offset of the first wrong byte.
        offset: u64,
        /// Sequence number due there.
        seq: u64,
        /// What is wrong.
        why: String,
    },
    /// Something can't be judged from here.
    Unverifiable {
        /// Why not.
        why: String,
    },
}

/// The report on a state root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Lines under valid seals.
    pub lines: u64,
    /// Seals whose root and signature were checked.
    pub seals: u64,
    /// Segments looked at.
    pub segments: usize,
    /// The pinned key, as a C2SP verifier key.
    pub key: String,
    /// The keys that were walked, from the pin on, over handovers and epochs.
    pub keys: Vec<WalkedKey>,
    /// The newest note.
    pub note: String,
    /// Files in the quarantine that records name.
    pub quarantined: usize,
    /// Bytes behind the newest seal of a running daemon.
    pub in_flight_bytes: u64,
    /// What makes it unverifiable, where it is known what to do about that.
    #[serde(skip)]
    pub doubt: Option<Doubt>,
}

/// Why nothing can be said from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Nobody runs, and bytes stand behind the newest seal.
    TornEnd,
    /// A file lies in the quarantine that no record names.
    UnnamedFile,
    /// A newer program wrote it.
    TooNew,
}
