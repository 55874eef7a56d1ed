//! A record: one event with its place, its time and who caused it. The order of fields here is the order of keys in
//! the journal's lines and is a promise of the format.

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::event::Event;
use super::stream::Stream;

/// The organisation of everything that has no other.
pub const DEFAULT_ORG: &str = "default";

/// The request that a record belongs to; stands on the first record of a request, and on the end of a model call after which
/// its key may be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestFacts {
    /// `X-Request-Id`, accepted or made.
    pub id: String,
    /// `Idempotency-Key`, where the client sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the key is unique within: `<principal> <METHOD> <route pattern or path>`.
    pub scope: String,
    /// First 16 bytes, hex, of HMAC-SHA256 over the raw body under the fingerprint key; only where there is a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_mac: Option<String>,
}

/// One record, as facts. The journal renders and parses its line.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Index of its leaf in the tree; rises by one per line, seals included.
    pub seq: u64,
    /// Wall clock, Unix milliseconds UTC. May go back; order is `seq` alone.
    pub at_ms: u64,
    /// Milliseconds of boot time since the context in force was recorded.
    pub mono_ms: u64,
    /// Organisation; `default` until there are more.
    pub org: String,
    /// What it belongs to.
    pub stream: Stream,
    /// The project, where one applies.
    pub project: Option<String>,
    /// The subject whose words it holds, where one applies.
    pub subject: Option<String>,
    /// Who acted.
    pub actor: Actor,
    /// The chain above the actor, nearest first.
    pub on_behalf_of: Vec<Actor>,
    /// Sequence number of the context in force, in the same segment.
    pub ctx: u64,
    /// The request it belongs to, on a request's first record.
    pub request: Option<RequestFacts>,
    /// Sequence number of the record that led here.
    pub cause: Option<u64>,
    /// An operator's words.
    pub reason: Option<String>,
    /// What happened.
    pub event: Event,
}

/// An event on its way into the journal: all of a record that a decision knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Organisation.
    pub org: String,
    /// What it belongs to.
    pub stream: Stream,
    /// Sequence number of the record that led here.
    pub cause: Option<u64>,
    /// An operator's words.
    pub reason: Option<String>,
    /// What happened.
    pub event: Event,
}

impl Draft {
    /// A draft without cause or reason.
    pub fn new(org: &str, stream: Stream, event: Event) -> Self {
        Self { org: org.to_owned(), stream, cause: None, reason: None, event }
    }
}

/// What all records of one decision share.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// The organisation acted in.
    pub org: String,
    /// Who acts.
    pub actor: Actor,
    /// The chain above the actor, nearest first.
    pub on_behalf_of: Vec<Actor>,
    /// The request, written on the first record.
    pub request: Option<RequestFacts>,
}

impl Record {
    /// A record that the daemon makes about itself.
    pub fn by_system(seq: u64, ctx: u64, at_ms: u64, stream: Stream, event: Event) -> Self {
        Self {
            seq,
            at_ms,
            mono_ms: 0,
            org: "default".to_owned(),
            stream,
            project: None,
            subject: None,
            actor: Actor::system("daemon"),
            on_behalf_of: Vec::new(),
            ctx,
            request: None,
            cause: None,
            reason: None,
            event,
        }
    }
}

impl Provenance {
    /// What the daemon does by itself, through one of its workers.
    pub fn system(worker: &str) -> Self {
        Self { org: DEFAULT_ORG.to_owned(), actor: Actor::system(worker), on_behalf_of: Vec::new(), request: None }
    }
}
