//! The routes file's grammar: strict, and every problem with its line in one message.

use std::collections::BTreeMap;
use std::path::Path;

use super::base_url::BaseUrl;
use super::limits::{MODELS, OUTPUT_TOKENS, ROUTE_ID_BYTES, ROUTES, TIMEOUT_MS};
use super::route_terms::{Terms, check_fallbacks};
use super::routes::{Api, Driver, ModelSupport, Route, Routes, check_model};
use super::strict_toml::{Fields, Placed, Problems, kind};
use crate::domain::reason::{Reason, Refusal};

/// Reads the text of a routes file. `flag` is the default route that the command line names.
pub(super) fn parse(text: &str, folder: &Path, source: &str, flag: Option<&str>) -> Result<Routes, Refusal> {
    let (table, mut problems) = Problems::parse(text);
    let mut top = Fields::new(table.get_ref(), 0, "the file");
    let has_version = top.has("version");
    if top.integer("version", 1..=1, &mut problems).is_none() && !has_version {
        top.missing("version", &mut problems);
    }
    let default_route = top.text("default_route", &mut problems);
    let (mut by_id, mut places) = (BTreeMap::new(), BTreeMap::new());
    if let Some(routes) = top.table("routes", &mut problems) {
        for (key, value) in routes.value {
            let (id, offset) = (key.get_ref().as_ref(), key.span().start);
            check_id(id, offset, &mut problems);
            match value.get_ref().as_table() {
                Some(table) => {
                    let route = read_route(Fields::new(table, offset, format!("route {id:?}")), folder, &mut problems);
                    by_id.insert(id.to_owned(), route);
                    places.insert(id.to_owned(), offset);
                }
                None => problems.add(offset, format!("route {id:?} is {}, not a table", kind(value))),
            }
        }
    }
    let named = (default_route, top.has("default_route") || flag.is_some());
    let in_file = settle_default(named, &by_id, &mut problems);
    let default_id = match flag {
        None => in_file,
        Some(flag) => {
            if !by_id.contains_key(flag) {
                problems.add(0, format!("`--default-route` names no route: {flag:?}"));
            }
            flag.to_owned()
        }
    };
    check_fallbacks(&by_id, &places, &mut problems);
    top.finish(&mut problems);
    if let Some(refusal) = problems.refusal(Reason::ConfigInvalid, source) {
        return Err(refusal);
    }
    let by_id = by_id.into_iter().filter_map(|(id, route)| Some((id, route?))).collect();
    Ok(Routes { default_route: default_id, by_id })
}

fn settle_default(
    (named, present): (Option<Placed<&str>>, bool),
    by_id: &BTreeMap<String, Option<Route>>,
    problems: &mut Problems<'_>,
) -> String {
    if by_id.is_empty() {
        problems.add(0, "the file has no route: write at least one [routes.<route_id>]");
    }
    if by_id.len() > ROUTES {
        problems.add(0, format!("the file has more than {ROUTES} routes"));
    }
    match named {
        Some(named) if by_id.contains_key(named.value) => return named.value.to_owned(),
        Some(named) => problems.add(named.offset, format!("`default_route` names no route: {:?}", named.value)),
        None if by_id.len() > 1 && !present => {
            problems.add(0, "`default_route` is required where there is more than one route");
        }
        None => {}
    }
    by_id.keys().next().cloned().unwrap_or_default()
}

fn check_id(id: &str, offset: usize, problems: &mut Problems<'_>) {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if id.is_empty() || id.len() > ROUTE_ID_BYTES || !plain || id.starts_with('.') {
        let rule = format!("a route id has 1 to {ROUTE_ID_BYTES} letters, digits and - _ .");
        problems.add(offset, format!("{id:?} is not a route id: {rule}"));
    }
}

