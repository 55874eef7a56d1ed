//! The card: what an approver is shown. Plain text, rendered from the same facts as the canonical call; every field
//! that affects execution is in it, whole, and no character can hide another or pretend to be one.

use std::fmt::Write as _;

use serde_json::Value;

use super::canonical::{Call, Hashed, NotCanonical, canonical_json};

impl Call {
    /// The card and its hash. A call that cannot be shown whole has none.
    pub fn card(&self) -> Result<Hashed, NotCanonical> {
        let mut out = String::new();
        field(&mut out, 0, "tool", &self.tool);
        field(&mut out, 0, "tool version", &self.tool_version.to_string());
        field(&mut out, 0, "run", &self.run.to_string());
        field(&mut out, 0, "workspace root", &self.workspace_root);
        field(&mut out, 0, "folder", &self.cwd);
        match &self.arguments {
            Value::Object(members) => {
                out.push_str("arguments:\n");
                for (key, value) in members {
                    argument(&mut out, key, value)?;
                }
            }
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                field(&mut out, 0, "arguments", &canonical_json(plain)?);
            }
        }
        if !self.edits.is_empty() {
            out.push_str("files as they are now:\n");
            for (path, digest) in &self.edits {
                let state =
                    digest.as_ref().map_or_else(|| "does not exist".to_owned(), |digest| format!("sha256 {digest}"));
                field(&mut out, 2, &visible(path), &state);
            }
        }
        if let Some(salt) = &self.salt {
            field(&mut out, 0, "salt", salt);
        }
        Hashed::of(out)
    }
}

/// A text argument stands as it is; anything else as canonical JSON, marked so that it cannot be taken for a text.
fn argument(out: &mut String, key: &str, value: &Value) -> Result<(), NotCanonical> {
    match value {
        Value::String(text) => field(out, 2, &visible(key), text),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            field(out, 2, &format!("{} (JSON)", visible(key)), &canonical_json(other)?);
        }
    }
    Ok(())
}

/// One field: on its line if it has one line, else as a block whose lines all begin with a bar.
fn field(out: &mut String, indent: usize, name: &str, text: &str) {
    let margin = " ".repeat(indent);
    if text.contains('\n') {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{margin}{name}:");
        for line in text.split('\n') {
            let _ = writeln!(out, "{margin}| {}", visible(line));
        }
    } else {
        let _ = writeln!(out, "{margin}{name}: {}", visible(text));
    }
}

/// The text with every character that is not plainly visible written as `⟨U+202E⟩`; `⟨` itself too, so that nothing
/// else can look like that.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if hidden(letter) {
            // Writing to a string cannot fail.
            let _ = write!(out, "⟨U+{:04X}⟩", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out
}

fn hidden(letter: char) -> bool {
    letter == '⟨'
        || letter.is_control()
        || (letter.is_whitespace() && letter != ' ')
        || matches!(u32::from(letter),
            0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0x2800 | 0x3164
            | 0xE000..=0xF8FF | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFD | 0xFFFE | 0xFFFF
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0x10_FFFF)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::canonical::tests::call;

    #[test]
    fn a_card_shows_every_field_that_matters() {
        let arguments = json!({"command": "ls -l\nrm x", "timeout_ms": 5, "description": "Look, then tidy."});
        let expected = "\
tool: bash
tool version: 1
run: run_00000000000000000000000005
workspace root: 1:2
folder: .
arguments:
  command:
  | ls -l
  | rm x
  description: Look, then tidy.
  timeout_ms (JSON): 5
files as they are now:
  a.rs: does not exist
  b.rs: sha256 00ff
";
        assert_eq!(call(arguments).card().unwrap().text, expected);
    }

    #[test]
    fn no_character_hides_another_or_pretends_to_be_one() {
        let nasty = "a\u{202e}b\u{200b}c\u{1b}[2Jd\u{7}\u{a0}\te\r⟨U+0041⟩";
        let card = call(json!({"command": nasty})).card().unwrap().text;
        assert!(
            card.contains("a⟨U+202E⟩b⟨U+200B⟩c⟨U+001B⟩[2Jd⟨U+0007⟩⟨U+00A0⟩⟨U+0009⟩e⟨U+000D⟩⟨U+27E8⟩U+0041⟩\n"),
            "{card}"
        );
    }

    #[test]
    fn a_text_cannot_imitate_a_field_of_the_card() {
        let card = call(json!({"command": "true\nfolder: /"})).card().unwrap().text;
        assert_eq!(card.lines().filter(|line| line.starts_with("folder:")).count(), 1);
        assert!(card.contains("\n  | folder: /\n"));
    }

    #[test]
    fn a_number_and_its_text_look_different() {
        let number = call(json!({"n": 5})).card().unwrap();
        let text = call(json!({"n": "5"})).card().unwrap();
        assert_ne!(number, text);
    }
}
