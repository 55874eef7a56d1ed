//! Every limit in one place, with its unit in the name.

/// Largest record, as a line without its newline.
pub const RECORD_BYTES: usize = 1 << 20;
/// Most records in a batch.
pub const BATCH_RECORDS: usize = 1_024;
/// A batch closes before a decision that would pass this.
pub const BATCH_BYTES: usize = 1 << 20;
/// Largest decision, all its records together.
pub const DECISION_BYTES: usize = 4 << 20;
/// A segment closes when it reaches this.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Largest file that is read as a segment: far more than one with its last batch and the space written ahead.
pub const SEGMENT_FILE_BYTES: u64 = 256 << 20;
/// Written-ahead space in front of the data, and the size of `journal/next`.
pub const WRITTEN_AHEAD_BYTES: u64 = 8 << 20;
/// A personal part larger than this becomes a blob.
pub const INLINE_PART_BYTES: usize = 64 << 10;
/// How late `acked` may be behind a sync, milliseconds.
pub const ACKED_DELAY_MS: u64 = 50;
/// How long an idempotency receipt is kept, milliseconds.
pub const IDEMPOTENCY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Most idempotency receipts an organisation has in force.
pub const IDEMPOTENCY_RECEIPTS: usize = 100_000;
/// Longest idempotency key, bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 200;
/// Most commands that wait in one lane of the clerk.
pub const QUEUED_COMMANDS: usize = 8_192;
/// Bytes of commands that wait in one lane of the clerk; one more is taken while they are below.
pub const QUEUED_BYTES: usize = 64 << 20;
/// Records after which a snapshot is taken.
pub const SNAPSHOT_RECORDS: u64 = 100_000;
/// Bytes of the newest lines that the feed keeps in memory.
pub const FEED_BYTES: usize = 8 << 20;
/// Bytes of frames that one reading of the journal gathers; the last record may pass them.
pub const READING_BYTES: usize = 4 << 20;
/// Bytes that one subscriber keeps in memory of what it has taken and not yet sent; the last record may pass them.
pub const SUBSCRIBER_BYTES: usize = 256 << 10;
/// Largest request body, bytes.
pub const REQUEST_BODY_BYTES: usize = 1 << 20;
/// Longest title of a session, bytes.
pub const TITLE_BYTES: usize = 500;
/// Most entries in `metadata`.
pub const METADATA_ENTRIES: usize = 32;
/// Longest key or value in `metadata`, bytes.
pub const METADATA_VALUE_BYTES: usize = 1_000;
/// Most reply targets of a session or a run.
pub const REPLY_TARGETS: usize = 16;
/// Longest address of a reply target, bytes.
pub const REPLY_ADDRESS_BYTES: usize = 2_000;
/// Longest name of a connector, bytes.
pub const CONNECTOR_NAME_BYTES: usize = 64;
/// Longest text of a run's input, bytes, all items together.
pub const INPUT_BYTES: usize = 512 << 10;
/// Most items in a run's input.
pub const INPUT_ITEMS: usize = 64;
/// Most runs that wait in one session's queue.
pub const QUEUED_RUNS_PER_SESSION: usize = 1_000;
/// Model turns after which a run fails, where the caller names none.
pub const TURNS_DEFAULT: u32 = 50;
/// Most model turns that a caller may ask for.
pub const TURNS_MAX: u32 = 500;
/// Most tool calls in one turn.
pub const CALLS_PER_TURN: usize = 64;
/// Newest calls of which the ledger tells each by itself.
pub const LEDGER_ENTRIES: usize = 2_000;
/// Bytes of words that count as one token where nobody counted better.
pub const TOKEN_BYTES: usize = 3;
/// Most budgets of an organisation.
pub const BUDGETS: usize = 1_000;
/// Largest budget, micro-units.
pub const BUDGET_MICROS: u64 = 1_000_000_000_000_000;
/// Fewest tokens of an answer that a budget must still buy; a call that wants fewer needs those.
pub const OUTPUT_TOKENS_LEAST: u64 = 16;
/// How long an approval waits, milliseconds.
pub const APPROVAL_MS: u64 = 24 * 60 * 60 * 1_000;
/// How long a question waits, milliseconds.
pub const QUESTION_MS: u64 = 24 * 60 * 60 * 1_000;
/// Calls that budgets refused since the start and that can be explained whole.
pub const BUDGET_REFUSALS: usize = 256;
/// Most permission rules in one scope.
pub const PERMISSION_RULES: usize = 500;
/// Longest note of an operator, bytes.
pub const NOTE_BYTES: usize = 2_000;
/// Longest name of a secret, bytes.
pub const SECRET_REF_BYTES: usize = 128;
/// Most secrets of an organisation, deleted ones among them.
pub const SECRET_SLOTS: usize = 10_000;
/// Versions of a secret whose metadata is kept.
pub const SECRET_VERSIONS_KEPT: usize = 16;
/// Leases of calls that ended that are listed; older ones are in the journal.
pub const LEASES_KEPT: usize = 1_000;
/// Most subjects of an organisation that are revoked at a time.
pub const SUBJECTS_REVOKED: usize = 10_000;
/// Longest text of the system prompt that an operator sets, bytes.
pub const SYSTEM_PROMPT_BYTES: usize = 32 << 10;
/// Longest route id, model name or tool name, bytes.
pub const NAME_BYTES: usize = 200;
/// Longest free-text answer to a question, bytes.
pub const ANSWER_BYTES: usize = 64 << 10;
/// Most options of a question.
pub const QUESTION_OPTIONS: usize = 32;
/// Longest text of a question, of its header, or of an option's label or description, bytes.
pub const QUESTION_TEXT_BYTES: usize = 8 << 10;
/// Largest canonical call or card, bytes; a call beyond it cannot be shown whole and is refused.
pub const CARD_BYTES: usize = 256 << 10;
/// Most lapses or half-done things settled in one decision; the sweep is repeated until nothing is left.
pub const SWEEP_ITEMS: usize = 256;
/// Entries of a page where the caller names no limit.
pub const PAGE_DEFAULT: usize = 50;
/// Most entries of a page.
pub const PAGE_MAX: usize = 500;
/// Most entries looked at for one page; a page may end early and still have a next one.
pub const PAGE_SCAN: usize = 10_000;
/// Bytes of views, as they are sent, at which a page ends; its first entry may be larger.
pub const PAGE_BYTES: usize = 4 << 20;
