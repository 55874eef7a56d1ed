//! The feed: published records, in order, to whoever follows. The newest are kept in memory, already encoded and shared
//! by all followers; a follower that lags reads the journal again and then follows.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use super::topics::Topics;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::limits;

/// One published record on its way to followers.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its sequence number.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// Its organisation.
    pub org: Arc<str>,
    /// What it belongs to.
    pub topics: Topics,
    /// Its line, byte for byte, without the newline: a part of the frame.
    pub line: Bytes,
    /// The line as one encoded event.
    pub frame: Bytes,
    /// What stays in memory as long as the frame does.
    pub buffer: Buffer,
}

/// The memory in which frames stand that were made together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Sequence number of the first of them.
    pub first_seq: u64,
    /// Its bytes.
    pub bytes: usize,
}

/// Bytes that items keep in memory, whatever parts of their buffers they are.
pub fn held<'a>(items: impl IntoIterator<Item = &'a Item>) -> usize {
    let (mut bytes, mut last) = (0, None);
    for item in items {
        if last.replace(item.buffer) != Some(item.buffer) {
            bytes += item.buffer.bytes;
        }
    }
    bytes
}

/// What a follower wants to see.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The organisation.
    pub org: String,
    /// Everything, or one session's or run's records.
    pub scope: Scope,
}

/// Most that a follower takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Items.
    pub items: usize,
    /// Bytes that they hold; the last item may pass them.
    pub bytes: usize,
}

impl Most {
    /// Whether so much is all that is taken.
    pub fn reached(self, items: usize, bytes: usize) -> bool {
        items >= self.items || bytes >= self.bytes
    }
}

impl From<usize> for Most {
    /// So many items, and no more bytes than one reading may hold.
    fn from(items: usize) -> Self {
        Self { items, bytes: limits::READING_BYTES }
    }
}

/// How much of an organisation's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// A session's, its runs' included.
    Session(SessionId),
    /// A run's.
    Run(RunId),
}

impl Filter {
    /// Whether a follower is shown a record.
    pub fn admits(&self, org: &str, topics: &Topics) -> bool {
        org == self.org
            && match self.scope {
                Scope::All => true,
                Scope::Session(id) => topics.session == Some(id),
                Scope::Run(id) => topics.run == Some(id),
            }
    }
}

#[derive(Default)]
struct Recent {
    items: VecDeque<Arc<Item>>,
    bytes: usize,
    /// Everything from here on that was published is in `items`.
    from_seq: u64,
}

struct Shared {
    recent: RwLock<Recent>,
    next_seq: watch::Sender<u64>,
}

/// The feed. Clones share it.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

/// What a follower finds behind its cursor.
#[derive(Debug)]
pub enum Found {
    /// These items, and everything up to this sequence number has been looked at.
    Items(Vec<Arc<Item>>, u64),
    /// The cursor lies before what is kept in memory; read the journal up to this sequence number first.
    ReadUntil(u64),
}

impl Feed {
    /// A feed that begins at a sequence number; what was published before is on disk only.
    pub fn from(next_seq: u64) -> Self {
        let recent = Recent { from_seq: next_seq, ..Recent::default() };
        Self { shared: Arc::new(Shared { recent: RwLock::new(recent), next_seq: watch::channel(next_seq).0 }) }
    }

