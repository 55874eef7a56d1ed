//! Which route a request to a model goes over, and why, where that says more than the run's claim.

use serde::{Deserialize, Serialize};

use crate::domain::reason::Reason;

/// Why a call goes over its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteReason {
    /// The run's claim pinned it.
    Pinned,
    /// It stands in for the pinned one, which did not answer.
    Fallback,
}

/// Who pays for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payer {
    /// Whoever runs the daemon.
    Operator,
}

/// Which route was decided on, and what follows from that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteDecision {
    /// Why this route.
    pub why: RouteReason,
    /// Who pays.
    pub payer: Payer,
    /// The slot that holds the key of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_ref: Option<String>,
    /// The route that it stands in for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<String>,
    /// Why the call before it was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Reason>,
}
