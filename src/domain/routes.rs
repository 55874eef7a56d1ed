//! The routes to models, as far as the journal knows of them: which file is in force.

use serde::{Deserialize, Serialize};

/// `routes.loaded`: routes came into force. Names no address and no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// SHA-256 of the routes file, hex; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Id of the route for runs that ask for none.
    pub default_route: String,
    /// Ids of all routes, in order.
    pub routes: Vec<String>,
}
