//! One file of handlers a noun, and the list of all routes.

mod budgets;
mod clock;
mod events;
mod gateway;
mod journal;
mod runs;
mod runtime;
mod secrets;
mod sessions;
mod status;
mod streams;
mod tasks;
mod waits;

use super::app::App;
use super::extract::Place;
use super::routes::Route;
use crate::domain::ids::{ApprovalId, ModelCallId, QuestionId, RunId, SessionId, TaskId};
use crate::domain::reason::{Reason, Refusal};
use crate::projections::Paging;
use crate::projections::waits::Filter;
use crate::services::desk::{parse_filter, parse_id};
use crate::services::past::At;

/// Every route of the interface but those that each daemon has by itself.
pub fn routes() -> Vec<Route<App>> {
    let mut routes = sessions::routes();
    routes.extend(runs::routes());
    routes.extend(waits::routes());
    routes.extend(tasks::routes());
    routes.extend(runtime::routes());
    routes.extend(budgets::routes());
    routes.extend(gateway::routes());
    routes.extend(secrets::routes());
    routes.extend(journal::routes());
    routes.extend(events::routes());
    routes.extend(streams::routes());
    routes.extend(status::routes());
    routes.extend(clock::routes());
    routes
}

/// An id in a path, and what is said where nothing has it.
trait Noun: std::str::FromStr + Send {
    const ABSENT: Reason;
}

impl Noun for SessionId {
    const ABSENT: Reason = Reason::SessionNotFound;
}

impl Noun for RunId {
    const ABSENT: Reason = Reason::RunNotFound;
}

impl Noun for ApprovalId {
    const ABSENT: Reason = Reason::ApprovalNotFound;
}

impl Noun for QuestionId {
    const ABSENT: Reason = Reason::QuestionNotFound;
}

impl Noun for TaskId {
    const ABSENT: Reason = Reason::TaskNotFound;
}

impl Noun for ModelCallId {
    const ABSENT: Reason = Reason::ModelCallNotFound;
}

impl<Id: Noun> Place for Id {
    fn read(name: &str) -> Result<Self, Refusal> {
        parse_id(name, Id::ABSENT)
    }
}

/// What a query may name, and its JSON type.
type Asks = &'static [(&'static str, &'static str)];

/// What a list that has no other filter may be asked.
const BY_STATUS: Asks = &[("limit", "integer"), ("cursor", "string"), ("status", "string")];
/// What such a list may be asked that can also be shown as it was.
const BY_STATUS_AT: Asks = &[("limit", "integer"), ("cursor", "string"), ("status", "string"), ("at", "string")];
/// What a list of runs may be asked.
const OF_RUNS: Asks =
    &[("limit", "integer"), ("cursor", "string"), ("status", "string"), ("session_id", "string"), ("at", "string")];
/// What may be asked of something that can also be shown as it was.
const AT: Asks = &[("at", "string")];
/// What a list over all sessions may be asked.
const OF_ALL: Asks =
    &[("limit", "integer"), ("cursor", "string"), ("status", "string"), ("session_id", "string"), ("run_id", "string")];

/// A page of a list that a query asks for, and what the list is narrowed to.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery<Status> {
    limit: Option<usize>,
    cursor: Option<String>,
    status: Option<Status>,
    session_id: Option<String>,
    run_id: Option<String>,
    at: Option<At>,
}

/// As of when something is asked; now, where nothing is said.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AtQuery {
    at: Option<At>,
}

impl<Status: Copy> ListQuery<Status> {
    fn paging(&self) -> Paging {
        Paging { limit: self.limit, cursor: self.cursor.clone() }
    }

    /// For lists that know no other filter, or whose path has named it.
    fn narrowed_by_status_only(&self) -> Result<(), Refusal> {
        match (&self.session_id, &self.run_id) {
            (None, None) => Ok(()),
            (Some(_), _) | (_, Some(_)) => Err(Refusal::new(Reason::RequestMalformed, "This list has no such filter.")),
        }
    }

    /// What a list over all sessions is narrowed to.
    fn filter(&self) -> Result<Filter<Status>, Refusal> {
        let session = self.session_id.as_deref().map(|id| parse_filter("/session_id", id)).transpose()?;
        let run = self.run_id.as_deref().map(|id| parse_filter("/run_id", id)).transpose()?;
        Ok(Filter { session, run, status: self.status })
    }
}

/// A path below which there is a list of what waits or works in the background.
trait Within: Place {
    /// What the list is narrowed to: by the query where the path names nothing, by the path's name otherwise.
    fn filter<Status: Copy>(self, query: &ListQuery<Status>) -> Result<Filter<Status>, Refusal>;
}

impl Within for () {
    fn filter<Status: Copy>(self, query: &ListQuery<Status>) -> Result<Filter<Status>, Refusal> {
        query.filter()
    }
}

impl Within for SessionId {
    fn filter<Status: Copy>(self, query: &ListQuery<Status>) -> Result<Filter<Status>, Refusal> {
        query.narrowed_by_status_only()?;
        Ok(Filter { session: Some(self), run: None, status: query.status })
    }
}

impl Within for RunId {
    fn filter<Status: Copy>(self, query: &ListQuery<Status>) -> Result<Filter<Status>, Refusal> {
        query.narrowed_by_status_only()?;
        Ok(Filter { session: None, run: Some(self), status: query.status })
    }
}
