//! Which session and run a record belongs to: what the filters of the feed ask.

use super::Models;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::record::Record;

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
        let run = record.stream.run();
        let session = record.stream.session().or_else(|| run.and_then(|run| self.runs.session_of(run)));
        Topics { session, run }
    }
}
