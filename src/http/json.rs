//! Bodies as JSON, read strictly: one document, bounded depth, no repeated keys. What is not JSON is `request.bad_json`;
//! what is JSON of another shape is `request.malformed` with a pointer to the place.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment};

use super::limits::FAULT_CHARACTERS;
use crate::domain::reason::{Reason, Refusal};

/// Fewest keys from which a set is used to find repeats; below it a walk is quicker.
const SET_KEYS: usize = 16;

/// Reads a value of this type; `depth` is the deepest nesting allowed.
pub fn read<T: DeserializeOwned>(bytes: &[u8], depth: usize) -> Result<T, Refusal> {
    check(bytes, depth)?;
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        // A struct would otherwise be read from an array of its values as well.
        return Err(Refusal::new(Reason::RequestMalformed, "the body must be an object").at(""));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|fault| {
        let pointer = pointer(fault.path());
        Refusal::new(Reason::RequestMalformed, detail(&fault.inner().to_string())).at(pointer)
    })
}

/// Whether the bytes are one strict JSON document.
pub fn check(bytes: &[u8], depth: usize) -> Result<(), Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let checked = Strict { depth }.deserialize(&mut reader).and_then(|()| reader.end());
    checked.map_err(|fault| Refusal::new(Reason::RequestBadJson, detail(&fault.to_string())))
}

/// What a fault says, without the value that the client sent.
pub(super) fn detail(message: &str) -> String {
    let kept = match (message.strip_prefix("invalid "), message.rsplit_once(", expected ")) {
        (Some(rest), Some((_, expected))) => {
            let kind = rest.split(':').next().unwrap_or_default();
            Cow::Owned(format!("invalid {kind}, expected {expected}"))
        }
        _ => Cow::Borrowed(message),
    };
    kept.chars().filter(|letter| !letter.is_control()).take(FAULT_CHARACTERS).collect()
}

/// A pointer to one name.
pub(super) fn token(name: &str) -> String {
    format!("/{}", escaped(name))
}

fn escaped(name: &str) -> String {
    name.chars().take(FAULT_CHARACTERS).collect::<String>().replace('~', "~0").replace('/', "~1")
}

/// A path as RFC 6901 spells it.
fn pointer(path: &Path) -> String {
    let mut out = String::new();
    for segment in path {
        out.push('/');
        match segment {
            Segment::Seq { index } => out.push_str(&index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                out.push_str(&escaped(key));
            }
            Segment::Unknown => out.push('?'),
        }
    }
    out
}

/// Walks any value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth {
            0 => Err(E::custom("nested too deep")),
            depth => Ok(Self { depth: depth - 1 }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        while items.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        let mut few: Vec<Cow<'de, str>> = Vec::new();
        let mut many: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let fresh = if few.len() < SET_KEYS {
                let fresh = !few.contains(&key);
                few.push(key);
                fresh
            } else {
                !few.contains(&key) && many.insert(key)
            };
            if !fresh {
                return Err(serde::de::Error::custom("a key is repeated in one object"));
            }
            entries.next_value_seed(inside)?;
        }
        Ok(())
    }
}

/// A key, borrowed from the body where it holds no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        title: Option<String>,
        #[serde(default)]
        metadata: BTreeMap<String, Vec<u32>>,
    }

    fn refused(text: &[u8]) -> (&'static str, Option<String>) {
        let refusal = read::<Sample>(text, 8).unwrap_err();
        (refusal.reason.code(), refusal.pointer)
    }

    #[test]
    fn what_is_not_strict_json_is_bad_json() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let cases: [&[u8]; 15] = [
            b"",
            b"{",
            b"{} x",
            b"{}{}",
            b"\xef\xbb\xbf{}",
            b"{\"title\":\"\\ud800\"}",
            b"{\"x\":\"\\ud800\"}",
            b"{\"x\":1e999}",
            b"{\"x\":NaN}",
            b"{\"title\":\"a\",\"title\":\"b\"}",
            b"{\"x\":{\"a\":1,\"\\u0061\":2}}",
            b"{\"title\":\"\xff\"}",
            b"{'title':1}",
            b"{\"x\":01}",
            deep.as_bytes(),
        ];
        for text in cases {
            assert_eq!(
                refused(text).0,
                "request.bad_json",
                "{:?}",
                String::from_utf8_lossy(&text[..text.len().min(40)])
            );
        }
    }

    #[test]
    fn many_keys_are_checked_quickly_and_a_late_repeat_is_found() {
        let keys: Vec<String> = (0..80_000).map(|number| format!("\"k{number}\":0")).collect();
        let mut text = format!("{{{}}}", keys.join(","));
        let start = tokio::time::Instant::now();
        assert!(check(text.as_bytes(), 8).is_ok());
        assert!(start.elapsed().as_millis() < 1_000);
        text.truncate(text.len() - 1);
        text.push_str(",\"k70000\":1}");
        assert!(check(text.as_bytes(), 8).is_err());
    }

    #[test]
    fn another_shape_is_malformed_and_names_the_place() {
        assert_eq!(refused(b"[]"), ("request.malformed", Some(String::new())));
        assert_eq!(refused(b"{\"title\":7}"), ("request.malformed", Some("/title".into())));
        assert_eq!(refused(b"{\"titel\":7}"), ("request.malformed", Some("/titel".into())));
        assert_eq!(
            refused(b"{\"metadata\":{\"a/b~\":[1,\"x\"]}}"),
            ("request.malformed", Some("/metadata/a~1b~0/1".into()))
        );
        let good: Sample = read(b"{\"title\":\"t\",\"metadata\":{\"a\":[1]}}", 8).unwrap();
        assert_eq!((good.title.as_deref(), good.metadata.len()), (Some("t"), 1));
    }

    #[test]
    fn a_fault_never_repeats_the_value() {
        let refusal = read::<Sample>(b"{\"metadata\":\"s3cret, expected or not\"}", 8).unwrap_err();
        assert!(!refusal.detail.contains("s3cret") && refusal.detail.contains("expected"), "{}", refusal.detail);
    }
}
