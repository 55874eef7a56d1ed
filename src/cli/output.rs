//! The one place that prints: data to standard output, talk to standard error. A closed pipe is no error.

use std::io::Write as _;

use crate::domain::reason::Refusal;

/// Prints a line of data.
pub fn data(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Says something to the person.
pub fn talk(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a refusal: code, sentence, next step. Gives the exit code.
pub fn refusal(refusal: &Refusal) -> std::process::ExitCode {
    talk(&format!("{}: {}", refusal.reason.code(), escape(&refusal.detail)));
    talk(&format!("next: {}", refusal.reason.next()));
    std::process::ExitCode::from(refusal.reason.exit_code())
}

/// Text from elsewhere, with control characters and marks of direction made visible.
pub fn escape(text: &str) -> String {
    let unsafe_mark = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().flat_map(|c| if unsafe_mark(c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}
