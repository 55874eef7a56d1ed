//! Which route answers a client, whether it can, and which models clients can ask for.

use serde::Serialize;

use super::envelope::Envelope;
use crate::config::routes::{Asked, Driver, ModelSupport, ResolvedRoute, Route};
use crate::domain::model_call::Dialect;
use crate::domain::reason::{Reason, Refusal};
use crate::outbound::providers::Endpoint;
use crate::services::routing::InForce;

/// A model that can be asked for, as clients of either kind read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ModelView {
    /// `<route>/<model>`.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Always `model`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When it came to be, Unix seconds; not known.
    pub created: u64,
    /// The same as a date.
    pub created_at: &'static str,
    /// The driver of its route.
    pub owned_by: String,
    /// Name for people.
    pub display_name: String,
}

/// Every model that routes name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ModelsView {
    /// Always `list`.
    pub object: &'static str,
    /// The models.
    pub data: Vec<ModelView>,
    /// Whether there are more.
    pub has_more: bool,
    /// The first one's id.
    pub first_id: Option<String>,
    /// The last one's id.
    pub last_id: Option<String>,
}

impl ModelsView {
    /// The models of the routes that a client can be answered by.
    pub(super) fn of(now: &InForce) -> Self {
        let every = [Dialect::ChatCompletions, Dialect::Responses, Dialect::Messages];
        let mut data = Vec::new();
        for (id, route) in now.routes.iter() {
            for model in models(route) {
                let asked = Asked { route: Some(id), model: Some(model) };
                let Ok(resolved) = now.routes.choose(asked, Asked::default()) else { continue };
                if every.iter().any(|dialect| now.providers.passes(&resolved, endpoint(*dialect))) {
                    data.push(ModelView {
                        id: format!("{id}/{model}"),
                        object: "model",
                        kind: "model",
                        created: 0,
                        created_at: "1970-01-01T00:00:00Z",
                        owned_by: route.driver.name().to_owned(),
                        display_name: model.clone(),
                    });
                }
            }
        }
        let id = |model: &ModelView| model.id.clone();
        let (first_id, last_id) = (data.first().map(id), data.last().map(id));
        Self { object: "list", data, has_more: false, first_id, last_id }
    }
}

pub(super) fn endpoint(dialect: Dialect) -> Endpoint {
    match dialect {
        Dialect::ChatCompletions => Endpoint::ChatCompletions,
        Dialect::Responses => Endpoint::Responses,
        Dialect::Messages => Endpoint::Messages,
    }
}

/// The models that a route names.
fn models(route: &Route) -> impl Iterator<Item = &String> {
    let listed = if let ModelSupport::Listed(models) = &route.model_support { models.as_slice() } else { &[] };
    let others = listed.iter().filter(|model| **model != route.default_model);
    std::iter::once(&route.default_model).chain(others)
}

/// The route that answers: the one that the model names, or else the default one, or else the first that names the model.
/// Refused where it cannot do what the request needs.
pub(super) fn choose(now: &InForce, dialect: Dialect, envelope: &Envelope<'_>) -> Result<ResolvedRoute, Refusal> {
    let model = envelope.model.as_str();
    let asked = now.routes.asked(None, Some(model));
    let speaks = |route: &ResolvedRoute| now.providers.passes(route, endpoint(dialect));
    let chosen = now.routes.choose(asked, Asked::default()).map_err(|refusal| refusal.at("/model"));
    let naming = || {
        let naming = now.routes.iter().filter(|(_, route)| models(route).any(|named| named == model));
        let others = naming.map(|(id, _)| Asked { route: Some(id), model: Some(model) });
        others.filter_map(|asked| now.routes.choose(asked, Asked::default()).ok()).find(speaks)
    };
    let is_chosen = asked.route.is_some() || chosen.as_ref().is_ok_and(speaks);
    let other = if is_chosen { None } else { naming() };
    let route = other.map_or(chosen, Ok)?;
    let (id, driver, endpoint) = (&route.route_id, route.driver.name(), endpoint(dialect));
    if !speaks(&route) {
        let able = able(now, dialect, |_| true);
        let detail = format!("The route {id} (driver {driver}) does not speak {endpoint:?}. Routes that do: {able}.");
        return Err(Refusal::new(Reason::RequestInvalid, detail).at("/model"));
    }
    if let Some(what) = now.routes.get(id).and_then(|route| lacking(route, envelope)) {
        let able = able(now, dialect, |route| route.terms.capabilities.said().get(what) != Some(&false));
        let detail =
            format!("The request needs {what}, which the route {id} is said not to do. Routes that may: {able}.");
        return Err(Refusal::new(Reason::RequestInvalid, detail));
    }
    Ok(route)
}

