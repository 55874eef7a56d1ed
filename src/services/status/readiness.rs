//! Whether the routes to models can be used, as far as their last calls tell. Nothing is called for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::config::routes::{Driver, Route};
use crate::services::numbers::{LastCall, ProviderNumbers};
use crate::services::routing::Routing;

/// How the last call over a route ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Outcome {
    /// Whether it was answered.
    pub ok: bool,
    /// Why not.
    pub code: Option<&'static str>,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RouteReadiness {
    /// Its id.
    pub route_id: String,
    /// Its driver.
    pub driver: &'static str,
    /// The model where none is asked for.
    pub default_model: String,
    /// Whether runs that ask for no route take it.
    pub active: bool,
    /// Whether a script answers instead of a model.
    pub rehearsal: bool,
    /// Whether its last call was answered; null where none was made since the start. A rehearsal needs nobody.
    pub ready: Option<bool>,
    /// How the last call ended.
    pub last_outcome: Option<Outcome>,
    /// The slot of the vault that holds its key.
    pub auth_ref: Option<String>,
    /// Whether that slot holds a key that can be used; null where it needs none, or nobody can tell.
    pub credential_ready: Option<bool>,
    /// Routes that answer in its place, in order.
    pub fallbacks: Vec<String>,
    /// What the operator says of what it can do.
    pub capabilities: BTreeMap<&'static str, bool>,
}

/// All routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ProviderReadiness {
    /// Whether the default route is ready; null where that is not known.
    pub active_route_ready: Option<bool>,
    /// Every route.
    pub routes: Vec<RouteReadiness>,
    /// Routes whose last call was not answered.
    pub error_route_count: usize,
    /// SHA-256 of the routes file in force, hex; null where there is none.
    pub file_sha256: Option<String>,
    /// Why the routes file as it is now is not in force; null where it is.
    pub file_problem: Option<String>,
}

/// Where readiness is looked up.
#[derive(Clone)]
pub struct Readiness {
    routing: Arc<Routing>,
    usable: Option<Usable>,
}

/// Says whether a slot holds a key that can be used.
pub type Usable = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Readiness {
    /// Of the routes in force, and what is counted of their calls.
    pub fn of(routing: Arc<Routing>) -> Self {
        Self { routing, usable: None }
    }

    /// The same, which can also tell whether keys are there.
    pub fn with_keys(self, usable: Usable) -> Self {
        Self { usable: Some(usable), ..self }
    }

    /// What is counted of the calls.
    pub fn numbers(&self) -> &ProviderNumbers {
        self.routing.numbers()
    }

    /// How the routes stand now.
    pub fn look(&self) -> ProviderReadiness {
        let now = self.routing.now();
        let standing = |(id, route)| self.route(id, route, now.routes.default_route());
        let routes: Vec<RouteReadiness> = now.routes.iter().map(standing).collect();
        ProviderReadiness {
            active_route_ready: routes.iter().find(|route| route.active).and_then(|route| route.ready),
            error_route_count: routes.iter().filter(|route| route.ready == Some(false)).count(),
            routes,
            file_sha256: now.sha256.clone(),
            file_problem: self.routing.problem(),
        }
    }

    fn route(&self, id: &str, route: &Route, default_route: &str) -> RouteReadiness {
        let last = self.numbers().last(id);
        let outcome = |LastCall { code, at_ms }: LastCall| Outcome {
            ok: code.is_none(),
            code: code.map(crate::domain::reason::Reason::code),
            at_ms,
        };
        let rehearsal = route.driver == Driver::Rehearsal;
        let usable = self.usable.as_ref();
        let credential_ready = route.terms.auth_ref.as_ref().and_then(|slot| usable.map(|usable| usable(slot)));
        let answered = if rehearsal { Some(true) } else { last.map(|last| last.code.is_none()) };
        RouteReadiness {
            route_id: id.to_owned(),
            driver: route.driver.name(),
            default_model: route.default_model.clone(),
            active: id == default_route,
            rehearsal,
            ready: if credential_ready == Some(false) { Some(false) } else { answered },
            last_outcome: last.map(outcome),
            auth_ref: route.terms.auth_ref.clone(),
            credential_ready,
            fallbacks: route.terms.fallbacks.clone(),
            capabilities: route.terms.capabilities.said(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::reason::Reason;
    use crate::services::routing::testing;

    const FILE: &str = r#"
        version = 1
        default_route = "local"
        [routes.local]
        driver = "openai"
        default_model = "m"
        base_url = "http://127.0.0.1:9/v1"
        [routes.practice]
        driver = "rehearsal"
        default_model = "rehearsal"
    "#;

    #[test]
    fn a_route_without_its_key_is_not_ready_whatever_its_last_call_was() {
        let folder = tempfile::tempdir().unwrap();
        let text = FILE.replace("default_model = \"m\"", "default_model = \"m\"\n        auth_ref = \"local.key\"");
        let readiness = Readiness::of(Arc::new(testing::routing(folder.path(), &text)));
        readiness.numbers().observe("local", LastCall { code: None, at_ms: 5 }, Duration::ZERO, None);
        assert_eq!(
            (readiness.look().active_route_ready, readiness.look().routes[0].credential_ready),
            (Some(true), None)
        );
        let without = readiness.clone().with_keys(Arc::new(|_| false)).look();
        assert_eq!((without.active_route_ready, without.error_route_count), (Some(false), 1));
        let warned: Vec<_> = super::super::warnings::routes(&without).collect();
        assert!(
            warned[0].code == "route_not_ready" && warned[0].detail.contains("secrets set local.key"),
            "{warned:?}"
        );
        let with = readiness.with_keys(Arc::new(|slot| slot == "local.key")).look();
        assert_eq!((with.active_route_ready, with.routes[0].credential_ready), (Some(true), Some(true)));
        assert_eq!(super::super::warnings::routes(&with).count(), 0);
        assert_eq!(with.routes[1].credential_ready, None, "a route that needs no key");
    }

    #[test]
    fn a_route_that_was_never_used_is_unknown_and_a_rehearsal_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let routing = Arc::new(testing::routing(folder.path(), FILE));
        let numbers = routing.numbers().clone();
        let readiness = Readiness::of(routing);
        let fresh = readiness.look();
        assert_eq!((fresh.active_route_ready, fresh.error_route_count), (None, 0));
        let ready: Vec<_> = fresh.routes.iter().map(|route| (route.route_id.as_str(), route.ready)).collect();
        assert_eq!(ready, [("local", None), ("practice", Some(true))]);
        numbers.observe("local", LastCall { code: Some(Reason::ProviderUnavailable), at_ms: 4 }, Duration::ZERO, None);
        let failed = readiness.look();
        assert_eq!((failed.active_route_ready, failed.error_route_count), (Some(false), 1));
        let outcome = Outcome { ok: false, code: Some("provider.unavailable"), at_ms: 4 };
        assert_eq!(failed.routes[0].last_outcome, Some(outcome));
        numbers.observe("local", LastCall { code: None, at_ms: 5 }, Duration::ZERO, None);
        assert_eq!(readiness.look().active_route_ready, Some(true));
    }
}
