//! Where facts are kept: lines, seals, segments, one writer, readers, recovery, verification and receipts.

pub mod acked;
pub mod keys;
pub mod line;
pub mod merkle;
pub mod note;
pub mod walk;
