//! What the journal says of how the daemon stood. What is measured, and not folded from records, is nobody's to say
//! afterwards: health, storage, routes, posture, sandbox, index, build and backups are left out.

use serde::Serialize;

use super::{Runtime, StatusSource};
use crate::domain::limits::BATCH_RECORDS;
use crate::domain::reason::{Reason, Refusal};
use crate::journal::line;
use crate::journal::reader::Reader;
use crate::projections::status::RunCounts;
use crate::services::past::{At, Moment, Shown};

/// Lines in which the newest seal is looked for: more than a batch has.
const LOOKED_AT: u64 = 4 * BATCH_RECORDS as u64;

/// The journal as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct PastJournal {
    /// Leaves in the newest tree that was sealed then.
    pub size: u64,
    /// Its root, base64.
    pub root: String,
    /// C2SP id of the key that signed it, hex.
    pub key_id: Option<String>,
}

/// How the daemon stood, as far as its journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct PastStatus {
    /// The runs; ages are those at the time that was asked for, or else of the last record.
    pub runs: RunCounts,
    /// Runtime configuration in short.
    pub runtime: Runtime,
    /// The journal; null before its first seal.
    pub journal: Option<PastJournal>,
}

impl StatusSource {
    /// How the daemon stood.
    pub async fn past(&self, at: At) -> Result<Shown<PastStatus>, Refusal> {
        let reader = self.published.reader().clone();
        self.past.show(at, move |moment| of(moment, &reader)).await
    }
}

fn of(moment: &Moment, reader: &Reader) -> Result<PastStatus, Refusal> {
    let mut journal = None;
    let scanned = reader.scan(moment.seq.saturating_sub(LOOKED_AT), moment.seq + 1, |_, bytes| {
        if let Some((_, note)) = line::parse_seal(bytes) {
            journal = Some(PastJournal {
                size: note.size,
                root: data_encoding::BASE64.encode(&note.root),
                key_id: note.signatures.last().map(|signature| data_encoding::HEXLOWER.encode(&signature.key_id)),
            });
        }
        true
    });
    scanned.map_err(|error| Refusal::new(Reason::StorageJournalUnavailable, error.to_string()))?;
    let runs = moment.models.run_counts(moment.at_ms);
    Ok(PastStatus { runs, runtime: Runtime::of(&moment.models.runtime.configuration), journal })
}