/// `None` where the route cannot be built; the reason is among the problems then.
fn read_route(mut fields: Fields<'_>, folder: &Path, problems: &mut Problems<'_>) -> Option<Route> {
    let driver = read_driver(&mut fields, problems);
    let default_model = fields.text("default_model", problems);
    match default_model {
        Some(model) => note_model(model, problems),
        None if !fields.has("default_model") => fields.missing("default_model", problems),
        None => {}
    }
    let base_url = fields.text("base_url", problems).and_then(|url| match BaseUrl::parse(url.value) {
        Ok(parsed) => Some(parsed),
        Err(problem) => {
            problems.add(url.offset, format!("`base_url`: {problem}"));
            None
        }
    });
    let model_support = read_support(&mut fields, problems);
    let script = fields.text("script", problems).map(|script| folder.join(script.value));
    match driver {
        Some(Driver::Rehearsal) if fields.has("base_url") => {
            problems.add(fields.offset(), "`base_url` has no meaning for the driver rehearsal");
        }
        _ => {}
    }
    let base_url = if fields.has("base_url") { base_url } else { driver.and_then(Driver::default_base_url) };
    let api = read_api(driver, &mut fields, problems);
    if fields.has("script") && driver.is_some_and(|driver| driver != Driver::Rehearsal) {
        problems.add(fields.offset(), "`script` has a meaning for the driver rehearsal only");
    }
    let max_output_tokens = fields.integer("max_output_tokens", 1..=OUTPUT_TOKENS, problems);
    let timeout_ms = fields.integer("timeout_ms", 1..=TIMEOUT_MS, problems);
    let terms = Terms::read(&mut fields, problems);
    fields.finish(problems);
    Some(Route {
        driver: driver?,
        default_model: default_model?.value.to_owned(),
        api,
        base_url,
        model_support,
        script,
        max_output_tokens: max_output_tokens.and_then(|tokens| u32::try_from(tokens).ok()),
        timeout_ms,
        terms,
    })
}

