//! Moving sealed values to the current key-encryption key.

use mcphub_domain::random::Entropy;

use crate::data_key::DataKey;
use crate::envelope::Sealed;
use crate::error::VaultError;
use crate::vault::Vault;

impl Vault {
    /// Wraps a record's data key under the current key; `None` if it already is. Neither the context
    /// nor the plaintext is needed, and the data stays byte for byte.
    pub fn rewrap(&self, sealed: &Sealed, entropy: &Entropy) -> Result<Option<Sealed>, VaultError> {
        let parts = sealed.parts()?;
        let id = parts.key_id;
        let current = self.keyring.current();
        if id == current.id() {
            return Ok(None);
        }
        let under = self.keyring.find(id).ok_or(VaultError::UnknownKey { id })?;
        let key =
            DataKey::unwrap(under, &parts).ok_or(VaultError::Damaged { what: "its head was changed" })?;
        let wrapped = key.wrap(current, parts.commitment, entropy)?;
        Ok(Some(Sealed::join(parts.commitment, &wrapped, parts.nonce, parts.data)))
    }
}
