//! Who signs the heads of the audit log: Ed25519 (RFC 8032).

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use mcphub_domain::random::Entropy;
use mcphub_domain::secret::SecretBytes;

use crate::error::VaultError;

/// Holds the key that signs heads. It is stored sealed; its public half is not a secret.
pub struct Signer(SigningKey);

impl Signer {
    /// Makes the signer of a new installation.
    pub fn random(entropy: &Entropy) -> Self {
        Self(SigningKey::from_bytes(&entropy.bytes()))
    }

    /// Takes a signer's seed that the vault opened.
    pub fn from_secret(secret: &SecretBytes) -> Result<Self, VaultError> {
        let found = secret.expose().len();
        let seed = secret.expose().try_into().map_err(|_| VaultError::KeyLength { found })?;
        Ok(Self(SigningKey::from_bytes(seed)))
    }

    /// Shows the seed to the code that seals it in the vault.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the public key.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Says whether `signature` is that of `message` by the holder of `public`. Strict: weak keys and
/// signatures that could have another form are refused.
pub fn signed_by(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Entropy, SecretBytes, Signer, signed_by};

    #[test]
    fn the_first_vector_of_rfc_8032_holds() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let signer = Signer::from_secret(&SecretBytes::new(seed.to_vec())).ok().unwrap();
        assert_eq!(signer.public()[..4], [0xd7, 0x5a, 0x98, 0x01]);
        assert_eq!(signer.sign(b"")[..4], [0xe5, 0x56, 0x43, 0x00]);
    }

    #[test]
    fn only_the_signed_message_and_the_signers_key_verify() {
        let (signer, other) = (Signer::random(&Entropy::fixed(1)), Signer::random(&Entropy::fixed(2)));
        let mut signature = signer.sign(b"head 1");
        assert!(signed_by(&signer.public(), b"head 1", &signature));
        assert!(!signed_by(&signer.public(), b"head 2", &signature));
        assert!(!signed_by(&other.public(), b"head 1", &signature));
        signature[40] ^= 1;
        assert!(!signed_by(&signer.public(), b"head 1", &signature));
    }
}
