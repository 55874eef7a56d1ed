//! The master key: 32 random bytes that the operator keeps outside of the state root. Each slot's version has a key of
//! its own that is derived from it, so that no nonce is ever used twice under one key.

use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use crate::domain::reason::{Reason, Refusal};
use crate::platform::entropy::Entropy;
use crate::platform::private_file::{self, PrivateFileFault};

/// Bytes of the key; it is written as twice as many hexadecimal digits.
pub const KEY_BYTES: usize = 32;
/// The variable that may hold the key.
pub const VARIABLE: &str = "CHANCERY_AUTH_STORE_MASTER_KEY";
/// Bytes of the value by which a key is known to be the right one.
const CHECK_BYTES: usize = 16;

/// What is wrong with a master key. Never says the value.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyFault {
    /// The text is no key.
    #[error("{0} holds no master key: {digits} hexadecimal digits are needed, as `chancery secrets generate` prints them", digits = 2 * KEY_BYTES)]
    Shape(String),
    /// The file could not be read safely.
    #[error(transparent)]
    File(#[from] PrivateFileFault),
    /// Two keys were given.
    #[error("both {VARIABLE} and {VARIABLE}_FILE are set; keep one")]
    Twice,
}

impl From<MasterKeyFault> for Refusal {
    fn from(fault: MasterKeyFault) -> Self {
        let reason = match fault {
            MasterKeyFault::File(PrivateFileFault::Loose(_)) => Reason::StateRootInsecurePermissions,
            MasterKeyFault::Shape(_) | MasterKeyFault::File(_) => Reason::StateRootMasterKeyMismatch,
            MasterKeyFault::Twice => Reason::ConfigInvalid,
        };
        Self::new(reason, fault.to_string())
    }
}

/// The master key in memory.
#[derive(Clone)]
pub struct MasterKey(Prk);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(hidden)")
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl MasterKey {
    /// The text of a fresh key.
    pub fn generate(entropy: &dyn Entropy) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        entropy.fill(bytes.as_mut());
        Zeroizing::new(data_encoding::HEXLOWER.encode(bytes.as_ref()))
    }

    /// Reads the text of a key; `source` names where it comes from.
    pub fn parse(text: &str, source: &str) -> Result<Self, MasterKeyFault> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map(Zeroizing::new).unwrap_or_default();
        // The key is random, so that extraction needs no salt; the salt of each use enters with its expansion.
        let usable = bytes.len() == KEY_BYTES && bytes.iter().any(|byte| *byte != bytes[0]);
        usable
            .then(|| Self(Salt::new(HKDF_SHA256, b"chancery vault").extract(&bytes)))
            .ok_or_else(|| MasterKeyFault::Shape(source.to_owned()))
    }

    /// The key that the operator gives: from a file, or as the value of [`VARIABLE`]; none where neither is there.
    pub fn given(file: Option<&Path>) -> Result<Option<Self>, MasterKeyFault> {
        let value = std::env::var(VARIABLE).ok().map(Zeroizing::new).filter(|value| !value.is_empty());
        match (value, file) {
            (Some(_), Some(_)) => Err(MasterKeyFault::Twice),
            (Some(value), None) => Self::parse(&value, VARIABLE).map(Some),
            (None, Some(file)) => Self::read(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Reads a key from a file that only its owner may open.
    pub fn read(path: &Path) -> Result<Self, MasterKeyFault> {
        let bytes = Zeroizing::new(private_file::read(path, 2 * KEY_BYTES + 1)?);
        let source = path.display().to_string();
        let text = std::str::from_utf8(&bytes).map_err(|_| MasterKeyFault::Shape(source.clone()))?;
        Self::parse(text, &source)
    }

    /// The key of one state root, so that no other root's ciphertext opens with the same master key.
    #[must_use]
    pub fn of_root(&self, root_id: &str) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        self.derive(&[b"root", root_id.as_bytes()], &mut bytes);
        Self(Salt::new(HKDF_SHA256, b"chancery vault of one root").extract(bytes.as_ref()))
    }

    /// A key that is no master key but is drawn from in the same way.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, b"chancery key of a subject").extract(bytes))
    }

    /// The value that this key has in one state root; it tells a wrong key before anything is opened with it.
    pub fn check_value(&self, root_id: &str) -> String {
        let mut value = [0; CHECK_BYTES];
        self.derive(&[b"check", root_id.as_bytes()], &mut value);
        data_encoding::HEXLOWER.encode(&value)
    }

    /// Derives bytes for one purpose, which the parts name together (HKDF-Expand of RFC 5869).
    pub(super) fn derive<const N: usize>(&self, parts: &[&[u8]], out: &mut [u8; N]) {
        let info = joined(parts);
        // Only a length of more than 255 hashes can fail.
        let filled = self.0.expand(&[&info], Length(N)).and_then(|material| material.fill(out));
        debug_assert!(filled.is_ok(), "{N} bytes can be derived");
    }
}

/// Parts in one row, each with its length before it, so that no two lists of parts make the same bytes.
pub(super) fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;

    #[test]
    fn only_a_whole_key_is_taken() {
        let text = MasterKey::generate(&SystemEntropy::default());
        assert!(MasterKey::parse(&text, "here").is_ok());
        assert!(MasterKey::parse(&format!("{}\n", *text), "here").is_ok());
        let zeros = "0".repeat(64);
        for wrong in ["", &text[1..], &format!("{}00", *text), &format!("{}zz", &text[2..]), &zeros] {
            let fault = MasterKey::parse(wrong, "the variable").unwrap_err().to_string();
            assert!(fault.contains("the variable") && (wrong.is_empty() || !fault.contains(wrong)), "{fault}");
        }
    }

    #[test]
    fn the_check_value_tells_keys_and_state_roots_apart() {
        let key = MasterKey::parse(&"0f".repeat(31).as_str().to_owned().add("10"), "here").unwrap();
        let other = MasterKey::parse(&"0f".repeat(31).as_str().to_owned().add("11"), "here").unwrap();
        assert_eq!(key.check_value("root_a"), key.check_value("root_a"));
        assert_ne!(key.check_value("root_a"), other.check_value("root_a"));
        assert_ne!(key.check_value("root_a"), key.check_value("root_b"));
    }

    use std::ops::Add as _;
}
