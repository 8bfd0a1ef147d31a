//! Secrets: values without `Debug`, `Display`, `Serialize` and `Clone`, wiped when dropped.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::digest;
use crate::tool::InvalidDigest;

/// Holds a secret text, such as a person's token for a server.
pub struct SecretText(Zeroizing<String>);

/// Holds secret bytes, such as a key.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

/// Names where a credential may be sent: the SHA-256 of a server's URL origin, or of its resolved
/// command path and arguments. It is part of what a credential is sealed with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Destination([u8; 32]);

impl SecretText {
    /// The longest secret text, in bytes.
    pub const MAX: usize = 64 * 1024;

    /// Takes over a text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Shows the text to the code that injects or seals it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretBytes {
    /// Takes over some bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Shows the bytes to the code that uses them as a key.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Destination {
    /// Digests the parts that make a destination; each is prefixed with its length, so that no two
    /// lists of parts read the same.
    pub fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// Reads a stored destination.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Shows the digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digest::write(&self.0, f)
    }
}

impl FromStr for Destination {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        digest::read(text).map(Self).ok_or(InvalidDigest)
    }
}
