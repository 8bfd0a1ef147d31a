//! The bytes that every key of this crate is made of.

use mcphub_domain::random::Entropy;
use zeroize::Zeroizing;

/// The length of a key, in bytes.
pub(crate) const KEY: usize = 32;

/// Holds 256 secret bits. They stay in one place on the heap, so that moving the key leaves no copy
/// behind, and are wiped when it is dropped.
pub(crate) struct SecretKey(Box<Zeroizing<[u8; KEY]>>);

impl SecretKey {
    pub(crate) fn random(entropy: &Entropy) -> Self {
        let mut key = Self::zero();
        entropy.fill(key.0.as_mut_slice());
        key
    }

    /// Copies a key that the caller wipes.
    pub(crate) fn from_array(bytes: &[u8; KEY]) -> Self {
        let mut key = Self::zero();
        key.0.copy_from_slice(bytes);
        key
    }

    /// Copies a key out of bytes that the caller wipes; `None` if they aren't 32.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_array)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    fn zero() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY])))
    }
}
