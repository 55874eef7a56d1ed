//! The one place that prints: data to standard output, talk to standard error. A closed pipe is no error. Colour only
//! repeats what the words say, and is left out where nobody sees it.

use std::io::{IsTerminal as _, Write as _};

use owo_colors::OwoColorize as _;
use serde_json::Value;

use crate::domain::reason::Refusal;
use crate::vault::redaction::shapes;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Short tables and cards, also where the output is piped.
    #[default]
    Human,
    /// The answer as it came.
    Json,
}

/// Prints a line of data; false where nobody reads any more.
pub fn data(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Prints data without ending the line; false where nobody reads any more.
pub fn words(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Says something to the person.
pub fn talk(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints an answer as it came.
pub fn json(value: &Value) -> bool {
    document(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// Prints JSON: byte for byte where a script reads it, and on a terminal such that nothing in it moves the cursor.
pub fn document(text: &str) -> bool {
    if std::io::stdout().is_terminal() { data(&escape_json(text)) } else { data(text) }
}

/// A word in the colour of success, of caution, of failure, or as it is.
pub fn tint(word: &str) -> String {
    let (good, bad) = (["ok", "valid", "completed", "allowed", "answered"], ["broken", "invalid", "failed", "denied"]);
    let careful = ["advice", "unknown", "unverifiable", "interrupted", "cancelled", "expired", "withdrawn"];
    if good.contains(&word) {
        word.green().to_string()
    } else if bad.contains(&word) {
        word.red().bold().to_string()
    } else if careful.contains(&word) || word.starts_with("waiting") || word == "pending" {
        word.yellow().to_string()
    } else {
        word.to_owned()
    }
}

/// Prints a refusal: code, sentence, next step. Gives the exit code.
pub fn refusal(refusal: &Refusal) -> std::process::ExitCode {
    refusal_with(refusal, &str::to_owned)
}

/// The same, with its advice made to fit.
pub fn refusal_with(refusal: &Refusal, fit: &dyn Fn(&str) -> String) -> std::process::ExitCode {
    talk(&format!("{}: {}", refusal.reason.code(), safe(&fit(&refusal.detail))));
    talk(&format!("next: {}", escape(&fit(refusal.reason.next()))));
    std::process::ExitCode::from(refusal.reason.exit_code())
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A word that a shell takes for exactly that.
pub fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Text from elsewhere, with control characters and marks of direction made visible.
pub fn escape(text: &str) -> String {
    text.chars().flat_map(|c| if is_unsafe(c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}

/// The same for what went wrong, without anything that looks like a secret: it may repeat what was given.
pub fn safe(text: &str) -> String {
    escape(&shapes::clean_text(text))
}

/// The same for JSON, which means what it meant: what could do harm stands inside strings only, and is of one unit.
pub fn escape_json(text: &str) -> String {
    let unsafe_here = |c: char| is_unsafe(c) && c != '\n';
    let shown = |c: char| if unsafe_here(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The same for text of several lines: line ends and tabs stay.
pub fn escape_lines(text: &str) -> String {
    let kept = |c: char| c == '\n' || c == '\t';
    text.chars().flat_map(|c| if is_unsafe(c) && !kept(c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_can_move_the_cursor_or_turn_the_line() {
        assert_eq!(escape("a\u{1b}[2J\nb\u{202e}c\u{200b}"), "a\\u{1b}[2J\\u{a}b\\u{202e}c\\u{200b}");
        assert_eq!(escape_lines("a\n\tb\r\u{9b}1m"), "a\n\tb\\u{d}\\u{9b}1m");
        assert_eq!(safe("no\nBearer 0123456789abcdef"), "no\\u{a}Bearer [redacted:credential]");
        assert_eq!(escape("Zoë 日本 🙂"), "Zoë 日本 🙂");
    }

    #[test]
    fn what_is_to_be_copied_is_one_word_for_a_shell() {
        assert_eq!(shell_word("/var/lib/chancery"), "/var/lib/chancery");
        assert_eq!(shell_word("/a b/it's"), "'/a b/it'\\''s'");
    }

    #[test]
    fn json_on_a_terminal_moves_nothing_and_means_the_same() {
        let value = serde_json::json!({ "title\u{202e}": "a\u{1b}[2J\u{9b}31m\u{2028}\u{feff}\n日本 🙂\u{7f}" });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = escape_json(&text);
            assert!(!shown.contains(|c| is_unsafe(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
        assert_eq!(escape_json("{\"a\":\"日本 🙂\"}"), "{\"a\":\"日本 🙂\"}");
    }
}
