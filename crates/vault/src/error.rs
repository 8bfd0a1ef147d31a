//! What can go wrong with a sealed value, by what the reader does next.

use mcphub_domain::WrapKeyId;

use crate::context::Context;

/// Says why a value was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Says that the record needs a key that isn't in the keyring.
    #[error(
        "this value is sealed under key {id}, which the hub does not hold: \
         add that key to the key file as a further line, after the current one"
    )]
    UnknownKey {
        /// Identifies the key.
        id: WrapKeyId,
    },
    /// Says that the record isn't what was sealed in this place.
    #[error(
        "the sealed value {name:?} of {table} row {row:?} was changed, or put here from another place: \
         restore the row from a backup, or have its owner store the value again"
    )]
    Integrity {
        /// Names the table.
        table: &'static str,
        /// Identifies the row.
        row: String,
        /// Names the secret.
        name: String,
    },
    /// Says that the secret is intact, but isn't the text that the caller expects.
    #[error(
        "the sealed value {name:?} of {table} row {row:?} is not UTF-8 text: \
         have its owner store it again as text"
    )]
    NotText {
        /// Names the table.
        table: &'static str,
        /// Identifies the row.
        row: String,
        /// Names the secret.
        name: String,
    },
    /// Says that bytes can't be a sealed record, wherever they come from.
    #[error("a sealed value is damaged ({what}): restore its row from a backup")]
    Damaged {
        /// Says what is wrong with them.
        what: &'static str,
    },
    /// Says that the record has a format that this program doesn't know.
    #[error(
        "a sealed value has format {version} with cipher {cipher}, and this hub knows 1 with 1 only: \
         run the version of mcphub that wrote it, or restore its row from a backup"
    )]
    Unsupported {
        /// Numbers the format.
        version: u8,
        /// Numbers the cipher.
        cipher: u8,
    },
    /// Says that a personal field of a record doesn't open with this person's key.
    #[error(
        "a personal field does not open: it was changed, or belongs to another person or record; \
         compare the record with an exported copy of the log"
    )]
    Personal,
    /// Says that the bytes of a key have the wrong length.
    #[error("a stored key is {found} bytes long and must have 32: restore its row from a backup")]
    KeyLength {
        /// Counts the bytes.
        found: usize,
    },
    /// Says that a plaintext is too long to seal.
    #[error("a secret can have at most 65536 bytes: store a shorter one")]
    TooLong,
}

impl VaultError {
    pub(crate) fn integrity(context: &Context<'_>) -> Self {
        Self::Integrity { table: context.table, row: context.row.into(), name: context.name.into() }
    }

    pub(crate) fn not_text(context: &Context<'_>) -> Self {
        Self::NotText { table: context.table, row: context.row.into(), name: context.name.into() }
    }
}
