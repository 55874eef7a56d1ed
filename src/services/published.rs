//! The read side: read models, bodies and the feed, all as of the newest sealed batch. Readers never wait for the disk
//! sync of a writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;

use self::gathered::{Gathered, unreadable};
use super::blobs::Blobs;
use super::budget_refusals::BudgetRefusals;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::reason::{Reason, Refusal};
use crate::domain::record::Record;
use crate::domain::stream::Stream;
use crate::journal::line;
use crate::journal::reader::{Head, Reader};
use crate::platform::clock::Clock;
use crate::projections::Models;
use crate::projections::feed::{Buffer, Feed, Filter, Item, Most, Scope};
use crate::projections::index::Index;
use crate::vault::redaction::Redactor;

/// Makes an event of a record's line at the end of the buffer, and gives the offset in it at which the line stands,
/// byte for byte; the door knows how.
pub type Encode = fn(seq: u64, kind: &'static str, line: &[u8], out: &mut BytesMut) -> usize;

/// An event, the line in it, and the memory that both are parts of.
pub(super) struct Encoded {
    frame: Bytes,
    line: Bytes,
    buffer: Buffer,
}

/// Lines that one reading looks at, so that nobody occupies a thread for a whole journal.
const LOOKED_AT: u64 = 65_536;
/// Longest line that is parsed on a thread that serves, bytes.
const READ_AT_ONCE_BYTES: usize = 64 << 10;
/// Readings for followers and pages of records that go on at a time; each takes its turn anew.
const REPLAYS: usize = 4;

/// Told of each batch: records in it and how long its write and sync took.
pub type Observe = Arc<dyn Fn(usize, Duration) + Send + Sync>;

/// Sequence numbers that are taken from the index for one stream at a time.
const POSTINGS_AT_A_TIME: usize = 1_024;

/// How the index stands. Whatever it says, reads give the same answers.
#[derive(Clone, Default)]
pub enum IndexState {
    /// Nobody keeps one.
    #[default]
    None,
    /// It is used as far as it covers; the flag says whether that is all it can.
    Used(Arc<Index>, bool),
    /// It cannot be used, and why.
    Unusable(String),
}

/// Room for what an event has beside its line, bytes; more is only slower.
const FRAME_BYTES: usize = 80;
/// Frames that are made together share so much memory, bytes, and a larger one has its own: whoever keeps one frame keeps
/// all of it.
const BUFFER_BYTES: usize = 8 << 10;

struct Shared {
    models: RwLock<Models>,
    reader: Reader,
    feed: Feed,
    blobs: Blobs,
    clock: Arc<dyn Clock>,
    redactor: Redactor,
    budget_refusals: BudgetRefusals,
    encode: Encode,
    observe: Observe,
    /// When the newest batch was sealed, by the clock that never goes back.
    sealed_boot_ms: AtomicU64,
    index: RwLock<IndexState>,
    replays: Arc<Semaphore>,
}

/// Everything that readers may see. Clones share it.
#[derive(Clone)]
pub struct Published {
    shared: Arc<Shared>,
}

impl Published {
    /// The read side of a journal whose records up to now are folded into `models`.
    pub fn new(
        models: Models,
        reader: Reader,
        blobs: Blobs,
        (clock, redactor): (Arc<dyn Clock>, Redactor),
        (encode, observe): (Encode, Observe),
    ) -> Self {
        let feed = Feed::from(reader.head().next_seq);
        // The opening of the journal has just sealed its own records.
        let sealed_boot_ms = AtomicU64::new(clock.boot_ms());
        let (models, index) = (RwLock::new(models), RwLock::default());
        let replays = Arc::new(Semaphore::new(REPLAYS));
        let budget_refusals = BudgetRefusals::default();
        let shared = Shared {
            models,
            reader,
            feed,
            blobs,
            clock,
            redactor,
            budget_refusals,
            encode,
            observe,
            sealed_boot_ms,
            index,
            replays,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The read models. Let go of them before anything slow.
    pub fn models(&self) -> RwLockReadGuard<'_, Models> {
        self.shared.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines and proofs of what is published.
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// The newest sealed state.
    pub fn head(&self) -> Head {
        self.shared.reader.head()
    }

    /// How long ago the newest batch was sealed, milliseconds.
    pub fn last_seal_age_ms(&self) -> u64 {
        let sealed = self.shared.sealed_boot_ms.load(Ordering::Relaxed);
        self.shared.clock.boot_ms().saturating_sub(sealed)
    }

    /// Whether a fold into the read models broke off, so that they may not be what the records say.
    pub fn fold_broke_off(&self) -> bool {
        self.shared.models.is_poisoned()
    }

    /// The feed.
    pub fn feed(&self) -> &Feed {
        &self.shared.feed
    }

    /// How the index stands.
    pub fn index(&self) -> IndexState {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, finds records and places through this index, or without one.
    pub fn set_index(&self, state: IndexState) {
        match &state {
            IndexState::Used(index, _) => self.shared.reader.set_hints(Some(Arc::clone(index) as _)),
            IndexState::None | IndexState::Unusable(_) => self.shared.reader.set_hints(None),
        }
        *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Large parts.
    pub fn blobs(&self) -> &Blobs {
        &self.shared.blobs
    }

    /// The daemon's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Knows the secrets that nobody may see.
    pub fn redactor(&self) -> &Redactor {
        &self.shared.redactor
    }

    /// What budgets refused since the start.
    pub fn budget_refusals(&self) -> &BudgetRefusals {
        &self.shared.budget_refusals
    }

    /// Makes the events of a batch, some in each buffer.
    pub(super) fn encode<'a>(&self, records: &[Record], lines: impl Iterator<Item = &'a [u8]>) -> Vec<Encoded> {
        let pairs: Vec<(&Record, &[u8])> = records.iter().zip(lines).collect();
        let mut events = Vec::with_capacity(pairs.len());
        let mut rest = pairs.as_slice();
        while let Some((first, _)) = rest.first() {
            let (mut bytes, mut fitting) = (0, 0);
            for (_, line) in rest {
                let with = bytes + line.len() + FRAME_BYTES;
                if fitting > 0 && with > BUFFER_BYTES {
                    break;
                }
                (bytes, fitting) = (with, fitting + 1);
            }
            let (together, others) = rest.split_at(fitting);
            self.encode_together(first.seq, bytes, together, &mut events);
            rest = others;
        }
        events
    }

    fn encode_together(&self, first_seq: u64, bytes: usize, pairs: &[(&Record, &[u8])], out: &mut Vec<Encoded>) {
        let mut buffer = BytesMut::with_capacity(bytes);
        let mut places = Vec::with_capacity(pairs.len());
        for (record, line) in pairs {
            let start = buffer.len();
            let at = (self.shared.encode)(record.seq, record.event.kind(), line, &mut buffer);
            places.push((start..buffer.len(), at..at + line.len()));
        }
        let held = Buffer { first_seq, bytes: buffer.capacity() };
        let all = buffer.freeze();
        let parts = |(frame, line)| Encoded { frame: all.slice(frame), line: all.slice(line), buffer: held };
        out.extend(places.into_iter().map(parts));
    }

    /// Folds a durable batch into the read models and hands it to the feed.
    pub(super) fn publish(&self, records: &[Record], events: Vec<Encoded>, took: Duration) {
        self.shared.sealed_boot_ms.store(self.shared.clock.boot_ms(), Ordering::Relaxed);
        let mut models = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut items: Vec<Item> = Vec::with_capacity(records.len());
        for (record, Encoded { frame, line, buffer }) in records.iter().zip(events) {
            models.apply(record);
            let org = match items.last() {
                Some(last) if *last.org == *record.org => Arc::clone(&last.org),
                _ => record.org.as_str().into(),
            };
            let topics = models.topics(record);
            items.push(Item { seq: record.seq, kind: record.event.kind(), org, topics, line, frame, buffer });
        }
        drop(models);
        self.shared.feed.publish(items, self.shared.reader.head().next_seq);
        (self.shared.observe)(records.len(), took);
        tracing::trace!(records = records.len(), took_us = took.as_micros(), "a batch is on disk and published");
    }

    /// Publishes the records of a journal's opening, which are on disk.
    pub(super) fn publish_opening(&self, records: &[Record]) -> std::io::Result<()> {
        let lines = records.iter().map(|record| self.shared.reader.line(record.seq)?.ok_or_else(no_line));
        let lines = lines.collect::<std::io::Result<Vec<Vec<u8>>>>()?;
        let events = self.encode(records, lines.iter().map(Vec::as_slice));
        self.publish(records, events, Duration::ZERO);
        Ok(())
    }

    /// Reads records from the journal that a filter admits, from `from` up to `to`, at most `most` and no more than
    /// memory should hold and a thread should read at a time; says where to go on, short of `to` or not. Blocks on the disk.
    pub fn read(
        &self,
        filter: &Filter,
        from: u64,
        to: u64,
        most: impl Into<Most>,
    ) -> std::io::Result<(Vec<Item>, u64)> {
        let mut gathered = Gathered::new(most.into());
        let mut next = from;
        if let (Some(stream), IndexState::Used(index, _)) = (stream_of(filter.scope), self.index()) {
            next = self.read_indexed(filter, stream, &index, (from, to), &mut gathered)?;
        }
        self.shared.reader.scan(next, to.min(next.saturating_add(LOOKED_AT)), |seq, bytes| {
            if gathered.is_full() {
                return false;
            }
            gathered.look_at(bytes.len());
            let read = match line::shape(bytes) {
                Some(line::Shape::Record(_)) if self.may_concern(filter.scope, bytes) => {
                    gathered.put(self.item(filter, seq, bytes))
                }
                Some(_) => true,
                None => gathered.put(Err(unreadable(seq))),
            };
            next += u64::from(read);
            read
        })?;
        gathered.found(next)
    }

    /// One step of [`Published::read`] for somebody who is served: off the threads that serve, and each step in its turn, so
    /// that nobody who replays much holds up the others. Who stops waiting ends with the step.
    pub async fn replay(
        &self,
        filter: &Arc<Filter>,
        (from, to): (u64, u64),
        most: impl Into<Most>,
    ) -> Result<(Vec<Item>, u64), Refusal> {
        let (published, filter, most) = (self.clone(), Arc::clone(filter), most.into());
        let found = self.aside(move || published.read(&filter, from, to, most)).await?;
        found.map_err(|error| Refusal::new(Reason::StorageJournalUnavailable, error.to_string()))
    }

    /// Work that reads the journal for somebody who is served, few at a time: what is read waits in memory for few of many.
    pub async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let turn = Arc::clone(&self.shared.replays).acquire_owned().await.map_err(|_| Reason::InternalError)?;
        let step = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        step.await.map_err(|_| Reason::InternalError.into())
    }

    /// Reads as far as the index covers, and says where it was left; where the index fails, the rest is to be scanned.
    fn read_indexed(
        &self,
        filter: &Filter,
        stream: Stream,
        index: &Index,
        (from, to): (u64, u64),
        gathered: &mut Gathered,
    ) -> std::io::Result<u64> {
        let end = to.min(index.covered());
        let mut next = from;
        while next < end && !gathered.is_full() {
            let Ok(seqs) = index.postings(stream, next, end, POSTINGS_AT_A_TIME) else {
                // Its keeper sees the trouble and builds it anew.
                tracing::warn!(detail = index.trouble(), "the index does not answer; the journal is read instead");
                return Ok(next);
            };
            let until = seqs.last().filter(|_| seqs.len() == POSTINGS_AT_A_TIME).map_or(end, |last| last + 1);
            let mut left = None;
            self.shared.reader.pick(seqs, |seq, bytes| {
                if gathered.is_full() {
                    return false;
                }
                let read = gathered.put(self.item(filter, seq, bytes));
                left = if read { Some(seq + 1) } else { left };
                read
            })?;
            next = if gathered.is_full() { left.unwrap_or(next) } else { until };
        }
        Ok(next)
    }

    fn item(&self, filter: &Filter, seq: u64, bytes: &[u8]) -> std::io::Result<Option<Item>> {
        let record = line::parse_record(bytes).map_err(|_| unreadable(seq))?;
        let topics = self.models().topics(&record);
        let kind = record.event.kind();
        let item = filter.admits(&record.org, &topics).then(|| {
            let mut buffer = BytesMut::with_capacity(bytes.len() + FRAME_BYTES);
            let at = (self.shared.encode)(seq, kind, bytes, &mut buffer);
            let held = Buffer { first_seq: seq, bytes: buffer.capacity() };
            let frame = buffer.freeze();
            let line = frame.slice(at..at + bytes.len());
            Item { seq, kind, org: record.org.as_str().into(), topics, line, frame, buffer: held }
        });
        Ok(item)
    }

    /// A quick look at a line before it is parsed: can its stream belong there?
    fn may_concern(&self, scope: Scope, bytes: &[u8]) -> bool {
        let stream = || line::stream_text(bytes).and_then(Stream::parse);
        match scope {
            Scope::All => true,
            Scope::Run(id) => stream() == Some(Stream::Run(id)),
            Scope::Session(id) => match stream() {
                Some(Stream::Run(run)) => self.session_of(run) == Some(id),
                other => other == Some(Stream::Session(id)),
            },
        }
    }

    /// Where a session's or run's records begin, for readers that need all of them.
    pub fn beginning(&self, filter: &Filter) -> u64 {
        let models = self.models();
        match filter.scope {
            Scope::All => 0,
            Scope::Session(id) => models.session(&filter.org, id).map_or(0, |facts| facts.created_seq),
            Scope::Run(id) => models.run(&filter.org, id).map_or(0, |facts| facts.row.created_seq),
        }
    }

    /// The session of a run, whatever its organisation.
    pub fn session_of(&self, run: RunId) -> Option<SessionId> {
        self.models().runs.session_of(run)
    }
}

fn no_line() -> std::io::Error {
    std::io::Error::other("a line that was written is not there")
}

/// Under which name the index keeps the records that a filter admits; none for all.
fn stream_of(scope: Scope) -> Option<Stream> {
    match scope {
        Scope::All => None,
        Scope::Run(id) => Some(Stream::Run(id)),
        Scope::Session(id) => Some(Stream::Session(id)),
    }
}

mod gathered;
mod sides;
#[cfg(test)]
mod tests;
