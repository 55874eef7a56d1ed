//! What names a route that is not in force: sessions by their choice, runs by what they asked for or pinned, the
//! runtime, budgets, and subjects that get no lease.

use serde::Serialize;

use crate::config::routes::Routes;
use crate::domain::event::Event;
use crate::domain::ledger::Subject;
use crate::projections::{Bodies, Models};

/// Runs that are looked at, and missing routes that are told.
const MOST: usize = 1_000;

/// Who names a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Namer {
    /// The runtime configuration.
    Runtime,
    /// A session that has not ended, for its later runs.
    Session,
    /// A run that has not ended.
    Run,
    /// A budget of its calls.
    Budget,
    /// A revoked subject.
    Subject,
}

/// A route that is named and not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct MissingRoute {
    /// Who names it.
    pub named_by: Namer,
    /// Which session, run, budget or subject.
    pub id: Option<String>,
    /// The route.
    pub route: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RouteReferences {
    /// Routes in force.
    pub routes: Vec<String>,
    /// What names others.
    pub missing: Vec<MissingRoute>,
    /// Whether everything was looked at and told.
    pub complete: bool,
}

/// Places of what may name a route, taken out of the models.
pub(super) struct Places {
    missing: Vec<MissingRoute>,
    /// Runs, with the record that says their route.
    runs: Vec<(String, u64)>,
    complete: bool,
}

pub(super) fn find(models: &Models, org: &str, routes: &Routes) -> Places {
    let gone = |route: &str| routes.get(route).is_none();
    let runtime = models.runtime.configuration.model.route.clone().filter(|route| gone(route));
    let of_runtime = runtime.map(|route| MissingRoute { named_by: Namer::Runtime, id: None, route });
    let of_sessions = models.session_routes(org).filter(|(_, route)| gone(route)).map(|(id, route)| MissingRoute {
        named_by: Namer::Session,
        id: Some(id.to_string()),
        route: route.to_owned(),
    });
    // Whose names stay the same at all times, unlike their sums.
    let of_budgets = models.ledger.budgets(org, 0).into_iter().filter_map(|view| match &view.budget.subject {
        Subject::Route(route) if gone(route) => {
            Some(MissingRoute { named_by: Namer::Budget, id: Some(view.budget.to_string()), route: route.clone() })
        }
        _ => None,
    });
    let of_subjects = models.revoked_subjects(org).into_iter().filter_map(|revoked| {
        let route = revoked.subject.strip_prefix("route/").filter(|route| gone(route))?.to_owned();
        Some(MissingRoute { named_by: Namer::Subject, id: Some(revoked.subject), route })
    });
    let mut all = of_runtime.into_iter().chain(of_sessions).chain(of_budgets).chain(of_subjects);
    let missing: Vec<MissingRoute> = all.by_ref().take(MOST).collect();
    let mut open = models.open_run_places(org);
    let runs: Vec<(String, u64)> = open.by_ref().take(MOST).map(|(id, seq)| (id.to_string(), seq)).collect();
    let complete = all.next().is_none() && open.next().is_none();
    Places { missing, runs, complete }
}

impl Places {
    /// Reads what runs say. Blocks on the disk.
    pub(super) fn read(self, bodies: &dyn Bodies, routes: &Routes) -> RouteReferences {
        let Self { mut missing, runs, complete } = self;
        for (id, seq) in runs {
            let route = match bodies.record(seq).map(|record| record.event) {
                Some(Event::RunStarted(body)) => Some(body.route),
                Some(Event::RunQueued(body)) => body.route,
                _ => None,
            };
            if let Some(route) = route.filter(|route| routes.get(route).is_none()) {
                missing.push(MissingRoute { named_by: Namer::Run, id: Some(id), route });
            }
        }
        RouteReferences { routes: routes.iter().map(|(id, _)| id.to_owned()).collect(), missing, complete }
    }
}
