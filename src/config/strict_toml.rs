//! Reads TOML by hand so that every mistake is reported at once and with its line: wrong types, values out of range,
//! unknown and missing fields.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::limits::PROBLEMS_LISTED;
use crate::domain::reason::{Reason, Refusal};

/// The mistakes found so far in one text.
#[derive(Debug)]
pub struct Problems<'t> {
    text: &'t str,
    found: Vec<(usize, String)>,
}

impl<'t> Problems<'t> {
    /// Parses a text; what cannot be parsed is already a problem, and the rest is looked at all the same.
    pub fn parse(text: &'t str) -> (Spanned<DeTable<'t>>, Self) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems = Self { text, found: Vec::new() };
        for error in errors {
            problems.add(error.span().map_or(0, |span| span.start), error.message());
        }
        (table, problems)
    }

    /// Notes a mistake at a byte offset.
    pub fn add(&mut self, offset: usize, problem: impl Into<String>) {
        let before = self.text.as_bytes().iter().take(offset);
        self.found.push((1 + before.filter(|byte| **byte == b'\n').count(), problem.into()));
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The refusal that names every mistake, in the order of the lines; `None` where there is none.
    pub fn refusal(mut self, reason: Reason, source: &str) -> Option<Refusal> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort();
        let mut detail = String::new();
        for (index, (line, problem)) in self.found.iter().take(PROBLEMS_LISTED).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let _ = write!(detail, "{separator}{source}, line {line}: {problem}");
        }
        if self.found.len() > PROBLEMS_LISTED {
            let _ = write!(detail, "; and {} more", self.found.len() - PROBLEMS_LISTED);
        }
        Some(Refusal::new(reason, detail))
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Placed<T> {
    /// Byte offset in the text.
    pub offset: usize,
    /// The value.
    pub value: T,
}

/// One table while its fields are taken out of it.
#[derive(Debug)]
pub struct Fields<'a> {
    table: &'a DeTable<'a>,
    offset: usize,
    name: String,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Starts to read a table that stands at this offset; the name is for messages.
    pub fn new(table: &'a DeTable<'a>, offset: usize, name: impl Into<String>) -> Self {
        Self { table, offset, name: name.into(), known: Vec::new() }
    }

    /// Where the table stands.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The value of a field, which becomes a known one.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    /// A text that is not empty.
    pub fn text(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Placed<&'a str>> {
        let value = self.take(key)?;
        let offset = value.span().start;
        match value.get_ref().as_str() {
            Some("") => problems.add(offset, format!("`{key}` is empty")),
            Some(text) => return Some(Placed { offset, value: text }),
            None => problems.add(offset, format!("`{key}` is {}, not a string", kind(value))),
        }
        None
    }

    /// A whole number in a range.
    pub fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems<'_>,
    ) -> Option<u64> {
        let value = self.take(key)?;
        let offset = value.span().start;
        let Some(number) = value.get_ref().as_integer() else {
            problems.add(offset, format!("`{key}` is {}, not a whole number", kind(value)));
            return None;
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        if parsed.is_none() {
            problems.add(offset, format!("`{key}` is not between {} and {}", range.start(), range.end()));
        }
        parsed
    }

    /// Yes or no.
    pub fn truth(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<bool> {
        let value = self.take(key)?;
        let said = value.get_ref().as_bool();
        if said.is_none() {
            problems.add(value.span().start, format!("`{key}` is {}, not true or false", kind(value)));
        }
        said
    }

    /// A list of texts, none of them empty.
    pub fn texts(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Vec<Placed<&'a str>>> {
        let items = self.list(key, problems)?;
        let mut texts = Vec::new();
        for item in items {
            let offset = item.span().start;
            match item.get_ref().as_str() {
                Some("") | None => problems.add(offset, format!("`{key}` holds {} instead of a text", kind(item))),
                Some(text) => texts.push(Placed { offset, value: text }),
            }
        }
        Some(texts)
    }

    /// A list of anything.
    pub fn list(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let value = self.take(key)?;
        let list = value.get_ref().as_array();
        if list.is_none() {
            problems.add(value.span().start, format!("`{key}` is {}, not a list", kind(value)));
        }
        list.map(|list| &**list)
    }

    /// A table.
    pub fn table(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Placed<&'a DeTable<'a>>> {
        let value = self.take(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            problems.add(value.span().start, format!("`{key}` is {}, not a table", kind(value)));
        }
        table.map(|table| Placed { offset: value.span().start, value: table })
    }

    /// Notes that a field is missing.
    pub fn missing(&self, key: &str, problems: &mut Problems<'_>) {
        problems.add(self.offset, format!("{} has no `{key}`", self.name));
    }

    /// Whether the table has a field of this name.
    pub fn has(&self, key: &str) -> bool {
        self.table.keys().any(|name| name.get_ref().as_ref() == key)
    }

    /// Ends the reading: every field that nobody asked for is a problem.
    pub fn finish(self, problems: &mut Problems<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.known.contains(&name) {
                problems.add(key.span().start, format!("{} has an unknown field {name:?}", self.name));
            }
        }
    }
}

/// What a value is, for messages.
pub fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(text) if text.is_empty() => "an empty string",
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
