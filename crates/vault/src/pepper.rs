//! What the database keeps of a hub key: a code that is worth nothing without the pepper.

use mcphub_domain::id::KeyId;
use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretBytes;
use subtle::ConstantTimeEq;

use crate::error::VaultError;
use crate::key::SecretKey;
use crate::mac::Keyed;

/// Separates the codes of hub keys from all else that the pepper could authenticate.
const DOMAIN: &[u8] = b"mcphub/hub-key/v1";

/// Holds the installation's pepper. It is stored sealed.
pub struct Pepper {
    key: SecretKey,
    keyed: Keyed,
}

impl Pepper {
    /// Makes the pepper of a new installation.
    pub fn random(entropy: &Entropy) -> Self {
        Self::new(SecretKey::random(entropy))
    }

    /// Takes a pepper that the vault opened.
    pub fn from_secret(secret: &SecretBytes) -> Result<Self, VaultError> {
        let found = secret.expose().len();
        SecretKey::from_slice(secret.expose()).map(Self::new).ok_or(VaultError::KeyLength { found })
    }

    fn new(key: SecretKey) -> Self {
        Self { keyed: Keyed::new(&key), key }
    }

    /// Shows the pepper to the code that seals it in the vault.
    pub fn expose(&self) -> &[u8] {
        self.key.bytes()
    }

    /// Computes what is stored of a hub key. The domain and the id have fixed lengths, so the parts
    /// can't be confused.
    pub fn mac(&self, key_id: &KeyId, secret: &[u8]) -> [u8; 32] {
        self.keyed.mac(&[DOMAIN, key_id.as_bytes(), secret])
    }

    /// Compares a presented secret with what is stored, in a time that doesn't depend on either.
    pub fn verify(&self, key_id: &KeyId, secret: &[u8], stored: &[u8; 32]) -> bool {
        self.mac(key_id, secret).ct_eq(stored).into()
    }
}