fn read_driver(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Driver> {
    let Some(named) = fields.text("driver", problems) else {
        if !fields.has("driver") {
            fields.missing("driver", problems);
        }
        return None;
    };
    let driver = Driver::ALL.into_iter().find(|driver| driver.name() == named.value);
    if driver.is_none() {
        let known = Driver::ALL.map(Driver::name).join(", ");
        problems.add(named.offset, format!("no driver {:?}; there are: {known}", named.value));
    }
    driver
}

fn read_api(driver: Option<Driver>, fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Api {
    let Some(named) = fields.text("api", problems) else { return Api::default() };
    if driver.is_some_and(|driver| driver != Driver::OpenAi) {
        problems.add(named.offset, "`api` has a meaning for the driver openai only");
    }
    Api::ALL.into_iter().find(|api| api.name() == named.value).unwrap_or_else(|| {
        problems.add(named.offset, format!("`api` is \"chat\" or \"responses\", not {:?}", named.value));
        Api::default()
    })
}

fn read_support(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> ModelSupport {
    let support = fields.text("model_support", problems);
    let models = fields.texts("models", problems);
    let listed = support.is_some_and(|support| support.value == "listed");
    if let Some(support) = support.filter(|support| !matches!(support.value, "any" | "listed")) {
        problems.add(support.offset, format!("`model_support` is \"any\" or \"listed\", not {:?}", support.value));
    } else if listed != models.is_some() {
        problems.add(fields.offset(), "`models` and `model_support = \"listed\"` belong together");
    }
    let models = models.unwrap_or_default();
    if models.len() > MODELS {
        problems.add(fields.offset(), format!("`models` lists more than {MODELS}"));
    }
    for model in &models {
        note_model(*model, problems);
    }
    if listed {
        ModelSupport::Listed(models.into_iter().map(|model| model.value.to_owned()).collect())
    } else {
        ModelSupport::Any
    }
}

fn note_model(model: Placed<&str>, problems: &mut Problems<'_>) {
    if let Err(problem) = check_model(model.value) {
        problems.add(model.offset, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> String {
        let refusal = parse(text, Path::new("/"), "f", None).unwrap_err();
        assert_eq!(refusal.reason, Reason::ConfigInvalid);
        refusal.detail
    }

    #[test]
    fn the_example_file_parses() {
        let text = include_str!("../../routes.example.toml");
        let routes = parse(text, Path::new("/etc/chancery"), "routes.example.toml", None).unwrap();
        assert_eq!(routes.default_route(), "local");
        assert_eq!(routes.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["local", "rehearsal"]);
        let local = routes.by_id["local"].base_url.as_ref().unwrap();
        assert_eq!((local.host(), local.port(), local.path()), ("127.0.0.1", 11434, "/v1"));
    }

    #[test]
    fn all_problems_are_named_at_once_with_their_lines() {
        let text = "version = 2\nextra = 1\n[routes.a]\ndriver = \"opnai\"\ndefault_model = \"\"\nauth_ref = \"X\"\n\
                    [routes.b]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"ftp://h/v1\"\ntypo = true\n\
                    [routes.\"c/d\"]\ndriver = \"rehearsal\"\ndefault_model = \"m\"\ntimeout_ms = \"soon\"\n";
        let found = problems_of(text);
        for expected in [
            "line 1: `version` is not between 1 and 1",
            "line 1: `default_route` is required",
            "line 2: the file has an unknown field \"extra\"",
            "line 4: no driver \"opnai\"",
            "line 5: `default_model` is empty",
            "line 6: `auth_ref` names no slot",
            "line 10: `base_url`: the address starts neither with https:// nor with http://",
            "line 11: route \"b\" has an unknown field \"typo\"",
            "line 12: \"c/d\" is not a route id",
            "line 15: `timeout_ms` is a string",
        ] {
            assert!(found.contains(expected), "{expected} not in {found}");
        }
        assert_eq!(found.matches("f, line ").count(), 10, "{found}");
    }

    #[test]
    fn fields_that_do_not_fit_together_are_refused() {
        let file = |rest: &str| format!("version = 1\n[routes.a]\ndefault_model = \"m\"\n{rest}\n");
        for (rest, expected) in [
            ("driver = \"openai\"\napi = \"messages\"", "`api` is \"chat\" or \"responses\""),
            ("driver = \"anthropic\"\napi = \"chat\"", "`api` has a meaning for the driver openai only"),
            ("driver = \"rehearsal\"\nbase_url = \"http://h\"", "no meaning for the driver rehearsal"),
            ("driver = \"openai\"\nbase_url = \"http://h\"\nscript = \"s\"", "rehearsal only"),
            ("driver = \"rehearsal\"\nmodels = [\"m\"]", "belong together"),
            ("driver = \"rehearsal\"\nmodel_support = \"listed\"", "belong together"),
            ("driver = \"rehearsal\"\nmodel_support = \"some\"", "\"any\" or \"listed\""),
        ] {
            let found = problems_of(&file(rest));
            assert!(found.contains(expected), "{rest}: {found}");
        }
    }

    #[test]
    fn a_route_without_an_address_is_the_providers_own_and_never_plain_text() {
        for driver in Driver::ALL.into_iter().filter(|driver| *driver != Driver::Rehearsal) {
            let text = format!("version = 1\n[routes.a]\ndriver = \"{}\"\ndefault_model = \"m\"\n", driver.name());
            let routes = parse(&text, Path::new("/"), "f", None).unwrap();
            let url = routes.by_id["a"].base_url.clone();
            assert_eq!(url, driver.default_base_url());
            assert_eq!(url.map(|url| url.scheme()), Some("https"));
        }
    }

    #[test]
    fn a_text_that_is_not_toml_or_has_no_route_is_refused() {
        assert!(problems_of("version = ").contains("line 1"));
        assert!(problems_of("version = 1").contains("has no route"));
        assert!(problems_of("").contains("has no `version`"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z\\[\\]=\"\\.0-9 \\n]{0,200}") {
            let _ = parse(&text, Path::new("/"), "f", None);
        }
    }
}
