//! How far a run is with its current turn.

use serde::{Deserialize, Serialize};

/// How far the current turn is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStage {
    /// None was begun.
    #[default]
    None,
    /// The model was asked.
    Requested,
    /// It answered.
    Answered,
    /// Its answer broke off.
    Failed,
}
