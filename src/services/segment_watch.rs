//! Looks every few seconds whether all segments are still there and as long as they were: the check that reads them comes
//! by every seven days only. What is missing freezes all writing, and is kept for the next start.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cold_check::ColdCheck;
use crate::domain::reason::Refusal;
use crate::journal::cold::Range;
use crate::journal::error::OpenError;
use crate::journal::layout;
use crate::journal::recovery::read_root;
use crate::journal::segments::{SegmentFile, check_closed};
use crate::platform::tasks::Tasks;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(10);

/// The worker that looks.
pub struct SegmentWatch {
    check: ColdCheck,
    /// Of each closed segment by its first sequence number: its length, and where its data ends.
    seen: BTreeMap<u64, (u64, u64)>,
}

/// Looks until the drain begins, or something is missing.
pub fn follow(tasks: &Tasks, check: ColdCheck) {
    let stopping = tasks.stopping();
    tasks.spawn(async move {
        let work = async {
            let mut watch = SegmentWatch::new(check);
            loop {
                tokio::time::sleep(EVERY).await;
                let looked = tokio::task::spawn_blocking(move || (watch.look(), watch)).await;
                match looked {
                    Ok((Ok(0), again)) => watch = again,
                    Ok((Err(refusal), again)) => {
                        tracing::warn!(
                            detail = refusal.detail,
                            "it could not be looked whether all segments are there"
                        );
                        watch = again;
                    }
                    Ok((Ok(_), _)) => return,
                    Err(fault) => return tracing::error!(%fault, "the watch over the segments has ended"),
                }
            }
        };
        tokio::select! {
            () = stopping => {}
            () = work => {}
        }
    });
}

impl SegmentWatch {
    /// A watch that has seen nothing yet.
    pub fn new(check: ColdCheck) -> Self {
        Self { check, seen: BTreeMap::new() }
    }

    /// Looks once; says how many segments are missing or have lost something. The one that is written to is looked at by
    /// the clerk.
    pub fn look(&mut self) -> Result<usize, Refusal> {
        let reader = self.check.published.reader();
        // What is known now was given its name before: the folder is listed after this.
        let (known, end) = (reader.segments(), reader.head().next_seq);
        self.check.clerk.errand(Box::new(|scribe| {
            // A fault stays in the journal.
            let _ = scribe.journal().look();
        }));
        let files = self.listed()?;
        let ends = known.iter().skip(1).copied().chain([end]);
        let missing = known.iter().zip(ends).filter(|(first_seq, _)| !files.contains_key(first_seq));
        let mut faults: Vec<Range> = missing.map(|(first_seq, end)| gone(*first_seq, end)).collect();
        if faults.is_empty() {
            for pair in known.windows(2) {
                let [file, next] = pair else { continue };
                let (Some(file), Some(next)) = (files.get(file), files.get(next)) else { continue };
                faults.extend(self.changed(file, next)?);
            }
        }
        let found = faults.len();
        for range in faults {
            self.check.freeze(range);
        }
        Ok(found)
    }

    fn listed(&self) -> Result<BTreeMap<u64, SegmentFile>, Refusal> {
        let entries = self.check.disk.list(layout::FOLDER).map_err(OpenError::io("listing the journal"))?;
        let segment = |(name, bytes): (String, u64)| {
            let first_seq = layout::parse_segment_name(&name)?;
            Some((first_seq, SegmentFile { first_seq, path: layout::segment_path(first_seq), bytes }))
        };
        let plain = entries.into_iter().filter(|entry| entry.plain).map(|entry| (entry.name, entry.bytes));
        Ok(plain.filter_map(segment).collect())
    }

    /// What is wrong with a closed segment whose length is not the one that was seen.
    fn changed(&mut self, file: &SegmentFile, next: &SegmentFile) -> Result<Option<Range>, Refusal> {
        let seen = self.seen.get(&file.first_seq).copied();
        if seen.is_some_and(|(bytes, _)| bytes == file.bytes) {
            return Ok(None);
        }
        let disk = self.check.disk.as_ref();
        let (root, ring) = read_root(disk)?;
        let why = match check_closed(disk, (&root, &ring), file, next) {
            Ok(end) if seen.is_none_or(|(_, before)| before == end) => {
                self.seen.insert(file.first_seq, (file.bytes, end));
                return Ok(None);
            }
            Ok(_) => "its length has changed".to_owned(),
            Err(OpenError::Corrupt { why, .. } | OpenError::Rollback { why, .. }) => why,
            Err(other) => return Err(other.into()),
        };
        let (from_seq, to_seq) = (file.first_seq, next.first_seq.saturating_sub(1));
        Ok(Some(Range { file: file.path.clone(), from_byte: 0, to_byte: file.bytes, from_seq, to_seq, why }))
    }
}

/// A segment that is not there any more; `end` is the sequence number behind its last line.
fn gone(first_seq: u64, end: u64) -> Range {
    Range {
        file: layout::segment_path(first_seq),
        from_byte: 0,
        to_byte: 0,
        from_seq: first_seq,
        to_seq: end.saturating_sub(1),
        why: "the file is gone".to_owned(),
    }
}
