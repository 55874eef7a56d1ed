//! Words of models while they arrive, for streams: held back until the records that were published with them are on
//! their way, so that a turn's words come before its answer. They have no id: what is missed is in the answer.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_stream::StreamMap;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::domain::ids::RunId;
use crate::http::sse;
use crate::services::runner::{Delta, LiveDeltas};

/// Most runs that one stream listens to.
const RUNS: usize = 16;
/// Most words that are taken at a time.
const WORDS: usize = 1_024;

type Heard = (RunId, Result<Delta, BroadcastStreamRecvError>);

struct Held {
    run: RunId,
    turn: u32,
    frame: Bytes,
}

/// The words of the runs that a stream listens to.
pub(super) struct Words {
    live: LiveDeltas,
    heard: StreamMap<RunId, BroadcastStream<Delta>>,
    held: VecDeque<Held>,
}

impl Words {
    pub(super) fn new(live: LiveDeltas) -> Self {
        Self { live, heard: StreamMap::new(), held: VecDeque::new() }
    }

    /// Listens to a run from now on.
    pub(super) fn listen(&mut self, run: RunId) {
        if self.heard.len() < RUNS && !self.heard.contains_key(&run) {
            self.heard.insert(run, BroadcastStream::new(self.live.subscribe(run)));
        }
    }

    /// The run says no more.
    pub(super) fn forget(&mut self, run: RunId) {
        self.heard.remove(&run);
    }

    /// Takes what has been said, without waiting.
    pub(super) fn take(&mut self) {
        while self.held.len() < WORDS {
            let Some(Some(heard)) = self.heard.next().now_or_never() else { return };
            self.hold(heard);
        }
    }

    /// Waits for a word and takes it. Never ends where nobody speaks.
    pub(super) async fn wait(&mut self) {
        match self.heard.next().await {
            Some(heard) => self.hold(heard),
            None => std::future::pending().await,
        }
    }

    fn hold(&mut self, (run, heard): Heard) {
        let held = match heard {
            Ok(Delta { turn, attempt, text }) => {
                let data = serde_json::json!({ "run_id": run, "turn": turn, "attempt": attempt, "text": &*text });
                Held { run, turn, frame: sse::encode(None, "delta", data.to_string().as_bytes()) }
            }
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                let data = serde_json::json!({ "run_id": run, "missed": missed });
                Held { run, turn: 0, frame: sse::encode(None, "delta.missed", data.to_string().as_bytes()) }
            }
        };
        self.held.push_back(held);
    }

    /// What was held of a run up to a turn.
    pub(super) fn up_to(&mut self, run: RunId, turn: u32) -> Vec<Bytes> {
        let (now, later) = self.held.drain(..).partition(|held| held.run == run && held.turn <= turn);
        self.held = later;
        let now: VecDeque<Held> = now;
        now.into_iter().map(|held| held.frame).collect()
    }

    /// All that was held.
    pub(super) fn all(&mut self) -> impl Iterator<Item = Bytes> {
        self.held.drain(..).map(|held| held.frame)
    }
}
