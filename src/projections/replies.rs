//! Reply targets as people write and see them.

use serde::{Deserialize, Serialize};

use super::Bodies;
use crate::domain::reply::{ConnectorKind, ReplyTarget};

/// Where an answer goes besides the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyTo {
    /// What kind of connector takes it.
    pub kind: ConnectorKind,
    /// The connector's name.
    pub name: String,
    /// Where in the connector's world, such as a channel or a chat; the connector's own default where null.
    #[serde(default)]
    pub address: Option<String>,
}

impl ReplyTo {
    /// A target as it is shown.
    pub(super) fn of(target: &ReplyTarget, bodies: &dyn Bodies) -> Self {
        let address = target.address.as_ref().and_then(|address| bodies.text(address));
        Self { kind: target.kind, name: target.name.clone(), address }
    }
}

impl From<ReplyTo> for ReplyTarget {
    fn from(wanted: ReplyTo) -> Self {
        Self { kind: wanted.kind, name: wanted.name, address: wanted.address.map(Into::into) }
    }
}
