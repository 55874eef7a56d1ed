//! The one list of event kinds. It yields the enum, the decoder and the list of schemas; the bodies live with their
//! nouns. Adding a kind means one line here, a fold that no longer compiles, and a sample under `state-schema/`.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::ledger::budget;
use super::stream::Stream;
use super::{
    call, context, credential, erasure, journal, model_call, permission, question, routes, run, runtime, secret,
    session, task, turn,
};

/// Why a body is not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The kind is not on the list.
    #[error("unknown event kind {0:?}")]
    UnknownKind(String),
    /// The kind is known, this version of it is not.
    #[error("unknown version {version} of event kind {kind:?}")]
    UnknownVersion {
        /// The kind.
        kind: String,
        /// The version found.
        version: u32,
    },
    /// The body does not fit the schema.
    #[error("body of {kind}: {source}")]
    Body {
        /// The kind.
        kind: &'static str,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The kind does not occur on such a stream.
    #[error("{kind} does not belong on the stream {stream}")]
    Stream {
        /// The kind.
        kind: &'static str,
        /// The stream found.
        stream: Stream,
    },
}

/// Declares the enum and everything that must know each kind.
macro_rules! events {
    ($($variant:ident($body:path) = $kind:literal v $version:literal on ($stream:pat);)*) => {
        /// What happened. One variant a kind.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "events are short-lived and boxed nowhere else")]
        pub enum Event {
            $(#[doc = concat!("`", $kind, "`")] $variant($body),)*
        }

        impl Event {
            /// The kind, such as `run.started`.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// The version of the body's schema.
            pub fn version(&self) -> u32 {
                match self { $(Self::$variant(_) => $version,)* }
            }

            /// Whether the kind may occur on this stream.
            pub fn belongs_on(&self, stream: &Stream) -> bool {
                match self { $(Self::$variant(_) => matches!(stream, $stream),)* }
            }

            /// Writes the body as compact JSON.
            pub fn write_body(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
                match self { $(Self::$variant(body) => serde_json::to_writer(out, body),)* }
            }

            /// Reads a body; unknown kinds, versions and fields are refused, never skipped.
            pub fn decode(kind: &str, version: u32, stream: &Stream, body: &RawValue) -> Result<Self, DecodeError> {
                match (kind, version) {
                    $(($kind, $version) => {
                        let event = Self::$variant(read::<$body>($kind, body)?);
                        if event.belongs_on(stream) {
                            Ok(event)
                        } else {
                            Err(DecodeError::Stream { kind: $kind, stream: *stream })
                        }
                    })*
                    (known, version) if Self::KINDS.iter().any(|(kind, _)| *kind == known) => {
                        Err(DecodeError::UnknownVersion { kind: known.to_owned(), version })
                    }
                    (unknown, _) => Err(DecodeError::UnknownKind(unknown.to_owned())),
                }
            }

            /// Every kind with its version, in the list's order.
            pub const KINDS: &'static [(&'static str, u32)] = &[$(($kind, $version)),*];

            /// The JSON Schema of every body, in the list's order.
            pub fn schemas() -> Vec<(&'static str, u32, schemars::Schema)> {
                vec![$(($kind, $version, schemars::schema_for!($body))),*]
            }
        }

        $(impl From<$body> for Event {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        })*
    };
}

fn read<T: DeserializeOwned>(kind: &'static str, body: &RawValue) -> Result<T, DecodeError> {
    serde_json::from_str(body.get()).map_err(|source| DecodeError::Body { kind, source })
}

