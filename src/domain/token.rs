//! The grammar of API tokens: `chy_<12 base62 id>_<32 base62 secret><6 base62 CRC-32>`, and of the files that hold one.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &str = "chy_";
const ID_CHARACTERS: usize = 12;
const SECRET_CHARACTERS: usize = 32;
const CHECKSUM_CHARACTERS: usize = 6;
const CHECKED_CHARACTERS: usize = PREFIX.len() + ID_CHARACTERS + 1 + SECRET_CHARACTERS;

/// Shortest string of an operator's own, characters: 128 bits where all 64 characters are equally likely.
pub const OWN_TOKEN_CHARACTERS: usize = 22;
/// Fewest different characters in a string of an operator's own.
pub const OWN_TOKEN_DISTINCT_CHARACTERS: usize = 8;
/// Longest token, bytes.
pub const TOKEN_BYTES: usize = 512;
/// Random bytes that [`Token::generate`] needs.
pub const RANDOM_BYTES: usize = 128;

/// What is wrong with a token or with the file that holds it. Never says the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Nothing is in the file.
    #[error("line 1: the file holds no token")]
    Empty,
    /// The file is larger than any token.
    #[error("the file is larger than {TOKEN_BYTES} bytes")]
    TooLarge,
    /// The file is not UTF-8.
    #[error("line {line}: not UTF-8")]
    NotUtf8 {
        /// Where.
        line: usize,
    },
    /// A byte-order mark stands at the front.
    #[error("line 1: begins with a byte-order mark")]
    ByteOrderMark,
    /// A line ends with carriage return and newline.
    #[error("line {line}: ends with a carriage return")]
    CarriageReturn {
        /// Where.
        line: usize,
    },
    /// A line begins with `#`.
    #[error("line {line}: comments are not allowed")]
    Comment {
        /// Where.
        line: usize,
    },
    /// There is more than the token and one newline.
    #[error("line {line}: the file must hold one token and one newline only")]
    ExtraLine {
        /// Where.
        line: usize,
    },
    /// A character that a bearer token cannot have.
    #[error("line 1: holds a character that a bearer token cannot have (letters, digits and -._~+/= are allowed)")]
    Character,
    /// Too short to be safe.
    #[error("line 1: shorter than {OWN_TOKEN_CHARACTERS} characters")]
    TooShort,
    /// Too few different characters to be safe.
    #[error("line 1: fewer than {OWN_TOKEN_DISTINCT_CHARACTERS} different characters")]
    TooUniform,
    /// It begins like one of our tokens, but its shape or checksum is wrong.
    #[error("line 1: begins with {PREFIX} but its length or checksum is wrong; was it cut or mistyped?")]
    Checksum,
}

