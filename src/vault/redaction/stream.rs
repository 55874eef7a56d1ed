//! Redaction of a text that comes in pieces. What is passed on together is what the whole text would be without its
//! secrets; held back is only what may be the beginning of one.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::{Redactor, into_text};

/// One text on its way. [`StreamRedactor::finish`] gives its end.
pub struct StreamRedactor {
    redactor: Redactor,
    held: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for StreamRedactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamRedactor").field("held_bytes", &self.held.len()).finish_non_exhaustive()
    }
}

impl StreamRedactor {
    pub(super) fn new(redactor: Redactor) -> Self {
        Self { redactor, held: Zeroizing::default() }
    }

    /// Takes a piece and gives what can be passed on.
    pub fn push<'a>(&mut self, piece: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(scan) = self.redactor.scan() else {
            // The last secret was forgotten meanwhile, or none was ever known.
            return if self.held.is_empty() { Cow::Borrowed(piece) } else { Cow::Owned(self.joined(piece)) };
        };
        if self.held.is_empty() && scan.is_clean(piece) {
            return Cow::Borrowed(piece);
        }
        let text = Zeroizing::new(self.joined(piece));
        let mut out = Vec::with_capacity(text.len());
        let open = scan.settle(&text, false, &mut out);
        self.held.extend_from_slice(&text[open..]);
        Cow::Owned(out)
    }

    /// The same for text.
    pub fn push_text(&mut self, piece: &str) -> String {
        into_text(self.push(piece.as_bytes()).into_owned())
    }

    fn joined(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.held.len() + piece.len());
        text.extend_from_slice(&self.held);
        text.extend_from_slice(piece);
        self.held = Zeroizing::default();
        text
    }

    /// Bytes that are held back.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// What was held back, now that nothing follows.
    pub fn finish(self) -> Vec<u8> {
        self.redactor.bytes(&self.held).into_owned()
    }

    /// The same for text.
    pub fn finish_text(self) -> String {
        into_text(self.finish())
    }
}
