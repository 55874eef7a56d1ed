//! Who did it: the actor of a record, and the chain of those it acted for.

use serde::{Deserialize, Serialize};

/// What kind of thing acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A signed-in person.
    Human,
    /// The holder of a bearer token.
    Token,
    /// An ingress connector.
    Connector,
    /// An agent, inside a run.
    Agent,
    /// A schedule that came due.
    Schedule,
    /// The daemon itself.
    System,
}

/// The credential that an actor showed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialRef {
    /// Public id of the credential, such as the id part of a token.
    pub id: String,
    /// Keyed fingerprint, hex; never the credential or a plain hash of it.
    pub fp: String,
}

/// Who acted, through which door, and whether that was proven.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What kind of thing acted.
    pub kind: ActorKind,
    /// Stable id within its kind, such as `admin` or `run_01J…`.
    pub id: String,
    /// The door: `http`, `unix`, `cli`, `worker`.
    pub via: String,
    /// The credential shown, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialRef>,
    /// Whether the identity was proven rather than asserted.
    pub verified: bool,
}

impl Actor {
    /// The daemon itself, acting through one of its workers.
    pub fn system(id: &str) -> Self {
        Self { kind: ActorKind::System, id: id.to_owned(), via: "worker".to_owned(), credential: None, verified: true }
    }
}
