//! Randomness, as an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ring::rand::SecureRandom as _;
use zeroize::Zeroize as _;

/// A source of random bytes.
pub trait Entropy: Send + Sync {
    /// Fills the buffer.
    fn fill(&self, out: &mut [u8]);

    /// Sixteen random bytes as a number.
    fn u128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// Bytes that are asked of the operating system at a time, for small wishes.
const POOL_BYTES: usize = 1_024;

/// Random bytes that nobody has been given yet.
struct Pool {
    bytes: [u8; POOL_BYTES],
    used: usize,
}

/// The operating system's generator. Small wishes are served from a pool, for each call of the kernel costs as much as
/// sealing a record; what was given is erased from it.
pub struct SystemEntropy {
    source: ring::rand::SystemRandom,
    pool: Mutex<Pool>,
}

impl Default for SystemEntropy {
    fn default() -> Self {
        let pool = Mutex::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES });
        Self { source: ring::rand::SystemRandom::new(), pool }
    }
}

impl SystemEntropy {
    fn ask(&self, out: &mut [u8]) {
        // A kernel that cannot give random bytes cannot make a key either: there is nothing to fall back to.
        #[allow(clippy::expect_used, reason = "no safe answer exists without randomness")]
        self.source.fill(out).expect("the operating system gives random bytes");
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        if out.len() > POOL_BYTES / 4 {
            return self.ask(out);
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.used + out.len() > POOL_BYTES {
            self.ask(&mut pool.bytes);
            pool.used = 0;
        }
        let (from, to) = (pool.used, pool.used + out.len());
        let given = &mut pool.bytes[from..to];
        out.copy_from_slice(given);
        given.zeroize();
        pool.used = to;
    }
}

/// A counter dressed as randomness, for tests that must repeat.
#[derive(Debug, Default)]
pub struct FakeEntropy(AtomicU64);

impl Entropy for FakeEntropy {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let mut word = self.0.fetch_add(1, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_given_twice() {
        let entropy = SystemEntropy::default();
        let mut given = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            assert!(given.insert(entropy.u128()));
        }
        let mut large = [0; POOL_BYTES];
        entropy.fill(&mut large);
        assert!(large.chunks(16).all(|chunk| given.insert(u128::from_le_bytes(chunk.try_into().unwrap()))));
        assert!(!given.contains(&0));
    }
}
