//! Identifiers: one type for each kind of thing, so that they can't be mixed up.
//!
//! Every id is a random UUID (version 4): it says nothing about the thing, and a collision with
//! another person's row tells nobody anything.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::random::Entropy;

/// Says that a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an id: expected a UUID such as 6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e")]
pub struct InvalidId {
    text: String,
}

macro_rules! id {
    ($($(#[$doc:meta])+ $name:ident)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new random id.
            pub fn random(entropy: &Entropy) -> Self {
                Self(uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid())
            }

            /// Reads an id from its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Shows the id as its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
                    _ => Err(InvalidId { text: text.chars().take(64).collect() }),
                }
            }
        }
    )+};
}

id! {
    /// Names one installation of the hub (one data set, however many nodes serve it).
    InstallId
    /// Names a person. It is also her pseudonym in the audit log.
    UserId
    /// Names a group.
    GroupId
    /// Names an MCP server.
    ServerId
    /// Names a grant of rights.
    GrantId
    /// Names a hub key; it is the readable part of the key's text.
    KeyId
    /// Names a stored credential or shared value.
    CredentialId
    /// Names an audit chain: the records of one process.
    ChainId
    /// Names one request in the audit log; its intent and its outcome carry the same one.
    RequestId
}

#[cfg(test)]
mod tests {
    use super::{Entropy, UserId};

    #[test]
    fn an_id_survives_its_text() {
        let id = UserId::random(&Entropy::fixed(7));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        for text in ["", "1", "6b1f0c9e3c1d4c559d8e0a5f6b7c8d9e", "{6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e}"] {
            assert!(text.parse::<UserId>().is_err(), "{text}");
        }
    }
}