/// A bearer token. Its text is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// Length of a token of our own grammar.
    pub const CHARACTERS: usize = CHECKED_CHARACTERS + CHECKSUM_CHARACTERS;

    /// Makes a token from fresh random bytes.
    pub fn generate(random: &[u8; RANDOM_BYTES]) -> Self {
        // Bytes of 248 and more are skipped, so that each character is equally likely.
        let mut characters = random.iter().filter(|byte| **byte < 248).map(|byte| digit(u32::from(*byte)));
        let mut fallback = random.iter().map(|byte| digit(u32::from(*byte)));
        let mut text = Zeroizing::new(String::with_capacity(Self::CHARACTERS));
        text.push_str(PREFIX);
        for position in 0..ID_CHARACTERS + SECRET_CHARACTERS {
            if position == ID_CHARACTERS {
                text.push('_');
            }
            let next = characters.next().or_else(|| fallback.next()).unwrap_or(b'0');
            text.push(char::from(next));
        }
        let sum = checksum(&text);
        text.push_str(&sum);
        Self(text)
    }

    /// Parses a token as it stands in a header.
    pub fn parse(text: &str) -> Result<Self, TokenFault> {
        if text.is_empty() {
            return Err(TokenFault::Empty);
        }
        if text.len() > TOKEN_BYTES {
            return Err(TokenFault::TooLarge);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)) {
            return Err(TokenFault::Character);
        }
        if text.starts_with(PREFIX) {
            return if is_ours(text) { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(TokenFault::Checksum) };
        }
        if text.len() < OWN_TOKEN_CHARACTERS {
            return Err(TokenFault::TooShort);
        }
        let distinct = (0..=u8::MAX).filter(|byte| text.as_bytes().contains(byte)).count();
        if distinct < OWN_TOKEN_DISTINCT_CHARACTERS {
            return Err(TokenFault::TooUniform);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Parses the bytes of a token file: one token, then at most one newline.
    pub fn parse_file(bytes: &[u8]) -> Result<Self, TokenFault> {
        if bytes.len() > TOKEN_BYTES + 1 {
            return Err(TokenFault::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|fault| TokenFault::NotUtf8 {
            line: bytes.iter().take(fault.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1,
        })?;
        if text.starts_with('\u{feff}') {
            return Err(TokenFault::ByteOrderMark);
        }
        for (index, line) in text.split('\n').enumerate() {
            if line.ends_with('\r') {
                return Err(TokenFault::CarriageReturn { line: index + 1 });
            }
            if line.starts_with('#') {
                return Err(TokenFault::Comment { line: index + 1 });
            }
        }
        let body = text.strip_suffix('\n').unwrap_or(text);
        if body.contains('\n') {
            return Err(TokenFault::ExtraLine { line: 2 });
        }
        Self::parse(body)
    }

    /// The text, for hashing or for the file that holds it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The public id of a token of our own grammar.
    pub fn public_id(&self) -> Option<&str> {
        self.0.strip_prefix(PREFIX).and_then(|rest| rest.get(..ID_CHARACTERS))
    }
}

fn is_ours(text: &str) -> bool {
    let Some((checked, sum)) = text.split_at_checked(CHECKED_CHARACTERS) else { return false };
    let words = text.strip_prefix(PREFIX).unwrap_or_default().bytes().enumerate();
    sum.len() == CHECKSUM_CHARACTERS
        && checksum(checked) == sum
        && words
            .into_iter()
            .all(|(at, byte)| if at == ID_CHARACTERS { byte == b'_' } else { byte.is_ascii_alphanumeric() })
}

/// The base62 digit of a number's last place.
fn digit(number: u32) -> u8 {
    ALPHABET.get((number % 62) as usize).copied().unwrap_or(b'0')
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [0; CHECKSUM_CHARACTERS];
    for place in digits.iter_mut().rev() {
        *place = digit(rest);
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Token {
        let mut random = [0; RANDOM_BYTES];
        for (index, byte) in random.iter_mut().enumerate() {
            *byte = u8::try_from((index * 37 + 11) % 256).unwrap();
        }
        Token::generate(&random)
    }

    #[test]
    fn a_generated_token_parses_and_shows_only_its_id() {
        let token = fresh();
        assert_eq!(token.expose().len(), 55);
        assert_eq!(Token::parse(token.expose()), Ok(token.clone()));
        assert_eq!(token.public_id().map(str::len), Some(12));
        assert_eq!(format!("{token:?}"), "Token(hidden)");
    }

    #[test]
    fn any_changed_character_of_our_grammar_is_found() {
        let text = fresh().expose().to_owned();
        for at in 4..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(Token::parse(&String::from_utf8(bytes).unwrap()), Err(TokenFault::Checksum), "at {at}");
        }
        assert_eq!(Token::parse(&text[..54]), Err(TokenFault::Checksum));
    }

    #[test]
    fn a_token_file_holds_one_token_and_at_most_one_newline() {
        let text = fresh().expose().to_owned();
        let parse = |bytes: &[u8]| {
            let parsed = Token::parse_file(bytes).map(|token| token.expose().to_owned());
            if let Err(fault) = &parsed {
                let said = fault.to_string();
                assert!(!said.contains(&text[4..]) && (said.contains("line ") || said.contains("larger")), "{said}");
            }
            parsed
        };
        assert_eq!(parse(text.as_bytes()), Ok(text.clone()));
        assert_eq!(parse(format!("{text}\n").as_bytes()), Ok(text.clone()));
        assert_eq!(parse(format!("{text}\n\n").as_bytes()), Err(TokenFault::ExtraLine { line: 2 }));
        assert_eq!(parse(format!("{text}\r\n").as_bytes()), Err(TokenFault::CarriageReturn { line: 1 }));
        assert_eq!(parse(format!("\u{feff}{text}\n").as_bytes()), Err(TokenFault::ByteOrderMark));
        assert_eq!(parse(format!("# mine\n{text}\n").as_bytes()), Err(TokenFault::Comment { line: 1 }));
        assert_eq!(parse(format!("{text}\0\n").as_bytes()), Err(TokenFault::Character));
        assert_eq!(parse(format!(" {text}\n").as_bytes()), Err(TokenFault::Character));
        assert_eq!(parse(format!("{text}\n# mine\n").as_bytes()), Err(TokenFault::Comment { line: 2 }));
        assert_eq!(parse(format!("{text}\n{text}\n").as_bytes()), Err(TokenFault::ExtraLine { line: 2 }));
        assert_eq!(parse(format!("\n{text}\n").as_bytes()), Err(TokenFault::ExtraLine { line: 2 }));
        assert_eq!(parse(b"\xff\n"), Err(TokenFault::NotUtf8 { line: 1 }));
        assert_eq!(parse(b""), Err(TokenFault::Empty));
        assert_eq!(parse(b"\n"), Err(TokenFault::Empty));
        assert_eq!(parse(&[b'a'; 5_000]), Err(TokenFault::TooLarge));
    }

    #[test]
    fn an_operators_own_string_must_be_long_and_varied() {
        assert_eq!(Token::parse("0123456789abcdefghijk"), Err(TokenFault::TooShort));
        assert!(Token::parse("0123456789abcdefghijkl").is_ok());
        assert_eq!(Token::parse(&"ab".repeat(20)), Err(TokenFault::TooUniform));
    }
}
