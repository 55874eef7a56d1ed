//! The strict reading of a request's head: what differs from one meaning to another between two parsers is refused here.

use crate::domain::reason::{Reason, Refusal};

/// How the body after a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Why a head is refused. The number travels in the stand-in request that replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// The request line is not `METHOD SP TARGET SP HTTP/1.x`.
    RequestLine = 1,
    /// A line ends with a bare line feed, or holds a bare carriage return.
    LineEnd = 2,
    /// A header line has no name, a space before its colon, or a forbidden character.
    HeaderLine = 3,
    /// A header line is folded.
    Folded = 4,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndChunks = 5,
    /// More than one `Content-Length`, or one that is not a plain number.
    Length = 6,
    /// `Transfer-Encoding` is not exactly one `chunked`, or stands in an HTTP/1.0 request.
    Coding = 7,
    /// The request line is too long.
    TargetTooLong = 8,
    /// The head is too large or has too many lines.
    TooLarge = 9,
    /// The head did not come in time.
    TooSlow = 10,
    /// No `Host`, or more than one.
    Host = 11,
}

impl HeadFault {
    const ALL: [HeadFault; 11] = [
        HeadFault::RequestLine,
        HeadFault::LineEnd,
        HeadFault::HeaderLine,
        HeadFault::Folded,
        HeadFault::LengthAndChunks,
        HeadFault::Length,
        HeadFault::Coding,
        HeadFault::TargetTooLong,
        HeadFault::TooLarge,
        HeadFault::TooSlow,
        HeadFault::Host,
    ];

    /// The fault with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *fault as u8 == number)
    }

    /// What the client is told.
    pub fn refusal(self) -> Refusal {
        let malformed = |detail: &str| Refusal::new(Reason::RequestMalformed, detail);
        match self {
            HeadFault::RequestLine => malformed("the request line is not METHOD, one space, path, one space, HTTP/1.1"),
            HeadFault::LineEnd => malformed("every line of the head ends with carriage return and line feed"),
            HeadFault::HeaderLine => {
                malformed("a header line has a bad name, a space before its colon or a control character")
            }
            HeadFault::Folded => malformed("a header line is folded"),
            HeadFault::LengthAndChunks => malformed("Content-Length and Transfer-Encoding exclude one another"),
            HeadFault::Length => malformed("Content-Length must be one plain number"),
            HeadFault::Coding => malformed("Transfer-Encoding must be one `chunked`, in HTTP/1.1"),
            HeadFault::Host => malformed("exactly one Host header is needed"),
            HeadFault::TargetTooLong => Reason::RequestUriTooLong.into(),
            HeadFault::TooLarge => Reason::RequestHeadersTooLarge.into(),
            HeadFault::TooSlow => Refusal::new(Reason::RequestTimeout, "the request's head did not come in time"),
        }
    }
}

/// Checks a whole head, its last empty line included, and says how its body is delimited. Every `\n` in it follows a `\r`.
pub fn check(head: &[u8], most_lines: usize) -> Result<Framing, HeadFault> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_newest = request_line(lines.next().unwrap_or_default())?;
    let mut facts = Facts::default();
    let mut count = 0;
    for line in lines.take_while(|line| !line.is_empty()) {
        count += 1;
        if count > most_lines {
            return Err(HeadFault::TooLarge);
        }
        facts.header(line)?;
    }
    facts.framing(is_newest)
}

fn request_line(line: &[u8]) -> Result<bool, HeadFault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(HeadFault::RequestLine);
    };
    // A fragment is the client's own affair; one that is sent would be cut off before anybody compares the path.
    let visible = |byte: &u8| (0x21..=0x7e).contains(byte) && *byte != b'#' || *byte >= 0x80;
    if method.is_empty()
        || !method.iter().all(|byte| is_token(*byte))
        || target.is_empty()
        || !target.iter().all(visible)
    {
        return Err(HeadFault::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(HeadFault::RequestLine),
    }
}

/// What the framing and the host depend on.
#[derive(Default)]
struct Facts {
    hosts: usize,
    lengths: usize,
    length: Option<u64>,
    codings: usize,
    chunked: bool,
}

