//! The bearer tokens that the journal knows of: their keyed fingerprints as last recorded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::runtime::{TokenChanged, TokenRole};

/// The last recorded token of each role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    fingerprints: BTreeMap<TokenRole, String>,
}

impl Tokens {
    pub(super) fn changed(&mut self, body: &TokenChanged) {
        self.fingerprints.insert(body.role, body.fp.clone());
    }

    /// Whether this is the token of its role that was recorded last.
    pub fn names(&self, token: &TokenChanged) -> bool {
        self.fingerprints.get(&token.role) == Some(&token.fp)
    }
}
