//! Verification of a whole state root, offline: the journal, and what its records say of files beside it.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::access_log::{FILE, FOLDER};
use crate::domain::event::Event;
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
}

/// Verifies a state root. `held` says whether a daemon holds its lock.
pub fn verify(disk: &dyn Disk, held: bool) -> HouseReport {
    let mut named: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut visit = |record: &Record| {
        if let Event::AccessLogClosed(body) = &record.event {
            named.insert(body.file.clone(), (record.seq, body.sha256.clone()));
        }
    };
    let journal = verify_visiting(disk, held, &mut visit);
    let mut house = HouseReport { journal, chunks: 0, unnamed: 0 };
    if house.journal.verdict == Verdict::Valid
        && let Err(verdict) = house.check_chunks(disk, &named)
    {
        house.journal.verdict = verdict;
    }
    house
}

impl HouseReport {
    fn check_chunks(&mut self, disk: &dyn Disk, named: &BTreeMap<String, (u64, String)>) -> Result<(), Verdict> {
        let entries = match disk.list(FOLDER) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| unreadable(FOLDER, &error))?,
        };
        for entry in entries {
            let path = join(FOLDER, &entry.name);
            let ending = entry.name.strip_prefix(FILE).and_then(|rest| rest.strip_prefix('.'));
            match named.get(&entry.name) {
                Some((seq, sha256)) => {
                    let bytes = match read_bounded(disk, &path, CHUNK_BYTES) {
                        // Dropped by a running daemon since the folder was listed.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
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
