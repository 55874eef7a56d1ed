//! Where facts are kept: lines, seals, segments, one writer, readers, recovery, verification and receipts.
