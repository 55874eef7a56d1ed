//! What this machine can put around a command, as data for status and doctor.

use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _};
use serde::Serialize;

use crate::domain::reason::{Reason, Refusal};

/// The lowest Landlock ABI that is enough: the first that also guards `truncate`.
pub const LANDLOCK_ABI_FLOOR: u32 = 3;
/// The first Landlock ABI that scopes signals and abstract unix sockets.
pub const LANDLOCK_ABI_SIGNALS: u32 = 6;

/// Whether commands are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// Confined, or not run at all.
    On,
    /// Not confined; supervised and reaped all the same.
    Off,
}

/// What the kernel offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confinement {
    /// Landlock's ABI, where Landlock is there and enabled.
    pub landlock_abi: Option<u32>,
    /// Whether seccomp filters can be set.
    pub seccomp: bool,
}

impl Confinement {
    /// Asks the kernel.
    pub fn probe() -> Self {
        Self { landlock_abi: landlock_abi(), seccomp: seccomp() }
    }

    /// Whether it is enough to run a command with the sandbox on.
    pub fn is_enough(&self) -> bool {
        self.seccomp && self.landlock_abi.is_some_and(|abi| abi >= LANDLOCK_ABI_FLOOR)
    }

    /// Whether Landlock itself keeps signals inside; else a filter does what it can.
    pub fn scopes_signals(&self) -> bool {
        self.landlock_abi.is_some_and(|abi| abi >= LANDLOCK_ABI_SIGNALS)
    }

    /// What is in force in this mode: `landlock-abi-7+seccomp`, `off`, or `unavailable`.
    pub fn label(&self, mode: SandboxMode) -> String {
        match (mode, self.landlock_abi) {
            (SandboxMode::Off, _) => "off".to_owned(),
            (SandboxMode::On, Some(abi)) if self.is_enough() => format!("landlock-abi-{abi}+seccomp"),
            (SandboxMode::On, _) => "unavailable".to_owned(),
        }
    }

    /// Refuses where the mode asks for more than there is.
    pub fn require(&self, mode: SandboxMode) -> Result<(), Refusal> {
        if mode == SandboxMode::Off || self.is_enough() {
            return Ok(());
        }
        let landlock = self.landlock_abi.map_or("no Landlock".to_owned(), |abi| format!("Landlock ABI {abi}"));
        let seccomp = if self.seccomp { "seccomp" } else { "no seccomp" };
        let detail =
            format!("This kernel has {landlock} and {seccomp}; commands need ABI {LANDLOCK_ABI_FLOOR} and both.");
        Err(Refusal::new(Reason::ToolSandboxUnavailable, detail))
    }
}

/// Landlock tells its ABI to whoever restricts itself; a thread of its own does, and ends.
fn landlock_abi() -> Option<u32> {
    let asked = std::thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_read(landlock::ABI::V1)).ok()?.create().ok()?;
        match ruleset.no_new_privs(true).restrict_self().ok()?.landlock {
            LandlockStatus::Available { effective_abi, kernel_abi } => {
                u32::try_from(kernel_abi.unwrap_or(effective_abi as i32)).ok()
            }
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
        }
    });
    asked.join().ok().flatten()
}

fn seccomp() -> bool {
    let known = seccompiler::TargetArch::try_from(std::env::consts::ARCH).is_ok();
    // Answers with an error where the kernel was built without it.
    known && rustix::thread::secure_computing_mode().is_ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk themselves")]
mod tests {
    use super::*;

    #[test]
    fn below_the_floor_commands_are_refused_unless_the_sandbox_is_off() {
        for (landlock_abi, seccomp) in [(None, true), (Some(2), true), (Some(7), false)] {
            let weak = Confinement { landlock_abi, seccomp };
            assert_eq!(weak.require(SandboxMode::On).unwrap_err().reason, Reason::ToolSandboxUnavailable);
            assert_eq!(weak.require(SandboxMode::Off), Ok(()));
            assert_eq!(weak.label(SandboxMode::On), "unavailable");
        }
        let strong = Confinement { landlock_abi: Some(3), seccomp: true };
        assert_eq!(strong.require(SandboxMode::On), Ok(()));
        assert_eq!(strong.label(SandboxMode::On), "landlock-abi-3+seccomp");
        assert_eq!(strong.label(SandboxMode::Off), "off");
    }

    #[test]
    fn asking_the_kernel_restricts_nothing_in_this_process() {
        Confinement::probe();
        assert!(std::fs::read_dir("/").is_ok());
    }
}
