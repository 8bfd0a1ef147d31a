//! The personal fields of audit records: readable until their person's key is destroyed.

use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretBytes;

use crate::cipher::{NONCE, decrypt, encrypt};
use crate::encode::fields;
use crate::error::VaultError;
use crate::key::SecretKey;

/// Numbers the format of an encrypted field.
const FORMAT: u8 = 1;

/// Separates personal fields from all else that a person's key could authenticate.
const DOMAIN: &[u8] = b"mcphub/personal/v1";

/// Holds the key of one person's fields in the log. It is stored sealed; destroying it erases the
/// person from the log while the log stays verifiable.
pub struct PersonKey(SecretKey);

impl PersonKey {
    /// Makes the key of a new person.
    pub fn random(entropy: &Entropy) -> Self {
        Self(SecretKey::random(entropy))
    }

    /// Takes a key that the vault opened.
    pub fn from_secret(secret: &SecretBytes) -> Result<Self, VaultError> {
        let found = secret.expose().len();
        SecretKey::from_slice(secret.expose()).map(Self).ok_or(VaultError::KeyLength { found })
    }

    /// Shows the key to the code that seals it in the vault.
    pub fn expose(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Encrypts one field. `aad` says which field of which record it is; one value encrypted twice
    /// gives two texts, so equal names don't show.
    pub fn seal(&self, aad: &[u8], plain: &[u8], entropy: &Entropy) -> Result<Vec<u8>, VaultError> {
        let nonce: [u8; NONCE] = entropy.bytes();
        let data = encrypt(&self.0, &nonce, &field_aad(aad), plain)?;
        Ok([&[FORMAT] as &[u8], &nonce, &data].concat())
    }

    /// Opens a field of the same record and person.
    pub fn open(&self, aad: &[u8], field: &[u8]) -> Result<SecretBytes, VaultError> {
        let Some((&[FORMAT], rest)) = field.split_first_chunk() else {
            return Err(VaultError::Personal);
        };
        let (nonce, data) = rest.split_first_chunk().ok_or(VaultError::Personal)?;
        decrypt(&self.0, nonce, &field_aad(aad), data).ok_or(VaultError::Personal)
    }
}

fn field_aad(aad: &[u8]) -> Vec<u8> {
    fields(&[DOMAIN, &[FORMAT], aad])
}
