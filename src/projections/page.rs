//! Lists in pages: newest first, a bounded piece at a time, with an opaque cursor that is the last id seen.

use std::fmt::Display;
use std::ops::Bound;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;

use crate::domain::command::invalid;
use crate::domain::reason::{Reason, Refusal};

/// Entries of a page where the caller names no limit.
pub const PAGE_DEFAULT: usize = 50;
/// Most entries of a page.
pub const PAGE_MAX: usize = 500;
/// Most entries looked at for one page; a page may end early and still have a next one.
pub const PAGE_SCAN: usize = 10_000;

/// What a caller asks of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paging {
    /// Most entries wanted.
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Page<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page begins; absent at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The same page of other things.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next_cursor: self.next_cursor }
    }
}

impl Paging {
    fn limit(&self) -> Result<usize, Refusal> {
        match self.limit {
            None => Ok(PAGE_DEFAULT),
            Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
            Some(_) => Err(invalid("/limit", format!("A page has 1 to {PAGE_MAX} entries."))),
        }
    }

    /// Ids below this one belong to the page.
    pub(super) fn before<Id: FromStr + Display>(&self) -> Result<Bound<Id>, Refusal> {
        let Some(cursor) = &self.cursor else { return Ok(Bound::Unbounded) };
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| Reason::CursorMalformed)?;
        let text = String::from_utf8(bytes).map_err(|_| Reason::CursorMalformed)?;
        text.parse().map(Bound::Excluded).map_err(|_| Reason::CursorMalformed.into())
    }

    /// Takes one page from ids that come newest first; `keep` picks and turns each id into its entry.
    pub(super) fn take<Id: Display, T>(
        &self,
        ids: impl Iterator<Item = Id>,
        mut keep: impl FnMut(&Id) -> Option<T>,
    ) -> Result<Page<T>, Refusal> {
        let limit = self.limit()?;
        let mut items = Vec::new();
        let mut last = None;
        for (looked_at, id) in ids.enumerate() {
            if items.len() == limit || looked_at == PAGE_SCAN {
                let next_cursor = last.map(|id: Id| BASE64URL_NOPAD.encode(id.to_string().as_bytes()));
                return Ok(Page { items, next_cursor });
            }
            items.extend(keep(&id));
            last = Some(id);
        }
        Ok(Page { items, next_cursor: None })
    }
}
