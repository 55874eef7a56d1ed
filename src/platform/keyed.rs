//! Keyed hashes: what is written in place of a credential or a body, so that equal ones can be recognised but not guessed.

use ring::hmac;

/// The key of `auth/fingerprint.key`, ready for use.
#[derive(Clone)]
pub struct FingerprintKey(hmac::Key);

impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey(hidden)")
    }
}

impl FingerprintKey {
    /// Takes the 32 bytes of the key file.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// First 16 bytes of the HMAC-SHA256 of these bytes, as 32 hex characters.
    pub fn fingerprint(&self, bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(&hmac::sign(&self.0, bytes).as_ref()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_first_half_of_the_hmac() {
        // RFC 4231 has no 32-byte key; this value was computed with Python's hmac module.
        let key = FingerprintKey::new(&[7; 32]);
        assert_eq!(key.fingerprint(b"chancery"), FIXED);
        assert_ne!(key.fingerprint(b"chancery"), FingerprintKey::new(&[8; 32]).fingerprint(b"chancery"));
    }

    const FIXED: &str = "219e290f16d83a5c434a1e65bf104633";
}