impl Facts {
    fn header(&mut self, line: &[u8]) -> Result<(), HeadFault> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(HeadFault::Folded);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(HeadFault::HeaderLine)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(HeadFault::HeaderLine);
        }
        if value.contains(&b'\r') {
            return Err(HeadFault::LineEnd);
        }
        if value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
            return Err(HeadFault::HeaderLine);
        }
        // Lengths first: most names are told apart by that alone.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = plain_number(value.trim_ascii());
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.codings += 1;
                self.chunked = value.trim_matches_blank().eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, is_newest: bool) -> Result<Framing, HeadFault> {
        match (self.lengths, self.codings) {
            _ if self.hosts != 1 => Err(HeadFault::Host),
            (0, 0) => Ok(Framing::Length(0)),
            (1, 0) => self.length.map(Framing::Length).ok_or(HeadFault::Length),
            (_, 0) => Err(HeadFault::Length),
            (0, 1) if self.chunked && is_newest => Ok(Framing::Chunked),
            (0, _) => Err(HeadFault::Coding),
            (_, _) => Err(HeadFault::LengthAndChunks),
        }
    }
}

/// Trimming of spaces and tabs only: other white space is part of a value and makes it wrong.
trait TrimBlank {
    fn trim_matches_blank(&self) -> &[u8];
}

impl TrimBlank for [u8] {
    fn trim_matches_blank(&self) -> &[u8] {
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let start = self.iter().position(|byte| !blank(byte)).unwrap_or(self.len());
        let end = self.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        &self[start..end]
    }
}

fn plain_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Result<Framing, HeadFault> {
        check(format!("POST /v1/x HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes(), 64)
    }

    #[test]
    fn a_plain_head_is_framed_by_its_length_or_its_chunks() {
        assert_eq!(head(""), Ok(Framing::Length(0)));
        assert_eq!(head("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(head("transfer-encoding: Chunked \r\n"), Ok(Framing::Chunked));
    }

    #[test]
    fn every_ambiguous_framing_is_refused() {
        let cases = [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", HeadFault::LengthAndChunks),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", HeadFault::Length),
            ("Content-Length: 1, 1\r\n", HeadFault::Length),
            ("Content-Length: +2\r\n", HeadFault::Length),
            ("Content-Length: -1\r\n", HeadFault::Length),
            ("Content-Length: 0x1\r\n", HeadFault::Length),
            ("Content-Length:\r\n", HeadFault::Length),
            ("Content-Length: 99999999999999999999\r\n", HeadFault::Length),
            ("Transfer-Encoding: xchunked\r\n", HeadFault::Coding),
            ("Transfer-Encoding: identity\r\n", HeadFault::Coding),
            ("Transfer-Encoding: gzip, chunked\r\n", HeadFault::Coding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HeadFault::Coding),
            ("Transfer-Encoding: \x0bchunked\r\n", HeadFault::HeaderLine),
            ("Content-Length : 1\r\n", HeadFault::HeaderLine),
            ("X: a\r\n b\r\n", HeadFault::Folded),
            ("X: a\0b\r\n", HeadFault::HeaderLine),
            ("X: a\rb\r\n", HeadFault::LineEnd),
            ("no colon\r\n", HeadFault::HeaderLine),
            (": empty\r\n", HeadFault::HeaderLine),
            ("Host: b\r\n", HeadFault::Host),
        ];
        for (lines, fault) in cases {
            assert_eq!(head(lines), Err(fault), "{lines:?}");
        }
    }

    #[test]
    fn request_lines_of_other_shapes_are_refused() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /",
            "GET / HTTP/2.0",
            "PRI * HTTP/2.0",
            "G(T / HTTP/1.1",
            "GET /\x01 HTTP/1.1",
            "GET /v1/status#f HTTP/1.1",
        ] {
            assert_eq!(
                check(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), 64),
                Err(HeadFault::RequestLine),
                "{line}"
            );
        }
        assert_eq!(check(b"GET / HTTP/1.1\r\n\r\n", 64), Err(HeadFault::Host));
        let chunked = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(check(chunked, 64), Err(HeadFault::Coding));
        assert_eq!(head(&"X: y\r\n".repeat(64)), Err(HeadFault::TooLarge));
    }

    #[test]
    fn every_fault_keeps_its_number() {
        for fault in HeadFault::ALL {
            assert_eq!(HeadFault::from_number(fault as u8), Some(fault));
        }
    }
}
