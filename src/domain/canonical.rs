//! The canonical call: RFC 8785 JSON of everything that decides what a call does, and the hash that an approval binds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

use super::ids::RunId;
use super::limits::CARD_BYTES;

/// Largest integer that every reader of JSON understands alike.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why a call has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// An integer beyond 2^53 − 1 reads differently in different programs.
    #[error("the number {0} is larger than every reader of JSON understands")]
    Number(String),
    /// It cannot be shown whole.
    #[error("the call has {bytes} bytes; at most {CARD_BYTES} can be shown whole")]
    TooLarge {
        /// Bytes of its canonical form or card.
        bytes: usize,
    },
}

/// A call as it would be made now.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Name of the tool.
    pub tool: String,
    /// Version of the tool; rises when the same arguments come to mean something else.
    pub tool_version: u32,
    /// Arguments.
    pub arguments: Value,
    /// Folder it works in.
    pub cwd: String,
    /// Identity of the workspace root.
    pub workspace_root: String,
    /// The run.
    pub run: RunId,
    /// SHA-256, hex, of each file it edits as it is now, by path; `None` where there is no such file.
    pub edits: BTreeMap<String, Option<String>>,
    /// Where its words can be erased: what keeps the hash, which stays, from telling them to whoever guesses.
    pub salt: Option<String>,
}

/// A text and its SHA-256, hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// The text.
    pub text: String,
    /// Its digest.
    pub hash: String,
}

impl Hashed {
    /// Hashes a text that fits on a card.
    pub(super) fn of(text: String) -> Result<Self, NotCanonical> {
        if text.len() > CARD_BYTES {
            return Err(NotCanonical::TooLarge { bytes: text.len() });
        }
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        Ok(Self { text, hash })
    }
}

impl Call {
    /// The canonical form and its hash.
    pub fn canonical(&self) -> Result<Hashed, NotCanonical> {
        let digest = |digest: &Option<String>| digest.clone().map_or(Value::Null, Value::String);
        let edits = self.edits.iter().map(|(path, of)| (path.clone(), digest(of))).collect();
        let mut call = serde_json::json!({
            "arguments": self.arguments,
            "cwd": self.cwd,
            "edits": Value::Object(edits),
            "run": self.run.to_string(),
            "tool": self.tool,
            "tool_version": self.tool_version,
            "workspace_root": self.workspace_root,
        });
        if let (Some(salt), Value::Object(members)) = (&self.salt, &mut call) {
            members.insert("salt".to_owned(), Value::String(salt.clone()));
        }
        Hashed::of(canonical_json(&call)?)
    }
}

/// Writes JSON as RFC 8785 demands.
pub fn canonical_json(value: &Value) -> Result<String, NotCanonical> {
    let mut out = String::new();
    write_value(value, &mut out)?;
    Ok(out)
}

