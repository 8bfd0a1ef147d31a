//! The key-encryption keys: one that seals, and older ones that still open.

use std::sync::Arc;

use mcphub_domain::WrapKeyId;
use mcphub_domain::random::Entropy;
use sha2::{Digest, Sha256};

use crate::error::VaultError;
use crate::key::SecretKey;

/// Separates a key's id from every other digest of it.
const ID_DOMAIN: &[u8] = b"mcphub/kek-id/v1";

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

/// Holds the current key, which seals, and other keys, which only open.
pub struct Keyring {
    current: Arc<WrapKey>,
    others: Vec<Arc<WrapKey>>,
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
        Self { id: id_of(&key), key }
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }
}

impl Keyring {
    /// Joins the key that seals and those that may still be needed to open.
    pub fn new(current: WrapKey, others: Vec<WrapKey>) -> Self {
        Self { current: Arc::new(current), others: others.into_iter().map(Arc::new).collect() }
    }

    /// Lists the keys, the one that seals first.
    pub fn ids(&self) -> Vec<WrapKeyId> {
        self.keys().map(|key| key.id).collect()
    }

    /// Lets another of its keys seal from now on.
    pub fn sealing_with(self, id: WrapKeyId) -> Result<Self, VaultError> {
        let (found, others): (Vec<_>, Vec<_>) = self.keys().map(Arc::clone).partition(|key| key.id == id);
        let current = found.into_iter().next().ok_or(VaultError::UnknownKey { id })?;
        Ok(Self { current, others })
    }

    /// Adds the keys of another keyring; the key that seals stays the same.
    pub fn with(mut self, other: &Self) -> Self {
        let more: Vec<_> = other.keys().filter(|key| self.find(key.id).is_none()).map(Arc::clone).collect();
        self.others.extend(more);
        self
    }

    pub(crate) fn current(&self) -> &WrapKey {
        &self.current
    }

    pub(crate) fn find(&self, id: WrapKeyId) -> Option<&WrapKey> {
        self.keys().find(|key| key.id == id).map(Arc::as_ref)
    }

    fn keys(&self) -> impl Iterator<Item = &Arc<WrapKey>> {
        std::iter::once(&self.current).chain(&self.others)
    }
}

fn id_of(key: &SecretKey) -> WrapKeyId {
    let digest: [u8; 32] = Sha256::new().chain_update(ID_DOMAIN).chain_update(key.bytes()).finalize().into();
    let mut id = [0; 16];
    for (target, byte) in id.iter_mut().zip(digest) {
        *target = byte;
    }
    WrapKeyId::from_bytes(id)
}
