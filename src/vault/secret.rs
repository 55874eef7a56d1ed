//! A secret in memory: wiped when dropped, hidden when printed.

use zeroize::Zeroizing;

/// Longest secret, bytes.
pub const SECRET_BYTES: usize = 16 << 10;
/// Shortest secret whose last four characters are shown, characters: of a shorter one they would tell too much.
pub const SHOWN_FROM: usize = 16;

/// What is wrong with a text that should become a secret. Never says the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// Nothing is there.
    #[error("the secret is empty")]
    Empty,
    /// It is larger than any key.
    #[error("the secret is larger than {SECRET_BYTES} bytes")]
    TooLarge,
    /// It is not text.
    #[error("the secret is not UTF-8")]
    NotUtf8,
    /// It holds a line break or another control character, as a file that was pasted whole does.
    #[error("the secret holds a line break or another control character")]
    Control,
}

/// The plain text of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    /// Takes a secret as it was given; one newline at its end, which files and pipes add, is not part of it.
    pub fn parse(given: &[u8]) -> Result<Self, SecretFault> {
        let text = std::str::from_utf8(given).map_err(|_| SecretFault::NotUtf8)?;
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(SecretFault::Empty);
        }
        if text.len() > SECRET_BYTES {
            return Err(SecretFault::TooLarge);
        }
        if text.chars().any(char::is_control) {
            return Err(SecretFault::Control);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The text itself, for whoever uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its last four characters, where it is long enough.
    pub fn last4(&self) -> Option<String> {
        let characters: Vec<char> = self.0.chars().collect();
        (characters.len() >= SHOWN_FROM).then(|| characters[characters.len() - 4..].iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_of_text_and_never_printed() {
        let secret = Secret::parse(b"sk-0123456789abcdef\r\n").unwrap();
        assert_eq!(secret.expose(), "sk-0123456789abcdef");
        assert_eq!(secret.last4().as_deref(), Some("cdef"));
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        assert_eq!(Secret::parse(b"fifteen-letters").unwrap().last4(), None);
        for (given, fault) in [
            (&b""[..], SecretFault::Empty),
            (b"\n", SecretFault::Empty),
            (b"two\nlines", SecretFault::Control),
            (b"\xff\xfe", SecretFault::NotUtf8),
            (&vec![b'x'; SECRET_BYTES + 1], SecretFault::TooLarge),
        ] {
            assert_eq!(Secret::parse(given), Err(fault));
        }
    }
}
