//! The binary record that a sealed value is stored as.
//!
//! | bytes | what | bound by |
//! |---|---|---|
//! | 1 | format: 1 | wrapping and data |
//! | 1 | cipher: 1 = AES-256-GCM-SIV | wrapping and data |
//! | 16 | id of the key-encryption key | wrapping |
//! | 32 | commitment to the data key and the context | wrapping; checked before the data |
//! | 12 | nonce of the wrapping | wrapping |
//! | 48 | data key, wrapped, with tag | wrapping |
//! | 12 | nonce of the data | data |
//! | 16 + n | data with tag | data |
//!
//! The wrapping needs no context, so a record moves to a new key-encryption key without one and
//! without its plaintext; nothing that the data is bound to changes then.

use std::fmt;

use mcphub_domain::WrapKeyId;

use crate::cipher::{MAX, NONCE, TAG};
use crate::encode::fields;
use crate::error::VaultError;
use crate::key::KEY;

/// Numbers the format and the cipher of the records that this program writes and reads.
pub(crate) const FORMAT: [u8; 2] = [1, 1];

/// Separates wrapped data keys from all else that a key-encryption key could authenticate.
const WRAP_DOMAIN: &[u8] = b"mcphub/wrap/v1";

/// Holds a sealed value: a record of which no byte is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    key_id: WrapKeyId,
    bytes: Vec<u8>,
}

/// Holds a data key, encrypted under a key-encryption key.
pub(crate) struct Wrapped {
    pub(crate) key_id: WrapKeyId,
    pub(crate) nonce: [u8; NONCE],
    pub(crate) key: Vec<u8>,
}

/// Shows the parts of a record.
pub(crate) struct Parts<'a> {
    pub(crate) key_id: WrapKeyId,
    pub(crate) commitment: &'a [u8; 32],
    pub(crate) wrap_nonce: &'a [u8; NONCE],
    pub(crate) wrapped: &'a [u8; KEY + TAG],
    pub(crate) nonce: &'a [u8; NONCE],
    pub(crate) data: &'a [u8],
}

impl Sealed {
    /// Reads a record; whether it is intact shows when it is opened.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, VaultError> {
        let key_id = Parts::of(&bytes)?.key_id;
        Ok(Self { key_id, bytes })
    }

    /// Shows the record as it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tells which key-encryption key opens the record.
    pub const fn key_id(&self) -> WrapKeyId {
        self.key_id
    }

    pub(crate) fn parts(&self) -> Result<Parts<'_>, VaultError> {
        Parts::of(&self.bytes)
    }

    pub(crate) fn join(commitment: &[u8; 32], wrapped: &Wrapped, nonce: &[u8; NONCE], data: &[u8]) -> Self {
        let parts: [&[u8]; 7] =
            [&FORMAT, wrapped.key_id.as_bytes(), commitment, &wrapped.nonce, &wrapped.key, nonce, data];
        Self { key_id: wrapped.key_id, bytes: parts.concat() }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(under {})", self.key_id)
    }
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, VaultError> {
        let (&[version, cipher], rest) = part(bytes)?;
        if [version, cipher] != FORMAT {
            return Err(VaultError::Unsupported { version, cipher });
        }
        let (key_id, rest) = part(rest)?;
        let (commitment, rest) = part(rest)?;
        let (wrap_nonce, rest) = part(rest)?;
        let (wrapped, rest) = part(rest)?;
        let (nonce, data) = part(rest)?;
        if data.len() < TAG {
            return Err(TOO_SHORT);
        }
        if data.len() > MAX + TAG {
            return Err(VaultError::Damaged { what: "too long" });
        }
        Ok(Self { key_id: WrapKeyId::from_bytes(*key_id), commitment, wrap_nonce, wrapped, nonce, data })
    }
}

const TOO_SHORT: VaultError = VaultError::Damaged { what: "too short" };

fn part<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), VaultError> {
    bytes.split_first_chunk().ok_or(TOO_SHORT)
}

/// Encodes what a wrapped data key is authenticated with.
pub(crate) fn wrap_aad(key_id: WrapKeyId, commitment: &[u8; 32]) -> Vec<u8> {
    fields(&[WRAP_DOMAIN, &FORMAT, key_id.as_bytes(), commitment])
}

/// Encodes what the data is authenticated with.
pub(crate) fn data_aad(context: &[u8]) -> Vec<u8> {
    fields(&[&FORMAT, context])
}
