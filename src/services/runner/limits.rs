//! Limits of the runner, each with its unit in the name.

/// Runs that work at a time, where the operator names no number.
pub const RUNS_AT_A_TIME: usize = 8;
/// Words that a slow watcher of a run may be behind, in deltas.
pub const LIVE_DELTAS: usize = 256;
/// Deltas between a provider and the run before the provider waits.
pub const DELTAS_ON_THE_WAY: usize = 64;
/// Most words of an answer that was given up that are kept, bytes. Of one that broke off all are kept.
pub const PARTIAL_BYTES: usize = 256 << 10;
/// Parts of an answer that stand in its record, bytes together; the largest beyond it become blobs. Written as JSON a part
/// takes up to six times its bytes, and a record has a limit of its own.
pub const ANSWER_INLINE_BYTES: usize = 128 << 10;
/// How often owed work is looked for where nothing was published, milliseconds.
pub const TICK_MS: u64 = 1_000;
/// How often lapses are looked for, milliseconds.
pub const SWEEP_MS: u64 = 5_000;
/// Failed attempts at a turn after which the run fails.
pub const FAILURES_PER_TURN: u32 = 5;
/// Attempts at a turn after which the run fails, those that a restart cut off included.
pub const ATTEMPTS_PER_TURN: u32 = 12;
/// Pause before the second attempt at a turn, milliseconds; doubles with each failure.
pub const RETRY_MS: u64 = 1_000;
/// Longest such pause, also where a provider asks for a longer one, milliseconds.
pub const RETRY_MS_MAX: u64 = 60_000;
/// Pause before a commit that found the journal unavailable is tried again, milliseconds; doubles each time.
pub const COMMIT_RETRY_MS: u64 = 20;
/// Longest such pause, milliseconds.
pub const COMMIT_RETRY_MS_MAX: u64 = 5_000;
/// Steps in a row that may turn out to be out of date before the run is given up.
pub const STALE_STEPS: u32 = 8;
/// Pause before a run whose worker broke off is taken up again, milliseconds; doubles each time.
pub const REST_MS: u64 = 1_000;
/// Longest such pause, milliseconds.
pub const REST_MS_MAX: u64 = 60_000;
/// Bytes of words in one request to a model.
pub const CONVERSATION_BYTES: usize = 1 << 20;
/// Messages in one request to a model.
pub const CONVERSATION_MESSAGES: usize = 1_000;
/// Earlier runs of a session that are read for a conversation.
pub const CONVERSATION_RUNS: usize = 64;
/// Records that a story takes in one go.
pub const RECORDS_AT_A_TIME: usize = 1_024;
/// Ends of tasks that wait for their start to be recorded.
pub const ENDS_WAITING: usize = 1_024;
/// How long tools and tasks get to end after they were stopped at the drain, milliseconds.
pub const STOPPED_MS: u64 = 10_000;
/// How long a debug artefact is kept, milliseconds.
pub const DEBUG_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most bytes of debug artefacts that are kept; the oldest goes first.
pub const DEBUG_BYTES: u64 = 256 << 20;
/// Most bytes of one debug artefact; the rest is cut.
pub const DEBUG_ARTIFACT_BYTES: usize = 4 << 20;
