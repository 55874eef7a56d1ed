//! What has the shape of a secret that the vault does not know: tokens of well-known services and our own, JSON web
//! tokens, private keys, credentials in headers and in addresses. For logs, problems, debug artefacts and bundles.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex, RegexSet};

use crate::domain::token::Token;

/// What such a secret is called, and how it looks. What the group `kept` holds stays in front of it.
const SHAPES: &[(&str, &str)] = &[
    ("private-key", r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)"),
    ("userinfo", r#"(?i)(?P<kept>\b[a-z][a-z0-9+.-]{0,30}:\\?/\\?/)[^\s/@"'<>?#\\]+(?P<after>@)"#),
    (
        "credential",
        r#"(?i)(?P<kept>\bauthorization\\?["']?\s*[:=]\s*\\?["']?(?:(?:bearer|basic|token)\s+)?)[^\s"',;\\\[]{8,}"#,
    ),
    ("credential", r"(?i)(?P<kept>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,}"),
    (
        "credential",
        r#"(?i)(?P<kept>\b(?:x-api-key|x-goog-api-key|api[_-]key)\\?["']?\s*[:=]\s*\\?["']?)[^\s"',;\\\[]{8,}"#,
    ),
    ("token", r"\bch[yil]_[A-Za-z0-9_]{16,}"),
    ("key", r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{8,}"),
    ("key", r"\bwhsec_[A-Za-z0-9+/_-]{16,}=*"),
    ("key", r"\bsk-[A-Za-z0-9_-]{16,}"),
    ("key", r"\bxai-[A-Za-z0-9_-]{16,}"),
    ("key", r"\bAIza[A-Za-z0-9_-]{30,}"),
    ("key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("token", r"\bgh[pousr]_[A-Za-z0-9]{20,}"),
    ("token", r"\bgithub_pat_[A-Za-z0-9_]{20,}"),
    ("token", r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    ("token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"),
];

struct Shapes {
    any: RegexSet,
    each: Vec<(&'static str, Regex)>,
}

/// Compiled once; holds nothing but the patterns above.
static COMPILED: LazyLock<Option<Shapes>> = LazyLock::new(|| {
    // Bytes, not characters: a log line may hold anything.
    let pattern = |(_, pattern): &(&str, &str)| format!("(?-u){pattern}");
    let each = SHAPES.iter().map(|shape| Regex::new(&pattern(shape)).map(|regex| (shape.0, regex)));
    let any = RegexSet::new(SHAPES.iter().map(pattern)).ok()?;
    Some(Shapes { any, each: each.collect::<Result<_, _>>().ok()? })
});

/// Text or bytes without what has the shape of a secret.
pub fn clean(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(shapes) = &*COMPILED else { return Cow::Borrowed(bytes) };
    let mut clean = Cow::Borrowed(bytes);
    for (label, regex) in shapes.any.matches(bytes).into_iter().filter_map(|at| shapes.each.get(at)) {
        let replaced = match regex.replace_all(&clean, |found: &Captures<'_>| replacement(label, found)) {
            Cow::Borrowed(_) => continue,
            Cow::Owned(replaced) => replaced,
        };
        clean = Cow::Owned(replaced);
    }
    clean
}

/// The same for text.
pub fn clean_text(text: &str) -> String {
    // What is replaced are whole ASCII characters, so that this stays text.
    String::from_utf8_lossy(&clean(text.as_bytes())).into_owned()
}

fn replacement(label: &str, found: &Captures<'_>) -> Vec<u8> {
    let whole = found.get(0).map_or(&b""[..], |found| found.as_bytes());
    if is_no_token(whole) {
        return whole.to_vec();
    }
    let part = |name: &str| found.name(name).map_or(&b""[..], |part| part.as_bytes());
    [part("kept"), b"[redacted:", label.as_bytes(), b"]", part("after")].concat()
}

/// Our own tokens have a checksum: what is as long as one and fails it is a mere word.
fn is_no_token(found: &[u8]) -> bool {
    found.starts_with(b"chy_")
        && std::str::from_utf8(found).is_ok_and(|text| text.len() == Token::CHARACTERS && Token::parse(text).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::RANDOM_BYTES;

    #[test]
    fn what_has_the_shape_of_a_secret_is_replaced_and_the_words_around_it_stay() {
        let own = Token::generate(&[7; RANDOM_BYTES]);
        let key = |prefix: &str| format!("{prefix}{}", "aB3dE5gH7".repeat(5));
        let aws = format!("AKIA{}", "ABCDEFGH12345678");
        let jwt = format!("eyJ{0}.eyJ{0}.{0}", "hbGciOiJIUzI1NiJ9");
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----";
        for (text, wanted) in [
            (own.expose().to_owned(), "[redacted:token]"),
            (key("chi_"), "[redacted:token]"),
            (key("chl_"), "[redacted:token]"),
            (key("sk_live_"), "[redacted:key]"),
            (key("whsec_"), "[redacted:key]"),
            (key("sk-"), "[redacted:key]"),
            (key("sk-proj-"), "[redacted:key]"),
            (key("sk-ant-api03-"), "[redacted:key]"),
            (key("xai-"), "[redacted:key]"),
            (key("AIza"), "[redacted:key]"),
            (key("ghp_"), "[redacted:token]"),
            (key("gho_"), "[redacted:token]"),
            (key("github_pat_"), "[redacted:token]"),
            ("xoxb-123456789012-abc".to_owned(), "[redacted:token]"),
            (aws, "[redacted:key]"),
            (jwt, "[redacted:token]"),
            (pem.to_owned(), "[redacted:private-key]"),
            ("Authorization: Bearer abcdefgh12".to_owned(), "Authorization: Bearer [redacted:credential]"),
            (
                r#"{"authorization":"Basic dXNlcjpwYXNz"}"#.to_owned(),
                r#"{"authorization":"Basic [redacted:credential]"}"#,
            ),
            ("x-api-key: 0123456789".to_owned(), "x-api-key: [redacted:credential]"),
            ("https://me:pass@host/x".to_owned(), "https://[redacted:userinfo]@host/x"),
            (r"https:\/\/me:pass@host".to_owned(), r"https:\/\/[redacted:userinfo]@host"),
        ] {
            assert_eq!(clean_text(&format!("see \"{text}\", é")), format!("see \"{wanted}\", é"), "{text}");
        }
        let cut = "-----BEGIN PRIVATE KEY-----\nMHcCAQEE";
        assert_eq!(clean_text(cut), "[redacted:private-key]");
    }

    #[test]
    fn words_that_merely_remind_of_a_secret_stay() {
        let cut = Token::generate(&[7; RANDOM_BYTES]).expose().replace("chy_", "chy_x").split_at(55).0.to_owned();
        for text in [
            cut.as_str(),
            "task-0123456789abcdefghij",
            "Bearer realm=\"chancery\"",
            "the chancery token file chy_x",
            "https://host/path?q=a@b",
            "run_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "me@example.org",
        ] {
            assert_eq!(clean_text(text), text);
        }
    }
}
