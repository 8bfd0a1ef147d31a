//! The installation's key: Ed25519, and its fingerprint.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::text::{hex, unhex};
use crate::{Hash, hash};

/// Is the key that heads and bundles are signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey([u8; 32]);

/// Says which key a bundle must be signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// This one.
    Key(PublicKey),
    /// One with this fingerprint.
    Fingerprint([u8; 32]),
}

impl PublicKey {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the fingerprint: SHA-256 of the key.
    pub fn fingerprint(&self) -> String {
        format!("sha256:{}", hex(&self.hash()))
    }

    fn hash(&self) -> Hash {
        hash(&[&self.0])
    }

    /// Says whether this is the key's signature of a message. Weak keys have none.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", hex(&self.0))
    }
}

impl Expected {
    /// Says whether a key is the expected one.
    pub fn is(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(expected) => expected == key,
            Self::Fingerprint(expected) => *expected == key.hash(),
        }
    }

    /// Finds what is expected in a text: the first word that is a key or a fingerprint.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| word.parse().ok())
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = match text.split_once(':') {
            Some(("sha256", digits)) => unhex(digits).map(Self::Fingerprint),
            Some(("ed25519", digits)) => unhex(digits).map(|key| Self::Key(PublicKey(key))),
            _ => None,
        };
        parsed.ok_or_else(|| "expected `sha256:` or `ed25519:` and 64 digits".to_owned())
    }
}
