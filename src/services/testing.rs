//! A real state root for tests, on a disk of the machine, with a clock that moves when told to and small segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use ulid::Ulid;

use super::desk::{Committed, Lane, WritePath as _};
use super::opening::{Opened, Opening, open};
use crate::domain::command::{Answer, Command};
use crate::domain::ids::{BootId, RunId, SessionId};
use crate::domain::reason::Refusal;
use crate::domain::record::{DEFAULT_ORG, Provenance};
use crate::domain::run::{self, InputItem};
use crate::domain::session;
use crate::domain::testing::plain_session;
use crate::journal::writer::Options;
use crate::platform::clock::FakeClock;
use crate::platform::entropy::FakeEntropy;
use crate::platform::files::Folder;
use crate::vault::redaction::Redactor;

/// When the tests begin, Unix milliseconds.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// A state root and the machine around it.
pub(crate) struct Root {
    pub(crate) keep: tempfile::TempDir,
    pub(crate) folder: Arc<Folder>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) segment_bytes: u64,
    /// Room for the largest batch.
    reserve_bytes: u64,
    entropy: Arc<FakeEntropy>,
    boots: u128,
}

impl Root {
    pub(crate) fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        Self {
            folder: Arc::new(Folder::create(&keep.path().join("state")).unwrap()),
            keep,
            clock: Arc::new(FakeClock::at(NOW_MS, 1_000_000)),
            segment_bytes: 8 << 10,
            reserve_bytes: 8 << 10,
            entropy: Arc::default(),
            boots: 0,
        }
    }

    /// For large records: segments and room as the daemon has them.
    pub(crate) fn roomy() -> Self {
        let Options { segment_bytes, reserve_bytes, .. } = Options::default();
        Self { segment_bytes, reserve_bytes, ..Self::new() }
    }

    /// Opens the state root as a start of the daemon does.
    pub(crate) fn start(&mut self) -> Opened {
        self.boots += 1;
        let options = Options {
            segment_bytes: self.segment_bytes,
            ahead_bytes: 8 << 10,
            reserve_bytes: self.reserve_bytes,
            background: false,
        };
        open(Opening {
            disk: self.folder.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            options,
            redactor: Redactor::default(),
            subjects: crate::vault::subject::Subjects::default(),
            boot_id: BootId::from_ulid(Ulid::from_parts(NOW_MS, self.boots)),
            build: "test".to_owned(),
            price_table: None,
            encode: |_, _, line, out| {
                let at = out.len();
                out.extend_from_slice(line);
                at
            },
            observe: Arc::new(|_, _| {}),
        })
        .unwrap()
    }
}

/// Ends a start in good order.
pub(crate) fn stop(opened: Opened) {
    drop(opened.clerk);
    opened.thread.finish().unwrap().close().unwrap();
}

/// Decides a command and waits until it is published.
pub(crate) fn act(opened: &Opened, command: Command) -> Result<Committed, Refusal> {
    let by = Provenance::system("test");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(opened.clerk.submit(command, by, Lane::Ordinary))
}

pub(crate) fn create_session(opened: &Opened, title: &str) -> SessionId {
    let body = session::Created { title: Some(title.into()), ..plain_session() };
    let ask = session::Create { org: DEFAULT_ORG.to_owned(), body };
    match act(opened, Command::CreateSession(ask)).unwrap().answer {
        Answer::Session(id) => id,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn queue_run(opened: &Opened, session_id: SessionId, text: &str) -> RunId {
    let ask = run::Queue {
        org: DEFAULT_ORG.to_owned(),
        session_id,
        input: vec![InputItem::Text { text: text.into() }],
        route: None,
        model: None,
        max_turns: None,
        max_output_tokens: None,
        metadata: BTreeMap::new(),
        reply_targets: None,
    };
    match act(opened, Command::QueueRun(ask)).unwrap().answer {
        Answer::Run(id) => id,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn cancel_run(opened: &Opened, run_id: RunId) {
    let ask = run::Cancel { org: DEFAULT_ORG.to_owned(), run_id, note: None };
    act(opened, Command::CancelRun(ask)).unwrap();
}

pub(crate) fn end_session(opened: &Opened, session_id: SessionId) {
    let ask = session::End { org: DEFAULT_ORG.to_owned(), session_id, note: None };
    act(opened, Command::EndSession(ask)).unwrap();
}
