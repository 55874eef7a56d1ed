//! Verification of a whole state root, offline: the journal, and what its records say of files beside it.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use data_encoding::HEXLOWER;
use serde::Deserialize as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::access_log::{FILE, FOLDER};
use super::blobs;
use crate::domain::event::Event;
use crate::domain::personal::BlobRef;
use crate::domain::record::Record;
use crate::journal::verify::{Report, Verdict, verify_visiting};
use crate::platform::disk::{Disk, join, read_bounded};
use crate::platform::rotated_log::chunk_number;

/// Largest chunk that is read, bytes.
const CHUNK_BYTES: u64 = 64 << 20;

/// The report on a state root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HouseReport {
    /// The journal's report; its verdict is the whole house's.
    pub journal: Report,
    /// Chunks of the access log whose digest is the one that the journal names.
    pub chunks: usize,
    /// Chunks that no record names yet.
    pub unnamed: usize,
    /// Large parts beside the journal whose digest is the one that records name.
    pub blobs: usize,
    /// Digests of read models in the records of snapshots. Nobody folds the records to compare them.
    pub digests: usize,
}

/// Verifies a state root. `held` says whether a daemon holds its lock.
pub fn verify(disk: &dyn Disk, held: bool) -> HouseReport {
    let mut named: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut blobs: BTreeMap<String, Named> = BTreeMap::new();
    let mut digests: BTreeMap<u64, usize> = BTreeMap::new();
    let mut visit = |record: &Record, line: &[u8]| {
        if let Event::AccessLogClosed(body) = &record.event {
            named.insert(body.file.clone(), (record.seq, body.sha256.clone()));
        }
        if let Event::JournalSnapshotTaken(body) = &record.event {
            digests.insert(record.seq, body.digests.len());
        }
        // Quotes in words are escaped, so few other records are looked through.
        if memchr::memmem::find(line, b"\"blob\":{").is_some() {
            let body = serde_json::from_slice(line).unwrap_or_default();
            each_blob(&body, &mut |blob| {
                let named = Named { seq: record.seq, bytes: blob.bytes };
                blobs.entry(blob.sha256).or_insert(named);
            });
        }
    };
    let journal = verify_visiting(disk, held, &mut visit);
    let (mut house, digests) = (HouseReport::of(journal), digests.values().sum());
    if house.journal.verdict == Verdict::Valid {
        house.digests = digests;
        let checked = house.check_chunks(disk, &named).and_then(|()| house.check_blobs(disk, &blobs));
        house.journal.verdict = checked.err().unwrap_or(Verdict::Valid);
    }
    house
}

/// What the first record that names a blob says of it.
struct Named {
    seq: u64,
    bytes: u64,
}

/// Shows each blob that a body names.
fn each_blob(body: &Value, found: &mut impl FnMut(BlobRef)) {
    match body {
        Value::Object(members) => {
            let blob = members.get("blob").filter(|_| members.len() == 1);
            match blob.and_then(|blob| BlobRef::deserialize(blob).ok()) {
                Some(blob) => found(blob),
                None => members.values().for_each(|member| each_blob(member, found)),
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_blob(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl HouseReport {
    fn of(journal: Report) -> Self {
        Self { journal, chunks: 0, unnamed: 0, blobs: 0, digests: 0 }
    }

    /// Compares the files of large parts with what records say of them.
    fn check_blobs(&mut self, disk: &dyn Disk, named: &BTreeMap<String, Named>) -> Result<(), Verdict> {
        let mut missing = (0, String::new());
        for (sha256, Named { seq, bytes }) in named {
            let path = blobs::path(sha256);
            let changed = || {
                let why = "the part is not the one that the journal names".to_owned();
                Verdict::Invalid { file: path.clone(), offset: 0, seq: *seq, why }
            };
            match read_bounded(disk, &path, *bytes) {
                Ok(found) if HEXLOWER.encode(&Sha256::digest(&found)) == *sha256 => self.blobs += 1,
                Ok(_) => return Err(changed()),
                Err(error) if error.kind() == ErrorKind::FileTooLarge => return Err(changed()),
                Err(error) if error.kind() == ErrorKind::NotFound => missing = (missing.0 + 1, path),
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        match missing {
            (0, _) => Ok(()),
            (count, path) => {
                let why = format!("{count} parts that the journal names are not there, among them {path}");
                Err(Verdict::Unverifiable { why })
            }
        }
    }

    fn check_chunks(&mut self, disk: &dyn Disk, named: &BTreeMap<String, (u64, String)>) -> Result<(), Verdict> {
        let entries = match disk.list(FOLDER) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| unreadable(FOLDER, &error))?,
        };
        for entry in entries {
            let path = join(FOLDER, &entry.name);
            let ending = entry.name.strip_prefix(FILE).and_then(|rest| rest.strip_prefix('.'));
            match named.get(&entry.name) {
                Some((seq, sha256)) => {
                    let bytes = match read_bounded(disk, &path, CHUNK_BYTES) {
                        // Dropped by a running daemon since the folder was listed.
                        Err(error) if error.kind() == ErrorKind::NotFound => continue,
                        other => other.map_err(|error| unreadable(&path, &error))?,
                    };
                    if HEXLOWER.encode(&Sha256::digest(&bytes)) != *sha256 {
                        let why = "the chunk of the access log is not the one that the journal names".to_owned();
                        return Err(Verdict::Invalid { file: path, offset: 0, seq: *seq, why });
                    }
                    self.chunks += 1;
                }
                None if ending.and_then(chunk_number).is_some() => self.unnamed += 1,
                None => {}
            }
        }
        Ok(())
    }
}

fn unreadable(file: &str, error: &std::io::Error) -> Verdict {
    Verdict::Unverifiable { why: format!("{file}: {error}") }
}

#[cfg(test)]
mod tests;