    /// Publishes what a batch made durable.
    pub fn publish(&self, items: Vec<Item>, next_seq: u64) {
        let mut recent = self.shared.recent.write().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            recent.bytes += item.frame.len();
            recent.items.push_back(Arc::new(item));
        }
        while recent.bytes > limits::FEED_BYTES
            && let Some(oldest) = recent.items.pop_front()
        {
            recent.bytes -= oldest.frame.len();
            recent.from_seq = oldest.seq + 1;
        }
        drop(recent);
        self.shared.next_seq.send_replace(next_seq);
    }

    /// Changes with each publication to the sequence number behind it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.next_seq.subscribe()
    }

    /// Sequence number behind the newest publication.
    pub fn next_seq(&self) -> u64 {
        *self.shared.next_seq.borrow()
    }

    /// The item with this sequence number, if it is kept in memory.
    pub fn recent(&self, seq: u64) -> Option<Arc<Item>> {
        let recent = self.shared.recent.read().unwrap_or_else(PoisonError::into_inner);
        let at = recent.items.binary_search_by_key(&seq, |item| item.seq).ok()?;
        recent.items.get(at).cloned()
    }

    /// Items from `from` on that the filter admits, at most `most`.
    pub fn after(&self, from: u64, filter: &Filter, most: impl Into<Most>) -> Found {
        let (most, mut bytes, mut last) = (most.into(), 0, None);
        let recent = self.shared.recent.read().unwrap_or_else(PoisonError::into_inner);
        if from < recent.from_seq {
            return Found::ReadUntil(recent.from_seq);
        }
        let start = recent.items.partition_point(|item| item.seq < from);
        let mut found = Vec::new();
        let mut seen = from;
        for item in recent.items.range(start..) {
            if most.reached(found.len(), bytes) {
                return Found::Items(found, seen);
            }
            seen = item.seq + 1;
            if filter.admits(&item.org, &item.topics) {
                if last.replace(item.buffer) != Some(item.buffer) {
                    bytes += item.buffer.bytes;
                }
                found.push(Arc::clone(item));
            }
        }
        drop(recent);
        Found::Items(found, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(seq: u64, bytes: usize) -> Item {
        Item {
            seq,
            kind: "session.ended",
            org: "default".into(),
            topics: Topics::default(),
            line: Bytes::new(),
            frame: Bytes::from(vec![b'x'; bytes]),
            buffer: Buffer { first_seq: seq, bytes },
        }
    }

    #[test]
    fn a_follower_sees_every_item_once_and_is_sent_to_the_journal_for_what_was_dropped() {
        let feed = Feed::from(10);
        let filter = Filter { org: "default".to_owned(), scope: Scope::All };
        assert!(matches!(feed.after(9, &filter, 9), Found::ReadUntil(10)));
        for seq in 10..20 {
            feed.publish(vec![item(seq, limits::FEED_BYTES / 4)], seq + 1);
        }
        let Found::ReadUntil(kept) = feed.after(10, &filter, 9) else { panic!("the oldest were dropped") };
        let Found::Items(items, seen) = feed.after(kept, &filter, 2) else { panic!("these are kept") };
        assert_eq!(items.iter().map(|item| item.seq).collect::<Vec<_>>(), [kept, kept + 1]);
        assert_eq!(seen, kept + 2);
        let Found::Items(rest, seen) = feed.after(seen, &filter, 9) else { panic!("these are kept") };
        assert_eq!(rest.first().map(|item| item.seq), Some(kept + 2));
        assert_eq!(seen, 20);
    }

    #[test]
    fn a_follower_takes_no_more_bytes_at_a_time_than_it_may_hold_and_one_item_at_least() {
        let feed = Feed::from(0);
        let filter = Filter { org: "default".to_owned(), scope: Scope::All };
        feed.publish((0..9).map(|seq| item(seq, 1_000)).collect(), 9);
        let take = |from, bytes| {
            let Found::Items(items, seen) = feed.after(from, &filter, Most { items: 9, bytes }) else { panic!("kept") };
            (items.len(), seen)
        };
        assert_eq!([take(0, 2_500), take(3, 1_000), take(4, 10), take(5, 9_999)], [(3, 3), (1, 4), (1, 5), (4, 9)]);
    }

    #[test]
    fn a_small_frame_counts_with_all_the_memory_that_it_keeps_and_each_buffer_once() {
        let feed = Feed::from(0);
        let filter = Filter { org: "default".to_owned(), scope: Scope::All };
        let within = |seq: u64| Item { buffer: Buffer { first_seq: seq / 3, bytes: 1_000 }, ..item(seq, 10) };
        feed.publish((0..9).map(within).collect(), 9);
        let most = Most { items: 9, bytes: 2_000 };
        let Found::Items(items, seen) = feed.after(2, &filter, most) else { panic!("kept") };
        assert_eq!((items.len(), seen), (2, 4), "of two buffers");
        assert_eq!(held(items.iter().map(AsRef::as_ref)), 2_000);
    }
}
