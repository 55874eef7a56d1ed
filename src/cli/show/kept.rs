//! Shapes of what is kept of a run besides its records.

use super::Kind::{Text, Time, Word};
use super::Shape;

/// What is kept of a run.
pub const ARTIFACTS: Shape = Shape::Table(&[
    ("ARTEFACT", "artifact_id", Word),
    ("KIND", "kind", Word),
    ("LEVEL", "level", Word),
    ("WHEN", "at_ms", Time),
    ("EXPIRES", "expires_at_ms", Time),
    ("BYTES", "bytes", Word),
]);
/// What a run did outside of the daemon.
pub const EXTERNAL_ACTIONS: Shape = Shape::Table(&[
    ("RECORD", "intent_seq", Word),
    ("WHEN", "at_ms", Time),
    ("KIND", "kind", Word),
    ("WHAT", "what", Text),
    ("OUTCOME", "outcome", Word),
    ("ITS RECORD", "outcome_seq", Word),
    ("CODE", "code", Word),
    ("REHEARSAL", "rehearsal", Word),
]);
/// Calls of clients.
pub const MODEL_CALLS: Shape = Shape::Table(&[
    ("RECORD", "intent_seq", Word),
    ("WHEN", "at_ms", Time),
    ("CALL", "model_call_id", Word),
    ("WHAT", "what", Text),
    ("ENDED AS", "ended_as", Word),
    ("COST", "cost.micros", Word),
    ("ITS RECORD", "outcome_seq", Word),
    ("CODE", "code", Word),
]);
/// One call of a client.
pub const MODEL_CALL: Shape = Shape::Card(&[
    ("call", "model_call_id", Word),
    ("route and model", "what", Text),
    ("when", "at_ms", Time),
    ("session", "session_id", Word),
    ("ended as", "ended_as", Word),
    ("code", "code", Word),
    ("cost", "cost.micros", Word),
    ("its basis", "cost.basis", Word),
    ("key", "credential_fp", Word),
    ("record", "intent_seq", Word),
    ("its end", "outcome_seq", Word),
]);
