//! What holds for the records that follow: the boot, the clocks, the build and the policy in force; and the daemon's starts and stops.

use serde::{Deserialize, Serialize};

use super::command::{Answer, Context, Decided};
use super::event::Event;
use super::ids::BootId;
use super::reason::{Reason, Refusal};
use super::record::{DEFAULT_ORG, Draft};
use super::stream::Stream;
use super::world::World;

/// `context.set`: the first record of each segment, and again whenever one of its facts changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The start of the daemon that writes.
    pub boot_id: BootId,
    /// Wall clock when the context was set, Unix milliseconds.
    pub wall_ms: u64,
    /// Boot-time clock at the same moment, milliseconds; `mono_ms` of records counts from here.
    pub boot_ms: u64,
    /// Version of the daemon and digest of its binary, `0.1.0+sha256:…`.
    pub build: String,
    /// Revision of the runtime configuration.
    pub config_revision: u64,
    /// Digest of the permission policy in force, hex.
    pub policy_sha256: String,
    /// Version of the price table, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_table: Option<String>,
}

/// `daemon.started`: the journal was recovered and the daemon begins to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonStarted {
    /// This start.
    pub boot_id: BootId,
    /// Version of the daemon.
    pub version: String,
    /// Whether the stop before was a drain.
    pub clean: bool,
    /// Wall-clock milliseconds since the last record, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_ms: Option<u64>,
}

/// `daemon.stopped`: the drain ended; nothing follows in this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonStopped {
    /// The start that ends.
    pub boot_id: BootId,
}

/// `time.untrusted`: wall clock and boot-time clock disagree, or the wall clock is implausible at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeUntrusted {
    /// Wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Boot-time clock, milliseconds.
    pub boot_ms: u64,
    /// How far the wall clock moved against what was expected; negative is back.
    pub drift_ms: i64,
    /// Whether it was found at start; then an operator must trust the clock again.
    pub at_start: bool,
}

/// `time.trusted`: the clock is trusted again, by ten quiet minutes or by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeTrusted {
    /// Wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// Whether an operator said so.
    pub by_operator: bool,
}

/// Whether the machine's clock is trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockTrust {
    /// It is.
    #[default]
    Trusted,
    /// It jumped; ten quiet minutes mend that.
    Jumped,
    /// It was implausible at start; an operator must say that it is right.
    ImplausibleAtStart,
}

impl ClockTrust {
    /// What is left of the trust after this.
    pub fn after(self, body: &TimeUntrusted) -> Self {
        let implausible = body.at_start || self == Self::ImplausibleAtStart;
        if implausible { Self::ImplausibleAtStart } else { Self::Jumped }
    }
}

/// An operator trusts the clock again; nothing happens where it is trusted.
pub(super) fn trust_clock(world: &World, context: &Context<'_>) -> Decided {
    if world.clock == ClockTrust::Trusted {
        return Decided::nothing(Answer::Nothing);
    }
    let event = TimeTrusted { wall_ms: context.now_ms, by_operator: true };
    Decided::one(Draft::new(DEFAULT_ORG, Stream::Daemon, event.into()), Answer::Nothing)
}

/// Takes a fact of the daemon, the journal or the control plane; facts of nouns come about by their own commands.
pub(super) fn note(world: &World, draft: &Draft) -> Result<Decided, Refusal> {
    let own = match draft.stream {
        Stream::Journal | Stream::Daemon | Stream::ControlPlane => true,
        Stream::Runtime
        | Stream::Vault
        | Stream::Ledger
        | Stream::Session(_)
        | Stream::Run(_)
        | Stream::ModelCall(_) => false,
    };
    if !own || !draft.event.belongs_on(&draft.stream) {
        let detail = format!("{} cannot be noted on {}.", draft.event.kind(), draft.stream);
        return Err(Refusal::new(Reason::InternalError, detail));
    }
    if let Event::TimeTrusted(body) = &draft.event
        && !body.by_operator
        && world.clock == ClockTrust::ImplausibleAtStart
    {
        return Err(Refusal::new(
            Reason::TimeUntrusted,
            "After an implausible start only an operator trusts the clock.",
        ));
    }
    Ok(Decided::one(draft.clone(), Answer::Nothing))
}

impl World {
    pub(super) fn fold_time_untrusted(&mut self, body: &TimeUntrusted) {
        self.clock = self.clock.after(body);
    }

    pub(super) fn fold_time_trusted(&mut self) {
        self.clock = ClockTrust::Trusted;
    }
}
