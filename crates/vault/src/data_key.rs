//! The key of one sealed value: made for it, stored with it, encrypted.

use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretBytes;
use sha2::{Digest, Sha256};

use crate::cipher::{NONCE, decrypt, encrypt};
use crate::envelope::{FORMAT, Parts, Wrapped, data_aad, wrap_aad};
use crate::error::VaultError;
use crate::key::SecretKey;
use crate::keyring::WrapKey;
use crate::mac::{derive, hmac};

const DATA_PURPOSE: &str = "mcphub/data-key/v1";
const COMMITMENT_PURPOSE: &str = "mcphub/commitment-key/v1";
const COMMITMENT_DOMAIN: &[u8] = b"mcphub/commitment/v1";

/// Holds the key of one sealed value.
pub(crate) struct DataKey(SecretKey);

impl DataKey {
    pub(crate) fn random(entropy: &Entropy) -> Self {
        Self(SecretKey::random(entropy))
    }

    /// Commits to this key and this context. GCM-SIV alone doesn't: one ciphertext can be made to
    /// open, to different plaintexts, under two keys.
    pub(crate) fn commitment(&self, context: &[u8]) -> [u8; 32] {
        let key = derive(&self.0, COMMITMENT_PURPOSE);
        hmac(&key, &[COMMITMENT_DOMAIN, &FORMAT, &Sha256::digest(context)])
    }

    pub(crate) fn encrypt(
        &self,
        nonce: &[u8; NONCE],
        context: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        encrypt(&derive(&self.0, DATA_PURPOSE), nonce, &data_aad(context), plain)
    }

    pub(crate) fn decrypt(&self, nonce: &[u8; NONCE], context: &[u8], data: &[u8]) -> Option<SecretBytes> {
        decrypt(&derive(&self.0, DATA_PURPOSE), nonce, &data_aad(context), data)
    }

    pub(crate) fn wrap(
        &self,
        under: &WrapKey,
        commitment: &[u8; 32],
        entropy: &Entropy,
    ) -> Result<Wrapped, VaultError> {
        let nonce = entropy.bytes();
        let key = encrypt(under.key(), &nonce, &wrap_aad(under.id(), commitment), self.0.bytes())?;
        Ok(Wrapped { key_id: under.id(), nonce, key })
    }

    /// Unwraps the key of a record; `None` if the record's head was changed.
    pub(crate) fn unwrap(under: &WrapKey, parts: &Parts<'_>) -> Option<Self> {
        let aad = wrap_aad(under.id(), parts.commitment);
        let key = decrypt(under.key(), parts.wrap_nonce, &aad, parts.wrapped)?;
        SecretKey::from_slice(key.expose()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::{DataKey, Entropy};

    #[test]
    fn the_data_is_bound_to_the_context_even_without_the_commitment() {
        let key = DataKey::random(&Entropy::fixed(1));
        let data = key.encrypt(&[0; 12], b"here", b"secret").unwrap();
        assert_eq!(key.decrypt(&[0; 12], b"here", &data).unwrap().expose(), b"secret");
        assert!(key.decrypt(&[0; 12], b"there", &data).is_none());
        assert!(key.decrypt(&[1; 12], b"here", &data).is_none());
    }

    #[test]
    fn the_commitment_is_to_the_key_and_the_context() {
        let entropy = Entropy::fixed(1);
        let (key, other) = (DataKey::random(&entropy), DataKey::random(&entropy));
        assert_eq!(key.commitment(b"here"), key.commitment(b"here"));
        assert_ne!(key.commitment(b"here"), key.commitment(b"there"));
        assert_ne!(key.commitment(b"here"), other.commitment(b"here"));
    }
}