/// What a request needs and a route is said not to do.
fn lacking(route: &Route, envelope: &Envelope<'_>) -> Option<&'static str> {
    let cannot = route.terms.capabilities.said().into_iter().filter(|(_, can)| !can);
    cannot.map(|(what, _)| what).find(|what| envelope.needs(what))
}

/// The routes that stand in for a route and can answer this request, nearest first.
pub(super) fn fallbacks(now: &InForce, dialect: Dialect, envelope: &Envelope<'_>, of: &str) -> Vec<ResolvedRoute> {
    let able = |id: &&str| now.routes.get(id).is_some_and(|route| lacking(route, envelope).is_none());
    let ids = now.routes.fallbacks(of).into_iter().filter(able);
    let routes = ids.filter_map(|id| now.routes.choose(Asked { route: Some(id), model: None }, Asked::default()).ok());
    routes.filter(|route| now.providers.passes(route, endpoint(dialect))).collect()
}

/// The ids of the routes that speak a dialect and are of this kind, as one text.
fn able(now: &InForce, dialect: Dialect, is: impl Fn(&Route) -> bool) -> String {
    let ids = now.routes.iter().filter(|(_, route)| is(route)).map(|(id, _)| Asked { route: Some(id), model: None });
    let able = ids.filter_map(|asked| now.routes.choose(asked, Asked::default()).ok());
    let able = able.filter(|route| now.providers.passes(route, endpoint(dialect)));
    let able: Vec<String> = able.map(|route| route.route_id).collect();
    if able.is_empty() { "none".to_owned() } else { able.join(", ") }
}

/// The name of a limit where the client named none.
pub(super) fn spare_key(dialect: Dialect, route: &ResolvedRoute) -> &'static str {
    // OpenAI's own models and xAI's refuse what all compatible servers call the limit.
    let is_own = route.base_url == route.driver.default_base_url();
    match dialect {
        Dialect::ChatCompletions if route.driver == Driver::Xai || (route.driver == Driver::OpenAi && is_own) => {
            "max_completion_tokens"
        }
        Dialect::ChatCompletions | Dialect::Messages => "max_tokens",
        Dialect::Responses => "max_output_tokens",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::routes::Routes;

    #[test]
    fn a_limit_is_called_what_the_routes_models_take() {
        let (own, compatible) = ("", "base_url = \"http://127.0.0.1:9/v1\"\n");
        for (driver, address, key) in [
            ("openai", own, "max_completion_tokens"),
            ("openai", compatible, "max_tokens"),
            ("xai", compatible, "max_completion_tokens"),
            ("openrouter", own, "max_tokens"),
        ] {
            let text = format!("version = 1\n[routes.r]\ndriver = \"{driver}\"\ndefault_model = \"m\"\n{address}");
            let routes = Routes::parse(&text, std::path::Path::new("/"), "f").unwrap();
            let route = routes.choose(Asked::default(), Asked::default()).unwrap();
            assert_eq!(spare_key(Dialect::ChatCompletions, &route), key, "{driver} {address}");
        }
    }
}
