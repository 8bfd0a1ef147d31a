//! Signed heads: what the log was, in a file outside the data directory, so that a log that was cut,
//! rolled back or rewritten is noticed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mcphub_domain::audit::ChainHead;
use mcphub_domain::{InstallId, Timestamp};
use mcphub_store::{Place, Store};
use mcphub_vault::Signer;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::HubError;
use crate::seal::Unsealed;

mod file;
mod reading;
mod seat;

pub use reading::HeadsCopy;
use reading::Reader;
pub(crate) use reading::Reading;
pub(crate) use reading::{line_of, whole_lines};

/// How long, in bytes, the file becomes before it is thinned out.
const LONGEST: u64 = 1 << 20;

/// Is one line of the heads file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// Says of which chains a head asks how far they are.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    /// Of all, in the database.
    All,
    /// Of this process's, which has it in memory. Of the others it says what the last head said.
    Own,
}

/// Writes and reads the heads file of an installation.
pub(crate) struct Heads {
    path: PathBuf,
    install: InstallId,
    /// The name of the place whose log is signed.
    place: String,
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
    pub(crate) fn new(folder: &Path, install: InstallId, place: &Place) -> Result<Self, HubError> {
        let path = folder.join(format!("{install}.heads"));
        let place = place.name()?;
        Ok(Self { path, install, place, last: Mutex::default(), longest: AtomicU64::new(LONGEST) })
    }

    /// Names the installation.
    pub(crate) const fn install(&self) -> InstallId {
        self.install
    }

    /// Returns what the last head names.
    pub(crate) fn last(&self) -> Vec<ChainHead> {
        self.last.lock().clone()
    }

    /// Signs what the log is now, if that is new: into the file, and into what the process says of
    /// itself, which may leave the machine.
    pub(crate) async fn write(
        &self,
        chains: Vec<ChainHead>,
        unsealed: Arc<Unsealed>,
        now: Timestamp,
    ) -> Result<(), HubError> {
        if chains.is_empty() || *self.last.lock() == chains {
            return Ok(());
        }
        let (path, install, named) = (self.path.clone(), self.install, chains.clone());
        let place = self.place.clone();
        let written = blocking(move || {
            let head =
                |number| Head { at: now, chains: named, install, number, signature: String::new(), v: 1 };
            file::append(&path, |number| {
                seat::take(&path, &place)?;
                head(number).sign(&unsealed.signer)
            })
        });
        let line = written.await.map_err(|error| self.failed(&error))?;
        tracing::info!(target: "mcphub::head", "{}", String::from_utf8_lossy(&line));
        *self.last.lock() = chains;
        Ok(())
    }

    /// Names the place, if another one signed here last and may still be there. Signed by two, the heads would say of
    /// either's log that it was cut.
    pub(crate) async fn rival(&self) -> Result<Option<String>, HubError> {
        let (path, own) = (self.path.clone(), self.place.clone());
        blocking(move || seat::rival(&path, &own)).await.map_err(|error| self.failed(&error))
    }

    /// Says where the heads are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets this place sign instead of any other.
    pub(crate) async fn take_over(&self) -> Result<(), HubError> {
        let (path, own) = (self.path.clone(), self.place.clone());
        blocking(move || seat::put(&path, &own)).await.map_err(|error| self.failed(&error))
    }

    /// Reads every head in the file, and in copies that were kept elsewhere.
    pub(crate) async fn read(&self, store: &Store, copies: &[HeadsCopy]) -> Result<Reading, HubError> {
        let Some(public) = store.signer().await? else { return Ok(Reading::default()) };
        let reader = Reader { install: self.install, public };
        let mut reading = Reading::default();
        reading.own_file(&reader, &self.path.display().to_string(), &self.text(store).await?);
        for copy in copies {
            if !reading.copy(&reader, copy) {
                return Err(HubError::Invalid(format!("{}: there is no signed head in it", copy.name)));
            }
        }
        Ok(reading)
    }

    /// Reads every head in the file, if there is one, for whoever has the signer's public key but no
    /// database yet.
    pub(crate) async fn known(&self, public: &[u8; 32]) -> Result<Reading, HubError> {
        let reader = Reader { install: self.install, public: *public };
        let mut reading = Reading::default();
        if let Some(text) = self.file().await? {
            reading.own_file(&reader, &self.path.display().to_string(), &text);
        }
        Ok(reading)
    }

    /// Reads the file. It may be missing only while the log is empty.
    pub(crate) async fn text(&self, store: &Store) -> Result<String, HubError> {
        match self.file().await? {
            Some(text) => Ok(text),
            None if store.audit_tips().await?.is_empty() => Ok(String::new()),
            None => Err(HubError::Invalid(format!(
                "{} is missing: without the signed heads the log's end can't be checked",
                self.path.display()
            ))),
        }
    }

    async fn file(&self) -> Result<Option<String>, HubError> {
        let path = self.path.clone();
        match blocking(move || std::fs::read(path)).await {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Thins out the file if it has grown large, which loses no cut of the log.
    pub(crate) async fn thin_out(&self, now: Timestamp) -> Result<(), HubError> {
        let (path, longest) = (self.path.clone(), self.longest.load(Ordering::Relaxed));
        let thinned = blocking(move || file::thin_out(&path, longest, now)).await;
        // What is left may be long, too: it has to be worth it next time.
        if let Some(left) = thinned.map_err(|error| self.failed(&error))? {
            self.longest.store(LONGEST.max(2 * left), Ordering::Relaxed);
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> HubError {
        HubError::Unavailable { reason: format!("{}: {error}", self.path.display()) }
    }
}

/// Runs what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use mcphub_store::DatabaseUrls;

    use super::{Head, Heads, InstallId, LONGEST, Place, Timestamp};

    const DAY: i64 = 24 * 3_600_000_000;

    #[tokio::test]
    async fn a_file_of_heads_as_long_as_the_limit_is_left_and_a_longer_one_is_thinned_out() {
        let (folder, install) = (tempfile::tempdir().unwrap(), InstallId::from_bytes([1; 16]));
        let place = Place { data_dir: folder.path().to_owned(), database: DatabaseUrls::Sqlite };
        let heads = Heads::new(folder.path(), install, &place).unwrap();
        let at = Timestamp::from_micros(0);
        let old = Head { at, chains: Vec::new(), install, number: 1, signature: String::new(), v: 1 };
        let old = serde_json::to_string(&old).unwrap() + "\n";
        let left_of = async |length: u64| {
            let mut text = old.repeat(length as usize / old.len() - 1);
            // A line that is no head, and stays.
            text += &("x".repeat(length as usize - text.len() - 1) + "\n");
            std::fs::write(heads.path(), text).unwrap();
            heads.thin_out(Timestamp::from_micros(60 * DAY)).await.unwrap();
            std::fs::metadata(heads.path()).unwrap().len()
        };
        assert_eq!(left_of(LONGEST).await, LONGEST);
        assert!(left_of(LONGEST + 1).await < LONGEST / 2, "that it was looked at before makes no room");
    }
}
