//! The terms of a route: with whose key it is used, who stands in for it, how much it may be used, and what it can do.

use std::collections::BTreeMap;

use super::limits::{CALLS_AT_A_TIME, FALLBACKS, INPUT_TOKENS};
use super::routes::{Driver, Route, check_model};
use super::strict_toml::{Fields, Placed, Problems};
use crate::domain::secret::check_reference;

/// What a route can do besides words, where the operator says so; what is not said is what the driver makes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Pictures may be sent.
    pub images: Option<bool>,
    /// Tools may be offered.
    pub tools: Option<bool>,
    /// Answers come in pieces.
    pub streaming: Option<bool>,
    /// It thinks aloud.
    pub reasoning: Option<bool>,
    /// It searches the web by itself.
    pub web_search: Option<bool>,
}

impl Capabilities {
    /// What the operator said, by name.
    pub fn said(&self) -> BTreeMap<&'static str, bool> {
        let all = [
            ("images", self.images),
            ("tools", self.tools),
            ("streaming", self.streaming),
            ("reasoning", self.reasoning),
            ("web_search", self.web_search),
        ];
        all.into_iter().filter_map(|(name, said)| Some((name, said?))).collect()
    }

    fn read(mut fields: Fields<'_>, problems: &mut Problems<'_>) -> Self {
        let read = Self {
            images: fields.truth("images", problems),
            tools: fields.truth("tools", problems),
            streaming: fields.truth("streaming", problems),
            reasoning: fields.truth("reasoning", problems),
            web_search: fields.truth("web_search", problems),
        };
        fields.finish(problems);
        read
    }
}

