//! Whether the routes to models can be used, as far as their last calls tell. Nothing is called for it.

use serde::Serialize;

use crate::config::routes::{Driver, Routes};
use crate::services::numbers::{LastCall, ProviderNumbers};

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
}

#[derive(Debug, Clone)]
struct KnownRoute {
    id: String,
    driver: &'static str,
    default_model: String,
    active: bool,
    rehearsal: bool,
}

/// Where readiness is looked up.
#[derive(Debug, Clone)]
pub struct Readiness {
    routes: Vec<KnownRoute>,
    numbers: ProviderNumbers,
}

impl Readiness {
    /// Of these routes, and what is counted of their calls.
    pub fn of(routes: &Routes, numbers: ProviderNumbers) -> Self {
        let known = |(id, route): (&str, &crate::config::routes::Route)| KnownRoute {
            id: id.to_owned(),
            driver: route.driver.name(),
            default_model: route.default_model.clone(),
            active: id == routes.default_route(),
            rehearsal: route.driver == Driver::Rehearsal,
        };
        Self { routes: routes.iter().map(known).collect(), numbers }
    }

    /// What is counted of the calls.
    pub fn numbers(&self) -> &ProviderNumbers {
        &self.numbers
    }

    /// How the routes stand now.
    pub fn look(&self) -> ProviderReadiness {
        let routes: Vec<RouteReadiness> = self.routes.iter().map(|route| self.route(route)).collect();
        ProviderReadiness {
            active_route_ready: routes.iter().find(|route| route.active).and_then(|route| route.ready),
            error_route_count: routes.iter().filter(|route| route.ready == Some(false)).count(),
            routes,
        }
    }

    fn route(&self, route: &KnownRoute) -> RouteReadiness {
        let last = self.numbers.last(&route.id);
        let outcome = |LastCall { code, at_ms }: LastCall| Outcome {
            ok: code.is_none(),
            code: code.map(crate::domain::reason::Reason::code),
            at_ms,
        };
        RouteReadiness {
            route_id: route.id.clone(),
            driver: route.driver,
            default_model: route.default_model.clone(),
            active: route.active,
            rehearsal: route.rehearsal,
            ready: if route.rehearsal { Some(true) } else { last.map(|last| last.code.is_none()) },
            last_outcome: last.map(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::domain::reason::Reason;

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
    fn a_route_that_was_never_used_is_unknown_and_a_rehearsal_is_ready() {
        let routes = Routes::parse(FILE, Path::new("/"), "test").unwrap();
        let numbers = ProviderNumbers::new(routes.iter().map(|(id, _)| id.to_owned()));
        let readiness = Readiness::of(&routes, numbers.clone());
        let fresh = readiness.look();
        assert_eq!((fresh.active_route_ready, fresh.error_route_count), (None, 0));
        let ready: Vec<_> = fresh.routes.iter().map(|route| (route.route_id.as_str(), route.ready)).collect();
        assert_eq!(ready, [("local", None), ("practice", Some(true))]);
        numbers.observe("local", LastCall { code: Some(Reason::ProviderUnavailable), at_ms: 4 }, Duration::ZERO);
        let failed = readiness.look();
        assert_eq!((failed.active_route_ready, failed.error_route_count), (Some(false), 1));
        let outcome = Outcome { ok: false, code: Some("provider.unavailable"), at_ms: 4 };
        assert_eq!(failed.routes[0].last_outcome, Some(outcome));
        numbers.observe("local", LastCall { code: None, at_ms: 5 }, Duration::ZERO);
        assert_eq!(readiness.look().active_route_ready, Some(true));
    }
}
