//! Keeps secrets out of everything that leaves: one scanner that knows every secret in use and finds it in each encoding
//! that common software writes.
//!
//! "Each encoding" means, for a secret of at least [`SECRET_CHARACTERS`] characters: as it is, and with all ASCII letters
//! in lower or in upper case; base64 with either alphabet, at each of the three places that it can have in what is encoded
//! (the characters that its neighbours do not touch), also with `/` written `\/` and percent-encoded; hexadecimal in either
//! case; a list of its bytes as decimal numbers; percent-encoded as encoders of URLs, of their parts and of forms do it,
//! and byte by byte, in either case; inside a JSON text as encoders write it (short, with `\/`, ASCII only, safe for HTML,
//! every character escaped), once or twice over; with HTML entities. Not searched: base64 that is broken into lines, two
//! encodings over one another but for those named, compressed data, and a secret that was cut.
//!
//! What is found is replaced by `[redacted:NAME]`, which tells nothing about the secret's length. Known secrets are
//! searched in all that is recorded or sent. [`shapes`] finds what merely looks like a secret, and is for logs, problems,
//! debug artefacts and bundles ([`Redactor::strict_text`] and its like): a conversation about keys must stay what was said.
//!
//! Where no secret is known, nothing is looked at. All forms of a secret lie in memory that is wiped; the tables beside
//! them hold hashes only.

mod forms;
mod scan;
pub mod shapes;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use serde_json::Value;

use self::scan::Scan;
pub use self::stream::StreamRedactor;
use super::secret::Secret;

/// Shortest secret that is searched, characters: shorter ones are met by chance.
pub const SECRET_CHARACTERS: usize = 16;
/// Secrets that are no longer in use and still searched, at most; the oldest are forgotten.
const SUPERSEDED: usize = 1_024;

/// What is searched, with the names to put in its place.
#[derive(Clone)]
struct Known {
    name: Arc<str>,
    secret: Secret,
}

#[derive(Default)]
struct Secrets {
    /// In use.
    live: Vec<Known>,
    /// Of earlier in this boot, newest first: somebody may still echo them.
    superseded: Vec<Known>,
}

#[derive(Default)]
struct Shared {
    scan: ArcSwapOption<Scan>,
    secrets: Mutex<Secrets>,
}

/// Knows the secrets in use and takes them out of what leaves. Clones share what they know; reading takes no lock.
#[derive(Clone, Default)]
pub struct Redactor(Arc<Shared>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(hidden)")
    }
}

impl Redactor {
    /// One that knows one secret, for whoever handles just that.
    pub fn knowing(name: &str, secret: &Secret) -> Self {
        let redactor = Self::default();
        redactor.set_secrets([(name.to_owned(), secret.clone())]);
        redactor
    }

    /// From now on these secrets are in use, each under the name that takes its place. Those that were are still searched.
    pub fn set_secrets(&self, secrets: impl IntoIterator<Item = (String, Secret)>) {
        let live = secrets.into_iter().map(|(name, secret)| Known { name: name.into(), secret }).collect();
        self.change(|known| {
            let before = std::mem::replace(&mut known.live, live);
            known.superseded.splice(0..0, before);
        });
    }

    /// Searches for this secret too: one that is about to be stored is known before anything can repeat it.
    pub fn add(&self, name: &str, secret: &Secret) {
        self.change(|known| known.live.push(Known { name: name.into(), secret: secret.clone() }));
    }

    fn change(&self, change: impl FnOnce(&mut Secrets)) {
        let mut secrets = self.0.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut secrets);
        let Secrets { live, superseded } = &mut *secrets;
        let mut seen: Vec<Secret> = live.iter().map(|known| known.secret.clone()).collect();
        superseded.retain(|known| {
            let fresh = !seen.contains(&known.secret);
            seen.push(known.secret.clone());
            fresh
        });
        superseded.truncate(SUPERSEDED);
        let all = live.iter().chain(superseded.iter()).map(|known| (&*known.name, known.secret.expose()));
        self.0.scan.store(Scan::new(all).map(Arc::new));
    }

    /// A text without known secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        as_text(text, |bytes| self.bytes(bytes))
    }

    /// The same for a text of one's own.
    pub fn owned(&self, text: String) -> String {
        match self.text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(clean) => clean,
        }
    }

    /// Bytes without known secrets.
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match &*self.0.scan.load() {
            Some(scan) => scan.clean(bytes),
            None => Cow::Borrowed(bytes),
        }
    }

    /// Takes known secrets out of a JSON value: out of strings, keys and numbers, and out of lists of bytes.
    pub fn json(&self, value: &mut Value) {
        if self.0.scan.load().is_some() {
            clean_json(value, &|text| self.text(text));
        }
    }

    /// The name of the first known secret in these bytes, for whoever must refuse a whole.
    pub fn found(&self, bytes: &[u8]) -> Option<Arc<str>> {
        self.0.scan.load().as_ref()?.found(bytes)
    }

    /// Takes known secrets out of a text that comes in pieces.
    pub fn stream(&self) -> StreamRedactor {
        StreamRedactor::new(self.clone())
    }

    fn scan(&self) -> Option<Arc<Scan>> {
        self.0.scan.load_full()
    }

    /// A text without known secrets and without what has the shape of one.
    pub fn strict_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        as_text(text, |bytes| self.strict_bytes(bytes))
    }

    /// Bytes without known secrets and without what has the shape of one.
    pub fn strict_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.bytes(bytes) {
            Cow::Borrowed(bytes) => shapes::clean(bytes),
            Cow::Owned(clean) => Cow::Owned(shapes::clean(&clean).into_owned()),
        }
    }

    /// A JSON value without known secrets and without what has the shape of one.
    pub fn strict_json(&self, value: &mut Value) {
        clean_json(value, &|text| self.strict_text(text));
    }
}

/// Text through a function of bytes that replaces whole characters only.
fn as_text<'a>(text: &'a str, clean: impl FnOnce(&'a [u8]) -> Cow<'a, [u8]>) -> Cow<'a, str> {
    match clean(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(into_text(bytes)),
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|fault| String::from_utf8_lossy(fault.as_bytes()).into_owned())
}

fn clean_json(value: &mut Value, clean: &dyn Fn(&str) -> Cow<'_, str>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => {
            if let Cow::Owned(text) = clean(&number.to_string()) {
                *value = Value::String(text);
            }
        }
        Value::String(text) => {
            if let Cow::Owned(found) = clean(text) {
                *text = found;
            }
        }
        Value::Array(items) => {
            let bytes: Option<Vec<u8>> =
                items.iter().map(|item| item.as_u64().and_then(|item| u8::try_from(item).ok())).collect();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(Cow::Owned(found)) = text.as_deref().map(clean) {
                *value = Value::String(found);
            } else {
                for item in items {
                    clean_json(item, clean);
                }
            }
        }
        Value::Object(entries) => {
            if entries.keys().any(|key| matches!(clean(key), Cow::Owned(_))) {
                for (key, item) in std::mem::take(entries) {
                    let mut key = clean(&key).into_owned();
                    // Two keys that held secrets may read the same now; neither's value is lost.
                    while entries.contains_key(&key) {
                        key.push('+');
                    }
                    entries.insert(key, item);
                }
            }
            entries.values_mut().for_each(|item| clean_json(item, clean));
        }
    }
}
