//! How one version of one slot is encrypted: AES-256-GCM under a key of its own (HKDF over the master key, a random salt,
//! organisation, slot and version), with the same names as associated data. So a ciphertext opens in its own place only.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::master_key::{MasterKey, joined};
use super::secret::Secret;
use crate::platform::entropy::Entropy;

const SALT_BYTES: usize = 32;

/// Where a secret stands: its organisation, its slot, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The organisation.
    pub org: String,
    /// The slot's dotted name.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The version, from 1.
    pub version: u64,
}

/// One encrypted secret, as the file of slots holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// 32 random bytes, base64.
    pub salt: String,
    /// 12 random bytes, base64.
    pub nonce: String,
    /// Ciphertext and tag, base64.
    pub ciphertext: String,
}

impl Place {
    fn parts(&self) -> [Vec<u8>; 3] {
        [self.org.clone().into_bytes(), self.reference.clone().into_bytes(), self.version.to_be_bytes().into()]
    }

    fn associated(&self) -> Vec<u8> {
        let [org, reference, version] = self.parts();
        joined(&[b"slot", &org, &reference, &version])
    }

    fn key(&self, master: &MasterKey, salt: &[u8]) -> Option<LessSafeKey> {
        let [org, reference, version] = self.parts();
        let mut key = Zeroizing::new([0; 32]);
        master.derive(&[b"slot", salt, &org, &reference, &version], &mut key);
        UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(LessSafeKey::new)
    }
}

impl Sealed {
    /// Encrypts a secret for one place. None only where the machine's cryptography fails.
    pub fn new(master: &MasterKey, place: Place, secret: &Secret, entropy: &dyn Entropy) -> Option<Self> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
        entropy.fill(&mut salt);
        entropy.fill(&mut nonce);
        let mut bytes = secret.expose().as_bytes().to_vec();
        let key = place.key(master, &salt)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.associated()), &mut bytes)
            .ok()?;
        let text = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
        Some(Self { place, salt: text(&salt), nonce: text(&nonce), ciphertext: text(&bytes) })
    }

    /// Decrypts it. None where the key is another, or anything about it was changed or moved.
    pub fn open(&self, master: &MasterKey) -> Option<Secret> {
        let bytes = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).ok();
        let nonce = bytes(&self.nonce)?.try_into().ok()?;
        let mut ciphertext = Zeroizing::new(bytes(&self.ciphertext)?);
        let key = self.place.key(master, &bytes(&self.salt)?)?;
        let aad = Aad::from(self.place.associated());
        let plain = key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut ciphertext).ok()?;
        Secret::parse(plain).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::entropy::SystemEntropy;

    fn master(digit: &str) -> MasterKey {
        MasterKey::parse(&format!("{}{digit}", "0".repeat(63)), "here").unwrap()
    }

    fn sealed() -> Sealed {
        let place = Place { org: "default".into(), reference: "openai.prod".into(), version: 3 };
        let secret = Secret::parse(b"sk-0123456789abcdef").unwrap();
        Sealed::new(&master("1"), place, &secret, &SystemEntropy::default()).unwrap()
    }

    #[test]
    fn a_secret_opens_with_its_key_and_two_seals_of_it_share_nothing() {
        let (one, other) = (sealed(), sealed());
        assert_eq!(one.open(&master("1")).unwrap().expose(), "sk-0123456789abcdef");
        assert!(one.open(&master("2")).is_none());
        assert!(one.salt != other.salt && one.nonce != other.nonce && one.ciphertext != other.ciphertext);
    }

    #[test]
    fn a_moved_or_changed_secret_does_not_open() {
        let good = sealed();
        let moved = |org: &str, reference: &str, version| {
            let place = Place { org: org.into(), reference: reference.into(), version };
            Sealed { place, ..good.clone() }
        };
        let mut all = vec![
            moved("other", "openai.prod", 3),
            moved("default", "openai.test", 3),
            moved("default", "openai.prod", 2),
            moved("defaulto", "penai.prod", 3),
        ];
        let flipped = |text: &str, at: usize| {
            let mut bytes = data_encoding::BASE64.decode(text.as_bytes()).unwrap();
            bytes[at / 8] ^= 1 << (at % 8);
            data_encoding::BASE64.encode(&bytes)
        };
        let bits = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).unwrap().len() * 8;
        all.extend((0..bits(&good.salt)).map(|at| Sealed { salt: flipped(&good.salt, at), ..good.clone() }));
        all.extend((0..bits(&good.nonce)).map(|at| Sealed { nonce: flipped(&good.nonce, at), ..good.clone() }));
        all.extend(
            (0..bits(&good.ciphertext)).map(|at| Sealed { ciphertext: flipped(&good.ciphertext, at), ..good.clone() }),
        );
        all.push(Sealed { ciphertext: String::new(), ..good.clone() });
        all.push(Sealed { nonce: good.salt.clone(), ..good.clone() });
        for wrong in all {
            assert!(wrong.open(&master("1")).is_none(), "{wrong:?}");
        }
        assert!(good.open(&master("1")).is_some());
    }
}
