//! Follows the records that a filter admits: reads the journal up to what the feed keeps in memory, then follows the feed,
//! and goes back to reading when it lags. Words of models that arrive meanwhile go in between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::words::Words;
use crate::domain::ids::RunId;
use crate::domain::limits;
use crate::domain::reason::{Reason, Refusal};
use crate::http::sse;
use crate::projections::feed::{Filter, Found, Item, Most, Scope, held};
use crate::services::published::Published;
use crate::services::sight::{Seen, Sight};

/// Most events gathered at a time.
const PAGE: Most = Most { items: 256, bytes: limits::SUBSCRIBER_BYTES };
/// How long the stream of a run stays open behind its end, for what its tasks leave, milliseconds.
const BEHIND_END_MS: u64 = 5_000;

/// The turn that a record is about.
#[derive(Deserialize)]
struct OfTurn {
    data: TurnNumber,
}

#[derive(Deserialize)]
struct TurnNumber {
    turn: u32,
}

/// One stream's place.
pub(super) struct Follower {
    published: Published,
    changes: watch::Receiver<u64>,
    filter: Arc<Filter>,
    sight: Sight,
    from: u64,
    ready: VecDeque<Bytes>,
    words: Words,
    /// When the stream of a run that has ended closes.
    closes: Option<Instant>,
    closed: bool,
}

impl Follower {
    /// From this sequence number on, for someone who sees so much of each record.
    pub(super) fn new(published: Published, (filter, sight): (Filter, Sight), from: u64, words: Words) -> Self {
        let mut follower = Self {
            changes: published.feed().changes(),
            from: from.max(published.beginning(&filter)),
            filter: Arc::new(filter),
            sight,
            published,
            ready: VecDeque::new(),
            words,
            closes: None,
            closed: false,
        };
        follower.begin();
        follower
    }

    /// Listens to what works already, and sees whether everything is over.
    fn begin(&mut self) {
        let models = self.published.models();
        match self.filter.scope {
            Scope::All => {}
            Scope::Session(id) => {
                models.runs.open().filter(|run| run.row.session == id).for_each(|run| self.words.listen(run.id));
            }
            Scope::Run(id) => match models.runs.get(id).and_then(|run| run.row.ended_seq) {
                None => self.words.listen(id),
                Some(ended) if ended.get() < self.from => self.closes = Some(soon()),
                Some(_) => {}
            },
        }
    }

    /// The frames, until the end.
    pub(super) fn frames(self) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold(self, |mut follower| async move {
            loop {
                if let Some(frame) = follower.ready.pop_front() {
                    return Some((frame, follower));
                }
                if follower.closed {
                    return None;
                }
                if let Err(refusal) = follower.gather().await {
                    tracing::warn!(code = refusal.reason.code(), detail = refusal.detail, "a stream ends early");
                    return None;
                }
            }
        })
    }

    /// Puts the next events in line, or waits.
    async fn gather(&mut self) -> Result<(), Refusal> {
        self.changes.borrow_and_update();
        match self.published.feed().after(self.from, &self.filter, PAGE) {
            Found::Items(items, seen) => {
                self.from = seen;
                self.words.take();
                for item in &items {
                    self.pass(item);
                }
                // What is behind a full page comes before the words that are new now.
                if PAGE.reached(items.len(), held(items.iter().map(AsRef::as_ref))) {
                    return Ok(());
                }
                self.ready.extend(self.words.all());
                if self.ready.is_empty() { self.wait().await } else { Ok(()) }
            }
            Found::ReadUntil(kept) => {
                let (items, next) = self.published.replay(&self.filter, (self.from, kept), PAGE).await?;
                self.from = next;
                self.words.take();
                for item in &items {
                    self.pass(item);
                }
                Ok(())
            }
        }
    }

    /// Puts a record in line, behind the words that it replaces.
    fn pass(&mut self, item: &Item) {
        if let (Some(run), Scope::Session(_) | Scope::Run(_)) = (item.topics.run, self.filter.scope) {
            match item.kind {
                "run.queued" | "run.started" => self.words.listen(run),
                "turn.answered" | "turn.failed" => {
                    let turn = serde_json::from_slice::<OfTurn>(&item.line).map_or(0, |of| of.data.turn);
                    self.ready.extend(self.words.up_to(run, turn));
                }
                "run.completed" | "run.failed" | "run.interrupted" | "run.cancelled" => self.ended(run),
                _ => {}
            }
        }
        self.ready.extend(frame(self.sight, item));
    }

    fn ended(&mut self, run: RunId) {
        self.ready.extend(self.words.up_to(run, u32::MAX));
        self.words.forget(run);
        if self.filter.scope == Scope::Run(run) {
            self.closes = Some(soon());
        }
    }

    /// What a stream says before it closes by itself: a client that comes back learns nothing more.
    fn farewell(&self) -> Bytes {
        let status = match self.filter.scope {
            Scope::Run(id) => self.published.models().runs.get(id).map(|run| run.row.status),
            Scope::All | Scope::Session(_) => None,
        };
        sse::encode(None, "end", serde_json::json!({ "status": status }).to_string().as_bytes())
    }

    async fn wait(&mut self) -> Result<(), Refusal> {
        let closes = self.closes;
        let closing = async {
            match closes {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender lives as long as the daemon; its end ends the stream.
            changed = self.changes.changed() => changed.map_err(|_| Reason::RequestOverloaded.into()),
            () = self.words.wait() => Ok(()),
            () = closing => {
                self.closed = true;
                self.ready.push_back(self.farewell());
                Ok(())
            }
        }
    }
}

/// The record as it is sent; none where it is not for this subscriber. Whole frames are shared by all.
fn frame(sight: Sight, item: &Item) -> Option<Bytes> {
    match sight.line(&item.line)? {
        Seen::Whole => Some(item.frame.clone()),
        Seen::Part(line) => {
            let mut frame = BytesMut::new();
            sse::encode_record(item.seq, item.kind, &line, &mut frame);
            Some(frame.freeze())
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(BEHIND_END_MS)
}

#[cfg(test)]
mod tests;
