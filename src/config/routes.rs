//! Routes: which driver, model and address answer a run. The choice among them is a pure function.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::base_url::BaseUrl;
use super::limits::{MODEL_BYTES, ROUTE_ID_BYTES, ROUTES_FILE_BYTES};
use super::route_terms::Terms;
use super::routes_file;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::run::RouteChoice;
use crate::platform::bounded_read::bounded_read_text;

/// Id of the route that exists where there is no routes file, and the name of its driver and model.
pub const REHEARSAL: &str = "rehearsal";

/// What speaks to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Follows a script; no model is asked.
    Rehearsal,
    /// Chat completions or responses, as OpenAI and the many servers that do alike speak them.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Contents that are generated.
    Google,
    /// Chat completions of many providers through one.
    OpenRouter,
    /// Chat completions of xAI.
    Xai,
}

impl Driver {
    /// Every driver.
    pub const ALL: [Driver; 6] =
        [Driver::Rehearsal, Driver::OpenAi, Driver::Anthropic, Driver::Google, Driver::OpenRouter, Driver::Xai];

    /// Its name in the routes file and in events.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Rehearsal => REHEARSAL,
            Driver::OpenAi => "openai",
            Driver::Anthropic => "anthropic",
            Driver::Google => "google",
            Driver::OpenRouter => "openrouter",
            Driver::Xai => "xai",
        }
    }

    /// Where its provider lives, for routes that name no address.
    pub fn default_base_url(self) -> Option<BaseUrl> {
        let text = match self {
            Driver::Rehearsal => return None,
            Driver::OpenAi => "https://api.openai.com/v1",
            Driver::Anthropic => "https://api.anthropic.com",
            Driver::Google => "https://generativelanguage.googleapis.com",
            Driver::OpenRouter => "https://openrouter.ai/api/v1",
            Driver::Xai => "https://api.x.ai/v1",
        };
        BaseUrl::parse(text).ok()
    }
}

/// Which of its interfaces the driver `openai` speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Api {
    /// Chat completions, which every compatible server has.
    #[default]
    Chat,
    /// Responses.
    Responses,
}

impl Api {
    /// Every interface.
    pub const ALL: [Api; 2] = [Api::Chat, Api::Responses];

    /// Its name in the routes file.
    pub fn name(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Responses => "responses",
        }
    }
}

/// Which models a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSupport {
    /// Whatever is asked for.
    Any,
    /// These, and the default model.
    Listed(Vec<String>),
}

/// One route of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What speaks to the provider.
    pub driver: Driver,
    /// The model where none is asked for.
    pub default_model: String,
    /// Which interface of the provider's is spoken.
    pub api: Api,
    /// Where the provider lives; none only for a rehearsal.
    pub base_url: Option<BaseUrl>,
    /// Which models it takes.
    pub model_support: ModelSupport,
    /// The script of a rehearsal; the built-in one where there is none.
    pub script: Option<PathBuf>,
    /// Tokens after which the provider shall stop.
    pub max_output_tokens: Option<u32>,
    /// Milliseconds that one call may take.
    pub timeout_ms: Option<u64>,
    /// The terms on which it is used.
    pub terms: Terms,
}

/// All routes, and the one for runs that ask for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// Id of the default route; always one of `by_id`.
    pub(super) default_route: String,
    /// By route id.
    pub(super) by_id: BTreeMap<String, Route>,
}

/// What a run or a session asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Route id.
    pub route: Option<&'a str>,
    /// Model.
    pub model: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Reads a selector: `<route_id>/<model>`, split at the first slash, or a bare model.
    pub fn from_selector(selector: &'a str) -> Self {
        match selector.split_once('/') {
            Some((route, model)) => Self { route: Some(route), model: Some(model) },
            None => Self { route: None, model: Some(selector) },
        }
    }
}

/// The route that answers a run, pinned when the run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedRoute {
    /// Its id.
    pub route_id: String,
    /// What speaks to the provider.
    pub driver: Driver,
    /// The model.
    pub model: String,
    /// Where the provider lives.
    pub base_url: Option<BaseUrl>,
    /// Tokens after which the provider shall stop.
    pub max_output_tokens: Option<u32>,
    /// Milliseconds that one call may take.
    pub timeout_ms: Option<u64>,
    /// Which level chose the route.
    pub chosen_by: RouteChoice,
}

impl ResolvedRoute {
    /// Whether the answers come from a script instead of a model.
    pub fn is_rehearsal(&self) -> bool {
        self.driver == Driver::Rehearsal
    }
}

impl Default for Routes {
    /// What there is without a routes file: one route that rehearses.
    fn default() -> Self {
        let route = Route {
            driver: Driver::Rehearsal,
            default_model: REHEARSAL.into(),
            api: Api::Chat,
            base_url: None,
            model_support: ModelSupport::Any,
            script: None,
            max_output_tokens: None,
            timeout_ms: None,
            terms: Terms::default(),
        };
        Self { default_route: REHEARSAL.into(), by_id: BTreeMap::from([(REHEARSAL.into(), route)]) }
    }
}

