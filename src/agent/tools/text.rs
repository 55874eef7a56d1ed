//! Text for the model: valid, without NUL bytes, and never longer than its limit — with a word where it was cut.

use std::collections::VecDeque;

use super::limits;

/// Bytes as text that every consumer can take.
pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{2400}")
}

/// The end of a prefix of `text` that is at most `limit` bytes and ends between characters.
pub(super) fn floor(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// One line, cut if it is very long.
pub(super) fn line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= limits::LINE_BYTES {
        return text.into();
    }
    let end = floor(text, limits::LINE_BYTES);
    format!("{} [{} more bytes in this line]", &text[..end], text.len() - end).into()
}

/// Whether content is likely not text.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(8_192).any(|byte| *byte == 0)
}

/// A list of lines that stops growing at a limit.
#[derive(Debug)]
pub(super) struct Lines {
    text: String,
    limit_bytes: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { text: String::new(), limit_bytes: limits::RESULT_BYTES }
    }

    /// Adds a line. Says whether there was room for it.
    #[must_use]
    pub(super) fn push(&mut self, line: &str) -> bool {
        if self.text.len() + line.len() + 1 > self.limit_bytes {
            return false;
        }
        self.text.push_str(line);
        self.text.push('\n');
        true
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Keeps the beginning and the end of a stream.
#[derive(Debug)]
pub(super) struct HeadAndTail {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl HeadAndTail {
    /// Keeps at most so many bytes.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { half: limit_bytes / 2, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..surplus);
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// What was kept, with a line in the middle where something is missing; and whether something is.
    pub(super) fn into_text(self) -> (String, bool) {
        let tail: Vec<u8> = self.tail.into();
        let missing = self.total - (self.head.len() + tail.len()) as u64;
        if missing == 0 {
            return (lossy(&[self.head, tail].concat()), false);
        }
        (format!("{}\n[{missing} bytes of output were left out here]\n{}", lossy(&self.head), lossy(&tail)), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_of_a_stream_are_kept_and_the_gap_is_named() {
        let mut kept = HeadAndTail::new(10);
        for part in ["0123", "45678", "9abcdef", "ghij"] {
            kept.push(part.as_bytes());
        }
        assert_eq!(kept.total(), 20);
        let (text, cut) = kept.into_text();
        assert!(cut);
        assert_eq!(text, "01234\n[10 bytes of output were left out here]\nfghij");
        let mut whole = HeadAndTail::new(10);
        whole.push(b"0123456789");
        assert_eq!(whole.into_text(), ("0123456789".to_owned(), false));
    }

    #[test]
    fn text_is_cut_between_characters_and_holds_no_nul() {
        assert_eq!(floor("aé", 2), 1);
        assert_eq!(lossy(b"a\0\xff"), "a\u{2400}\u{fffd}");
        let long = "é".repeat(limits::LINE_BYTES);
        assert!(line(&long).ends_with("[2000 more bytes in this line]"));
    }
}
