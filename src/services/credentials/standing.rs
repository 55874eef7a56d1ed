//! Who may use which secret: one rule, by which leases are given and grants are listed.

use crate::domain::context::ClockTrust;
use crate::domain::reason::{Reason, Refusal};
use crate::domain::secret::SlotState;
use crate::projections::Models;

/// Whether a secret may be used, and otherwise what stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    Allowed,
    /// The daemon has no master key.
    Locked,
    /// The clock is not trusted.
    ClockUntrusted,
    /// The subject was revoked.
    SubjectRevoked,
    /// There is no such secret.
    SlotMissing,
    /// The secret was revoked.
    SlotRevoked,
    /// What is stored does not open.
    SlotCorrupt,
}

/// What stands in the way, and what whoever asks for a lease is told.
pub(super) type Hindrance = (Standing, Refusal);

/// The version in force and its fingerprint, from what is published.
pub(super) fn in_force(models: &Models, org: &str, reference: &str) -> Result<(u64, String), Hindrance> {
    let missing = || Refusal::new(Reason::RouteCredentialMissing, format!("There is no secret {reference}."));
    let slot = models.secret(org, reference).map_err(|_| (Standing::SlotMissing, missing()))?;
    if slot.state == SlotState::Revoked {
        let detail = format!("The secret {reference} was revoked; store another one.");
        return Err((Standing::SlotRevoked, Refusal::new(Reason::VaultLeaseRevoked, detail)));
    }
    Ok((slot.newest(), slot.fp().to_owned()))
}

/// The same, where these subjects may use it; the decision looks again.
pub(super) fn granted(
    models: &Models,
    org: &str,
    reference: &str,
    subjects: &[String],
) -> Result<(u64, String), Hindrance> {
    if models.clock.trust != ClockTrust::Trusted {
        let refusal = Refusal::new(Reason::TimeUntrusted, "No lease is given while the clock is not trusted.");
        return Err((Standing::ClockUntrusted, refusal));
    }
    if let Some(subject) = models.vault.revoked_of(models.names.find(org), subjects) {
        let refusal = Refusal::new(Reason::VaultLeaseRevoked, format!("{subject} was revoked."));
        return Err((Standing::SubjectRevoked, refusal));
    }
    in_force(models, org, reference)
}
