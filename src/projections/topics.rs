//! Which session and run a record belongs to: what the filters of the feed ask.

use super::Models;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::record::Record;
use crate::domain::stream::Stream;

/// The objects that a record belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topics {
    /// Its session; of a run's record, the run's.
    pub session: Option<SessionId>,
    /// Its run.
    pub run: Option<RunId>,
}

impl Models {
    /// The topics of a record that these models have folded.
    pub fn topics(&self, record: &Record) -> Topics {
        match record.stream {
            Stream::Session(id) => Topics { session: Some(id), run: None },
            Stream::Run(id) => Topics { session: self.runs.session_of(id), run: Some(id) },
            Stream::Journal
            | Stream::Daemon
            | Stream::Runtime
            | Stream::ControlPlane
            | Stream::Vault
            | Stream::Ledger
            | Stream::ModelCall(_) => Topics::default(),
        }
    }
}
