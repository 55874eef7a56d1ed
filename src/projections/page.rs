//! Lists in pages: newest first, a bounded piece at a time, with an opaque cursor that is the last id seen.

use std::fmt::Display;
use std::io;
use std::ops::Bound;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;

use super::Bodies;
use crate::domain::command::invalid;
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX, PAGE_SCAN};
use crate::domain::reason::{Reason, Refusal};

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

/// An object's places in the models, which become its view once the words are read.
pub trait Viewed {
    /// What is shown.
    type View: Serialize;

    /// The object's id, as a cursor names it.
    fn id(&self) -> String;

    /// The view, with the words read from the records.
    fn view(&self, bodies: &dyn Bodies) -> Self::View;
}

/// Declares what the facts of a noun are shown as.
macro_rules! viewed {
    ($($noun:ident as $view:ident;)*) => {
        $(impl Viewed for super::$noun::Facts {
            type View = super::$noun::$view;

            fn id(&self) -> String {
                self.id.to_string()
            }

            fn view(&self, bodies: &dyn Bodies) -> Self::View {
                super::$noun::Facts::view(self, bodies)
            }
        })*
    };
}

viewed! {
    sessions as SessionView;
    runs as RunView;
    approvals as ApprovalView;
    questions as QuestionView;
    tasks as TaskView;
    runtime as RevisionView;
}

impl<T> Page<T> {
    /// The same page of other things.
    pub(super) fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next_cursor: self.next_cursor }
    }
}

impl<T: Viewed> Page<T> {
    /// The page as it is shown. Words are large: the page ends before the entry that would pass `bytes`, except that it
    /// always has one, and the next page begins there. Reads the disk.
    pub fn shown(self, bodies: &dyn Bodies, bytes: usize) -> Page<T::View> {
        let (mut items, mut size, mut last) = (Vec::new(), Size(0), None);
        for facts in self.items {
            let view = facts.view(bodies);
            // Nothing is written, so nothing can fail but the view itself, and then the answer says so.
            let _ = serde_json::to_writer(&mut size, &view);
            if size.0 > bytes
                && let Some(last) = last
            {
                return Page { items, next_cursor: Some(cursor(&last)) };
            }
            items.push(view);
            last = Some(facts.id());
        }
        Page { items, next_cursor: self.next_cursor }
    }
}

/// Counts what would be written.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cursor(id: &impl Display) -> String {
    BASE64URL_NOPAD.encode(id.to_string().as_bytes())
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
                let next_cursor = last.as_ref().map(cursor);
                return Ok(Page { items, next_cursor });
            }
            items.extend(keep(&id));
            last = Some(id);
        }
        Ok(Page { items, next_cursor: None })
    }
}
