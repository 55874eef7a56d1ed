//! What handlers share: the use cases and the read side.

use std::sync::Arc;

use crate::domain::reason::Refusal;
use crate::domain::record::{Provenance, RequestFacts};
use crate::http::edge::Gate;
use crate::services::approvals::Approvals;
use crate::services::authority::{Action, Authorized};
use crate::services::desk::{By, Desk};
use crate::services::journal_keys::JournalKeys;
use crate::services::published::Published;
use crate::services::questions::Questions;
use crate::services::runner::{LiveDeltas, Runner};
use crate::services::runs::Runs;
use crate::services::runtime::Runtime;
use crate::services::sessions::Sessions;
use crate::services::status::StatusSource;
use crate::services::tasks::{Outputs, Tasks};

/// The state of all handlers. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Use cases of sessions.
    pub sessions: Sessions,
    /// Use cases of runs.
    pub runs: Runs,
    /// Use cases of approvals.
    pub approvals: Approvals,
    /// Use cases of questions.
    pub questions: Questions,
    /// Use cases of background tasks.
    pub tasks: Tasks,
    /// The output of background tasks.
    pub outputs: Outputs,
    /// Use cases of the runtime configuration.
    pub runtime: Runtime,
    /// Use cases of the journal's signing key.
    pub journal_keys: JournalKeys,
    /// Words of models while they arrive.
    pub live: LiveDeltas,
    /// The read side.
    pub published: Published,
    /// What `status` shows.
    pub status: Arc<StatusSource>,
}

impl App {
    /// Handlers' state over a desk.
    pub fn new(desk: Desk, published: Published, status: Arc<StatusSource>, runner: &Runner) -> Self {
        Self {
            sessions: Sessions::new(desk.clone()),
            runs: Runs::new(desk.clone()),
            approvals: Approvals::new(desk.clone()),
            questions: Questions::new(desk.clone()),
            outputs: Outputs::new(Tasks::new(desk.clone()), runner.background().clone()),
            tasks: Tasks::new(desk.clone()),
            runtime: Runtime::new(desk),
            journal_keys: JournalKeys::new(status.clerk.clone(), published.clone()),
            live: runner.live().clone(),
            published,
            status,
        }
    }

    /// On whose behalf a mutation is made. The right must be for this action.
    pub fn by(right: &Authorized, action: Action, request: RequestFacts) -> Result<By, Refusal> {
        let caller = right.demand(action)?;
        let org = caller.organisation().to_owned();
        let provenance = Provenance {
            org: org.clone(),
            actor: caller.actor().clone(),
            on_behalf_of: Vec::new(),
            request: Some(request),
        };
        Ok(By { org, provenance })
    }
}

/// The door's shared state, out of a request.
pub fn gate_of(passage: &crate::http::passage::Passage) -> Arc<Gate> {
    Arc::clone(passage.gate())
}
