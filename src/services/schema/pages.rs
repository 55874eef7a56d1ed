//! Pages of the documentation that are printed from the code: the reasons, and the limits.

use std::fmt::Write as _;

use super::Files;
use crate::domain::reason::Reason;

/// Adds the pages.
pub(super) fn add(files: &mut Files) {
    files.insert("docs/runbooks/errors.md".to_owned(), errors().into_bytes());
    files.insert("docs/runbooks/limits.md".to_owned(), limits().into_bytes());
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn errors() -> String {
    let mut page = String::from(
        "# Errors\n\nEvery refusal carries one of these codes: in the field `code` of an HTTP problem, on standard error of a command, and\n\
         on the object that failed. *Retry* says whether the same call may succeed later without a change; *surely no effect*\n\
         says whether the caller may be sure that nothing happened. Printed by `chancery schema print --write .`; edit the list\n\
         in `src/domain/reason/list.rs` instead.\n",
    );
    for reason in Reason::ALL {
        let (code, status, exit) = (reason.code(), reason.http_status(), reason.exit_code());
        let (retry, sure) = (yes(reason.retry()), yes(reason.surely_no_effect()));
        let _ = write!(page, "\n## `{code}`\n\n<a id=\"{code}\"></a>{}\n\n", reason.title());
        let _ = writeln!(page, "HTTP {status}, exit code {exit}; retry: {retry}; surely no effect: {sure}.");
        if let Some(seed) = reason.seed_code() {
            let _ = writeln!(page, "Also known as `{seed}`.");
        }
        let _ = writeln!(page, "\nNext: {}", reason.next());
    }
    page
}

const LIMITS_HEAD: &str = "# Limits\n\nA request beyond a limit is refused with a code of [errors.md](errors.md), never cut short in silence. The tables are printed\n\
    from the source by `chancery schema print --write .`; the unit is in the name (`_BYTES`, `_MS` for milliseconds).\n";

const LIMITS_TAIL: &str = "\n## Known gaps\n\n\
    * One machine, one daemon a state root. There is no replication.\n\
    * Whole batches that are cut off behind the newest note that anyone outside holds can't be noticed from inside. Keep notes\n  \
      or receipts elsewhere.\n\
    * An approval binds the call, not what a command reads or downloads while it runs.\n\
    * The disk reserve is no promise on copy-on-write file systems.\n\
    * Vault, backup and restore, organisations other than `default`, connectors and webhooks do not exist yet.\n";

fn limits() -> String {
    let mut page = String::from(LIMITS_HEAD);
    page.push_str("\n## What is kept and decided\n\n| limit | value | meaning |\n|---|---:|---|\n");
    for (name, value, about) in constants(include_str!("../../domain/limits.rs")) {
        let _ = writeln!(page, "| `{name}` | {value} | {about} |");
    }
    let doors = crate::services::schema::fields(include_str!("../../http/limits.rs"));
    page.push_str("\n## The door\n\n| limit | value | meaning |\n|---|---:|---|\n");
    for (name, value, about) in doors {
        let _ = writeln!(page, "| `{name}` | {value} | {about} |");
    }
    page.push_str(LIMITS_TAIL);
    page
}

/// Public constants of a source file with their values and their sentence.
fn constants(source: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut about = Vec::new();
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            about.push(text);
        } else if let Some((name, value)) =
            line.strip_prefix("pub const ").and_then(|rest| rest.trim_end_matches(';').split_once(" = "))
        {
            let name = name.split(':').next().unwrap_or_default().to_owned();
            found.push((name, number(value), about.join(" ")));
            about.clear();
        } else {
            about.clear();
        }
    }
    found
}

/// The value of `n`, `n << n` or `n * n …`; the text itself where it is something else.
pub(super) fn number(text: &str) -> String {
    let plain = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    let value = match text.split_once("<<") {
        Some((left, right)) => plain(left).zip(plain(right)).map(|(left, right)| left << right),
        None => text.split('*').map(plain).product(),
    };
    value.map_or_else(|| format!("`{text}`"), |value| value.to_string())
}
