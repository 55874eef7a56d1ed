//! What handlers share: the use cases, the read side, and how a mutation is carried out.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::domain::reason::Refusal;
use crate::domain::record::{Provenance, RequestFacts};
use crate::http::edge::Gate;
use crate::http::extract::Mutation;
use crate::http::reply::{Reply, detached, json};
use crate::services::approvals::Approvals;
use crate::services::authority::{Action, Authorized, Role};
use crate::services::budgets::Budgets;
use crate::services::debug_capture::DebugCapture;
use crate::services::desk::{By, Desk, Done};
use crate::services::gateway::Gateway;
use crate::services::journal_keys::JournalKeys;
use crate::services::published::Published;
use crate::services::questions::Questions;
use crate::services::runner::{LiveDeltas, Runner};
use crate::services::runs::Runs;
use crate::services::runtime::Runtime;
use crate::services::secrets::Secrets;
use crate::services::sessions::Sessions;
use crate::services::status::StatusSource;
use crate::services::tasks::{Outputs, Tasks};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const HEAD: HeaderName = HeaderName::from_static("chancery-head");

/// The state of all handlers. Each request clones it, so that it is one pointer.
#[derive(Clone)]
pub struct App(Arc<UseCases>);

impl Deref for App {
    type Target = UseCases;

    fn deref(&self) -> &UseCases {
        &self.0
    }
}

/// What handlers work with.
pub struct UseCases {
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
    /// Use cases of budgets.
    pub budgets: Budgets,
    /// The model gateway.
    pub gateway: Gateway,
    /// Use cases of the runtime configuration.
    pub runtime: Runtime,
    /// Use cases of secrets.
    pub secrets: Secrets,
    /// Use cases of the journal's signing key.
    pub journal_keys: JournalKeys,
    /// What is kept while the debug level asks for it.
    pub debug: DebugCapture,
    /// Words of models while they arrive.
    pub live: LiveDeltas,
    /// The read side.
    pub published: Published,
    /// What `status` shows.
    pub status: Arc<StatusSource>,
}

impl App {
    /// Handlers' state over a desk.
    pub fn new(
        desk: Desk,
        (secrets, gateway): (Secrets, Gateway),
        published: Published,
        status: Arc<StatusSource>,
        runner: &Runner,
    ) -> Self {
        Self(Arc::new(UseCases {
            sessions: Sessions::new(desk.clone()),
            runs: Runs::new(desk.clone()),
            approvals: Approvals::new(desk.clone(), Arc::clone(runner.workspace())),
            questions: Questions::new(desk.clone()),
            outputs: Outputs::new(Tasks::new(desk.clone()), runner.background().clone()),
            tasks: Tasks::new(desk.clone()),
            budgets: Budgets::new(desk.clone(), published.clone()),
            gateway,
            runtime: Runtime::new(desk),
            secrets,
            journal_keys: JournalKeys::new(status.clerk.clone(), published.clone()),
            live: runner.live().clone(),
            debug: runner.debug().clone(),
            published,
            status,
        }))
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

    /// Carries a mutation out, to its end and whatever becomes of the connection, and answers with what it left.
    pub async fn carry_out<T, P, V, F>(
        &self,
        action: Action,
        status: StatusCode,
        ask: Mutation<T, P>,
        work: impl FnOnce(By, P, T) -> F,
    ) -> Reply
    where
        V: Serialize + Send + 'static,
        F: Future<Output = Result<Done<V>, Refusal>> + Send + 'static,
    {
        let right = ask.right.clone();
        self.done(status, &Self::perform(action, ask, work).await?, &right)
    }

    /// The same without the answer.
    pub async fn perform<T, P, V, F>(
        action: Action,
        ask: Mutation<T, P>,
        work: impl FnOnce(By, P, T) -> F,
    ) -> Result<Done<V>, Refusal>
    where
        V: Send + 'static,
        F: Future<Output = Result<Done<V>, Refusal>> + Send + 'static,
    {
        let Mutation { right, request, on, body, passage } = ask;
        let wait = passage.gate().patience(&right, &request);
        let work = work(Self::by(&right, action, request)?, on, body);
        let tasks = passage.gate().tasks.clone();
        // The request's share of memory is given back when the work is done, not when the client hangs up.
        let held = async move { (work.await, passage).0 };
        detached(&tasks, wait, held).await
    }

    /// The answer to a mutation, with the headers that mutations have.
    pub fn done<T: Serialize>(&self, status: StatusCode, done: &Done<T>, right: &Authorized) -> Reply {
        let mut reply = json(status, &done.view)?;
        if done.replayed {
            reply.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if right.caller().role() != Role::ReadOnly {
            let note = data_encoding::BASE64.encode(self.published.head().note.render().as_bytes());
            if let Ok(value) = HeaderValue::from_str(&note) {
                reply.headers_mut().insert(HEAD, value);
            }
        }
        Ok(reply)
    }
}

/// The door's shared state, out of a request.
pub fn gate_of(passage: &crate::http::passage::Passage) -> Arc<Gate> {
    Arc::clone(passage.gate())
}
