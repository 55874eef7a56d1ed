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
        let call = serde_json::json!({
            "arguments": self.arguments,
            "cwd": self.cwd,
            "edits": Value::Object(edits),
            "run": self.run.to_string(),
            "tool": self.tool,
            "tool_version": self.tool_version,
            "workspace_root": self.workspace_root,
        });
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

/// Lays the shortest digits of a double out as ECMAScript does.
fn write_double(double: f64, out: &mut String) {
    if double == 0.0 {
        out.push('0');
        return;
    }
    let shortest = format!("{:e}", double.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The number is 0.digits × 10^point.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    if double < 0.0 {
        out.push('-');
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let (head, tail) = digits.split_at_checked(usize::try_from(point).unwrap_or(0)).unwrap_or((&digits, ""));
    if point > 21 || point <= -6 {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((&digits, ""));
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let sign = if point > 0 { '+' } else { '-' };
        // Writing to a string cannot fail.
        let _ = write!(out, "e{sign}{}", (point - 1).unsigned_abs());
    } else if point >= count {
        out.push_str(&digits);
        out.push_str(&zeros(point - count));
    } else if point > 0 {
        out.push_str(head);
        out.push('.');
        out.push_str(tail);
    } else {
        out.push_str("0.");
        out.push_str(&zeros(-point));
        out.push_str(&digits);
    }
}
