//! Reads a server-sent event stream piece by piece, wherever it is split. Bounded: an event that grows past the limit
//! ends the reading before more of it is kept.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its kind; empty for the usual one.
    pub name: String,
    /// Its data, lines joined with line feeds.
    pub data: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An event is too large.
    #[error("an event of the stream is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// A line is not UTF-8.
    #[error("the stream is not UTF-8")]
    NotUtf8,
}

/// The reader's state between two pieces.
#[derive(Debug)]
pub struct Parser {
    limit_bytes: usize,
    line: Vec<u8>,
    name: String,
    data: Option<String>,
    after_return: bool,
    at_start: bool,
}

impl Parser {
    /// A reader that takes no event larger than this.
    pub fn new(limit_bytes: usize) -> Self {
        let (line, name) = (Vec::new(), String::new());
        Self { limit_bytes, line, name, data: None, after_return: false, at_start: true }
    }

    /// Takes the next piece; complete events are added to `events`.
    pub fn push(&mut self, mut piece: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some((&first, rest)) = piece.split_first() {
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                piece = rest;
                continue;
            }
            let end = memchr::memchr2(b'\n', b'\r', piece);
            let (part, rest) = piece.split_at(end.unwrap_or(piece.len()));
            self.check_room(part.len())?;
            self.line.extend_from_slice(part);
            piece = rest;
            if let Some((&ending, rest)) = rest.split_first() {
                self.after_return = ending == b'\r';
                self.end_line(events)?;
                piece = rest;
            }
        }
        Ok(())
    }

    /// The stream is over: the event that lacks only its end, if there is one.
    pub fn finish(mut self) -> Result<Option<Event>, Fault> {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut events)?;
        }
        self.dispatch(&mut events);
        Ok(events.pop())
    }

    fn check_room(&self, more: usize) -> Result<(), Fault> {
        let held = self.line.len() + self.name.len() + self.data.as_ref().map_or(0, String::len);
        if held + more > self.limit_bytes { Err(Fault::TooLarge { limit_bytes: self.limit_bytes }) } else { Ok(()) }
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        let bytes = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&bytes).map_err(|_| Fault::NotUtf8)?;
        let line =
            if std::mem::take(&mut self.at_start) { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        if line.is_empty() {
            self.dispatch(events);
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut self.data) {
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            ("data", data) => *data = Some(value.to_owned()),
            ("event", _) => value.clone_into(&mut self.name),
            // Comments, ids and retry times mean nothing here: a paid call is never taken up again by itself.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            events.push(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = (Vec<Event>, Result<Option<Event>, Fault>);

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Read {
        let mut parser = Parser::new(limit);
        let mut events = Vec::new();
        for piece in pieces {
            if let Err(fault) = parser.push(piece, &mut events) {
                return (events, Err(fault));
            }
        }
        (events, parser.finish())
    }

    fn event(data: &str) -> Event {
        Event { name: String::new(), data: data.into() }
    }

    #[test]
    fn every_line_ending_comment_and_mark_is_understood() {
        let stream = "\u{feff}data: a\n\n: hi\r\ndata:b\r\ndata: c\r\n\r\nevent: e\rdata\r\rid: 1\nretry: 5\n\ndata: d";
        let named = Event { name: "e".into(), data: String::new() };
        let expected = (vec![event("a"), event("b\nc"), named], Ok(Some(event("d"))));
        assert_eq!(read([stream.as_bytes()], 100), expected);
    }

    #[test]
    fn a_stream_reads_the_same_at_every_split_position() {
        let stream = "\u{feff}data: é\r\n\r\n: x\r\rdata: 日本\n\ndata: [DONE]\r\n\r\n".as_bytes();
        let whole = read([stream], 100);
        assert_eq!(whole.0.len(), 3);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(read(pieces, 100), whole, "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_event_past_the_limit_ends_the_reading() {
        let fault = Fault::TooLarge { limit_bytes: 10 };
        assert_eq!(read([b"data: 0123456789".as_slice()], 10).1, Err(fault));
        assert_eq!(read([b"data: 12\ndata: 3456789\n\n".as_slice()], 10).1, Err(fault));
        assert_eq!(read([b"data: 1234\n\ndata: 1234\n\n".as_slice()], 10).0.len(), 2);
    }

    #[test]
    fn bytes_that_are_not_utf8_end_the_reading() {
        assert_eq!(read([b"data: \xff\n\n".as_slice()], 100).1, Err(Fault::NotUtf8));
    }

    proptest! {
        #[test]
        fn any_bytes_read_the_same_however_they_are_split(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), Just(b'a'), Just(b't'), any::<u8>()],
                0..120,
            ),
            sizes in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let mut bytes = bytes;
            bytes.splice(0..0, *b"data: x\r\ndata:y\n\r");
            let mut pieces = Vec::new();
            let (mut rest, mut sizes) = (bytes.as_slice(), sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                pieces.push(piece);
                rest = later;
            }
            prop_assert_eq!(read(pieces, 64), read([bytes.as_slice()], 64));
        }
    }
}
