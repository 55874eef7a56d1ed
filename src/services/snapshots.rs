//! Snapshots: the world and the read models at one sequence number, as a file. A snapshot is trusted only if a record in
//! the verified part of the journal names its digest; without one, everything is folded from the beginning.

use std::collections::BTreeMap;
use std::io;

use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::journal::SnapshotTaken;
use crate::domain::world::World;
use crate::platform::disk::{Disk, join, read_bounded, replace_atomically};
use crate::projections::Models;

/// Version of the snapshot format.
pub const VERSION: u32 = 4;
const FOLDER: &str = "snapshots";
/// How many are kept.
const KEPT: usize = 2;
/// Largest snapshot file, and largest content, that is read.
const FILE_BYTES: u64 = 1 << 30;
const CONTENT_BYTES: usize = 4 << 30;
/// Compression level: fast, because a start waits for it.
const LEVEL: i32 = 1;

/// The state at a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Version of this format.
    pub version: u32,
    /// The last sequence number folded into it.
    pub seq: u64,
    /// Roots of the perfect subtrees of the tree of `seq + 1` lines, largest first, base64.
    pub frontier: Vec<String>,
    /// What rules need.
    pub world: World,
    /// What people ask for.
    pub models: Models,
}

/// What is read of a snapshot where rules are not asked.
#[derive(Deserialize)]
struct OnlyModels {
    version: u32,
    seq: u64,
    models: Models,
}

/// A snapshot file found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The last sequence number folded into it.
    pub seq: u64,
    /// Digest in its name, hex.
    pub sha256: String,
}

impl Candidate {
    fn name(&self) -> String {
        format!("{:020}-{}.zst", self.seq, self.sha256)
    }

    fn parse(name: &str) -> Option<Self> {
        let (seq, sha256) = name.strip_suffix(".zst")?.split_once('-')?;
        let candidate = Self { seq: seq.parse().ok()?, sha256: sha256.to_owned() };
        (candidate.name() == name).then_some(candidate)
    }
}

/// Writes a snapshot and gives what its record must say. It is on disk when this returns.
pub fn write(disk: &dyn Disk, snapshot: &Snapshot) -> io::Result<SnapshotTaken> {
    disk.create_dir(FOLDER)?;
    let content = serde_json::to_vec(snapshot)?;
    let file = zstd::bulk::compress(&content, LEVEL)?;
    drop(content);
    let candidate = Candidate { seq: snapshot.seq, sha256: HEXLOWER.encode(&Sha256::digest(&file)) };
    replace_atomically(disk, FOLDER, &candidate.name(), &file)?;
    disk.sync_dir("")?;
    let digests: BTreeMap<String, String> = snapshot.models.digests();
    Ok(SnapshotTaken { seq: candidate.seq, sha256: candidate.sha256, version: VERSION, digests })
}

/// Snapshot files, newest first.
pub fn candidates(disk: &dyn Disk) -> io::Result<Vec<Candidate>> {
    let entries = match disk.list(FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found: Vec<Candidate> = entries.iter().filter_map(|entry| Candidate::parse(&entry.name)).collect();
    found.sort_by_key(|candidate| std::cmp::Reverse(candidate.seq));
    Ok(found)
}

/// Reads a snapshot; `None` where its bytes are not those of its name, or not of this version.
pub fn read(disk: &dyn Disk, candidate: &Candidate) -> Option<Snapshot> {
    let snapshot: Snapshot = content(disk, candidate)?;
    (snapshot.version == VERSION && snapshot.seq == candidate.seq).then_some(snapshot)
}

/// Reads only the read models of a snapshot, under the same conditions.
pub fn read_models(disk: &dyn Disk, candidate: &Candidate) -> Option<Models> {
    let OnlyModels { version, seq, models } = content(disk, candidate)?;
    (version == VERSION && seq == candidate.seq).then_some(models)
}

fn content<T: DeserializeOwned>(disk: &dyn Disk, candidate: &Candidate) -> Option<T> {
    let file = read_bounded(disk, &join(FOLDER, &candidate.name()), FILE_BYTES).ok()?;
    if HEXLOWER.encode(&Sha256::digest(&file)) != candidate.sha256 {
        return None;
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(file.as_slice()).ok()?;
    let limited = io::Read::take(decoder, CONTENT_BYTES as u64);
    serde_json::from_reader(io::BufReader::with_capacity(64 << 10, limited)).ok()
}

/// Removes all but the newest snapshots, and what an unfinished write left.
pub fn prune(disk: &dyn Disk) -> io::Result<()> {
    let newest: Vec<String> = candidates(disk)?.iter().take(KEPT).map(Candidate::name).collect();
    for entry in disk.list(FOLDER)? {
        if entry.plain && !newest.contains(&entry.name) {
            disk.remove(&join(FOLDER, &entry.name))?;
        }
    }
    disk.sync_dir(FOLDER)
}
