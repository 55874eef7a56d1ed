//! Limits of the tools, each with its unit in the name.

/// Longest arguments of a call, bytes.
pub const ARGUMENT_BYTES: usize = 1 << 20;
/// Longest path, bytes.
pub const PATH_BYTES: usize = 4_096;
/// Longest pattern or glob, bytes.
pub const PATTERN_BYTES: usize = 1_000;
/// Most memory a compiled pattern takes, bytes.
pub const PATTERN_COMPILED_BYTES: usize = 4 << 20;
/// Most text of a result that the model is shown, bytes.
pub const RESULT_BYTES: usize = 64 << 10;
/// Longest line that is shown whole, bytes.
pub const LINE_BYTES: usize = 2_000;
/// Lines that `read_file` shows where the call names no number.
pub const READ_LINES_DEFAULT: u64 = 2_000;
/// Most lines that a call may ask for.
pub const READ_LINES_MAX: u64 = 20_000;
/// Most bytes of a file that `read_file` goes through.
pub const READ_FILE_BYTES: u64 = 64 << 20;
/// Largest file that can be written or edited, bytes.
pub const EDIT_FILE_BYTES: u64 = 4 << 20;
/// Largest file whose digest is taken before it is replaced, bytes.
pub const DIGEST_FILE_BYTES: u64 = 256 << 20;
/// Longest a diff is worked on, milliseconds; after that it is coarse.
pub const DIFF_MS: u64 = 500;
/// Levels that `list_files` goes down where the call names no number.
pub const LIST_DEPTH_DEFAULT: u32 = 3;
/// Deepest folder that is looked into.
pub const WALK_DEPTH: u32 = 40;
/// Most entries that a walk looks at.
pub const WALK_ENTRIES: u64 = 200_000;
/// Largest `.gitignore` that is heeded, bytes.
pub const IGNORE_FILE_BYTES: u64 = 256 << 10;
/// Most entries in a list.
pub const LIST_ENTRIES: usize = 1_000;
/// Most matches that `search_files` shows where the call names no number.
pub const SEARCH_MATCHES_DEFAULT: u32 = 100;
/// Most matches that a call may ask for.
pub const SEARCH_MATCHES_MAX: u32 = 1_000;
/// Largest file that is searched, bytes.
pub const SEARCH_FILE_BYTES: u64 = 4 << 20;
/// Most bytes that one search reads.
pub const SEARCH_TOTAL_BYTES: u64 = 256 << 20;
/// Longest shell command, bytes.
pub const COMMAND_BYTES: usize = 100 << 10;
/// How long a command may run where the call says nothing, milliseconds.
pub const COMMAND_MS_DEFAULT: u64 = 120_000;
/// Longest time that a call may ask for, milliseconds.
pub const COMMAND_MS_MAX: u64 = 600_000;
/// Output after which a command in the foreground is stopped, bytes.
pub const COMMAND_OUTPUT_BYTES: u64 = 256 << 20;
/// How long a background task may run where the call says nothing, milliseconds.
pub const TASK_MS_DEFAULT: u64 = 60 * 60 * 1_000;
/// Longest time that a call may ask for a background task, milliseconds.
pub const TASK_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Output of a background task that is kept, bytes.
pub const TASK_OUTPUT_BYTES: u64 = 8 << 20;
/// Most tasks whose output is kept; the oldest goes first.
pub const TASK_FILES: usize = 1_000;
/// Most output of all tasks that is kept, bytes; the oldest goes first.
pub const TASK_FILES_BYTES: u64 = 2 << 30;
/// Most background tasks that run at a time.
pub const TASKS_RUNNING: usize = 64;
/// Most ended tasks whose end is remembered.
pub const TASKS_ENDED: usize = 1_000;
/// Longest description of a command, bytes.
pub const DESCRIPTION_BYTES: usize = 500;
/// Longest question, bytes.
pub const QUESTION_BYTES: usize = 8_000;
/// Most options of a question.
pub const QUESTION_OPTIONS: usize = 20;
/// Longest label or description of an option, bytes.
pub const OPTION_BYTES: usize = 1_000;
/// Bytes of a task's output in a page where the caller names no limit.
pub const TASK_PAGE_BYTES_DEFAULT: u64 = 64 << 10;
/// Most bytes of a task's output in a page.
pub const TASK_PAGE_BYTES_MAX: u64 = 256 << 10;
