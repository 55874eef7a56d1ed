//! What can go wrong with a journal: at its opening, and while it is written.

use std::io::ErrorKind;

use crate::domain::reason::{Reason, Refusal};

/// Why a journal does not open. The state root is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no state root here.
    #[error("there is no state root here: {0}")]
    Absent(String),
    /// Acknowledged bytes were changed, or something stands where nothing may.
    #[error("{file}: {place}{why}", place = place(*from, *to, *seq))]
    Corrupt {
        /// The file.
        file: String,
        /// Offset of the first wrong byte.
        from: u64,
        /// Offset behind the last byte concerned.
        to: u64,
        /// First sequence number concerned.
        seq: u64,
        /// What is wrong.
        why: String,
    },
    /// Acknowledged bytes are missing.
    #[error("{file}: sequence numbers {from_seq} to {to_seq} are missing: {why}")]
    Rollback {
        /// The file.
        file: String,
        /// First missing sequence number.
        from_seq: u64,
        /// Last sequence number known to have been acknowledged.
        to_seq: u64,
        /// What is wrong.
        why: String,
    },
    /// Written by a newer program.
    #[error("{0}")]
    TooNew(String),
    /// A key is missing, malformed or another than the one that signed.
    #[error("{0}")]
    Keys(String),
    /// A secret file has loose modes.
    #[error("{file} has mode {mode:04o}: others can read or write a secret")]
    Loose {
        /// The file.
        file: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where in a file something is wrong; nothing where it is the file as a whole.
fn place(from: u64, to: u64, seq: u64) -> String {
    if to == 0 && seq == 0 { String::new() } else { format!("bytes {from}..{to}, sequence numbers from {seq}: ") }
}

impl OpenError {
    /// Wraps an error of the file system.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Something is wrong in a file as a whole.
    pub fn file(file: &str, why: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), from: 0, to: 0, seq: 0, why: why.into() }
    }
}

/// Whether a file is not there, or something else stands in its place: no disk is at fault.
fn is_misplaced(error: &std::io::Error) -> bool {
    let other = [rustix::io::Errno::LOOP, rustix::io::Errno::NOTDIR, rustix::io::Errno::ISDIR];
    // Where the system itself calls an argument invalid, the file system lacks something.
    error.kind() == ErrorKind::NotFound
        || error.kind() == ErrorKind::InvalidInput && error.raw_os_error().is_none()
        || other.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library may add kinds of errors at any time")]
fn of_disk(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::StorageFull,
        ErrorKind::ReadOnlyFilesystem => Reason::StorageReadOnly,
        _ => Reason::StorageJournalUnavailable,
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let reason = match &error {
            OpenError::Absent(_) => Reason::StateRootNotFound,
            OpenError::Corrupt { .. } | OpenError::Keys(_) => Reason::StateRootJournalCorrupt,
            OpenError::Rollback { .. } => Reason::StateRootJournalRollback,
            OpenError::TooNew(_) => Reason::StateRootVersionTooNew,
            OpenError::Loose { .. } => Reason::StateRootInsecurePermissions,
            OpenError::Io { source, .. } if is_misplaced(source) => Reason::StateRootJournalCorrupt,
            OpenError::Io { source, .. } => of_disk(source.kind()),
        };
        let copy = if matches!(&error, OpenError::Io { source, .. } if is_misplaced(source)) {
            "; put it back from a copy of this state root"
        } else {
            ""
        };
        Refusal::new(reason, format!("{error}{copy}"))
    }
}

/// Why a batch was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A write or sync failed before; nothing more is acknowledged until a restart.
    #[error("the journal takes no more writes until the daemon restarts: {0}")]
    Poisoned(String),
    /// There is no room for the largest batch; nothing was decided.
    #[error("the disk has no room for the journal: {0}")]
    Full(String),
    /// The file system is mounted read-only.
    #[error("the state root is on a read-only file system: {0}")]
    ReadOnly(String),
    /// The machine lacks descriptors or memory for the moment; nothing was decided.
    #[error("what the journal needs next could not be prepared: {0}")]
    Exhausted(String),
    /// A decision or record passes its limit; nothing was written.
    #[error("{0}")]
    TooLarge(String),
}

impl From<WriteError> for std::io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::Full(_) => ErrorKind::StorageFull,
            WriteError::ReadOnly(_) => ErrorKind::ReadOnlyFilesystem,
            WriteError::Poisoned(_) | WriteError::Exhausted(_) | WriteError::TooLarge(_) => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::Poisoned(_) => Refusal::new(Reason::StorageJournalUnavailable, detail).retry_after_ms(10_000),
            WriteError::Full(_) => Refusal::new(Reason::StorageFull, detail).retry_after_ms(1_000),
            WriteError::ReadOnly(_) => Refusal::new(Reason::StorageReadOnly, detail).retry_after_ms(10_000),
            WriteError::Exhausted(_) => Refusal::new(Reason::RequestOverloaded, detail).retry_after_ms(1_000),
            WriteError::TooLarge(_) => Refusal::new(Reason::RequestTooLarge, detail),
        }
    }
}
