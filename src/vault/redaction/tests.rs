//! What the scanner finds, in which encodings, and that pieces of a text give what the whole text gives.

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Redactor, Secret, forms};

const KEY: &str = "sk-test/Ab+9?\"q\\uo te<é>&'=";

fn secret(text: &str) -> Secret {
    Secret::parse(text.as_bytes()).unwrap()
}

fn knowing(text: &str) -> Redactor {
    Redactor::knowing("openai.prod", &secret(text))
}

/// Every encoding that is promised, made by code that the scanner does not use where there is some.
fn written(text: &str) -> Vec<(&'static str, String)> {
    let bytes = text.as_bytes();
    let percent = |kept: &str, digits: &dyn Fn(u8) -> String| -> String {
        let one = |byte: &u8| {
            let plain = byte.is_ascii_alphanumeric() || kept.as_bytes().contains(byte);
            if plain { char::from(*byte).to_string() } else { digits(*byte) }
        };
        bytes.iter().map(one).collect()
    };
    let (upper, lower) = (|byte: u8| format!("%{byte:02X}"), |byte: u8| format!("%{byte:02x}"));
    let inside = |text: &str| {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let units = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<String>>().concat();
    let ascii_only = |text: &str| {
        let one = |c: char| if c.is_ascii() { c.to_string() } else { units(&c.to_string()) };
        inside(text).chars().map(one).collect::<String>()
    };
    let html = |text: &str| inside(text).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let mut all = vec![
        ("plain", text.to_owned()),
        ("lower case", text.to_ascii_lowercase()),
        ("upper case", text.to_ascii_uppercase()),
        ("hex", HEXLOWER.encode(bytes)),
        ("HEX", HEXLOWER.encode(bytes).to_uppercase()),
        ("bytes", format!("{bytes:?}")),
        ("JSON bytes", serde_json::to_string(bytes).unwrap()),
        ("percent", percent("-._~", &upper)),
        ("percent, lower case", percent("-._~", &lower)),
        ("percent, path", percent("-._~/", &upper)),
        ("percent, component", percent("-._~!*'()", &upper)),
        ("percent, URL", percent("-._~!*'();/?:@&=+$,#", &upper)),
        ("form", percent("*-._ ", &upper).replace(' ', "+")),
        ("every byte", bytes.iter().copied().map(upper).collect()),
        ("every byte, lower case", bytes.iter().copied().map(lower).collect()),
        ("JSON", inside(text)),
        ("JSON with slashes", inside(text).replace('/', "\\/")),
        ("JSON, ASCII", ascii_only(text)),
        ("JSON for HTML", html(text)),
        ("JSON, all units", units(text)),
        ("JSON, ALL UNITS", units(text).to_uppercase().replace("\\U", "\\u")),
        ("JSON in JSON", inside(&inside(text))),
        ("JSON units in JSON", inside(&units(text))),
        ("Rust", format!("{text:?}")),
        ("HTML", text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")),
    ];
    for before in ["", "u", "u:"] {
        for after in ["", "x", "xy"] {
            let around = format!("{before}{text}{after}");
            all.push(("base64", BASE64.encode(around.as_bytes())));
            all.push(("base64 for URLs", BASE64URL.encode(around.as_bytes())));
            all.push(("base64 in JSON", BASE64.encode(around.as_bytes()).replace('/', "\\/")));
            let in_url = BASE64.encode(around.as_bytes()).replace('/', "%2F").replace('+', "%2B");
            all.push(("base64 in a URL", in_url));
        }
    }
    all
}

#[test]
fn a_secret_is_found_in_each_encoding_that_is_promised() {
    let redactor = knowing(KEY);
    for key in [KEY, "0123456789abcdef", "sk-proj-AAAA_bbbb-CCCC.dddd~eeee"] {
        redactor.set_secrets([("openai.prod".to_owned(), secret(key))]);
        for (how, text) in written(key) {
            let whole = format!("before {text} after");
            let clean = redactor.text(&whole);
            assert!(clean.contains("[redacted:openai.prod]"), "{key} in {how}: {clean}");
            assert_eq!(redactor.found(whole.as_bytes()).as_deref(), Some("openai.prod"), "{key} in {how}");
            // At most the characters that a neighbour has a part in are left of it.
            assert!(clean.len() < "before [redacted:openai.prod] after".len() + 20, "{key} in {how}: {clean}");
        }
    }
}

#[test]
fn where_no_secret_is_known_or_it_is_short_nothing_is_touched() {
    let redactor = Redactor::default();
    let text = format!("{KEY} fifteen-letters");
    assert!(matches!(redactor.text(&text), Cow::Borrowed(_)));
    redactor.add("short", &secret("fifteen-letters"));
    assert!(matches!(redactor.text(&text), Cow::Borrowed(_)));
    assert_eq!(redactor.found(text.as_bytes()), None);
    redactor.add("long", &secret(KEY));
    assert_eq!(redactor.text(&text), "[redacted:long] fifteen-letters");
}

#[test]
fn of_two_secrets_the_longer_is_found_and_a_superseded_one_still_is() {
    let (short, long) = ("abcdefghijklmnop", "abcdefghijklmnopqrstuvwxyz");
    let redactor = knowing(short);
    redactor.set_secrets([("new".to_owned(), secret(long))]);
    assert_eq!(
        redactor.text(&format!("{long} {short}! {short}")),
        "[redacted:new] [redacted:openai.prod]! [redacted:openai.prod]"
    );
    let clone = redactor.clone();
    redactor.set_secrets([]);
    assert_eq!(clone.text(long), "[redacted:new]");
}

#[test]
fn json_is_cleaned_in_strings_keys_numbers_and_lists_of_bytes() {
    let redactor = knowing(KEY);
    redactor.add("number", &secret("1234567890123456"));
    let mut value = json!({
        "plain": ["x", { "deep": KEY }],
        KEY: 1,
        format!("{KEY} "): 2,
        format!("[redacted:openai.prod]"): 3,
        "number": 1_234_567_890_123_456_u64,
        "bytes": KEY.as_bytes(),
        "few": [1, 2, 3],
    });
    redactor.json(&mut value);
    assert_eq!(value["plain"][1]["deep"], "[redacted:openai.prod]");
    assert_eq!(value["number"], "[redacted:number]");
    assert_eq!(value["bytes"], "[redacted:openai.prod]");
    assert_eq!(value["few"], json!([1, 2, 3]));
    let keys: Vec<&String> = value.as_object().unwrap().keys().filter(|key| key.starts_with('[')).collect();
    assert_eq!(keys, ["[redacted:openai.prod]", "[redacted:openai.prod] ", "[redacted:openai.prod]+"]);
    assert_eq!(redactor.found(value.to_string().as_bytes()), None);
}

#[test]
fn strict_redaction_also_takes_what_has_the_shape_of_a_secret() {
    let redactor = knowing(KEY);
    let other = format!("sk-{}", "x".repeat(40));
    assert_eq!(redactor.text(&other), other);
    assert_eq!(redactor.strict_text(&format!("{other} {KEY}")), "[redacted:key] [redacted:openai.prod]");
    let mut value = json!({ other.as_str(): [other] });
    Redactor::default().strict_json(&mut value);
    assert_eq!(value, json!({ "[redacted:key]": ["[redacted:key]"] }));
}

#[test]
fn printing_shows_neither_secrets_nor_what_is_held_back() {
    let redactor = knowing(KEY);
    let mut stream = redactor.stream();
    assert_eq!(stream.push_text(&format!("so {}", &KEY[..8])), "so ");
    assert_eq!(stream.held_bytes(), 8);
    for printed in [format!("{redactor:?}"), format!("{stream:?}")] {
        assert!(!printed.contains("sk-test") && !printed.contains("115, 107"), "{printed}");
    }
    assert_eq!(stream.finish_text(), &KEY[..8]);
}

/// The longest end of a text with which a form begins that is longer than it.
fn partial_match(text: &[u8], forms: &[forms::Form]) -> usize {
    let begins = |length: &usize| {
        let end = &text[text.len() - length..];
        forms.iter().any(|form| form.len() > end.len() && form.starts_with(end))
    };
    (1..=text.len()).rev().find(begins).unwrap_or(0)
}

/// Leftmost, then longest, as one would write it down.
fn naive(text: &[u8], forms: &[forms::Form]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let longest = forms.iter().filter(|form| text[at..].starts_with(form)).map(|form| form.len()).max();
        if let Some(length) = longest {
            out.extend_from_slice(b"[redacted:s]");
            at += length;
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

fn pieces() -> impl Strategy<Value = (Vec<String>, Vec<u8>, Vec<prop::sample::Index>)> {
    // Secrets that share beginnings and repeat themselves, so that matches overlap.
    let secrets = prop::collection::vec("(aaaaaaaa|abababab|ab|a|b|/|\"|é){8,12}", 1..3)
        .prop_filter("long enough", |secrets| secrets.iter().all(|secret| secret.chars().count() >= 16));
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..8);
    (secrets, cuts).prop_flat_map(|(secrets, cuts)| {
        let all: Vec<Vec<u8>> = secrets.iter().flat_map(|text| forms::of(text)).map(|form| form.to_vec()).collect();
        let planted = prop::sample::select(all);
        let cut = (planted.clone(), any::<prop::sample::Index>()).prop_map(|(form, end)| {
            let end = end.index(form.len());
            form[..end].to_vec()
        });
        let noise = prop::collection::vec(prop::sample::select(b"ab/\"61, %\\u0".to_vec()), 0..20);
        let part = prop_oneof![planted, cut, noise];
        let text = prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat());
        (Just(secrets), text, Just(cuts))
    })
}

proptest! {
    #[test]
    fn any_split_of_any_text_gives_what_the_whole_gives_and_holds_back_no_more_than_a_partial_match(
        (secrets, text, cuts) in pieces(),
    ) {
        let redactor = Redactor::default();
        redactor.set_secrets(secrets.iter().map(|text| ("s".to_owned(), secret(text))));
        let forms: Vec<forms::Form> = secrets.iter().flat_map(|text| forms::of(text)).collect();
        let whole = redactor.bytes(&text).into_owned();
        prop_assert_eq!(&whole, &naive(&text, &forms));
        prop_assert_eq!(redactor.found(&text).is_some(), whole != text);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        ends.push(text.len());
        ends.sort_unstable();
        let (mut stream, mut out, mut from) = (redactor.stream(), Vec::new(), 0);
        for end in ends {
            out.extend_from_slice(&stream.push(&text[from..end]));
            prop_assert!(stream.held_bytes() <= partial_match(&text[..end], &forms));
            from = end;
        }
        out.extend(stream.finish());
        prop_assert_eq!(out, whole);
    }

    #[test]
    fn an_ordinary_text_is_passed_on_at_once(text in "[a-z .,\n]{0,200}") {
        let redactor = knowing("SK-0123456789ABCDEF");
        let mut stream = redactor.stream();
        let passed = stream.push_text(&text);
        prop_assert!(text.len() - passed.len() <= 3, "only a beginning of a form is held back");
        prop_assert_eq!(passed + &stream.finish_text(), text);
    }

    #[test]
    fn json_stays_what_it_was_but_for_the_secret(text in "\\PC{0,30}") {
        let redactor = knowing(KEY);
        let document = json!({ "a": format!("{text}{KEY}{text}"), "b": [text.as_str()] }).to_string();
        let clean: Value = serde_json::from_str(&redactor.text(&document)).unwrap();
        prop_assert_eq!(clean, json!({ "a": format!("{text}[redacted:openai.prod]{text}"), "b": [text.as_str()] }));
    }
}
