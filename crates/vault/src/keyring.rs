//! The key-encryption keys: one that seals, and older ones that still open.

use std::fmt;

use mcphub_domain::random::Entropy;
use sha2::{Digest, Sha256};

use crate::key::SecretKey;

/// Identifies a key-encryption key. It follows from the key, so one id can't stand for two keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WrapKeyId([u8; 16]);

/// Holds a key-encryption key: it encrypts data keys and nothing else.
///
/// It can be neither shown nor copied:
///
/// ```compile_fail,E0277
/// # use mcphub_domain::random::Entropy;
/// # use mcphub_vault::WrapKey;
/// println!("{:?}", WrapKey::random(&Entropy::fixed(1)));
/// ```
///
/// ```compile_fail,E0599
/// # use mcphub_domain::random::Entropy;
/// # use mcphub_vault::WrapKey;
/// let copy = WrapKey::random(&Entropy::fixed(1)).clone();
/// ```
///
/// Only its id can:
///
/// ```
/// # use mcphub_domain::random::Entropy;
/// # use mcphub_vault::WrapKey;
/// println!("{:?}", WrapKey::random(&Entropy::fixed(1)).id());
/// ```
pub struct WrapKey {
    id: WrapKeyId,
    key: SecretKey,
}

/// Holds the current key, which seals, and the keys before it, which only open.
pub struct Keyring {
    current: WrapKey,
    others: Vec<WrapKey>,
}

impl WrapKeyId {
    /// Separates the id from every other digest of the key.
    const DOMAIN: &[u8] = b"mcphub/kek-id/v1";

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn of(key: &SecretKey) -> Self {
        let digest: [u8; 32] =
            Sha256::new().chain_update(Self::DOMAIN).chain_update(key.bytes()).finalize().into();
        let mut id = [0; 16];
        for (target, byte) in id.iter_mut().zip(digest) {
            *target = byte;
        }
        Self(id)
    }
}

impl fmt::Display for WrapKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WrapKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrapKeyId({self})")
    }
}

impl WrapKey {
    /// Makes a new key.
    pub fn random(entropy: &Entropy) -> Self {
        Self::new(SecretKey::random(entropy))
    }

    /// Tells which key this is.
    pub const fn id(&self) -> WrapKeyId {
        self.id
    }

    pub(crate) fn new(key: SecretKey) -> Self {
        Self { id: WrapKeyId::of(&key), key }
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }
}

impl Keyring {
    /// Joins the key that seals and those that may still be needed to open.
    pub fn new(current: WrapKey, others: Vec<WrapKey>) -> Self {
        Self { current, others }
    }

    pub(crate) fn current(&self) -> &WrapKey {
        &self.current
    }

    pub(crate) fn find(&self, id: WrapKeyId) -> Option<&WrapKey> {
        std::iter::once(&self.current).chain(&self.others).find(|key| key.id == id)
    }
}
