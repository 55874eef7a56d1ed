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

/// Codes that nothing refuses with yet: they belong to parts of the house that do not exist. A test compares the list with
/// the source.
const NOT_YET: &[&str] = &[
    "auth.invite_required",
    "auth.membership_missing",
    "auth.role_insufficient",
    "auth.scope_insufficient",
    "auth.token_expired",
    "auth.token_revoked",
    "backup.archive_invalid",
    "backup.archive_unsafe",
    "backup.target_not_empty",
    "billing.provider_unavailable",
    "billing.subscription_inactive",
    "billing.subscription_limit_exceeded",
    "billing.subscription_required",
    "byok.key_missing",
    "byok.provider_disabled",
    "byok.unsupported_provider",
    "byok.validation_failed",
    "connector.file_backed",
    "connector.in_use",
    "connector.not_found",
    "connector.timestamp_out_of_range",
    "cursor.expired",
    "delivery.not_dead",
    "delivery.not_found",
    "desktop.managed_org_required",
    "gateway.channel_not_bound",
    "gateway.identity_not_allowed",
    "gateway.signature_required",
    "project.application_disabled",
    "project.application_not_found",
    "project.invalid_publishable_key",
    "project.invalid_secret_key",
    "quota.gateway_delivery_limit_exceeded",
    "quota.prompt_limit_exceeded",
    "quota.worker_limit_exceeded",
    "rate.limited",
    "request.already_done",
    "schedule.not_found",
    "secret.already_shown",
    "support.diagnostics_redaction_required",
    "workspace.missing_byok_credential",
    "workspace.missing_platform_proxy",
    "workspace.model_required",
    "workspace.provision_failed",
    "workspace.runtime_unsupported",
    "workspace.unregistered_model_for_runtime",
];

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
        if NOT_YET.contains(&code) {
            let _ = writeln!(
                page,
                "Not in this release: nothing refuses with it yet, and a command named below may not exist."
            );
        }
        let _ = writeln!(page, "\nNext: {}", reason.next());
    }
    page
}

const LIMITS_HEAD: &str = "# Limits\n\nA request beyond a limit is refused with a code of [errors.md](errors.md), never cut short in silence. What is told to a model is\n\
    shortened and says so ([agents.md](agents.md)). The tables are printed\n\
    from the source by `chancery schema print --write .`; the unit is in the name (`_BYTES`, `_MS` for milliseconds).\n";

const LIMITS_TAIL: &str = "\n## Known gaps\n\n\
    * One machine, one daemon a state root. There is no replication.\n\
    * Whole batches that are cut off after the newest note that anyone outside holds can't be noticed from inside. Keep notes\n  \
      or receipts elsewhere.\n\
    * An approval binds the call, not what a command reads or downloads while it runs.\n\
    * The disk reserve is no promise on copy-on-write file systems.\n\
    * Large words of a request that is refused are removed from `artifacts/`. Where a kill, or an error after which nobody knows whether\n  \
      a record names them, came between, they stay, and so do those of refused steps of a run.\n\
    * Backup and restore, organisations other than `default`, connectors and webhooks do not exist yet.\n";

/// A limit: its name, its value, and its sentence.
type Limit = (String, String, String);

/// The files of limits that hold constants, with their headings. The first is that of the domain, whose limits others name.
const LIMIT_FILES: [(&str, &str); 6] = [
    ("What is kept and decided", include_str!("../../domain/limits.rs")),
    ("Runs", include_str!("../runner/limits.rs")),
    ("Tools", include_str!("../../agent/tools/limits.rs")),
    ("Confined commands", include_str!("../../agent/sandbox/limits.rs")),
    ("Model providers", include_str!("../../outbound/limits.rs")),
    ("Routes and settings", include_str!("../../config/limits.rs")),
];

fn limits() -> String {
    let mut page = String::from(LIMITS_HEAD);
    let mut of_domain = Vec::new();
    for (heading, source) in LIMIT_FILES {
        let limits = constants(source);
        table(&mut page, heading, &limits, &of_domain);
        if of_domain.is_empty() {
            of_domain = limits;
        }
    }
    let source = include_str!("../../http/limits.rs");
    let doors = [super::fields(source), constants(source)].concat();
    table(&mut page, "The door", &doors, &of_domain);
    page.push_str(LIMITS_TAIL);
    page
}

fn table(page: &mut String, heading: &str, limits: &[Limit], of_domain: &[Limit]) {
    let _ = write!(page, "\n## {heading}\n\n| limit | value | meaning |\n|---|---:|---|\n");
    for (name, value, about) in limits {
        // A limit that is one of the domain's names it.
        let named = value.trim_matches('`').split(' ').next().and_then(|path| path.rsplit_once("::"));
        let found = named.and_then(|(_, name)| of_domain.iter().find(|(constant, _, _)| constant == name));
        let value = found.map_or(value, |(_, value, _)| value);
        let _ = writeln!(page, "| `{name}` | {value} | {about} |");
    }
}

/// Public constants of a source file with their values and their sentence.
fn constants(source: &str) -> Vec<Limit> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_printed_as_a_number() {
        let page = limits();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let values: Vec<&str> = rows.filter_map(|row| row.split(" | ").nth(1)).collect();
        assert!(values.len() > 150, "{values:?}");
        for value in values {
            assert!(value.parse::<u64>().is_ok(), "{value}");
        }
        for row in ["`body_bytes` | 1048576", "`COMMAND_MS_MAX` | 600000", "`ANSWER_CALLS` | 64"] {
            assert!(page.contains(&format!("| {row} |")), "{row}: {page}");
        }
    }
}