impl Routes {
    /// Reads the routes file. Relative paths of scripts start at the file's folder. `default` is the default route that
    /// the command line names; it goes before the file's.
    pub fn load(path: &Path, default: Option<&str>) -> Result<Self, Refusal> {
        Self::of_file(&Self::read(path)?, path, default)
    }

    /// Reads the text of the routes file.
    pub fn read(path: &Path) -> Result<String, Refusal> {
        let said = |error| Refusal::new(Reason::ConfigInvalid, format!("routes file {}: {error}", path.display()));
        bounded_read_text(path, ROUTES_FILE_BYTES).map_err(said)
    }

    /// The routes in the text of this file.
    pub fn of_file(text: &str, path: &Path, default: Option<&str>) -> Result<Self, Refusal> {
        routes_file::parse(text, path.parent().unwrap_or(Path::new(".")), &path.display().to_string(), default)
    }

    /// Reads the text of a routes file; `source` names it in messages.
    pub fn parse(text: &str, folder: &Path, source: &str) -> Result<Self, Refusal> {
        routes_file::parse(text, folder, source, None)
    }

    /// Id of the default route.
    pub fn default_route(&self) -> &str {
        &self.default_route
    }

    /// A route by its id.
    pub fn get(&self, id: &str) -> Option<&Route> {
        self.by_id.get(id)
    }

    /// The ids of the routes that stand in for a route, nearest first, each once.
    pub fn fallbacks(&self, id: &str) -> Vec<&str> {
        let of = |id: &str| self.by_id.get(id).map_or(&[][..], |route| route.terms.fallbacks.as_slice());
        let mut reached: Vec<&str> = Vec::new();
        let mut ahead: Vec<&str> = of(id).iter().rev().map(String::as_str).collect();
        while let Some(next) = ahead.pop() {
            if !reached.contains(&next) {
                reached.push(next);
                ahead.extend(of(next).iter().rev().map(String::as_str));
            }
        }
        reached
    }

    /// What a caller asks for by a route and a model, of which the model may be a selector: without a route, `a/b` is
    /// the model `b` of the route `a` where there is such a route, and else a model's name with a slash in it.
    pub fn asked<'a>(&self, route: Option<&'a str>, model: Option<&'a str>) -> Asked<'a> {
        let selected = model.filter(|_| route.is_none()).map(Asked::from_selector);
        selected
            .filter(|asked| asked.route.is_some_and(|id| self.by_id.contains_key(id)))
            .unwrap_or(Asked { route, model })
    }

    /// Every route with its id, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Route)> {
        self.by_id.iter().map(|(id, route)| (id.as_str(), route))
    }

    /// Chooses for a run and its session alone.
    pub fn choose(&self, run: Asked<'_>, session: Asked<'_>) -> Result<ResolvedRoute, Refusal> {
        self.choose_among(run, session, Asked::default())
    }

    /// Chooses: the run's route before the session's before the runtime's before the default. The model of a level counts
    /// only where its route does, or where it names none and no level above it names one.
    pub fn choose_among(
        &self,
        run: Asked<'_>,
        session: Asked<'_>,
        runtime: Asked<'_>,
    ) -> Result<ResolvedRoute, Refusal> {
        let levels = [(run, RouteChoice::Run), (session, RouteChoice::Session), (runtime, RouteChoice::Runtime)];
        let named = levels.iter().enumerate().find_map(|(at, (asked, level))| Some((asked.route?, *level, at)));
        let (route_id, chosen_by, depth) =
            named.unwrap_or((self.default_route.as_str(), RouteChoice::Default, levels.len()));
        let Some(route) = self.by_id.get(route_id) else {
            let known: Vec<&str> = self.by_id.keys().map(String::as_str).collect();
            let detail = format!("no route {:?}; there are: {}", shortened(route_id), known.join(", "));
            return Err(Refusal::new(Reason::RouteNotFound, detail));
        };
        let model = levels.iter().enumerate().find_map(|(at, (asked, _))| {
            let counts = asked.route.map_or(at <= depth, |named| named == route_id);
            asked.model.filter(|_| counts)
        });
        let model = model.unwrap_or(&route.default_model);
        check_model(model).map_err(|problem| Refusal::new(Reason::RequestInvalid, problem))?;
        if let ModelSupport::Listed(models) = &route.model_support
            && model != route.default_model
            && !models.iter().any(|listed| listed == model)
        {
            let detail = format!("route {route_id:?} does not list the model {model:?}");
            return Err(Refusal::new(Reason::RequestInvalid, detail));
        }
        Ok(ResolvedRoute {
            route_id: route_id.into(),
            driver: route.driver,
            model: model.into(),
            base_url: route.base_url.clone(),
            max_output_tokens: route.max_output_tokens,
            timeout_ms: route.timeout_ms,
            chosen_by,
        })
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(ROUTE_ID_BYTES).collect()
}

