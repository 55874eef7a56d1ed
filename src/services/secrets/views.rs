//! Secrets, subjects and leases as they are shown: what is known about them, and nothing of a secret.

use serde::Serialize;

use crate::domain::ids::LeaseId;
use crate::domain::secret::{Provider, SlotState};
use crate::projections::vault::{RevokedSubject, Version};
use crate::services::credentials::Standing;

/// Whether a secret can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It opens.
    Ok,
    /// What is stored does not open.
    Corrupt,
    /// The daemon has no master key.
    Locked,
    /// It was revoked.
    Revoked,
}

/// A secret, as it is shown: what is known about it, and nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SecretView {
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What it is for.
    pub provider: Provider,
    /// How the slot stands.
    pub status: SlotState,
    /// Whether it can be used.
    pub health: Health,
    /// The newest version.
    pub version: u64,
    /// Keyed fingerprint of the newest version, hex.
    pub fingerprint: String,
    /// Its last four characters, where it is long enough.
    pub last4: Option<String>,
    /// When the slot first had a secret, Unix milliseconds.
    pub created_at_ms: u64,
    /// When it last changed, Unix milliseconds.
    pub updated_at_ms: u64,
    /// When a call last had a lease on it, Unix milliseconds.
    pub last_used_at_ms: Option<u64>,
    /// Leases that it ever had.
    pub uses: u64,
    /// Its newest versions, oldest first.
    pub versions: Vec<Version>,
    /// Routes that name it.
    pub routes: Vec<String>,
}

/// What came of a change to a secret, a subject or a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RevocationView {
    /// The secret, where one was named.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The version of it that is no longer used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The subject, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether it is revoked now.
    pub revoked: bool,
    /// Leases that ended with this.
    pub leases_revoked: Vec<LeaseId>,
}

/// A secret that was stored, and the leases on its earlier versions that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct StoredSecret {
    /// The secret.
    #[serde(flatten)]
    pub secret: SecretView,
    /// Leases that ended with this.
    pub leases_revoked: Vec<LeaseId>,
}

/// All secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SecretList {
    /// By name.
    pub items: Vec<SecretView>,
    /// Whether the daemon has a master key.
    pub open: bool,
    /// Stored entries that cannot be read at all: their names are lost.
    pub unreadable: usize,
}

/// Subjects that get no lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SubjectList {
    /// By name.
    pub items: Vec<RevokedSubject>,
}

/// Who may use which secret, for what and because of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct CredentialGrant {
    /// `route/<id>`, and with it every run, session and token that calls over the route, unless it was revoked itself.
    pub subject: String,
    /// The secret's name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What the secret is for; null where there is none.
    pub provider: Option<Provider>,
    /// Scheme, host and port of the only place where it is sent; null where nothing is.
    pub audience: Option<String>,
    /// What gives it: `routes_file`.
    pub source: &'static str,
    /// Whether a lease would be given now.
    pub state: Standing,
    /// Calls that go on and use it.
    pub active_leases: usize,
}

/// All grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct GrantList {
    /// By subject.
    pub items: Vec<CredentialGrant>,
}
