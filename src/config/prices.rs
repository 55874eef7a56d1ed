//! The price table: what a model's tokens cost, as of a date. One ships with the program; a file replaces it whole.

use std::collections::BTreeMap;
use std::path::Path;

use super::limits::{MODEL_BYTES, OUTPUT_TOKENS, PRICE_MICROS, PRICE_TABLE_BYTES, PRICED_MODELS};
use super::strict_toml::{Fields, Problems, kind};
use crate::domain::ledger::Price;
use crate::domain::reason::{Reason, Refusal};
use crate::platform::bounded_read::bounded_read_text;

/// The table that ships with the program.
const SHIPPED: &str = include_str!("prices.toml");

/// Prices by model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable {
    version: String,
    models: BTreeMap<String, (Price, u64)>,
}

impl PriceTable {
    /// The table of a file, or the one that ships with the program.
    pub fn load(path: Option<&Path>) -> Result<Self, Refusal> {
        let Some(path) = path else { return Self::parse(SHIPPED, "the price table that ships with the program") };
        let shown = path.display();
        let text = bounded_read_text(path, PRICE_TABLE_BYTES)
            .map_err(|error| Refusal::new(Reason::ConfigInvalid, format!("price table {shown}: {error}")))?;
        Self::parse(&text, &shown.to_string())
    }

    /// Reads a table whole; `source` names it in messages.
    pub fn parse(text: &str, source: &str) -> Result<Self, Refusal> {
        let (table, mut problems) = Problems::parse(text);
        let mut top = Fields::new(table.get_ref(), 0, "the table");
        let version = top.text("version", &mut problems).map(|version| version.value.to_owned());
        if !top.has("version") {
            top.missing("version", &mut problems);
        }
        if version.as_ref().is_some_and(|version| version.len() > MODEL_BYTES) {
            problems.add(0, format!("`version` is longer than {MODEL_BYTES} bytes"));
        }
        let version = version.unwrap_or_default();
        let mut models = BTreeMap::new();
        for (key, value) in top.table("models", &mut problems).into_iter().flat_map(|models| models.value) {
            let (name, offset) = (key.get_ref().as_ref(), key.span().start);
            match value.get_ref().as_table() {
                Some(table) => {
                    let fields = Fields::new(table, offset, format!("model {name:?}"));
                    models.extend(read(fields, &version, &mut problems).map(|priced| (name.to_owned(), priced)));
                }
                None => problems.add(offset, format!("model {name:?} is {}, not a table", kind(value))),
            }
        }
        if models.len() > PRICED_MODELS {
            problems.add(0, format!("the table has more than {PRICED_MODELS} models"));
        }
        top.finish(&mut problems);
        match problems.refusal(Reason::ConfigInvalid, source) {
            Some(refusal) => Err(refusal),
            None => Ok(Self { version, models }),
        }
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A model's price and the most tokens that it answers with. A model whose name ends in a date has the price of the
    /// name before it, where the table names no other.
    pub fn price(&self, model: &str) -> Option<(Price, u64)> {
        self.models.get(model).or_else(|| self.models.get(undated(model)?)).cloned()
    }
}

/// A name without the date at its end, `-2025-10-01` or `-20251001`.
fn undated(model: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (name, last) = model.rsplit_once('-')?;
    if last.len() == 8 && digits(last) {
        return Some(name);
    }
    let (rest, month) = name.rsplit_once('-')?;
    let (name, year) = rest.rsplit_once('-')?;
    let dated = (year.len(), month.len(), last.len()) == (4, 2, 2) && [year, month, last].into_iter().all(digits);
    dated.then_some(name)
}

fn read(mut fields: Fields<'_>, version: &str, problems: &mut Problems<'_>) -> Option<(Price, u64)> {
    let mut amount = |key: &'static str, needed: bool| {
        let found = fields.integer(key, 0..=PRICE_MICROS, problems);
        if needed && !fields.has(key) {
            fields.missing(key, problems);
        }
        found
    };
    let (input, output) = (amount("input", true), amount("output", true));
    let (cached, written) = (amount("cached_input", false), amount("cache_write", false));
    let most = fields.integer("max_output_tokens", 1..=OUTPUT_TOKENS, problems);
    if !fields.has("max_output_tokens") {
        fields.missing("max_output_tokens", problems);
    }
    fields.finish(problems);
    let input = input?;
    let price = Price {
        table: version.to_owned(),
        input,
        cached_input: cached.unwrap_or(input),
        cache_write: written.unwrap_or(input),
        output: output?,
    };
    Some((price, most?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_ships_reads_and_prices_models_with_and_without_a_date() {
        let table = PriceTable::load(None).unwrap();
        assert_eq!(table.version(), "2025-10-01");
        let (price, most) = table.price("gpt-4o").unwrap();
        assert_eq!(
            (price.table.as_str(), price.input, price.cached_input, price.output),
            ("2025-10-01", 2_500_000, 1_250_000, 10_000_000)
        );
        assert_eq!(
            (price.cache_write, most),
            (2_500_000, 16_384),
            "keeping costs what sending does where nothing is said"
        );
        assert_eq!(table.price("gpt-4o-2024-08-06"), table.price("gpt-4o"));
        assert_eq!(table.price("claude-sonnet-4-20250514"), table.price("claude-sonnet-4"));
        assert_ne!(table.price("gpt-4o-mini"), table.price("gpt-4o"));
        for unknown in ["gpt-4o-2024", "gpt-4o-realtime", "gpt-4o-2024-ab-cd", "gpt", "", "x-20250514"] {
            assert_eq!(table.price(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_problem_of_a_table_is_named_at_once() {
        let text = "extra = 1\n[models.a]\ninput = 1\noutput = \"2\"\nmax_output_tokens = 0\n[models.b]\nprice = 3\n";
        let refusal = PriceTable::parse(text, "p").unwrap_err();
        assert_eq!(refusal.reason, Reason::ConfigInvalid);
        for expected in [
            "has no `version`",
            "unknown field \"extra\"",
            "line 4: `output` is a string",
            "line 5: `max_output_tokens` is not between",
            "model \"b\" has no `input`",
            "model \"b\" has no `max_output_tokens`",
            "model \"b\" has an unknown field \"price\"",
        ] {
            assert!(refusal.detail.contains(expected), "{expected} not in {}", refusal.detail);
        }
    }

    #[test]
    fn what_a_table_leaves_out_costs_what_sending_does_and_no_table_is_without_bounds() {
        let model = |name: &str, rest: &str| format!("[models.{name}]\nmax_output_tokens = 1\noutput = 7\n{rest}\n");
        let parse = |models: &str| PriceTable::parse(&format!("version = \"v\"\n{models}"), "p");
        let (plain, all) = (model("a", "input = 5"), model("b", "input = 5\ncached_input = 1\ncache_write = 9"));
        let table = parse(&(plain + &all)).unwrap();
        let kept = |name: &str| table.price(name).map(|(price, _)| (price.cached_input, price.cache_write));
        assert_eq!((kept("a"), kept("b")), (Some((5, 5)), Some((1, 9))));
        let refused = |models: &str| parse(models).unwrap_err().detail;
        assert!(refused(&model("a", &format!("input = {}", PRICE_MICROS + 1))).contains("`input` is not between"));
        let many: String = (0..=PRICED_MODELS).map(|number| model(&format!("m{number}"), "input = 1")).collect();
        assert!(refused(&many).contains("more than"));
    }
}