/// Checks a model's name: plain characters, no step upwards.
pub fn check_model(model: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/+".contains(&byte);
    if model.is_empty() || model.len() > MODEL_BYTES {
        return Err(format!("a model's name has 1 to {MODEL_BYTES} bytes"));
    }
    if !model.bytes().all(plain) || model.split('/').any(|step| matches!(step, "" | "." | "..")) {
        return Err(format!("{:?} is not a model's name: letters, digits and - . _ : / + only", shortened(model)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
version = 1
default_route = "local"
[routes.local]
driver = "openai"
default_model = "small"
base_url = "http://127.0.0.1:11434/v1"
model_support = "listed"
models = ["large"]
[routes.play]
driver = "rehearsal"
default_model = "rehearsal"
script = "play.toml"
"#;

    fn two() -> Routes {
        Routes::parse(TWO, Path::new("/etc/chancery"), "routes.toml").unwrap()
    }

    fn chosen(run: Asked<'_>, session: Asked<'_>) -> (String, String, RouteChoice) {
        let route = two().choose(run, session).unwrap();
        (route.route_id, route.model, route.chosen_by)
    }

    #[test]
    fn the_run_goes_before_the_session_and_the_session_before_the_default() {
        let none = Asked::default();
        let play = Asked { route: Some("play"), model: None };
        let session = Asked { route: Some("local"), model: Some("large") };
        assert_eq!(chosen(none, none), ("local".into(), "small".into(), RouteChoice::Default));
        assert_eq!(chosen(none, session), ("local".into(), "large".into(), RouteChoice::Session));
        assert_eq!(chosen(play, session), ("play".into(), "rehearsal".into(), RouteChoice::Run));
        assert_eq!(chosen(Asked { route: None, model: Some("small") }, session).1, "small");
    }

    #[test]
    fn the_runtime_goes_before_the_file_and_its_model_counts_only_on_its_route() {
        let runtime = Asked { route: Some("play"), model: Some("scripted") };
        let chosen = |run, session, runtime| {
            let route = two().choose_among(run, session, runtime).unwrap();
            (route.route_id, route.model, route.chosen_by)
        };
        let none = Asked::default();
        assert_eq!(chosen(none, none, runtime), ("play".into(), "scripted".into(), RouteChoice::Runtime));
        let session = Asked { route: Some("local"), model: None };
        assert_eq!(chosen(none, session, runtime), ("local".into(), "small".into(), RouteChoice::Session));
        let model_only = Asked { route: None, model: Some("large") };
        assert_eq!(chosen(none, none, model_only), ("local".into(), "large".into(), RouteChoice::Default));
        assert_eq!(chosen(none, session, model_only).1, "small", "the model was meant for another route");
        assert_eq!(chosen(Asked { route: Some("play"), model: None }, none, runtime).1, "scripted");
    }

    #[test]
    fn a_route_or_model_that_does_not_exist_is_refused() {
        let reason = |run| two().choose(run, Asked::default()).unwrap_err().reason;
        assert_eq!(reason(Asked { route: Some("../x"), model: None }), Reason::RouteNotFound);
        assert_eq!(reason(Asked { route: None, model: Some("huge") }), Reason::RequestInvalid);
        for model in ["../a", "a?b", "a@b", "a\r\nb", "", "a//b"] {
            assert_eq!(reason(Asked { route: Some("play"), model: Some(model) }), Reason::RequestInvalid, "{model:?}");
        }
    }

    #[test]
    fn a_selector_is_split_at_its_first_slash() {
        let asked = Asked::from_selector("openrouter/openai/gpt-5.4-mini");
        assert_eq!(asked, Asked { route: Some("openrouter"), model: Some("openai/gpt-5.4-mini") });
        assert_eq!(Asked::from_selector("small"), Asked { route: None, model: Some("small") });
    }

    #[test]
    fn a_model_is_a_selector_only_where_its_first_part_is_a_route() {
        let routes = two();
        let selected = Asked { route: Some("local"), model: Some("a/b") };
        assert_eq!(routes.asked(None, Some("local/a/b")), selected);
        for (route, model) in [(None, Some("nobody/a")), (Some("play"), Some("local/a")), (None, None)] {
            assert_eq!(routes.asked(route, model), Asked { route, model });
        }
    }

    #[test]
    fn without_a_file_there_is_one_rehearsal() {
        let route = Routes::default().choose(Asked::default(), Asked::default()).unwrap();
        assert!(route.is_rehearsal());
        assert_eq!((route.route_id.as_str(), route.model.as_str()), (REHEARSAL, REHEARSAL));
    }

    #[test]
    fn a_flag_may_name_another_default_but_only_one_that_exists() {
        let with = |text: &str, flag| routes_file::parse(text, Path::new("/"), "routes.toml", Some(flag));
        assert_eq!(with(TWO, "play").unwrap().default_route(), "play");
        let silent = TWO.replace("default_route = \"local\"\n", "");
        assert_ne!(silent, TWO);
        assert_eq!(with(&silent, "play").unwrap().default_route(), "play");
        let wrong = with(&silent.replace("driver = \"openai\"", "driver = \"x\""), "none").unwrap_err();
        assert_eq!(wrong.reason, Reason::ConfigInvalid);
        assert!(wrong.detail.contains("--default-route") && wrong.detail.contains("no driver"), "{}", wrong.detail);
    }
}