fn write_value(value: &Value, out: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
            out.push('{');
            for (at, (key, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

fn write_number(number: &Number, out: &mut String) -> Result<(), NotCanonical> {
    let integer = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    match (integer, number.as_f64()) {
        (Some(size), _) if size <= INTEGER_MAX => out.push_str(&number.to_string()),
        (None, Some(double)) => write_double(double, out),
        (Some(_), _) | (None, None) => return Err(NotCanonical::Number(number.to_string())),
    }
    Ok(())
}

/// Lays the shortest digits of a double out as ECMAScript does. The digits come from the JSON writer, which breaks ties
/// between equally short texts to the even digit, as ECMAScript wants it; the standard library does not.
fn write_double(double: f64, out: &mut String) {
    if double == 0.0 {
        out.push('0');
        return;
    }
    let shortest = Number::from_f64(double.abs()).map_or_else(String::new, |number| number.to_string());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let size = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX);
    // The number is 0.digits × 10^point.
    let point = exponent.parse::<i32>().unwrap_or(0) + size(whole) - (size(&all) - size(digits));
    let digits = digits.trim_end_matches('0');
    let count = size(digits);
    if double < 0.0 {
        out.push('-');
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let (head, tail) = digits.split_at_checked(usize::try_from(point).unwrap_or(0)).unwrap_or((digits, ""));
    if point > 21 || point <= -6 {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let sign = if point > 0 { '+' } else { '-' };
        // Writing to a string cannot fail.
        let _ = write!(out, "e{sign}{}", (point - 1).unsigned_abs());
    } else if point >= count {
        out.push_str(digits);
        out.push_str(&zeros(point - count));
    } else if point > 0 {
        out.push_str(head);
        out.push('.');
        out.push_str(tail);
    } else {
        out.push_str("0.");
        out.push_str(&zeros(-point));
        out.push_str(digits);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        canonical_json(&serde_json::from_str(text).unwrap()).unwrap()
    }

    pub(crate) fn call(arguments: Value) -> Call {
        Call {
            tool: "bash".into(),
            tool_version: 1,
            arguments,
            cwd: ".".into(),
            workspace_root: "1:2".into(),
            run: RunId::from_ulid(ulid::Ulid(5)),
            edits: [("a.rs".to_owned(), None), ("b.rs".to_owned(), Some("00ff".to_owned()))].into(),
            salt: None,
        }
    }

    #[test]
    fn the_examples_of_rfc_8785_come_out_as_printed_there() {
        let example = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(canonical(example), expected);
    }

    #[test]
    fn keys_are_sorted_by_utf_16() {
        let example = r#"{"\u20ac":"Euro","\r":"CR","\ufb33":"Dalet","1":"One","\ud83d\ude00":"Smile","\u0080":"Control","\u00f6":"o"}"#;
        let sorted: Vec<String> =
            serde_json::from_str::<BTreeMap<String, Value>>(&canonical(example)).unwrap().into_keys().collect();
        assert_eq!(sorted.len(), 7);
        let text = canonical(example);
        let places: Vec<usize> = ["CR", "One", "Control", "\"o\"", "Euro", "Smile", "Dalet"]
            .iter()
            .map(|value| text.find(value).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn doubles_are_written_as_ecmascript_writes_them() {
        // Bits and text from appendix B of RFC 8785.
        let samples: [(u64, &str); 21] = [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ];
        for (bits, expected) in samples {
            let mut out = String::new();
            write_double(f64::from_bits(bits), &mut out);
            assert_eq!(out, expected, "{bits:016x}");
        }
    }

    #[test]
    fn integers_are_exact_or_refused() {
        assert_eq!(canonical("[9007199254740991,-9007199254740991,0]"), "[9007199254740991,-9007199254740991,0]");
        for too_large in ["9007199254740992", "-9007199254740992", "18446744073709551615"] {
            let value = serde_json::from_str(too_large).unwrap();
            assert_eq!(canonical_json(&value), Err(NotCanonical::Number(too_large.to_owned())));
        }
    }

    #[test]
    fn every_field_of_a_call_changes_its_hash() {
        let base = call(serde_json::json!({"command": "ls"}));
        let others = [
            Call { tool: "bash2".into(), ..base.clone() },
            Call { tool_version: 2, ..base.clone() },
            Call { arguments: serde_json::json!({"command": "ls "}), ..base.clone() },
            Call { cwd: "src".into(), ..base.clone() },
            Call { workspace_root: "1:3".into(), ..base.clone() },
            Call { run: RunId::from_ulid(ulid::Ulid(6)), ..base.clone() },
            Call { edits: BTreeMap::new(), ..base.clone() },
        ];
        let mut hashes: Vec<(String, String)> = others
            .iter()
            .chain([&base])
            .map(|call| (call.canonical().unwrap().hash, call.card().unwrap().hash))
            .collect();
        hashes.sort();
        hashes.dedup_by(|left, right| left.0 == right.0 || left.1 == right.1);
        assert_eq!(hashes.len(), others.len() + 1);
        assert_eq!(base.canonical().unwrap(), base.clone().canonical().unwrap());
    }

    #[test]
    fn a_call_that_cannot_be_shown_whole_is_refused() {
        let long = call(serde_json::json!({"command": "a".repeat(CARD_BYTES)}));
        assert!(matches!(long.canonical(), Err(NotCanonical::TooLarge { .. })));
        assert!(matches!(long.card(), Err(NotCanonical::TooLarge { .. })));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same_value(bits in proptest::prelude::any::<u64>(), text in ".*") {
            let double = f64::from_bits(bits);
            if double.is_finite() {
                let mut out = String::new();
                write_double(double, &mut out);
                assert_eq!(out.parse::<f64>().unwrap().total_cmp(&(double + 0.0)), std::cmp::Ordering::Equal);
            }
            let value = serde_json::json!({text.clone(): [text]});
            assert_eq!(serde_json::from_str::<Value>(&canonical_json(&value).unwrap()).unwrap(), value);
        }
    }
}
