//! Verification of a whole state root, offline: the journal, and what its records say of files beside it.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use data_encoding::HEXLOWER;
use serde::Deserialize as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use self::digests::Digests;
use super::access_log::{FILE, FOLDER};
use super::blobs;
use crate::domain::event::Event;
use crate::domain::personal::BlobRef;
use crate::domain::record::Record;
use crate::journal::verify::{Report, Verdict, verify_visiting};
use crate::journal::{layout, segments};
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
    /// Digests of read models in the records of snapshots that are what the records make.
    pub digests: usize,
    /// Digests of read models that were not compared: of older snapshots, or of another version.
    pub digests_passed_over: usize,
    /// Sequence numbers that repairs have recorded as lost, from and to.
    pub losses: Vec<(u64, u64)>,
}

/// Verifies a state root. `held` says whether a daemon holds its lock.
pub fn verify(disk: &dyn Disk, held: bool) -> HouseReport {
    let mut named: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut blobs: BTreeMap<String, Named> = BTreeMap::new();
    let mut losses: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let (mut digests, mut last) = (Digests::of(disk), None);
    let mut visit = |record: &Record, line: &[u8]| {
        if last.replace(record.seq).is_some_and(|last| record.seq <= last) {
            digests = Digests::of(disk);
        }
        digests.add(record);
        if let Event::AccessLogClosed(body) = &record.event {
            named.insert(body.file.clone(), (record.seq, body.sha256.clone()));
        }
        if let Event::JournalRepaired(body) = &record.event {
            losses.insert(record.seq, (body.lost_from_seq, body.lost_to_seq));
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
    let mut house = HouseReport::of(journal);
    house.losses = losses.into_values().collect();
    if house.journal.verdict == Verdict::Valid {
        (house.digests, house.digests_passed_over) = (digests.equal, digests.passed_over);
        let differs = digests.differs.map_or(Ok(()), |(seq, what)| Err(other_models(disk, seq, &what)));
        let checked = differs.and_then(|()| house.check_chunks(disk, &named));
        let checked = checked.and_then(|()| house.check_blobs(disk, &blobs));
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
        Self { journal, chunks: 0, unnamed: 0, blobs: 0, digests: 0, digests_passed_over: 0, losses: Vec::new() }
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

/// A record of a snapshot says something else of the read models than the records before it make.
fn other_models(disk: &dyn Disk, seq: u64, what: &str) -> Verdict {
    let files = segments::list(disk).unwrap_or_default();
    let file =
        files.into_iter().rfind(|file| file.first_seq <= seq).map_or(layout::FOLDER.to_owned(), |file| file.path);
    let why = format!("the digest of the read model \"{what}\" is not the one that the records make");
    Verdict::Invalid { file, offset: 0, seq, why }
}

fn unreadable(file: &str, error: &std::io::Error) -> Verdict {
    Verdict::Unverifiable { why: format!("{file}: {error}") }
}

mod digests;
#[cfg(test)]
mod tests;
