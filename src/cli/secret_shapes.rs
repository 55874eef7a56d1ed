//! How secrets, leases and subjects are shown.

use super::show::Kind::{Text, Time, Word};
use super::show::Shape;

/// Secrets in a list.
pub const SECRETS: Shape = Shape::Table(&[
    ("SECRET", "ref", Word),
    ("PROVIDER", "provider", Word),
    ("STATUS", "status", Word),
    ("HEALTH", "health", Word),
    ("VERSION", "version", Word),
    ("LAST 4", "last4", Word),
    ("UPDATED", "updated_at_ms", Time),
    ("LAST USED", "last_used_at_ms", Time),
]);
/// One secret.
pub const SECRET: Shape = Shape::Card(&[
    ("secret", "ref", Word),
    ("provider", "provider", Word),
    ("status", "status", Word),
    ("health", "health", Word),
    ("version", "version", Word),
    ("fingerprint", "fingerprint", Word),
    ("last 4", "last4", Word),
    ("routes", "routes", Word),
    ("uses", "uses", Word),
    ("created", "created_at_ms", Time),
    ("updated", "updated_at_ms", Time),
    ("last used", "last_used_at_ms", Time),
    ("leases revoked", "leases_revoked", Word),
]);
/// What was revoked or deleted.
pub const REVOCATION: Shape = Shape::Card(&[
    ("secret", "ref", Word),
    ("version", "version", Word),
    ("subject", "subject", Word),
    ("revoked", "revoked", Word),
    ("leases revoked", "leases_revoked", Word),
]);
/// Leases in a list.
pub const LEASES: Shape = Shape::Table(&[
    ("LEASE", "lease_id", Word),
    ("STATUS", "status", Word),
    ("SECRET", "ref", Word),
    ("VERSION", "version", Word),
    ("SUBJECT", "subject", Word),
    ("ROUTE", "route", Text),
    ("ISSUED", "issued_at_ms", Time),
]);
/// One lease.
pub const LEASE: Shape = Shape::Card(&[
    ("lease", "lease_id", Word),
    ("status", "status", Word),
    ("secret", "ref", Word),
    ("version", "version", Word),
    ("fingerprint", "fp", Word),
    ("subject", "subject", Word),
    ("route", "route", Word),
    ("issued", "issued_at_ms", Time),
]);
/// Subjects that get no secret.
pub const SUBJECTS: Shape = Shape::Table(&[("SUBJECT", "subject", Word), ("REVOKED", "revoked_at_ms", Time)]);
/// Who may use which secret.
pub const GRANTS: Shape = Shape::Table(&[
    ("SUBJECT", "subject", Text),
    ("SECRET", "ref", Word),
    ("PROVIDER", "provider", Word),
    ("AUDIENCE", "audience", Text),
    ("SOURCE", "source", Word),
    ("STATE", "state", Word),
    ("LEASES", "active_leases", Word),
]);
/// Another master key.
pub const REKEYED: Shape = Shape::Card(&[("slots", "slots", Word), ("resumed", "resumed", Word)]);
