//! Whether the machine's clock is trusted, as people see it.

use serde::{Deserialize, Serialize};

use crate::domain::context::{ClockTrust, TimeUntrusted};
use crate::domain::record::Record;

/// Whether the clock is trusted, and since when it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Whether it is.
    pub trust: ClockTrust,
    /// The record that said that it is not.
    pub since_seq: Option<u64>,
    /// How far the wall clock was found away from what was expected, milliseconds; negative is back.
    pub drift_ms: i64,
}

impl Clock {
    pub(super) fn untrusted(&mut self, record: &Record, body: &TimeUntrusted) {
        self.trust = self.trust.after(body);
        self.since_seq = Some(record.seq);
        self.drift_ms = body.drift_ms;
    }

    pub(super) fn trusted(&mut self) {
        *self = Self::default();
    }

    /// What is wrong and what helps, in one sentence; `None` where the clock is trusted.
    pub fn warning(&self) -> Option<String> {
        let hours = self.drift_ms.unsigned_abs() / 3_600_000;
        let way = if self.drift_ms < 0 { "back" } else { "ahead" };
        match self.trust {
            ClockTrust::Trusted => None,
            ClockTrust::Jumped => Some(format!(
                "The clock jumped {hours} hours {way}; nothing lapses until it has been quiet for ten minutes, or \
                 `chancery runtime trust-clock`."
            )),
            ClockTrust::ImplausibleAtStart => Some(format!(
                "At start the clock was {hours} hours {way} of the journal; nothing lapses until \
                 `chancery runtime trust-clock`."
            )),
        }
    }
}
