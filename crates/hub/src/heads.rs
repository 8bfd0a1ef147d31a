//! Signed heads: what the log was, in a file outside the data directory, so that a log that was cut,
//! rolled back or rewritten is noticed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mcphub_domain::audit::ChainHead;
use mcphub_domain::{InstallId, Timestamp};
use mcphub_store::Store;
use mcphub_store::audit::Witness;
use mcphub_vault::{Signer, signed_by};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::HubError;
use crate::seal::Unsealed;

mod file;

/// How long, in bytes, the file becomes before it is thinned out.
const LONGEST: u64 = 1 << 20;

/// Is one line of the heads file.
#[derive(Serialize, Deserialize)]
struct Head {
    at: Timestamp,
    chains: Vec<ChainHead>,
    install: InstallId,
    number: u64,
    /// Ed25519 over the canonical JSON of everything else, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    signature: String,
    v: u8,
}

/// Writes and reads the heads file of an installation.
pub(crate) struct Heads {
    path: PathBuf,
    install: InstallId,
    last: Mutex<Vec<ChainHead>>,
    longest: AtomicU64,
}

impl Head {
    /// Writes the head with its signature, as the one line that it is everywhere.
    fn sign(mut self, signer: &Signer) -> io::Result<Vec<u8>> {
        self.signature = hex::encode(signer.sign(&serde_json_canonicalizer::to_vec(&self)?));
        Ok(serde_json_canonicalizer::to_vec(&self)?)
    }
}

impl Heads {
    pub(crate) fn new(folder: &Path, install: InstallId) -> Self {
        let path = folder.join(format!("{install}.heads"));
        Self { path, install, last: Mutex::default(), longest: AtomicU64::new(LONGEST) }
    }

    /// Signs what the log is now, if that is new: into the file, and into what the process says of
    /// itself, which may leave the machine.
    pub(crate) async fn write(
        &self,
        store: &Store,
        unsealed: Arc<Unsealed>,
        now: Timestamp,
    ) -> Result<(), HubError> {
        let chains = store.audit_tips().await?;
        if chains.is_empty() || *self.last.lock() == chains {
            return Ok(());
        }
        let (path, install, named) = (self.path.clone(), self.install, chains.clone());
        let written = blocking(move || {
            let head =
                |number| Head { at: now, chains: named, install, number, signature: String::new(), v: 1 };
            file::append(&path, |number| head(number).sign(&unsealed.signer))
        });
        let line = written.await.map_err(|error| self.failed(&error))?;
        tracing::info!(target: "mcphub::head", "{}", String::from_utf8_lossy(&line));
        *self.last.lock() = chains;
        Ok(())
    }

    /// Reads every head that is signed by the installation's key.
    ///
    /// A torn last line is what a power cut leaves; any other line that isn't signed is an error.
    pub(crate) async fn witnesses(&self, store: &Store) -> Result<Vec<Witness>, HubError> {
        let Some(public) = store.signer().await? else { return Ok(Vec::new()) };
        let path = self.path.clone();
        let text = match blocking(move || std::fs::read_to_string(path)).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if store.audit_tips().await?.is_empty() {
                    return Ok(Vec::new());
                }
                return Err(HubError::Invalid(format!(
                    "{} is missing: without the signed heads the log's end can't be checked",
                    self.path.display()
                )));
            }
            Err(error) => return Err(self.failed(&error)),
        };
        let mut newest: BTreeMap<_, Witness> = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else { break };
            let head = self.check(line, &public)?;
            for chain in head.chains {
                let key = (chain.chain, chain.size);
                newest.insert(key, Witness { head: chain, source: format!("head {}", head.number) });
            }
        }
        Ok(newest.into_values().collect())
    }

    /// Thins out the file if it has grown large, which loses no cut of the log.
    pub(crate) async fn thin_out(&self, now: Timestamp) -> Result<(), HubError> {
        let (path, longest) = (self.path.clone(), self.longest.load(Ordering::Relaxed));
        let length = blocking(move || file::thin_out(&path, longest, now)).await;
        let length = length.map_err(|error| self.failed(&error))?;
        self.longest.store(LONGEST.max(2 * length), Ordering::Relaxed);
        Ok(())
    }

    fn check(&self, line: &str, public: &[u8; 32]) -> Result<Head, HubError> {
        let wrong = |what: &str| {
            HubError::Invalid(format!("{}: {what}: somebody changed the signed heads", self.path.display()))
        };
        let mut head: Head = serde_json::from_str(line).map_err(|_| wrong("a line is no head"))?;
        let signature = hex::decode(std::mem::take(&mut head.signature)).ok();
        let signature: [u8; 64] = signature
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| wrong("a head has no signature"))?;
        let message = serde_json_canonicalizer::to_vec(&head).map_err(|_| wrong("a line is no head"))?;
        if head.install != self.install || !signed_by(public, &message, &signature) {
            return Err(wrong(&format!("head {} has a wrong signature", head.number)));
        }
        Ok(head)
    }

    fn failed(&self, error: &io::Error) -> HubError {
        HubError::Unavailable { reason: format!("{}: {error}", self.path.display()) }
    }
}

/// Runs what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
