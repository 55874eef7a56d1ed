//! Identifiers. Every id is `<noun>_<ULID>`: 26 Crockford characters whose order is the order of creation.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// Why a text is not an id of the wanted noun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {noun} id: expected {noun}_ and 26 characters")]
pub struct NotAnId {
    noun: &'static str,
}

/// Declares an id type with its noun.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// The noun in front of the underscore.
            pub const NOUN: &'static str = $noun;

            /// Bytes of the written form.
            pub const LENGTH: usize = $noun.len() + 1 + ulid::ULID_LEN;

            /// Makes the id from a fresh ULID.
            pub fn from_ulid(ulid: Ulid) -> Self {
                Self(ulid)
            }

            /// The ULID behind the noun.
            pub fn ulid(self) -> Ulid {
                self.0
            }

            /// Parses the written form; the ULID must be in its one canonical spelling.
            pub fn parse(text: &str) -> Result<Self, NotAnId> {
                let fault = NotAnId { noun: $noun };
                let rest = text.strip_prefix(concat!($noun, "_")).ok_or(fault.clone())?;
                let ulid = Ulid::from_string(rest).map_err(|_| fault.clone())?;
                let mut buffer = [0; ulid::ULID_LEN];
                if ulid.array_to_str(&mut buffer) == rest { Ok(Self(ulid)) } else { Err(fault) }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut buffer = [0; ulid::ULID_LEN];
                f.write_str(concat!($noun, "_"))?;
                f.write_str(self.0.array_to_str(&mut buffer))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $noun, "_[0-7][0-9A-HJKMNP-TV-Z]{25}$"),
                })
            }
        }
    };
}

id!(
    /// A durable conversation.
    SessionId, "session"
);
id!(
    /// One execution request inside a session.
    RunId, "run"
);
id!(
    /// One request for permission to make one exact call.
    ApprovalId, "approval"
);
id!(
    /// One question to a person.
    QuestionId, "question"
);
id!(
    /// One background shell task.
    TaskId, "task"
);
id!(
    /// One tool call within a run.
    CallId, "call"
);
id!(
    /// One model call of a client behind the gateway.
    ModelCallId, "mcall"
);
id!(
    /// One start of the daemon.
    BootId, "boot"
);
id!(
    /// One state root, for life.
    RootId, "root"
);
id!(
    /// One incarnation of a state root: minted at creation and at each restore.
    EpochId, "epoch"
);
id!(
    /// One HTTP request.
    RequestId, "req"
);
id!(
    /// The key that one session's words are encrypted under.
    SubjectKeyId, "key"
);
id!(
    /// One use of one secret by one call.
    LeaseId, "lease"
);

/// Makes fresh ULIDs whose order never goes back, even where the clock does.
#[derive(Debug, Clone)]
pub struct IdSource {
    last: Ulid,
}

impl IdSource {
    /// A source whose ids lie behind `last`.
    pub fn after(last: Ulid) -> Self {
        Self { last }
    }

    /// The next ULID: its time is `now_ms` where that is ahead of the last id, else the last id plus one.
    /// `entropy` gives the random part and must be fresh for each call.
    pub fn next(&mut self, now_ms: u64, entropy: u128) -> Ulid {
        let fresh = Ulid::from_parts(now_ms, entropy);
        self.last = if now_ms > self.last.timestamp_ms() { fresh } else { Ulid(self.last.0.wrapping_add(1)) };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = SessionId::from_ulid(Ulid::from_parts(1_700_000_000_000, 42));
        assert_eq!(SessionId::parse(&id.to_string()), Ok(id));
        assert!(id.to_string().starts_with("session_01"));
    }

    #[test]
    fn another_noun_or_a_second_spelling_is_refused() {
        let id = SessionId::from_ulid(Ulid::from_parts(1_700_000_000_000, 42)).to_string();
        assert!(RunId::parse(&id).is_err());
        assert!(SessionId::parse(&id.to_lowercase()).is_err());
        assert!(SessionId::parse("session_").is_err());
        assert!(SessionId::parse("session_ZZZZZZZZZZZZZZZZZZZZZZZZZZ").is_err());
    }

    #[test]
    fn ids_rise_while_the_clock_goes_back() {
        let mut source = IdSource::after(Ulid::nil());
        let first = source.next(2_000, 7);
        let second = source.next(1_000, 3);
        let third = source.next(2_001, 0);
        assert!(first < second && second < third);
    }
}
