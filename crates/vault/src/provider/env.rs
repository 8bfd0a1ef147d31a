//! Keys from an environment variable: for trying out; the production profile refuses it, because
//! an environment is easily shown.

use mcphub_domain::secret::SecretText;

use super::{ProviderError, text};
use crate::keyring::Keyring;

/// Reads the value of an environment variable, which the binary hands in: one or more keys, with
/// commas between them, the current one first.
pub struct EnvProvider {
    value: SecretText,
}

impl EnvProvider {
    /// Takes the variable's value.
    pub fn new(value: SecretText) -> Self {
        Self { value }
    }

    /// Hands over the keyring.
    pub fn load(&self) -> Result<Keyring, ProviderError> {
        text::keyring(self.value.expose().split(',')).map_err(|fault| ProviderError::BadValue { fault })
    }
}
