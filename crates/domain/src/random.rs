//! Randomness as an argument.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// Supplies random bytes.
///
/// The binary hands in the operating system's generator; a test hands in a fixed one.
#[derive(Clone)]
pub struct Entropy(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

impl Entropy {
    /// Wraps a function that fills its argument with random bytes and can't fail.
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    /// Makes a reproducible generator, for tests: SHA-256 over the seed and a counter.
    pub fn fixed(seed: u64) -> Self {
        let counter = AtomicU64::new(0);
        Self::new(move |target| {
            for chunk in target.chunks_mut(32) {
                let mut block = Sha256::new();
                block.update(seed.to_be_bytes());
                block.update(counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                for (byte, random) in chunk.iter_mut().zip(block.finalize()) {
                    *byte = random;
                }
            }
        })
    }

    /// Fills `target` with random bytes.
    pub fn fill(&self, target: &mut [u8]) {
        (self.0)(target);
    }

    /// Returns `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
