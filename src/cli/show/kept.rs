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
