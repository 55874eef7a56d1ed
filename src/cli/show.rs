//! Answers as people read them: short tables for lists, cards for single things. Ids stand whole, times are readable,
//! and every word from elsewhere is escaped.

mod kept;

use comfy_table::{Table, presets};
use serde_json::Value;

use super::output::{escape, escape_json, escape_lines, tint};
use crate::platform::clock::{Clock as _, SystemClock};

/// Longest text in a cell, characters; ids are never cut.
const CELL: usize = 60;

/// How a part of an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One line, whole.
    Word,
    /// One line, cut where it is long.
    Text,
    /// One line; what is absent is not chosen yet, and that is said.
    Chosen,
    /// Unix milliseconds.
    Time,
    /// Text of several lines, below its name.
    Block,
    /// Why a model stopped, where that is out of the ordinary.
    Stop,
}

/// A column of a table or a line of a card: its name, the part of the answer, and how it is written.
pub type Part = (&'static str, &'static str, Kind);

/// How an answer is shown.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A list: `items`, one row each.
    Table(&'static [Part]),
    /// One thing.
    Card(&'static [Part]),
    /// As JSON for everybody, because it is a document that others read.
    Document,
}

use Kind::{Block, Chosen, Stop, Text, Time, Word};
pub use kept::{ARTIFACTS, EXTERNAL_ACTIONS, MODEL_CALL, MODEL_CALLS};

/// Sessions in a list.
pub const SESSIONS: Shape = Shape::Table(&[
    ("SESSION", "session_id", Word),
    ("STATUS", "status", Word),
    ("RUNS", "runs", Word),
    ("CREATED", "created_at_ms", Time),
    ("TITLE", "title", Text),
]);
/// One session.
pub const SESSION: Shape = Shape::Card(&[
    ("session", "session_id", Word),
    ("status", "status", Word),
    ("title", "title", Word),
    ("route", "route", Word),
    ("model", "model", Word),
    ("permission mode", "permission_mode", Word),
    ("runs", "runs", Word),
    ("queued runs", "queued_runs", Word),
    ("active run", "active_run_id", Word),
    ("created", "created_at_ms", Time),
    ("ended", "ended_at_ms", Time),
    ("reason", "reason", Word),
    ("erasure", "erasure", Word),
]);
/// Runs in a list.
pub const RUNS: Shape = Shape::Table(&[
    ("RUN", "run_id", Word),
    ("STATUS", "status", Word),
    ("SESSION", "session_id", Word),
    ("MODEL", "model", Text),
    ("REHEARSAL", "rehearsal", Word),
    ("TURNS", "turns", Word),
    ("CREATED", "created_at_ms", Time),
]);
/// One run.
pub const RUN: Shape = Shape::Card(&[
    ("run", "run_id", Word),
    ("status", "status", Word),
    ("session", "session_id", Word),
    ("route", "route", Word),
    ("model", "model", Word),
    ("rehearsal", "rehearsal", Chosen),
    ("permission mode", "permission_mode", Word),
    ("turns", "turns", Word),
    ("created", "created_at_ms", Time),
    ("ended", "ended_at_ms", Time),
    ("waits for", "approval_id", Word),
    ("waits for", "question_id", Word),
    ("failed with", "error.code", Word),
    ("because", "error.detail", Word),
    ("next", "error.next", Word),
    ("interrupted by", "interrupted_by", Word),
    ("outcome unknown", "unknown_calls", Word),
    ("ended early", "stop", Stop),
    ("reason", "reason", Word),
    ("output", "output", Block),
]);
/// Approvals in a list.
pub const APPROVALS: Shape = Shape::Table(&[
    ("APPROVAL", "approval_id", Word),
    ("STATUS", "status", Word),
    ("TOOL", "tool", Text),
    ("RUN", "run_id", Word),
    ("EXPIRES", "expires_at_ms", Time),
]);
/// One approval.
pub const APPROVAL: Shape = Shape::Card(&[
    ("approval", "approval_id", Word),
    ("status", "status", Word),
    ("run", "run_id", Word),
    ("session", "session_id", Word),
    ("rehearsal", "rehearsal", Word),
    ("tool", "tool", Word),
    ("call hash", "call_hash", Word),
    ("card hash", "card_hash", Word),
    ("created", "created_at_ms", Time),
    ("expires", "expires_at_ms", Time),
    ("ended", "ended_at_ms", Time),
    ("decided by", "decided_by.id", Word),
    ("reason", "reason", Word),
    ("record", "ended_seq", Word),
    ("card", "card", Block),
]);
/// Questions in a list.
pub const QUESTIONS: Shape = Shape::Table(&[
    ("QUESTION", "question_id", Word),
    ("STATUS", "status", Word),
    ("RUN", "run_id", Word),
    ("EXPIRES", "expires_at_ms", Time),
    ("ASKS", "question", Text),
]);
/// One question.
pub const QUESTION: Shape = Shape::Card(&[
    ("question", "question_id", Word),
    ("status", "status", Word),
    ("run", "run_id", Word),
    ("session", "session_id", Word),
    ("header", "header", Word),
    ("asks", "question", Block),
    ("options", "options", Block),
    ("free text", "freeform", Word),
    ("expires", "expires_at_ms", Time),
    ("selected", "selected", Word),
    ("answer", "answer", Block),
    ("reason", "reason", Word),
    ("record", "ended_seq", Word),
]);
/// Background tasks in a list.
pub const TASKS: Shape = Shape::Table(&[
    ("TASK", "task_id", Word),
    ("STATUS", "status", Word),
    ("EXIT", "exit_code", Word),
    ("STARTED", "created_at_ms", Time),
    ("COMMAND", "command", Text),
]);
/// One background task.
pub const TASK: Shape = Shape::Card(&[
    ("task", "task_id", Word),
    ("status", "status", Word),
    ("run", "run_id", Word),
    ("session", "session_id", Word),
    ("command", "command", Block),
    ("stop requested", "stop_requested", Word),
    ("started", "created_at_ms", Time),
    ("ended", "ended_at_ms", Time),
    ("because", "terminal_reason", Word),
    ("exit code", "exit_code", Word),
    ("output bytes", "output_bytes", Word),
]);
/// The runtime configuration.
pub const RUNTIME: Shape = Shape::Card(&[
    ("permission mode", "permission_mode", Word),
    ("revision", "revision", Word),
    ("changed", "changed_at_ms", Time),
    ("debug level", "debug_level", Word),
    ("route", "model.route", Word),
    ("model", "model.model", Word),
    ("system prompt", "system_prompt.mode", Word),
    ("prompt text", "system_prompt.text", Block),
    ("tool limits", "tool_limits", Word),
    ("erasure", "erasure", Word),
    ("user rules", "user_rules", Word),
    ("project rules", "project_rules", Word),
]);
/// What bounds tools.
pub const TOOL_LIMITS: Shape = Shape::Card(&[
    ("command ms", "command_ms", Word),
    ("task ms", "task_ms", Word),
    ("result bytes", "result_bytes", Word),
    ("revision", "revision", Word),
]);
/// Permission rules.
pub const RULES: Shape =
    Shape::Table(&[("SCOPE", "scope", Word), ("TOOL", "tool", Word), ("BEHAVIOR", "behavior", Word)]);
/// What would be decided about a call.
pub const PERMISSION: Shape = Shape::Card(&[
    ("tool", "tool", Word),
    ("session", "session_id", Word),
    ("decision", "decision", Word),
    ("mode", "mode", Word),
    ("before the mode", "base_decision", Word),
    ("rule", "matched_rule", Word),
    ("because", "reason", Word),
]);
/// Revisions of the runtime configuration.
pub const REVISIONS: Shape = Shape::Table(&[
    ("REVISION", "revision", Word),
    ("RECORD", "seq", Word),
    ("WHEN", "at_ms", Time),
    ("WHO", "actor.id", Word),
    ("WENT BACK TO", "rolled_back_to", Word),
    ("MODE", "permission_mode", Word),
    ("DEBUG LEVEL", "debug_level", Word),
    ("MODEL", "model", Text),
    ("PROMPT", "system_prompt", Text),
    ("TOOL LIMITS", "tool_limits", Text),
    ("ERASURE", "erasure", Word),
    ("USER RULES", "user_rules", Text),
    ("PROJECT RULES", "project_rules", Text),
]);
/// The journal's head.
pub const HEAD: Shape = Shape::Card(&[
    ("size", "size", Word),
    ("root", "root", Word),
    ("key", "key_id", Word),
    ("epoch", "epoch", Word),
    ("note", "note", Block),
]);
/// A handover of the signing key.
pub const ROTATED_KEY: Shape = Shape::Card(&[
    ("record", "seq", Word),
    ("key before", "old_key_id", Word),
    ("key from here on", "new_key_id", Word),
    ("verifier key", "verifier_key", Word),
]);
/// The daemon's status.
pub const STATUS: Shape = Shape::Card(&[
    ("healthy", "health.ok", Word),
    ("storage", "storage.ok", Word),
    ("runs running", "runs.running", Word),
    ("runs queued", "runs.queued", Word),
    ("wait for approval", "runs.waiting_for_approval", Word),
    ("wait for an answer", "runs.waiting_for_user_question", Word),
    ("permission mode", "runtime.permission_mode", Word),
    ("listens on", "control_plane.bind", Word),
    ("auth", "control_plane.auth_mode", Word),
    ("journal lines", "journal.size", Word),
    ("journal root", "journal.root", Word),
    ("sandbox", "sandbox", Word),
    ("version", "build.version", Word),
    ("warnings", "health.warnings", Block),
]);

/// An answer as text.
pub fn render(shape: Shape, value: &Value) -> String {
    match shape {
        Shape::Table(parts) => table(parts, value),
        Shape::Card(parts) => card(parts, value),
        Shape::Document => escape_json(&serde_json::to_string_pretty(value).unwrap_or_default()),
    }
}

fn part<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, name| &value[name])
}

