//! Why something was refused or failed: one closed list of codes, each with its status, retry advice, a sentence and
//! a next step. Every room names a [`Reason`]; only the edges turn it into a status, an exit code or a line of text.

mod list;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a reason becomes visible: as an HTTP status, or as the exit code of a command that never got to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// An HTTP status code; a command that meets it exits 1.
    Http(u16),
    /// A process exit code; over HTTP it cannot occur and reads as 500.
    Exit(u8),
}

/// What is fixed about a reason.
#[derive(Debug)]
pub struct ReasonFacts {
    code: &'static str,
    edge: Edge,
    retry: bool,
    effect_possible: bool,
    seed_code: Option<&'static str>,
    title: &'static str,
    next: &'static str,
}

/// One entry of the closed list. Compares by code; serialises as its code.
#[derive(Clone, Copy)]
pub struct Reason(&'static ReasonFacts);

impl Reason {
    /// The stable code, such as `session.not_found`.
    pub fn code(self) -> &'static str {
        self.0.code
    }

    /// HTTP status of a refusal with this reason.
    pub fn http_status(self) -> u16 {
        match self.0.edge {
            Edge::Http(status) => status,
            Edge::Exit(_) => 500,
        }
    }

    /// Process exit code of a command that ends with this reason.
    pub fn exit_code(self) -> u8 {
        match self.0.edge {
            Edge::Http(_) => 1,
            Edge::Exit(code) => code,
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn retry(self) -> bool {
        self.0.retry
    }

    /// Whether the caller may be sure that nothing happened.
    pub fn surely_no_effect(self) -> bool {
        !self.0.effect_possible
    }

    /// The spelling that older runbooks search for, where it differs from ours.
    pub fn seed_code(self) -> Option<&'static str> {
        self.0.seed_code
    }

    /// One sentence for people.
    pub fn title(self) -> &'static str {
        self.0.title
    }

    /// The next step: a command or a place.
    pub fn next(self) -> &'static str {
        self.0.next
    }

    /// The reason with this code.
    pub fn from_code(code: &str) -> Option<Reason> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        self.0.code == other.0.code
    }
}

impl Eq for Reason {}

impl std::fmt::Debug for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.code)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| serde::de::Error::custom(format!("unknown reason code {code:?}")))
    }
}

impl schemars::JsonSchema for Reason {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let codes: Vec<&str> = Self::ALL.iter().map(|reason| reason.code()).collect();
        schemars::json_schema!({ "type": "string", "enum": codes })
    }
}

/// A refusal: the reason, and what is particular about this case. Carries no secret and no personal text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The code from the closed list.
    pub reason: Reason,
    /// What is particular about this case; the reason's title where nothing is.
    pub detail: String,
    /// RFC 6901 pointer into the request's body, or to the query's parameter, where one place is wrong.
    pub pointer: Option<String>,
    /// Milliseconds after which a retry makes sense.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal with a sentence of its own.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), pointer: None, retry_after_ms: None }
    }

    /// Whether the disk takes no writes for now, so that the same may go well as soon as it does.
    pub fn waits_for_disk(&self) -> bool {
        [Reason::StorageFull, Reason::StorageReadOnly].contains(&self.reason)
    }

    /// The same refusal, naming the place in the request body.
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The same refusal, with the time after which a retry makes sense.
    pub fn retry_after_ms(mut self, milliseconds: u64) -> Self {
        self.retry_after_ms = Some(milliseconds);
        self
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason, reason.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_found_again() {
        for pair in Reason::ALL.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{} is out of order", pair[1]);
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
    }

    #[test]
    fn every_reason_has_a_sentence_and_a_next_step() {
        for reason in Reason::ALL {
            assert!(reason.title().ends_with('.') && reason.next().ends_with('.'), "{reason}");
        }
    }
}
