//! The stream that a record belongs to: one noun and, where there are many of it, an id.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::{ModelCallId, RunId, SessionId};

/// What a record is about. Written `session/session_01J…`, `run/run_01J…`, or a word that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// The journal's own affairs.
    Journal,
    /// The daemon's life.
    Daemon,
    /// Runtime configuration.
    Runtime,
    /// Tokens and access of the control plane.
    ControlPlane,
    /// Secrets, and who may use them.
    Vault,
    /// Budgets.
    Ledger,
    /// One session.
    Session(SessionId),
    /// One run, with its turns, calls, approvals, questions and tasks.
    Run(RunId),
    /// One model call of a client.
    ModelCall(ModelCallId),
}

impl Stream {
    /// Parses the written form.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "journal" => Some(Self::Journal),
            "daemon" => Some(Self::Daemon),
            "runtime" => Some(Self::Runtime),
            "control_plane" => Some(Self::ControlPlane),
            "vault" => Some(Self::Vault),
            "ledger" => Some(Self::Ledger),
            _ => match text.split_once('/')? {
                ("session", id) => SessionId::parse(id).ok().map(Self::Session),
                ("run", id) => RunId::parse(id).ok().map(Self::Run),
                ("model_call", id) => ModelCallId::parse(id).ok().map(Self::ModelCall),
                (_noun, _id) => None,
            },
        }
    }

    /// The run, where this is a run's stream.
    pub fn run(self) -> Option<RunId> {
        if let Self::Run(id) = self { Some(id) } else { None }
    }

    /// The model call, where this is a model call's stream.
    pub fn model_call(self) -> Option<ModelCallId> {
        if let Self::ModelCall(id) = self { Some(id) } else { None }
    }

    /// The session, where this is a session's stream.
    pub fn session(self) -> Option<SessionId> {
        if let Self::Session(id) = self { Some(id) } else { None }
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Journal => f.write_str("journal"),
            Self::Daemon => f.write_str("daemon"),
            Self::Runtime => f.write_str("runtime"),
            Self::ControlPlane => f.write_str("control_plane"),
            Self::Vault => f.write_str("vault"),
            Self::Ledger => f.write_str("ledger"),
            Self::Session(id) => write!(f, "session/{id}"),
            Self::Run(id) => write!(f, "run/{id}"),
            Self::ModelCall(id) => write!(f, "model_call/{id}"),
        }
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a stream"))
    }
}

impl schemars::JsonSchema for Stream {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Stream".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(journal|daemon|runtime|control_plane|vault|ledger|session/session_[0-7][0-9A-HJKMNP-TV-Z]{25}|run/run_[0-7][0-9A-HJKMNP-TV-Z]{25}|model_call/mcall_[0-7][0-9A-HJKMNP-TV-Z]{25})$",
        })
    }
}
