//! Sealed or not: the hub's own secrets, and the key that opens them.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mcphub_domain::{Entropy, InstallId, SecretText};
use mcphub_store::Store;
use mcphub_vault::provider::{EnvProvider, FileProvider, Provider, ProviderError};
use mcphub_vault::{Context, Pepper, Sealed, Signer, Vault};

use crate::error::HubError;

/// Says where the key-encryption key comes from.
pub enum KeySource {
    /// A file `<install id>.key` in this folder, which lies outside the data directory.
    Folder(PathBuf),
    /// A value that the environment held; for trying things out.
    Value(SecretText),
}

/// Is what an unsealed hub can do.
pub(crate) struct Unsealed {
    pub(crate) vault: Vault,
    pub(crate) pepper: Pepper,
    pub(crate) signer: Signer,
}

/// Holds the unsealed secrets, or nothing.
pub(crate) struct Seal {
    unsealed: ArcSwapOption<Unsealed>,
    provider: Provider,
    install: InstallId,
}

impl Seal {
    /// Finds the key's provider. On a database that has never held a secret, a key file is made.
    pub(crate) async fn new(
        store: &Store,
        install: InstallId,
        source: KeySource,
        entropy: &Entropy,
    ) -> Result<Self, HubError> {
        let provider = match source {
            KeySource::Value(value) => Provider::Env(EnvProvider::new(value)),
            KeySource::Folder(folder) => {
                let path = folder.join(format!("{install}.key"));
                if !store.has_secrets().await? {
                    make(&path, entropy)?;
                }
                Provider::File(FileProvider::new(path))
            }
        };
        Ok(Self { unsealed: ArcSwapOption::empty(), provider, install })
    }

    /// Returns the unsealed secrets, or says that the hub is sealed.
    pub(crate) fn open(&self) -> Result<Arc<Unsealed>, HubError> {
        self.unsealed.load_full().ok_or(HubError::Sealed)
    }

    /// Tries to unseal. A missing key leaves the hub sealed; a key that others can read, or that
    /// doesn't fit, is an error that says so, and leaves it sealed too.
    pub(crate) async fn unseal(&self, store: &Store, entropy: &Entropy) -> Result<(), HubError> {
        let keyring = self.provider.load().map_err(|error| match error {
            ProviderError::Missing { .. } => HubError::Sealed,
            other => HubError::Internal(other.to_string()),
        })?;
        let vault = Vault::new(self.install, keyring);
        let own = OwnSecrets { store, vault: &vault, entropy };
        let pepper = Pepper::from_secret(&own.get("pepper", Pepper::random(entropy).expose()).await?)?;
        let signer = Signer::from_secret(&own.get("signer", Signer::random(entropy).expose()).await?)?;
        store.set_signer(&signer.public()).await?;
        self.unsealed.store(Some(Arc::new(Unsealed { vault, pepper, signer })));
        Ok(())
    }
}

fn make(path: &std::path::Path, entropy: &Entropy) -> Result<(), HubError> {
    match FileProvider::create(path.to_owned(), entropy) {
        Ok(_) | Err(ProviderError::Exists { .. }) => Ok(()),
        Err(error) => Err(HubError::Internal(error.to_string())),
    }
}

/// Opens the hub's own secrets, or makes them on first use.
struct OwnSecrets<'a> {
    store: &'a Store,
    vault: &'a Vault,
    entropy: &'a Entropy,
}

impl OwnSecrets<'_> {
    async fn get(&self, name: &'static str, fresh: &[u8]) -> Result<mcphub_domain::SecretBytes, HubError> {
        let context = Context {
            table: "vault_secrets",
            column: "sealed",
            row: name,
            owner: "",
            name,
            version: 1,
            destination: None,
        };
        let sealed = self.vault.seal(&context, fresh, self.entropy)?;
        let stored = self.store.vault_secret(name, sealed.as_bytes()).await?;
        Ok(self.vault.open(&context, &Sealed::from_bytes(stored)?)?)
    }
}