fn table(parts: &[Part], value: &Value) -> String {
    let items = value["items"].as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        return "none".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(parts.iter().map(|(name, _, _)| *name));
    for item in items {
        table.add_row(parts.iter().map(|(_, path, kind)| {
            let text = line(part(item, path), *kind);
            if *kind == Text { shorten(&text) } else { text }
        }));
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= CELL {
        return text.to_owned();
    }
    text.chars().take(CELL - 1).chain(['…']).collect()
}

fn card(parts: &[Part], value: &Value) -> String {
    let shown = |path: &str, kind: Kind| match kind {
        Chosen => true,
        Stop => odd_stop(part(value, path)).is_some(),
        Word | Text | Time | Block => !part(value, path).is_null() && *part(value, path) != Value::Array(Vec::new()),
    };
    let wide =
        parts.iter().filter(|(_, path, kind)| shown(path, *kind)).map(|(name, _, _)| name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (name, path, kind) in parts.iter().filter(|(_, path, kind)| shown(path, *kind)) {
        let found = part(value, path);
        if *kind == Block {
            lines.push((*name).to_owned());
            lines.extend(block(found).lines().map(|line| format!("  | {line}")));
        } else {
            lines.push(format!("{name:<wide$}  {}", tint(&line(found, *kind))));
        }
    }
    lines.join("\n")
}

fn line(value: &Value, kind: Kind) -> String {
    match (value, kind) {
        (Value::Null, Chosen) => "not chosen yet".to_owned(),
        (value, Stop) => odd_stop(value).unwrap_or("-").to_owned(),
        (Value::Null, _) => "-".to_owned(),
        (value, Time) => value.as_u64().map_or_else(|| "-".to_owned(), |ms| time(ms, SystemClock.wall_ms())),
        (Value::String(text), _) => escape(text),
        (Value::Bool(yes), _) => if *yes { "yes" } else { "no" }.to_owned(),
        (Value::Array(items), _) => items.iter().map(|item| line(item, Word)).collect::<Vec<_>>().join(", "),
        (other, _) => escape(&other.to_string()),
    }
}

/// Why a model stopped, where its answer is not whole for that, or may not be.
pub fn odd_stop(stop: &Value) -> Option<&'static str> {
    match stop.as_str()? {
        "max_tokens" => Some("the model reached its limit of tokens, so its answer is cut"),
        "content_filter" => Some("the provider held the rest of the answer back"),
        "other" => Some("the model stopped for none of the usual reasons, so its answer may be cut"),
        _ => None,
    }
}

fn block(value: &Value) -> String {
    match value {
        Value::String(text) => escape_lines(text),
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join("\n"),
        other => escape(&other.to_string()),
    }
}

/// An option of a question, or a warning: its id or code, and its words.
fn item(value: &Value) -> String {
    let word = |name: &str| value[name].as_str().map(escape);
    let name = word("id").or_else(|| word("code")).unwrap_or_default();
    let words = [word("label"), word("description"), word("detail")];
    let words: Vec<String> = words.into_iter().flatten().collect();
    format!("{name}: {}", words.join("; "))
}

/// A moment as people read it, with its distance from now.
pub fn time(at_ms: u64, now_ms: u64) -> String {
    let (days, seconds) = (at_ms / 86_400_000, at_ms / 1_000 % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let moment = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z");
    if at_ms > now_ms {
        format!("{moment} (in {})", span(at_ms - now_ms))
    } else {
        format!("{moment} ({} ago)", span(now_ms - at_ms))
    }
}

fn span(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from the first of March of the year 0, so that a leap day ends a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(time(0, 0), "1970-01-01 00:00:00Z (0 s ago)");
        assert_eq!(time(951_782_400_000, 951_782_400_000 + 125_000), "2000-02-29 00:00:00Z (2 min ago)");
        assert_eq!(time(1_798_761_599_000, 1_798_761_599_000 - 7_200_000), "2026-12-31 23:59:59Z (in 2 h)");
    }

    #[test]
    fn a_table_keeps_ids_whole_cuts_long_words_and_shows_what_would_move_the_cursor() {
        let id = "session_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let value = json!({ "items": [
            { "session_id": id, "status": "active", "runs": 2, "title": format!("a\u{1b}[31m{}", "x".repeat(200)) },
        ]});
        let text = render(SESSIONS, &value);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].starts_with(id) && lines[1].contains("a\\u{1b}[31m") && lines[1].ends_with('…'), "{text}");
        assert_eq!(render(SESSIONS, &json!({ "items": [] })), "none");
    }

    #[test]
    fn a_card_leaves_out_what_is_absent_and_indents_what_is_long() {
        let value = json!({ "run_id": "run_1", "status": "queued", "output": "one\ntwo\u{7}", "error": null });
        assert_eq!(
            render(RUN, &value),
            "run        run_1\nstatus     queued\nrehearsal  not chosen yet\noutput\n  | one\n  | two\\u{7}"
        );
        let ended = |stop: &str| render(RUN, &json!({ "rehearsal": true, "stop": stop }));
        assert_eq!(ended("end_turn"), "rehearsal  yes");
        assert!(ended("max_tokens").contains("\nended early  the model reached its limit of tokens"));
    }
}
