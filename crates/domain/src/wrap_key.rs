//! The name of a key-encryption key: it stands in every sealed value, and is no secret.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identifies a key-encryption key. It follows from the key, so one id can't stand for two keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WrapKeyId([u8; 16]);

/// Says that a text is not the id of a key-encryption key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a key's id has 32 of the digits 0-9 and a-f")]
pub struct InvalidWrapKeyId;

impl WrapKeyId {
    /// Reads an id from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Shows the id as its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for WrapKeyId {
    type Err = InvalidWrapKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidWrapKeyId> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidWrapKeyId),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 16 || !rest.is_empty() {
            return Err(InvalidWrapKeyId);
        }
        let mut bytes = [0; 16];
        for (target, [high, low]) in bytes.iter_mut().zip(pairs) {
            *target = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for WrapKeyId {
    type Error = InvalidWrapKeyId;

    fn try_from(text: String) -> Result<Self, InvalidWrapKeyId> {
        text.parse()
    }
}

impl From<WrapKeyId> for String {
    fn from(id: WrapKeyId) -> Self {
        id.to_string()
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

#[cfg(test)]
mod tests {
    use super::{InvalidWrapKeyId, WrapKeyId};

    #[test]
    fn an_id_survives_its_text() {
        let id = WrapKeyId::from_bytes(std::array::from_fn(|at| (at * 17) as u8));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn only_32_digits_are_an_id() {
        for text in ["", "0", &"0".repeat(31), &"0".repeat(33), &"A".repeat(32), &"é".repeat(16)] {
            assert_eq!(text.parse::<WrapKeyId>(), Err(InvalidWrapKeyId), "{text}");
        }
    }
}
