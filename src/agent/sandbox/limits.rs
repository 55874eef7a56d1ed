//! Limits of confined processes, each with its unit in the name.

/// Largest plan that the hidden verb reads, bytes.
pub const PLAN_BYTES: u64 = 1 << 20;
/// How long a command has between the request to end and the kill, milliseconds.
pub const GRACE_MS: u64 = 2_000;
/// How long the supervisor goes on killing what does not die, milliseconds.
pub const KILL_MS: u64 = 10_000;
/// How long a supervisor that should be done is waited for beyond what it may take, milliseconds.
pub const LATE_MS: u64 = 2_000;
/// How long this process goes on killing what a lost supervisor left, milliseconds.
pub const ORPHANS_MS: u64 = 2_000;
/// How long output is waited for after the end of the command, milliseconds.
pub const QUIET_MS: u64 = 5_000;
/// How long a command may take to be started, milliseconds.
pub const START_MS: u64 = 10_000;
/// How often the supervisor looks for orphans to reap and counts processes, milliseconds.
pub const LOOK_EVERY_MS: u64 = 100;
/// Largest file a command may write, bytes.
pub const FILE_BYTES: u64 = 4 << 30;
/// Most processes of the same user while the command runs.
pub const PROCESSES: u64 = 4_096;
/// Most processes of one command; past this it is killed.
pub const COMMAND_PROCESSES: usize = 1_024;
/// Most open files of one process.
pub const OPEN_FILES: u64 = 4_096;
