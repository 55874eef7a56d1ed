//! Follows the framing of a chunked body while its bytes pass, so that the end of the body is known and nothing but the
//! plain form is let through: hexadecimal sizes, CRLF line ends, short extensions, few trailers.

/// The framing of a chunked body is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunks of the body are not framed as they must be")]
pub struct ChunkFault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Size { digits: u8, size: u64 },
    Extension { size: u64, used: usize },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataEnd { seen_return: bool },
    Trailer { used: usize, line: usize },
    TrailerEnd { used: usize, line: usize },
    Done,
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    place: Place,
    line_bytes: usize,
}

impl Chunks {
    pub(super) fn new(line_bytes: usize) -> Self {
        Self { place: Place::Size { digits: 0, size: 0 }, line_bytes }
    }

    pub(super) fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Takes bytes up to the end of the body and says how many it took.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<usize, ChunkFault> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let Place::Data { left } = self.place {
                let run = left.min((bytes.len() - at) as u64);
                at += run as usize;
                self.place =
                    if run == left { Place::DataEnd { seen_return: false } } else { Place::Data { left: left - run } };
            } else {
                self.place = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&self, byte: u8) -> Result<Place, ChunkFault> {
        match self.place {
            Place::Size { digits, size } => size_step(byte, digits, size),
            Place::Extension { size, used } => match byte {
                b'\r' => Ok(Place::SizeEnd { size }),
                b'\t' | 0x20..=0x7e if used < self.line_bytes => Ok(Place::Extension { size, used: used + 1 }),
                _ => Err(ChunkFault),
            },
            Place::SizeEnd { size } => match (byte, size) {
                (b'\n', 0) => Ok(Place::Trailer { used: 0, line: 0 }),
                (b'\n', left) => Ok(Place::Data { left }),
                _ => Err(ChunkFault),
            },
            Place::DataEnd { seen_return: false } if byte == b'\r' => Ok(Place::DataEnd { seen_return: true }),
            Place::DataEnd { seen_return: true } if byte == b'\n' => Ok(Place::Size { digits: 0, size: 0 }),
            Place::Trailer { used, line } => match byte {
                b'\r' => Ok(Place::TrailerEnd { used, line }),
                b'\t' | 0x20..=0x7e if used < self.line_bytes => Ok(Place::Trailer { used: used + 1, line: line + 1 }),
                _ => Err(ChunkFault),
            },
            Place::TrailerEnd { used, line } => match (byte, line) {
                (b'\n', 0) => Ok(Place::Done),
                (b'\n', _) => Ok(Place::Trailer { used, line: 0 }),
                _ => Err(ChunkFault),
            },
            Place::DataEnd { .. } | Place::Data { .. } | Place::Done => Err(ChunkFault),
        }
    }
}

fn size_step(byte: u8, digits: u8, size: u64) -> Result<Place, ChunkFault> {
    match (byte, char::from(byte).to_digit(16)) {
        (_, Some(digit)) if digits < 15 => Ok(Place::Size { digits: digits + 1, size: size * 16 + u64::from(digit) }),
        (b'\r', _) if digits > 0 => Ok(Place::SizeEnd { size }),
        (b';', _) if digits > 0 => Ok(Place::Extension { size, used: 0 }),
        _ => Err(ChunkFault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(body: &str) -> Result<(usize, bool), ChunkFault> {
        // One byte at a time and all at once must agree.
        let mut slow = Chunks::new(64);
        let mut taken = Ok(0);
        for byte in body.as_bytes() {
            match slow.pass(&[*byte]) {
                Ok(count) => taken = taken.map(|sum: usize| sum + count),
                Err(fault) => {
                    taken = Err(fault);
                    break;
                }
            }
        }
        let mut fast = Chunks::new(64);
        let all = fast.pass(body.as_bytes());
        assert_eq!(all, taken);
        all.map(|count| (count, fast.is_done()))
    }

    #[test]
    fn a_chunked_body_ends_where_its_last_chunk_ends() {
        assert_eq!(pass("0\r\n\r\nGET"), Ok((5, true)));
        assert_eq!(pass("3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nGET"), Ok((23, true)));
        assert_eq!(pass("A\r\n01234"), Ok((8, false)));
    }

    #[test]
    fn every_other_framing_is_refused() {
        for body in [
            "0x1\r\na",
            "\r\n",
            "1\na",
            "1 \r\na",
            "-1\r\n",
            "1\r\nab",
            "1\r\na\n",
            "FFFFFFFFFFFFFFFF\r\n",
            "0\r\n\n",
            "0\r\nX\n",
        ] {
            assert_eq!(pass(body), Err(ChunkFault), "{body:?}");
        }
        assert_eq!(pass(&format!("1;{}", "x".repeat(65))), Err(ChunkFault));
        assert_eq!(pass(&format!("0\r\n{}", "X: y\r\n".repeat(20))), Err(ChunkFault));
    }
}
