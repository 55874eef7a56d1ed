//! Limits of what is said to, and heard from, other people's machines.

/// Time to resolve a name, milliseconds.
pub const RESOLVE_MS: u64 = 5_000;
/// Time to connect to one vetted address, milliseconds.
pub const CONNECT_MS: u64 = 10_000;
/// Time until a connection stands, milliseconds: resolving, every address that is tried, and TLS.
pub const CONNECTION_MS: u64 = 60_000;
/// Time that a connection without a request is kept for the next one, milliseconds. Short of what the servers that wait
/// the least give, so that a request rarely meets a connection that is just being closed.
pub const CONNECTION_IDLE_MS: u64 = 4_000;
/// Most connections without a request that are kept to one host, for each route.
pub const CONNECTIONS_IDLE: usize = 32;
/// Longest answer of a proxy to the wish for a tunnel, bytes.
pub const PROXY_HEAD_BYTES: usize = 8 << 10;
/// Most addresses of one name that are tried.
pub const ADDRESSES_TRIED: usize = 4;
/// Most addresses of one name that are looked at; a name with more is refused.
pub const ADDRESSES_VETTED: usize = 64;
/// Time until a provider's first byte, milliseconds. A local server may load its model first.
pub const FIRST_BYTE_MS: u64 = 180_000;
/// Time between two pieces of an answer, milliseconds.
pub const IDLE_MS: u64 = 120_000;
/// Time for one call of a model, milliseconds, where the route names none.
pub const CALL_MS: u64 = 600_000;
/// Most bytes of an answer as sent, keep-alive comments included.
pub const ANSWER_RAW_BYTES: usize = 64 << 20;
/// Most bytes of an answer's words, reasoning and call arguments together.
pub const ANSWER_WORDS_BYTES: usize = 2 << 20;
/// Most tool calls in an answer.
pub const ANSWER_CALLS: usize = crate::domain::limits::CALLS_PER_TURN;
/// Longest name of a tool or of a call in an answer, bytes.
pub const ANSWER_NAME_BYTES: usize = 200;
/// Most bytes of one event in a stream.
pub const EVENT_BYTES: usize = 4 << 20;
/// Most bytes that are read of an error's body.
pub const ERROR_BODY_BYTES: usize = 64 << 10;
/// Longest detail of a provider's error, bytes.
pub const ERROR_DETAIL_BYTES: usize = 500;
/// Longest pause that a provider may ask for, milliseconds; a longer one is cut to this.
pub const RETRY_AFTER_MOST_MS: u64 = 60_000;
/// Largest rehearsal script, bytes.
pub const SCRIPT_BYTES: usize = 1 << 20;
/// Most turns in a rehearsal script.
pub const SCRIPT_TURNS: usize = 1_000;
/// Most steps in a turn of a rehearsal script.
pub const SCRIPT_STEPS: usize = 1_000;
/// Longest wait in a rehearsal script, milliseconds.
pub const SCRIPT_WAIT_MS: u64 = 10 * 60 * 1_000;
/// Largest head of an answer, bytes; also the size of a read.
pub const HEAD_BYTES: usize = 64 << 10;
/// Deepest nesting of a call's input in a rehearsal script.
pub const SCRIPT_INPUT_DEPTH: usize = 32;
