//! What one reading of the journal has found, and how far it may go.

use std::io;

use crate::projections::feed::{Item, Most};

/// Bytes of lines that one reading looks at, so that nobody occupies a thread for long.
const LOOKED_AT_BYTES: usize = 16 << 20;

/// What one reading has found.
pub(super) struct Gathered {
    items: Vec<Item>,
    bytes: usize,
    looked_at: usize,
    most: Most,
    /// Why the record behind the last one cannot be shown.
    fault: Option<io::Error>,
}

impl Gathered {
    pub(super) fn new(most: Most) -> Self {
        Self { items: Vec::new(), bytes: 0, looked_at: 0, most, fault: None }
    }

    pub(super) fn look_at(&mut self, bytes: usize) {
        self.looked_at += bytes;
    }

    pub(super) fn is_full(&self) -> bool {
        self.most.reached(self.items.len(), self.bytes) || self.looked_at >= LOOKED_AT_BYTES || self.fault.is_some()
    }

    /// Says whether it could be read.
    pub(super) fn put(&mut self, item: io::Result<Option<Item>>) -> bool {
        match item {
            Ok(item) => {
                self.bytes += item.as_ref().map_or(0, |item| item.frame.len());
                self.items.extend(item);
            }
            Err(fault) => self.fault = Some(fault),
        }
        self.fault.is_none()
    }

    /// What was found; nobody is led past a record that cannot be read.
    pub(super) fn found(self, next: u64) -> io::Result<(Vec<Item>, u64)> {
        match self.fault {
            Some(fault) if self.items.is_empty() => Err(fault),
            Some(_) | None => Ok((self.items, next)),
        }
    }
}

/// A line that stands where it should, and is none.
pub(super) fn unreadable(seq: u64) -> io::Error {
    io::Error::other(format!("the line with sequence number {seq} does not read"))
}
