//! Every limit of the door in one table, with its unit in the name. The daemon uses the defaults; tests shrink them.

/// The limits of one door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at a time; one more is answered 503 at once.
    pub connections: usize,
    /// Most connections of one address that is not this machine.
    pub connections_per_peer: usize,
    /// Most connections that are being told 503 at a time; beyond it they are closed without a word.
    pub refusals: usize,
    /// How long a new connection may stay silent, milliseconds.
    pub first_byte_ms: u64,
    /// How long a request's head may take from its first byte, milliseconds.
    pub head_ms: u64,
    /// How long a connection may idle between requests, milliseconds.
    pub idle_ms: u64,
    /// How long a body may take, milliseconds.
    pub body_ms: u64,
    /// How long a body may take before its rate is looked at, milliseconds.
    pub body_grace_ms: u64,
    /// Slowest rate of a body, bytes a second.
    pub body_rate_bytes_per_s: u64,
    /// How long whoever asks for a change waits for it, milliseconds; it goes on behind an answer that says so.
    pub mutation_ms: u64,
    /// How long a client may read nothing while an answer waits, milliseconds.
    pub write_ms: u64,
    /// How long a client may take over an answer before its rate is looked at, milliseconds; streams of events have none.
    pub answer_grace_ms: u64,
    /// Slowest rate at which an answer is read, bytes a second.
    pub answer_rate_bytes_per_s: u64,
    /// How long a refused client's remaining bytes are read before the connection closes, milliseconds.
    pub linger_ms: u64,
    /// Most bytes that are read and dropped after a refusal.
    pub linger_bytes: usize,
    /// Longest request line, bytes.
    pub request_line_bytes: usize,
    /// Largest head, bytes.
    pub head_bytes: usize,
    /// Most header lines.
    pub head_lines: usize,
    /// Longest line that frames a chunk, and all trailers together, bytes.
    pub chunk_line_bytes: usize,
    /// Largest body, bytes.
    pub body_bytes: u64,
    /// Largest body of a model call, bytes: pictures come within it.
    pub model_call_bytes: u64,
    /// Most bytes of bodies in memory at a time, all requests that are not answered yet together.
    pub all_bodies_bytes: u64,
    /// Most bytes of answers in memory at a time, all that are not read yet together.
    pub all_answers_bytes: u64,
    /// Largest answer that is not counted there, bytes.
    pub small_answer_bytes: u64,
    /// Deepest nesting of a JSON body.
    pub json_depth: usize,
    /// Pause after the machine refused to accept a connection, milliseconds.
    pub accept_pause_ms: u64,
    /// Time between two heartbeats of a stream, milliseconds.
    pub heartbeat_ms: u64,
    /// How often a stream looks whether its token is still in force, milliseconds.
    pub recheck_ms: u64,
    /// Most bytes of frames that a stream puts into one chunk.
    pub stream_chunk_bytes: usize,
    /// Failed sign-ins of one source in a window before it is told to wait.
    pub auth_failures: u32,
    /// Refused origins of one source in a window before it is told to wait.
    pub origin_refusals: u32,
    /// Length of that window, milliseconds.
    pub failure_window_ms: u64,
    /// Most sources that are remembered.
    pub failure_sources: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_peer: 1_024,
            refusals: 64,
            first_byte_ms: 10_000,
            head_ms: 10_000,
            idle_ms: 75_000,
            body_ms: 60_000,
            body_grace_ms: 5_000,
            body_rate_bytes_per_s: 512,
            mutation_ms: 30_000,
            write_ms: 20_000,
            answer_grace_ms: 10_000,
            answer_rate_bytes_per_s: 8 << 10,
            linger_ms: 1_000,
            linger_bytes: 1 << 20,
            request_line_bytes: 8 << 10,
            head_bytes: 32 << 10,
            head_lines: 64,
            chunk_line_bytes: 4 << 10,
            body_bytes: crate::domain::limits::REQUEST_BODY_BYTES as u64,
            model_call_bytes: 8 << 20,
            all_bodies_bytes: 64 << 20,
            all_answers_bytes: 64 << 20,
            small_answer_bytes: 16 << 10,
            json_depth: 64,
            accept_pause_ms: 100,
            heartbeat_ms: 12_000,
            recheck_ms: 2_000,
            stream_chunk_bytes: 64 << 10,
            auth_failures: 20,
            origin_refusals: 20,
            failure_window_ms: 60_000,
            failure_sources: 4_096,
        }
    }
}

/// Descriptors that are left for everything but connections and segments: files, commands, providers, watches.
const RESERVED_DESCRIPTORS: u64 = 256;
/// Connections that are taken however low the limit of descriptors is.
const LEAST_CONNECTIONS: usize = 16;

impl Limits {
    /// These limits where the process may have so many descriptors, of which so many are held for good: connections must
    /// not take what the journal needs.
    #[must_use]
    pub fn within(self, descriptors: u64, held: u64) -> Self {
        let left = descriptors.saturating_sub(held).saturating_sub(RESERVED_DESCRIPTORS);
        let connections = usize::try_from(left).unwrap_or(usize::MAX).max(LEAST_CONNECTIONS).min(self.connections);
        Self { connections, ..self }
    }
}

/// Longest `X-Request-Id`, bytes.
pub const REQUEST_ID_BYTES: usize = 128;
/// Longest cursor, characters: as many as the largest number has.
pub const CURSOR_CHARACTERS: usize = 20;
/// Longest detail that is taken from a JSON fault, characters.
pub const FAULT_CHARACTERS: usize = 300;
/// Most lines that wait for the access log.
pub const AUDIT_QUEUE: usize = 4_096;
/// Size at which the access log rotates, bytes.
pub const AUDIT_FILE_BYTES: u64 = 4 << 20;
/// Closed files of the access log that are kept.
pub const AUDIT_FILES: usize = 8;
/// Most different lines whose repeats are counted at a time.
pub const AUDIT_COUNTED_LINES: usize = 1_024;
/// How long repeats of a line are counted before the count is written, milliseconds.
pub const AUDIT_COUNT_MS: u64 = 10_000;
/// Most bytes of lines in one answer of `/v1/journal/records`.
pub const RECORDS_BYTES: usize = 4 << 20;
/// Most lines in one answer of `/v1/journal/records`.
pub const RECORDS_LINES: u64 = 10_000;
/// Most lines of the journal that are looked at for one page; a page may end early and still have a next one.
pub const PAGE_LINES: u64 = 50_000;
/// How long `…/input` waits for the answer before it shows the run as it is.
pub const INPUT_WAIT_MS: u64 = 25_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_journal_its_descriptors_whatever_the_limit() {
        let connections = |descriptors, held| Limits::default().within(descriptors, held).connections;
        let found =
            [(u64::MAX, 1), (1_048_576, 1_000), (1_024, 1), (1_024, 500), (200, 1)].map(|(d, h)| connections(d, h));
        assert_eq!(found, [4_096, 4_096, 767, 268, 16]);
    }
}
