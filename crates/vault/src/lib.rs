#![doc = include_str!("../README.md")]

pub mod provider;

mod cipher;
mod context;
mod data_key;
mod encode;
mod envelope;
mod error;
mod key;
mod keyring;
mod mac;
mod pepper;
mod personal;
mod rotate;
mod signer;
mod stream;
mod vault;

pub use context::Context;
pub use envelope::Sealed;
pub use error::VaultError;
pub use keyring::{Keyring, WrapKey};
pub use mcphub_domain::WrapKeyId;
pub use pepper::Pepper;
pub use personal::PersonKey;
pub use signer::{Signer, signed_by};
pub use stream::{Encrypting, Identities, Recipient, StreamError, decrypt, encrypt};
pub use vault::Vault;