events! {
    ContextSet(context::Set) = "context.set" v 1 on (Stream::Daemon);
    DaemonStarted(context::DaemonStarted) = "daemon.started" v 1 on (Stream::Daemon);
    DaemonStopped(context::DaemonStopped) = "daemon.stopped" v 1 on (Stream::Daemon);
    TimeUntrusted(context::TimeUntrusted) = "time.untrusted" v 1 on (Stream::Daemon);
    TimeTrusted(context::TimeTrusted) = "time.trusted" v 1 on (Stream::Daemon);
    JournalCreated(journal::Created) = "journal.created" v 1 on (Stream::Journal);
    JournalTailQuarantined(journal::TailQuarantined) = "journal.tail_quarantined" v 1 on (Stream::Journal);
    JournalAckedRewritten(journal::AckedRewritten) = "journal.acked_rewritten" v 1 on (Stream::Journal);
    JournalKeyChanged(journal::KeyChanged) = "journal.key_changed" v 1 on (Stream::Journal);
    JournalSnapshotTaken(journal::SnapshotTaken) = "journal.snapshot_taken" v 1 on (Stream::Journal);
    JournalRepaired(journal::Repaired) = "journal.repaired" v 1 on (Stream::Journal);
    IndexRebuilt(journal::IndexRebuilt) = "index.rebuilt" v 1 on (Stream::Journal);
    AccessLogClosed(journal::AccessLogClosed) = "access_log.closed" v 1 on (Stream::ControlPlane);
    TokenChanged(runtime::TokenChanged) = "control_plane.token_changed" v 1 on (Stream::ControlPlane);
    PermissionModeSet(runtime::PermissionModeSet) = "runtime.permission_mode_set" v 1 on (Stream::Runtime);
    PermissionRulesSet(runtime::PermissionRulesSet) = "runtime.permission_rules_set" v 1 on (Stream::Runtime);
    DebugLevelSet(runtime::DebugLevelSet) = "runtime.debug_level_set" v 1 on (Stream::Runtime);
    RuntimeRolledBack(runtime::RolledBack) = "runtime.rolled_back" v 1 on (Stream::Runtime);
    VaultKeyed(secret::Keyed) = "vault.keyed" v 1 on (Stream::Vault);
    SecretActivated(secret::Activated) = "secret.activated" v 1 on (Stream::Vault);
    SecretRevoked(secret::Revoked) = "secret.revoked" v 1 on (Stream::Vault);
    SecretDeleted(secret::Deleted) = "secret.deleted" v 1 on (Stream::Vault);
    SubjectRevoked(credential::SubjectRevoked) = "credential.subject_revoked" v 1 on (Stream::Vault);
    SubjectReinstated(credential::SubjectReinstated) = "credential.subject_reinstated" v 1 on (Stream::Vault);
    LeaseRevoked(credential::LeaseRevoked) = "credential.lease_revoked" v 1 on (Stream::Vault);
    BudgetSet(budget::BudgetSet) = "budget.set" v 1 on (Stream::Ledger);
    BudgetRemoved(budget::BudgetRemoved) = "budget.removed" v 1 on (Stream::Ledger);
    ModelCallRequested(model_call::Requested) = "model_call.requested" v 1 on (Stream::ModelCall(_));
    ModelCallSettled(model_call::Settled) = "model_call.settled" v 1 on (Stream::ModelCall(_));
    SessionCreated(session::Created) = "session.created" v 1 on (Stream::Session(_));
    SessionInterrupted(session::Interrupted) = "session.interrupted" v 1 on (Stream::Session(_));
    SessionEnded(session::Ended) = "session.ended" v 1 on (Stream::Session(_));
    RunQueued(run::Queued) = "run.queued" v 1 on (Stream::Run(_));
    RunStarted(run::Started) = "run.started" v 1 on (Stream::Run(_));
    RunStopRequested(run::StopRequested) = "run.stop_requested" v 1 on (Stream::Run(_));
    RunCompleted(run::Completed) = "run.completed" v 1 on (Stream::Run(_));
    RunFailed(run::Failed) = "run.failed" v 1 on (Stream::Run(_));
    RunInterrupted(run::Interrupted) = "run.interrupted" v 1 on (Stream::Run(_));
    RunCancelled(run::Cancelled) = "run.cancelled" v 1 on (Stream::Run(_));
    TurnRequested(turn::Requested) = "turn.requested" v 1 on (Stream::Run(_));
    TurnAnswered(turn::Answered) = "turn.answered" v 1 on (Stream::Run(_));
    TurnFailed(turn::Failed) = "turn.failed" v 1 on (Stream::Run(_));
    TurnReservationSettled(turn::ReservationSettled) = "turn.reservation_settled" v 1 on (Stream::Run(_));
    PermissionDecided(permission::Decided) = "permission.decided" v 1 on (Stream::Run(_));
    ApprovalRequested(super::approval::Requested) = "approval.requested" v 1 on (Stream::Run(_));
    ApprovalDecided(super::approval::Decided) = "approval.decided" v 1 on (Stream::Run(_));
    ApprovalExpired(super::approval::Expired) = "approval.expired" v 1 on (Stream::Run(_));
    ApprovalWithdrawn(super::approval::Withdrawn) = "approval.withdrawn" v 1 on (Stream::Run(_));
    CallDispatched(call::Dispatched) = "call.dispatched" v 1 on (Stream::Run(_));
    CallFinished(call::Finished) = "call.finished" v 1 on (Stream::Run(_));
    CallRefused(call::Refused) = "call.refused" v 1 on (Stream::Run(_));
    CallOutcomeUnknown(call::OutcomeUnknown) = "call.outcome_unknown" v 1 on (Stream::Run(_));
    QuestionAsked(question::Asked) = "question.asked" v 1 on (Stream::Run(_));
    QuestionAnswered(question::Answered) = "question.answered" v 1 on (Stream::Run(_));
    QuestionDeclined(question::Declined) = "question.declined" v 1 on (Stream::Run(_));
    QuestionExpired(question::Expired) = "question.expired" v 1 on (Stream::Run(_));
    QuestionWithdrawn(question::Withdrawn) = "question.withdrawn" v 1 on (Stream::Run(_));
    TaskStarted(task::Started) = "task.started" v 1 on (Stream::Run(_));
    TaskStopRequested(task::StopRequested) = "task.stop_requested" v 1 on (Stream::Run(_));
    TaskFinished(task::Finished) = "task.finished" v 1 on (Stream::Run(_));
    RuntimeModelSet(runtime::ModelSet) = "runtime.model_set" v 1 on (Stream::Runtime);
    SystemPromptSet(runtime::SystemPromptSet) = "runtime.system_prompt_set" v 1 on (Stream::Runtime);
    ToolLimitsSet(runtime::ToolLimitsSet) = "runtime.tool_limits_set" v 1 on (Stream::Runtime);
    SessionRoutePolicySet(session::RoutePolicySet) = "session.route_policy_set" v 1 on (Stream::Session(_));
    RoutesLoaded(routes::Loaded) = "routes.loaded" v 1 on (Stream::Daemon);
    ErasureSet(runtime::ErasureSet) = "runtime.erasure_set" v 1 on (Stream::Runtime);
    SessionErased(erasure::Erased) = "session.erased" v 1 on (Stream::Session(_));
}
