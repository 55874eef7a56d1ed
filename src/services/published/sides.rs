//! The read side as use cases and views ask it.

use std::sync::RwLockReadGuard;

use super::{Published, READ_AT_ONCE_BYTES};
use crate::domain::personal::Personal;
use crate::domain::record::Record;
use crate::journal::line;
use crate::projections::{Bodies, Models};
use crate::services::desk::ReadSide;
use crate::vault::subject::Subjects;

impl ReadSide for Published {
    fn models(&self) -> RwLockReadGuard<'_, Models> {
        Published::models(self)
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.feed.changes()
    }

    fn subjects(&self) -> Subjects {
        self.shared.blobs.subjects().clone()
    }

    fn recent(&self, seq: u64) -> Option<Record> {
        let item = self.shared.feed.recent(seq).filter(|item| item.line.len() <= READ_AT_ONCE_BYTES)?;
        line::parse_record(&item.line).ok()
    }
}

impl Bodies for Published {
    fn record(&self, seq: u64) -> Option<Record> {
        line::parse_record(&self.shared.reader.line(seq).ok()??).ok()
    }

    fn text(&self, part: &Personal) -> Option<String> {
        match part {
            Personal::Clear(text) => Some(text.clone()),
            Personal::Blob { blob } => String::from_utf8(self.shared.blobs.read(blob)?).ok(),
            Personal::Sealed { sealed } => self.shared.blobs.subjects().open_part(sealed),
        }
    }
}
