//! Cuts a stream of server-sent events into whole events without changing a byte of them: only whole ones are passed on, so
//! that an ending can be told between any two.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// The bytes that wait for the end of their event.
#[derive(Debug, Default)]
pub(super) struct Events {
    held: BytesMut,
    /// Where the line begins that is not read to its end.
    line: usize,
}

impl Events {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.held.extend_from_slice(piece);
    }

    /// Bytes that wait.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// The next whole event, its empty line included.
    pub(super) fn next_event(&mut self) -> Option<Bytes> {
        loop {
            let at = self.line + memchr::memchr2(b'\n', b'\r', &self.held[self.line..])?;
            let is_empty = at == self.line;
            let end = match (self.held[at], self.held.get(at + 1)) {
                (b'\r', Some(b'\n')) => at + 2,
                // Whether a line feed follows is not known yet; after an empty line it is an empty line of its own.
                (b'\r', None) if !is_empty => return None,
                _ => at + 1,
            };
            self.line = end;
            if is_empty {
                self.line = 0;
                return Some(self.held.split_to(end).freeze());
            }
        }
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Bytes {
        self.line = 0;
        self.held.split().freeze()
    }
}

/// The data of an event.
pub(super) fn data(event: &[u8]) -> Cow<'_, str> {
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    let mut data = lines.filter_map(|line| line.strip_prefix(b"data:")).map(String::from_utf8_lossy);
    let first = data.next().unwrap_or_default();
    let more: Vec<Cow<'_, str>> = data.collect();
    if more.is_empty() { first } else { Cow::Owned([&[first], more.as_slice()].concat().join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_are_the_same_wherever_the_stream_is_split_and_lose_no_byte() {
        let text = b"data: a\n\n: c\r\ndata: b\r\ndata: c\r\n\r\nevent: e\rdata: d\r\rdata: e";
        let read = |pieces: &[&[u8]]| {
            let mut events = Events::default();
            let (mut all, mut found) = (Vec::new(), Vec::new());
            for piece in pieces {
                events.push(piece);
                while let Some(event) = events.next_event() {
                    all.extend_from_slice(&event);
                    found.extend(Some(data(&event).trim().to_owned()).filter(|data| !data.is_empty()));
                }
            }
            all.extend_from_slice(&events.rest());
            (all, found)
        };
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let (all, found) = read(&[&text[..first], &text[first..second], &text[second..]]);
                assert_eq!(all, text);
                assert_eq!(found, ["a", "b\n c", "d"], "split at {first} and {second}");
            }
        }
    }
}
