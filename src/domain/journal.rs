//! Events about the journal itself: its creation, its recoveries, its keys, snapshots and index.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{EpochId, RootId};

/// `journal.created`: the first act of a state root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// The state root.
    pub root_id: RootId,
    /// Its first epoch.
    pub epoch: EpochId,
    /// C2SP key id of the first signing key, hex.
    pub key_id: String,
}

/// `journal.tail_quarantined`: bytes behind the last acknowledged batch were moved away by recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TailQuarantined {
    /// File name of the segment.
    pub segment: String,
    /// Where the bytes began.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Their digest, hex.
    pub sha256: String,
    /// File name below `journal/quarantine/`.
    pub file: String,
    /// A seal's note among them, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded_note: Option<String>,
}

/// `journal.acked_rewritten`: one slot of `acked` was bad beside a valid one and was written again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AckedRewritten {
    /// 0 or 1.
    pub slot: u8,
}

/// `journal.key_changed`: the signing key is handed over; the seal of this batch bears both signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyChanged {
    /// C2SP key id, hex.
    pub old_key_id: String,
    /// C2SP key id, hex.
    pub new_key_id: String,
    /// Ed25519 public key, base64.
    pub new_public_key: String,
}

/// `journal.snapshot_taken`: a snapshot file exists whose content follows from the records up to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTaken {
    /// The last sequence number folded into it.
    pub seq: u64,
    /// Digest of the file, hex.
    pub sha256: String,
    /// Version of the snapshot format.
    pub version: u32,
    /// Digest of each projection, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
}

/// `journal.repaired`: an operator cut the journal back to a prefix that verifies, and a new epoch began behind it. The
/// segment that holds this record begins with the last good seal's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repaired {
    /// The epoch that began.
    pub epoch: EpochId,
    /// First sequence number that is gone; it has been given anew since.
    pub lost_from_seq: u64,
    /// Last sequence number that a valid signature said was there; one less than the first where none is known lost.
    pub lost_to_seq: u64,
    /// What went to the quarantine, in the order of the journal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<QuarantinedFile>,
}

/// A file that a repair put into the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantinedFile {
    /// File name below `journal/` that the bytes had.
    pub segment: String,
    /// Where they began in it; 0 where the whole file was moved.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Their digest, hex.
    pub sha256: String,
    /// File name below `journal/quarantine/`.
    pub file: String,
}

/// `index.rebuilt`: the disposable index was made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IndexRebuilt {
    /// Why.
    pub cause: String,
    /// How many records it covers.
    pub records: u64,
}

/// `access_log.closed`: a chunk of the access log is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLogClosed {
    /// File name below `control-plane-auth/`.
    pub file: String,
    /// Its digest, hex.
    pub sha256: String,
    /// Lines in it.
    pub lines: u64,
}
