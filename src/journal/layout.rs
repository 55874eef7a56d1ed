//! Names of the journal's files below the state root.

/// The journal's folder.
pub const FOLDER: &str = "journal";
/// Where recovery keeps what it removed.
pub const QUARANTINE: &str = "journal/quarantine";
/// The prepared next segment.
pub const NEXT: &str = "journal/next";
/// Which root this is and whose signatures count.
pub const STATE_ROOT: &str = "state-root.json";
/// The signing key's seed, 32 bytes.
pub const SIGNING_KEY: &str = "audit-signing.key";
/// The next signing key during a handover.
pub const SIGNING_KEY_NEXT: &str = "audit-signing.key.next";
/// Folder of other keys.
pub const AUTH: &str = "auth";
/// Key of fingerprints and body MACs, 32 bytes.
pub const FINGERPRINT_KEY: &str = "auth/fingerprint.key";
/// Ranges that a background check found rotten.
pub const DAMAGE: &str = "damage.json";
/// What a repair is doing.
pub const REPAIR: &str = "repair.json";
/// The kernel lock of the state root.
pub const LOCK: &str = "LOCK";

/// Ending of a quarantined file that no record names yet.
pub const PENDING: &str = ".pending";

/// File name of the segment whose first line has this sequence number.
pub fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:020}.jsonl")
}

/// Path of that segment.
pub fn segment_path(first_seq: u64) -> String {
    format!("{FOLDER}/{}", segment_name(first_seq))
}

/// Sequence number in a segment's file name.
pub fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    let seq = digits.parse().ok()?;
    (segment_name(seq) == name).then_some(seq)
}
