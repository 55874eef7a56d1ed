//! The search itself. Every form has at least 16 bytes, so that every 13th group of four bytes of a text is inside of any
//! form that the text holds: only there the text is looked at, and where no known group stands it holds none. All forms
//! lie in one sorted list, which answers both which forms begin at a place and whether a text may be about to become one.
//!
//! A table of states (Aho-Corasick) would look at each byte, and would keep copies of the secrets that nobody wipes.

use std::borrow::Cow;
use std::sync::Arc;

use super::{SECRET_CHARACTERS, forms};

/// Bytes of a group.
const GROUP: usize = 4;
/// Bytes of a form's head.
const HEAD: usize = 8;
/// Of so many places that follow one another exactly one is looked at.
const STEP: usize = SECRET_CHARACTERS - GROUP + 1;
/// Bits of the tables for each entry, and most bits in all.
const BITS_EACH: usize = 32;
const BITS: u32 = 21;

/// A set of hashes that may say yes too often.
struct Hashes {
    bits: Box<[u64]>,
    shift: u32,
}

impl Hashes {
    fn new(entries: usize) -> Self {
        let width = (entries * BITS_EACH).next_power_of_two().trailing_zeros().clamp(6, BITS);
        Self { bits: vec![0; 1 << (width - 6)].into(), shift: 64 - width }
    }

    fn place(&self, value: u64) -> (usize, u64) {
        let hash = value.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    fn put(&mut self, value: u64) {
        let (word, bit) = self.place(value);
        self.bits[word] |= bit;
    }

    fn has(&self, value: u64) -> bool {
        let (word, bit) = self.place(value);
        self.bits[word] & bit != 0
    }
}

fn group(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + GROUP)?.try_into().ok().map(|group| u64::from(u32::from_le_bytes(group)))
}

fn head(bytes: &[u8]) -> Option<u64> {
    bytes.get(..HEAD)?.try_into().ok().map(u64::from_le_bytes)
}

/// One encoding of one secret.
struct Form {
    bytes: forms::Form,
    /// Which secret it is of.
    secret: usize,
    /// The longest other form that it begins with.
    shorter: Option<usize>,
}

/// Everything that is searched. Never changed.
pub(super) struct Scan {
    names: Vec<Arc<str>>,
    /// In the order of their bytes.
    forms: Vec<Form>,
    /// The groups of four inside of the first bytes of each form.
    groups: Hashes,
    /// The first eight bytes of each form.
    heads: Hashes,
    longest: usize,
}

impl Scan {
    /// A search for these secrets, by their names; none where there is nothing to search for.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut forms: Vec<Form> = Vec::new();
        for (name, secret) in secrets.filter(|(_, secret)| secret.chars().count() >= SECRET_CHARACTERS) {
            let of = forms::of(secret).into_iter().filter(|bytes| bytes.len() >= SECRET_CHARACTERS);
            forms.extend(of.map(|bytes| Form { bytes, secret: names.len(), shorter: None }));
            names.push(safe(name).into());
        }
        forms.sort_by(|one, other| (&*one.bytes, one.secret).cmp(&(&*other.bytes, other.secret)));
        forms.dedup_by(|later, earlier| later.bytes == earlier.bytes);
        let longest = forms.iter().map(|form| form.bytes.len()).max()?;
        let (mut groups, mut heads) = (Hashes::new(forms.len() * STEP), Hashes::new(forms.len()));
        for at in 0..forms.len() {
            let bytes = &*forms[at].bytes;
            (0..STEP).filter_map(|from| group(bytes, from)).for_each(|value| groups.put(value));
            if let Some(value) = head(bytes) {
                heads.put(value);
            }
            forms[at].shorter = longest_prefix(&forms, at.checked_sub(1), bytes);
        }
        Some(Self { names, forms, groups, heads, longest })
    }

    /// The longest form that stands at the beginning of this text.
    fn begins_with(&self, text: &[u8]) -> Option<&Form> {
        if !self.heads.has(head(text)?) {
            return None;
        }
        let last = self.forms.partition_point(|form| form.bytes.as_slice() <= text).checked_sub(1);
        longest_prefix(&self.forms, last, text).map(|found| &self.forms[found])
    }

    /// The first form in a text from a place on, and where it stands.
    fn next(&self, text: &[u8], from: usize) -> Option<(usize, &Form)> {
        let mut at = from + STEP - 1;
        while let Some(value) = group(text, at) {
            if self.groups.has(value) {
                let found = |start| self.begins_with(&text[start..]).map(|form| (start, form));
                if let Some(found) = (at + 1 - STEP..=at).find_map(found) {
                    return Some(found);
                }
            }
            at += STEP;
        }
        None
    }

    /// Where the longest end of a text begins that more text could make a form of; the text's own end where there is none.
    fn partial(&self, text: &[u8], from: usize) -> usize {
        let first = text.len().saturating_sub(self.longest - 1).max(from);
        (first..text.len()).find(|at| self.may_become(&text[*at..])).unwrap_or(text.len())
    }

    /// Whether a form begins with this text and goes on.
    fn may_become(&self, text: &[u8]) -> bool {
        if head(text).is_some_and(|value| !self.heads.has(value)) {
            return false;
        }
        // What begins with the text and is longer comes right behind it.
        let next = self.forms.partition_point(|form| form.bytes.as_slice() <= text);
        self.forms.get(next).is_some_and(|form| form.bytes.starts_with(text))
    }

    /// Writes a text without its secrets as far as that is settled, which is to its end if nothing follows. Gives where
    /// the rest begins, and whether anything was replaced.
    pub(super) fn settle(&self, text: &[u8], ends: bool, out: &mut Vec<u8>) -> usize {
        let (mut done, mut open) = (0, if ends { text.len() } else { self.partial(text, 0) });
        while let Some((at, form)) = self.next(text, done).filter(|(at, _)| *at < open) {
            out.extend_from_slice(&text[done..at]);
            self.put_label(form, out);
            done = at + form.bytes.len();
            if open < done {
                open = if ends { text.len() } else { self.partial(text, done) };
            }
        }
        out.extend_from_slice(&text[done..open]);
        open
    }

    fn put_label(&self, form: &Form, out: &mut Vec<u8>) {
        for part in ["[redacted:", &self.names[form.secret], "]"] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// A whole text without its secrets.
    pub(super) fn clean<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.next(text, 0).is_none() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        self.settle(text, true, &mut out);
        Cow::Owned(out)
    }

    /// Whether a piece of a text can be passed on as it is.
    pub(super) fn is_clean(&self, piece: &[u8]) -> bool {
        self.next(piece, 0).is_none() && self.partial(piece, 0) == piece.len()
    }

    /// The name of the first secret in a text.
    pub(super) fn found(&self, text: &[u8]) -> Option<Arc<str>> {
        self.next(text, 0).map(|(_, form)| Arc::clone(&self.names[form.secret]))
    }
}

/// The longest form that a text begins with, among those up to the last one that is not behind it. What lies between a
/// beginning of a text and the text begins the same way, so that the last one or one of its own beginnings is it.
fn longest_prefix(forms: &[Form], mut last: Option<usize>, text: &[u8]) -> Option<usize> {
    while let Some(form) = last.map(|at| &forms[at]) {
        if text.starts_with(&form.bytes) {
            return last;
        }
        last = form.shorter;
    }
    None
}

/// A name that means nothing in any text that it is put into.
fn safe(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn a_name_means_nothing_in_the_text_that_it_is_put_into() {
        assert_eq!(safe("openai.prod"), "openai.prod");
        assert_eq!(safe("a b\"\n[é"), "a_b____");
    }
}
