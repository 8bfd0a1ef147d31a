//! Sealed or not: the hub's own secrets, and the key that opens them.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mcphub_domain::{Entropy, InstallId, SecretText, WrapKeyId};
use mcphub_store::Store;
use mcphub_vault::provider::{EnvProvider, FileProvider, Provider, ProviderError};
use mcphub_vault::{Context, Keyring, Pepper, Sealed, Signer, Vault};
use parking_lot::Mutex;

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
    /// The keys that the others know this process to hold.
    noted: Mutex<Vec<WrapKeyId>>,
    /// What was wrong with the key file when it was last looked at.
    complaint: Mutex<Option<String>>,
}

impl Seal {
    /// Finds the key's provider. On a database that has never held a secret, a key file is made.
    pub(crate) async fn new(
        store: &Store,
        install: InstallId,
        source: KeySource,
        entropy: &Entropy,
    ) -> Result<Self, HubError> {
        let provider = provider(source, install);
        if let Provider::File(file) = &provider
            && !store.has_secrets().await?
        {
            make(file.path(), entropy)?;
        }
        let unsealed = ArcSwapOption::empty();
        Ok(Self { unsealed, provider, install, noted: Mutex::default(), complaint: Mutex::default() })
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
        self.take_up(store, keyring, entropy).await
    }

    /// Takes up keys that were added to the file, and another key that seals, and lets the others know.
    ///
    /// A key that this process holds it keeps until it ends: what it has read before may be under it.
    pub(crate) async fn follow(&self, store: &Store, entropy: &Entropy) -> Result<(), HubError> {
        let held = self.open()?;
        let keyring = self.provider.load().map_err(|error| HubError::Internal(error.to_string()))?;
        let keyring = sealing(store, keyring.with(held.vault.keyring())).await?;
        if keyring.ids() != held.vault.keys() {
            self.take_up(store, keyring, entropy).await?;
        }
        let keys = self.open()?.vault.keys();
        if *self.noted.lock() != keys && store.note_held_keys(&keys).await? {
            *self.noted.lock() = keys;
        }
        Ok(())
    }

    /// Says whether this is another complaint than the last one.
    pub(crate) fn is_new(&self, complaint: Option<String>) -> bool {
        let mut last = self.complaint.lock();
        let is_new = complaint.is_some() && *last != complaint;
        *last = complaint;
        is_new
    }

    /// Shows where the keys come from.
    pub(crate) const fn provider(&self) -> &Provider {
        &self.provider
    }

    async fn take_up(&self, store: &Store, keyring: Keyring, entropy: &Entropy) -> Result<(), HubError> {
        let vault = Vault::new(self.install, sealing(store, keyring).await?);
        let own = OwnSecrets { store, vault: &vault, entropy };
        let pepper = Pepper::from_secret(&own.get("pepper", Pepper::random(entropy).expose()).await?)?;
        let signer = Signer::from_secret(&own.get("signer", Signer::random(entropy).expose()).await?)?;
        store.set_signer(&signer.public()).await?;
        self.unsealed.store(Some(Arc::new(Unsealed { vault, pepper, signer })));
        Ok(())
    }
}

/// Lets the key seal that the database names, which all processes share.
async fn sealing(store: &Store, keyring: Keyring) -> Result<Keyring, HubError> {
    let first = keyring.ids().into_iter().next().ok_or(HubError::Sealed)?;
    Ok(keyring.sealing_with(store.sealing_key(first).await?)?)
}

/// Says where the keys of an installation come from.
pub(crate) fn provider(source: KeySource, install: InstallId) -> Provider {
    match source {
        KeySource::Value(value) => Provider::Env(EnvProvider::new(value)),
        KeySource::Folder(folder) => Provider::File(FileProvider::new(folder.join(format!("{install}.key")))),
    }
}

/// Says where a secret of the hub itself is sealed for.
pub(crate) const fn own_secret(name: &str) -> Context<'_> {
    Context {
        table: "vault_secrets",
        column: "sealed",
        row: name,
        owner: "",
        name,
        version: 1,
        destination: None,
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
        let context = own_secret(name);
        let sealed = self.vault.seal(&context, fresh, self.entropy)?;
        let stored = self.store.vault_secret(name, sealed.as_bytes()).await?;
        Ok(self.vault.open(&context, &Sealed::from_bytes(stored)?)?)
    }
}
