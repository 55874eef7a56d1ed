//! Names that occur again and again, such as organisations and deciders, kept once and named by a small number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A name's number within one [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(u32);

/// The names themselves, numbered in the order of their first use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Names {
    texts: Vec<String>,
    numbers: BTreeMap<String, Name>,
}

impl Names {
    /// The number of a text; a new text gets the next one.
    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.numbers.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), name);
        name
    }

    /// The number of a text that has one.
    pub fn find(&self, text: &str) -> Option<Name> {
        self.numbers.get(text).copied()
    }

    /// The text behind a number; empty where the number is not one of these.
    pub fn text(&self, name: Name) -> &str {
        usize::try_from(name.0).ok().and_then(|at| self.texts.get(at)).map_or("", String::as_str)
    }

    /// Whether the number stands for this text.
    pub fn is(&self, name: Name, text: &str) -> bool {
        self.text(name) == text
    }
}

impl From<Vec<String>> for Names {
    fn from(texts: Vec<String>) -> Self {
        let numbers = texts.iter().cloned().zip((0..).map(Name)).collect();
        Self { texts, numbers }
    }
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        names.texts
    }
}
