//! Snapshots: the world and the read models at one sequence number, as a file. A snapshot is trusted only if a record in
//! the verified part of the journal names its digest; without one, everything is folded from the beginning.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _};

use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::domain::journal::SnapshotTaken;
use crate::domain::world::World;
use crate::journal::merkle::Frontier;
use crate::platform::disk::{Disk, join, read_bounded, replace_atomically};
use crate::projections::Models;

/// Version of the snapshot format, and of what is folded into it.
pub const VERSION: u32 = 11;
/// Digest of what the samples of all events are folded into; another one needs another version.
#[cfg(test)]
const LAYOUT: &str = "e0c8153e623a99390c2802413e64e3788e9a8c9f9e123db692694643809df362";
const FOLDER: &str = "snapshots";
/// How many are kept.
const KEPT: usize = 2;
/// Largest snapshot file, and largest content, that is written or read.
const FILE_BYTES: u64 = 256 << 20;
const CONTENT_BYTES: u64 = 2 << 30;
/// Compression level: fast, because a start waits for it.
const LEVEL: i32 = 1;
/// Binary logarithm of the most memory that decompression takes, bytes: more than that level asks for.
const WINDOW_LOG: u32 = 21;

/// The state at a sequence number; the world is passed over where rules are not asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot<W = World> {
    /// Version of this format.
    pub version: u32,
    /// The last sequence number folded into it.
    pub seq: u64,
    /// Roots of the perfect subtrees of the tree of `seq + 1` lines, largest first, base64.
    pub frontier: Vec<String>,
    /// What rules need.
    pub world: W,
    /// What people ask for.
    pub models: Models,
}

impl<W> Snapshot<W> {
    /// The tree over everything that is folded into it; nothing where the frontier is none.
    pub fn tree(&self) -> Option<Frontier> {
        let roots =
            self.frontier.iter().map(|text| data_encoding::BASE64.decode(text.as_bytes()).ok()?.try_into().ok());
        Frontier::new(self.seq.checked_add(1)?, roots.collect::<Option<Vec<_>>>()?)
    }
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Nothing vouches for it.
    #[error("no verified record names it")]
    Unnamed,
    /// Its bytes are not those of its name.
    #[error("its digest is not the one in its name")]
    Changed,
    /// It is larger than any that is written.
    #[error("it would take more memory than a snapshot may")]
    TooLarge,
    /// It was written by a program with another format, or is none.
    #[error("it is not of version {VERSION}")]
    OtherVersion,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It holds the state of another journal.
    #[error("its tree is not the journal's")]
    OtherTree,
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
    if content.len() as u64 > CONTENT_BYTES || file.len() as u64 > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the state is larger than a snapshot may be"));
    }
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

/// Reads a snapshot that a record names. What is in it is looked at only if its bytes are those of its name, and its
/// tree is compared with the journal's by whoever uses it.
pub fn read<W: DeserializeOwned>(disk: &dyn Disk, candidate: &Candidate) -> Result<Snapshot<W>, Unusable> {
    let file = read_bounded(disk, &join(FOLDER, &candidate.name()), FILE_BYTES)?;
    if HEXLOWER.encode(&Sha256::digest(&file)) != candidate.sha256 {
        return Err(Unusable::Changed);
    }
    let declared = zstd::zstd_safe::get_frame_content_size(&file).ok().flatten();
    let Some(bytes) = declared.filter(|bytes| *bytes <= CONTENT_BYTES) else { return Err(Unusable::TooLarge) };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(file.as_slice())?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    let mut content = io::BufReader::with_capacity(64 << 10, io::Read::take(decoder, bytes));
    let beginning = format!("{{\"version\":{VERSION},");
    if !content.fill_buf()?.starts_with(beginning.as_bytes()) {
        return Err(Unusable::OtherVersion);
    }
    let snapshot: Snapshot<W> = serde_json::from_reader(content).map_err(io::Error::from)?;
    if snapshot.seq == candidate.seq { Ok(snapshot) } else { Err(Unusable::OtherTree) }
}

/// Removes all but this one and the newest before it, and what an unfinished write left. What lies ahead of the one
/// that was just taken is of another journal.
pub fn prune(disk: &dyn Disk, taken: &Candidate) -> io::Result<()> {
    let before = candidates(disk)?.into_iter().filter(|other| other.seq < taken.seq).take(KEPT - 1);
    let newest: Vec<String> = before.chain([taken.clone()]).map(|kept| kept.name()).collect();
    for entry in disk.list(FOLDER)? {
        if entry.plain && !newest.contains(&entry.name) {
            disk.remove(&join(FOLDER, &entry.name))?;
        }
    }
    disk.sync_dir(FOLDER)
}

#[cfg(test)]
mod tests;
