//! Sealing and opening.

use mcphub_domain::WrapKeyId;
use mcphub_domain::id::InstallId;
use mcphub_domain::random::Entropy;
use mcphub_domain::secret::{SecretBytes, SecretText};
use subtle::ConstantTimeEq;

use crate::context::Context;
use crate::data_key::DataKey;
use crate::envelope::Sealed;
use crate::error::VaultError;
use crate::keyring::Keyring;

/// Seals and opens the secrets of one installation.
pub struct Vault {
    install: InstallId,
    pub(crate) keyring: Keyring,
}

impl Vault {
    /// Makes the vault of an installation from its keys.
    pub fn new(install: InstallId, keyring: Keyring) -> Self {
        Self { install, keyring }
    }

    /// Tells which key seals from now on.
    pub fn current_key(&self) -> WrapKeyId {
        self.keyring.current().id()
    }

    /// Lists the keys that it opens with, the one that seals first.
    pub fn keys(&self) -> Vec<WrapKeyId> {
        self.keyring.ids()
    }

    /// Shows the keys, for a vault of the same installation that holds more of them.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Seals a secret for one place, under a key made for this value alone.
    pub fn seal(&self, context: &Context<'_>, plain: &[u8], entropy: &Entropy) -> Result<Sealed, VaultError> {
        let aad = context.aad(self.install);
        let key = DataKey::random(entropy);
        let nonce = entropy.bytes();
        let data = key.encrypt(&nonce, &aad, plain)?;
        let commitment = key.commitment(&aad);
        let wrapped = key.wrap(self.keyring.current(), &commitment, entropy)?;
        Ok(Sealed::join(&commitment, &wrapped, &nonce, &data))
    }

    /// Opens a secret in the place that it was sealed for.
    pub fn open(&self, context: &Context<'_>, sealed: &Sealed) -> Result<SecretBytes, VaultError> {
        let parts = sealed.parts()?;
        let id = parts.key_id;
        let under = self.keyring.find(id).ok_or(VaultError::UnknownKey { id })?;
        let key = DataKey::unwrap(under, &parts).ok_or_else(|| VaultError::integrity(context))?;
        let aad = context.aad(self.install);
        let committed: bool = key.commitment(&aad).ct_eq(parts.commitment).into();
        if !committed {
            return Err(VaultError::integrity(context));
        }
        key.decrypt(parts.nonce, &aad, parts.data).ok_or_else(|| VaultError::integrity(context))
    }

    /// Opens a secret that is a text.
    pub fn open_text(&self, context: &Context<'_>, sealed: &Sealed) -> Result<SecretText, VaultError> {
        let bytes = self.open(context, sealed)?;
        match std::str::from_utf8(bytes.expose()) {
            Ok(text) => Ok(SecretText::new(text.to_owned())),
            Err(_) => Err(VaultError::not_text(context)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, DataKey, Entropy, InstallId, Keyring, Sealed, Vault, VaultError};
    use crate::keyring::WrapKey;

    /// Whoever could forge a record whose data opens under a key it doesn't commit to could make one
    /// ciphertext that two people read differently.
    #[test]
    fn a_record_that_commits_to_another_key_does_not_open() {
        let entropy = Entropy::fixed(1);
        let keyring = Keyring::new(WrapKey::random(&entropy), Vec::new());
        let vault = Vault::new(InstallId::random(&entropy), keyring);
        let context = Context {
            table: "credentials",
            column: "sealed",
            row: "1",
            owner: "alice",
            name: "TOKEN",
            version: 1,
            destination: None,
        };
        let aad = context.aad(vault.install);
        let (key, other) = (DataKey::random(&entropy), DataKey::random(&entropy));
        let data = key.encrypt(&[0; 12], &aad, b"secret").unwrap();
        let record = |commitment: [u8; 32]| {
            let wrapped = key.wrap(vault.keyring.current(), &commitment, &entropy).unwrap();
            Sealed::join(&commitment, &wrapped, &[0; 12], &data)
        };
        assert!(vault.open(&context, &record(key.commitment(&aad))).is_ok());
        for forged in [[0; 32], other.commitment(&aad), key.commitment(b"elsewhere")] {
            let opened = vault.open(&context, &record(forged));
            assert!(matches!(opened, Err(VaultError::Integrity { .. })));
        }
    }
}