/// The terms on which a route is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// The slot of the vault that holds its key.
    pub auth_ref: Option<String>,
    /// Routes that answer in its place, in order, where it does not.
    pub fallbacks: Vec<String>,
    /// Calls at a time.
    pub requests_at_a_time: Option<u32>,
    /// Longest input of a call, tokens.
    pub max_input_tokens: Option<u32>,
    /// The model of the price table that its calls are priced as.
    pub price_table_model: Option<String>,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl Terms {
    /// The model that a call of this one is priced as.
    pub fn priced_as<'m>(&'m self, model: &'m str) -> &'m str {
        self.price_table_model.as_deref().unwrap_or(model)
    }

    /// The limit of a call's input, tokens, where these are more.
    pub fn input_limit_passed(&self, tokens: u64) -> Option<u32> {
        self.max_input_tokens.filter(|most| tokens > u64::from(*most))
    }

    /// Reads the fields of a route that are its terms.
    pub(super) fn read(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Self {
        let auth_ref = fields.text("auth_ref", problems).and_then(|named| match check_reference("", named.value) {
            Ok(()) => Some(named.value.to_owned()),
            Err(rule) => {
                problems.add(named.offset, format!("`auth_ref` names no slot: {}", rule.detail));
                None
            }
        });
        let fallbacks = fields.texts("fallbacks", problems).unwrap_or_default();
        if fallbacks.len() > FALLBACKS {
            problems.add(fields.offset(), format!("`fallbacks` lists more than {FALLBACKS} routes"));
        }
        let price_table_model = fields.text("price_table_model", problems);
        if let Some(Placed { offset, value }) = price_table_model
            && let Err(problem) = check_model(value)
        {
            problems.add(offset, format!("`price_table_model`: {problem}"));
        }
        let capabilities = fields.table("capabilities", problems).map(|table| (table.offset, table.value));
        let capabilities = capabilities.map_or_else(Capabilities::default, |(offset, table)| {
            Capabilities::read(Fields::new(table, offset, "`capabilities`"), problems)
        });
        let small = |number: u64| u32::try_from(number).ok();
        Self {
            auth_ref,
            fallbacks: fallbacks.into_iter().map(|named| named.value.to_owned()).collect(),
            requests_at_a_time: fields.integer("requests_at_a_time", 1..=CALLS_AT_A_TIME, problems).and_then(small),
            max_input_tokens: fields.integer("max_input_tokens", 1..=INPUT_TOKENS, problems).and_then(small),
            price_table_model: price_table_model.map(|named| named.value.to_owned()),
            capabilities,
        }
    }
}

/// Notes fallbacks that name no route, and those that lead back to where they began.
pub(super) fn check_fallbacks(
    by_id: &BTreeMap<String, Option<Route>>,
    places: &BTreeMap<String, usize>,
    problems: &mut Problems<'_>,
) {
    let of =
        |id: &str| by_id.get(id).and_then(Option::as_ref).map_or(&[][..], |route| route.terms.fallbacks.as_slice());
    for (id, offset) in places {
        for missing in of(id).iter().filter(|named| !by_id.contains_key(*named)) {
            problems.add(*offset, format!("route {id:?} falls back to {missing:?}, which is no route"));
        }
        // Whoever asked a model must not be answered by a script.
        let plays = |id: &str| by_id.get(id).and_then(Option::as_ref).map(|route| route.driver == Driver::Rehearsal);
        for script in of(id).iter().filter(|named| plays(id) == Some(false) && plays(named) == Some(true)) {
            problems.add(*offset, format!("route {id:?} falls back to {script:?}, which is a rehearsal"));
        }
        let mut reached: Vec<&str> = Vec::new();
        let mut ahead: Vec<&str> = of(id).iter().map(String::as_str).collect();
        while let Some(next) = ahead.pop() {
            if next == id {
                problems.add(*offset, format!("the fallbacks of route {id:?} lead back to it"));
                break;
            }
            if !reached.contains(&next) {
                reached.push(next);
                ahead.extend(of(next).iter().map(String::as_str));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::routes::Routes;
    use super::*;
    use crate::domain::limits::SECRET_REF_BYTES;

    fn parse(rest: &str) -> Result<Routes, String> {
        let text = format!(
            "version = 1\ndefault_route = \"a\"\n[routes.a]\ndriver = \"rehearsal\"\ndefault_model = \"m\"\n{rest}"
        );
        Routes::parse(&text, Path::new("/"), "f").map_err(|refusal| refusal.detail)
    }

    fn route(id: &str, fallbacks: &str) -> String {
        format!("[routes.{id}]\ndriver = \"rehearsal\"\ndefault_model = \"m\"\nfallbacks = {fallbacks}\n")
    }

    #[test]
    fn every_term_is_read() {
        let rest = "auth_ref = \"openai.prod-2\"\nfallbacks = [\"b\"]\nrequests_at_a_time = 3\n\
                    max_input_tokens = 1000\nprice_table_model = \"x/y\"\n[routes.a.capabilities]\ntools = false\n";
        let routes = parse(&format!("{rest}{}", route("b", "[]"))).unwrap();
        let (_, a) = routes.iter().next().unwrap();
        let capabilities = Capabilities { tools: Some(false), ..Capabilities::default() };
        assert_eq!(capabilities.said(), BTreeMap::from([("tools", false)]));
        let expected = Terms {
            auth_ref: Some("openai.prod-2".into()),
            fallbacks: vec!["b".into()],
            requests_at_a_time: Some(3),
            max_input_tokens: Some(1_000),
            price_table_model: Some("x/y".into()),
            capabilities,
        };
        assert_eq!(a.terms, expected);
    }

    #[test]
    fn names_that_are_no_slots_and_unknown_capabilities_are_refused() {
        for named in ["OpenAI", "a..b", ".a", "a.", "a b", "../a", "ä"] {
            let found = parse(&format!("auth_ref = \"{named}\"\n")).unwrap_err();
            assert!(found.contains("`auth_ref` names no slot"), "{named}: {found}");
        }
        assert!(parse(&format!("auth_ref = \"{}\"\n", "a".repeat(SECRET_REF_BYTES))).is_ok());
        assert!(parse(&format!("auth_ref = \"{}\"\n", "a".repeat(SECRET_REF_BYTES + 1))).is_err());
        let found = parse("[routes.a.capabilities]\nmagic = true\ntools = \"yes\"\n").unwrap_err();
        assert!(found.contains("unknown field \"magic\"") && found.contains("not true or false"), "{found}");
    }

    #[test]
    fn fallbacks_exist_and_lead_nowhere_twice_over() {
        let found = parse("fallbacks = [\"z\"]\n").unwrap_err();
        assert!(found.contains("line 3: route \"a\" falls back to \"z\""), "{found}");
        let round = format!("fallbacks = [\"b\"]\n{}{}", route("b", "[\"c\"]"), route("c", "[\"a\"]"));
        let found = parse(&round).unwrap_err();
        assert_eq!(found.matches("lead back to it").count(), 3, "{found}");
        assert!(parse("fallbacks = [\"a\"]\n").unwrap_err().contains("lead back"));
        // Two ways to one route are no circle.
        let fine = format!(
            "fallbacks = [\"b\", \"c\"]\n{}{}{}",
            route("b", "[\"d\"]"),
            route("c", "[\"d\"]"),
            route("d", "[]")
        );
        assert_eq!(parse(&fine).unwrap().fallbacks("a"), ["b", "d", "c"]);
        let asked = "[routes.q]\ndriver = \"openai\"\ndefault_model = \"m\"\nbase_url = \"http://127.0.0.1:9/v1\"\n";
        let found = parse(&format!("{asked}fallbacks = [\"a\"]\n")).unwrap_err();
        assert!(found.contains("which is a rehearsal"), "{found}");
    }
}
