//! What someone should look at, and whether it means that something is not in order.

use serde::Serialize;

use super::readiness::ProviderReadiness;
use super::{Probe, Storage};
use crate::domain::runtime::DebugLevel;

/// How long a run that could start may wait before that is a failure, milliseconds.
const QUEUED_LAG_MS: u64 = 5 * 60 * 1_000;
/// How long a run may work without a record before that is a failure, milliseconds: longer than any one step.
const STALE_RUN_MS: u64 = 15 * 60 * 1_000;

/// How much a warning weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; health is ok all the same.
    Advice,
    /// Something is not in order.
    Failure,
}

/// Something that someone should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Warning {
    /// Stable code.
    pub code: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// One sentence.
    pub detail: String,
}

impl Warning {
    pub(super) fn failure(code: &'static str, detail: String) -> Self {
        Self { code, severity: Severity::Failure, detail }
    }

    pub(super) fn advice(code: &'static str, detail: &str) -> Self {
        Self { code, severity: Severity::Advice, detail: detail.to_owned() }
    }
}

/// Of the storage: each probe that is not in order, or could not be measured.
pub(super) fn storage(storage: &Storage) -> impl Iterator<Item = Warning> {
    let bad = |probe: &&Probe| probe.ok != Some(true);
    let warning = |probe: &Probe| Warning::failure("storage_probe", format!("{}: {}", probe.name, probe.detail));
    storage.probes.iter().filter(bad).map(warning)
}

/// Of the runs: one that could start and does not, and one that works and is silent.
pub(super) fn runs(startable_age_ms: u64, running_idle_ms: u64) -> impl Iterator<Item = Warning> {
    let lag = (startable_age_ms > QUEUED_LAG_MS).then(|| {
        let detail = format!("A run that nothing holds up has been queued for {} s.", startable_age_ms / 1_000);
        Warning::failure("queued_run_lag", detail)
    });
    let stale = (running_idle_ms > STALE_RUN_MS).then(|| {
        let detail = format!("A run works and has left no record for {} s.", running_idle_ms / 1_000);
        Warning::failure("stale_run", detail)
    });
    lag.into_iter().chain(stale)
}

/// Of the sandbox, by its label.
pub(super) fn sandbox(label: &str) -> Option<Warning> {
    match label {
        "off" => Some(Warning::advice("sandbox_off", "Commands of agents are not confined: --tool-sandbox is off.")),
        "unavailable" => Some(Warning::failure(
            "sandbox_below_floor",
            "This kernel cannot confine commands, so agents' shell commands are refused.".to_owned(),
        )),
        _ => None,
    }
}

/// Of authentication, by its mode.
pub(super) fn authentication(mode: &str) -> Option<Warning> {
    let detail = "Nobody is asked who they are: every program on this machine may decide approvals. Start with \
                  --http-auth-mode auto.";
    (mode == "none").then(|| Warning::advice("auth_off", detail))
}

/// Of the debug level.
pub(super) fn debug(level: DebugLevel) -> Option<Warning> {
    let detail = "The debug level is full: what models and tools are told and say is kept in files for a day, secrets \
                  included. Set it to off when you are done, and replace what may have been written.";
    (level == DebugLevel::Full).then(|| Warning::advice("debug_full", detail))
}

/// Of the routes.
pub(super) fn routes(readiness: &ProviderReadiness) -> impl Iterator<Item = Warning> {
    let broken = readiness.file_problem.as_ref().map(|problem| {
        let detail = format!("The routes file is broken and the last good routes stay in force: {problem}");
        Warning::failure("routes_file_broken", detail)
    });
    broken.into_iter().chain(keyless(readiness)).chain(rehearsal_only(readiness))
}

fn keyless(readiness: &ProviderReadiness) -> Option<Warning> {
    let route = readiness.routes.iter().find(|route| route.active && route.credential_ready == Some(false))?;
    let slot = route.auth_ref.as_deref().unwrap_or_default();
    let detail = format!(
        "The default route {} has no key: the slot {slot} holds none that can be used. Store one with `chancery secrets set {slot}`.",
        route.route_id
    );
    Some(Warning::failure("route_not_ready", detail))
}

/// Of the secrets that do not open, by their names.
pub(super) fn secrets(corrupt: &[String]) -> Option<Warning> {
    let detail = || {
        format!(
            "What is stored does not open: {}. Store it again with `chancery secrets set`, or delete it with \
             `chancery secrets delete`.",
            corrupt.join(", ")
        )
    };
    (!corrupt.is_empty()).then(|| Warning::failure("vault_slot_corrupt", detail()))
}

fn rehearsal_only(readiness: &ProviderReadiness) -> Option<Warning> {
    let rehearsal = readiness.routes.iter().all(|route| route.rehearsal);
    let detail = "Every route is a rehearsal: scripts answer, no model is asked. Name a route in a routes file.";
    rehearsal.then(|| Warning::advice("rehearsal_only", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_becomes_a_failure_only_behind_its_bound() {
        let codes = |age, idle| runs(age, idle).map(|warning| warning.code).collect::<Vec<_>>();
        assert_eq!(codes(QUEUED_LAG_MS, STALE_RUN_MS), Vec::<&str>::new());
        assert_eq!(codes(QUEUED_LAG_MS + 1, STALE_RUN_MS + 1), ["queued_run_lag", "stale_run"]);
    }

    #[test]
    fn a_level_at_which_secrets_are_kept_is_advice() {
        let levels = [DebugLevel::Off, DebugLevel::Redacted, DebugLevel::Full];
        let found = levels.map(|level| debug(level).map(|warning| (warning.code, warning.severity)));
        assert_eq!(found, [None, None, Some(("debug_full", Severity::Advice))]);
    }

    #[test]
    fn a_door_that_asks_nobody_is_advice() {
        assert_eq!(authentication("bearer"), None);
        let found = authentication("none").map(|warning| (warning.code, warning.severity));
        assert_eq!(found, Some(("auth_off", Severity::Advice)));
    }

    #[test]
    fn a_sandbox_that_was_switched_off_is_advice_and_one_that_cannot_be_is_a_failure() {
        let found = ["landlock-abi-7+seccomp", "off", "unavailable"]
            .map(|label| sandbox(label).map(|warning| (warning.code, warning.severity)));
        let off = Some(("sandbox_off", Severity::Advice));
        assert_eq!(found, [None, off, Some(("sandbox_below_floor", Severity::Failure))]);
    }
}
