//! Signed heads: what the log was, in a file outside the data directory, so that a log that was cut,
//! rolled back or rewritten is noticed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mcphub_domain::audit::ChainHead;
use mcphub_domain::{InstallId, Timestamp};
use mcphub_store::Store;
use mcphub_store::audit::Witness;
use mcphub_vault::{Signer, signed_by};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::HubError;

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
}

impl Heads {
    pub(crate) fn new(folder: &Path, install: InstallId) -> Self {
        Self { path: folder.join(format!("{install}.heads")), install, last: Mutex::default() }
    }

    /// Signs what the log is now and appends it, if that is new.
    pub(crate) async fn write(&self, store: &Store, signer: &Signer, now: Timestamp) -> Result<(), HubError> {
        let chains = store.audit_tips().await?;
        if chains.is_empty() || *self.last.lock() == chains {
            return Ok(());
        }
        self.append(signer, now, &chains).map_err(|error| self.failed(&error))?;
        *self.last.lock() = chains;
        Ok(())
    }

    /// Reads every head that is signed by the installation's key.
    ///
    /// A torn last line is what a power cut leaves; any other line that isn't signed is an error.
    pub(crate) async fn witnesses(&self, store: &Store) -> Result<Vec<Witness>, HubError> {
        let Some(public) = store.signer().await? else { return Ok(Vec::new()) };
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
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

    fn append(&self, signer: &Signer, now: Timestamp, chains: &[ChainHead]) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::options().create(true).read(true).append(true).open(&self.path)?;
        file.lock()?;
        let number = cut_torn_line(&mut file)?;
        let mut head = Head {
            at: now,
            chains: chains.to_vec(),
            install: self.install,
            number,
            signature: String::new(),
            v: 1,
        };
        head.signature = hex::encode(signer.sign(&serde_json_canonicalizer::to_vec(&head)?));
        let mut line = serde_json_canonicalizer::to_vec(&head)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
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

    fn failed(&self, error: &std::io::Error) -> HubError {
        HubError::Unavailable { reason: format!("{}: {error}", self.path.display()) }
    }
}

/// Cuts off what a power cut left of an unfinished line, and returns the next head's number.
fn cut_torn_line(file: &mut File) -> std::io::Result<u64> {
    const LONGEST: u64 = 1 << 20;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let torn = tail.iter().rev().take_while(|byte| **byte != b'\n').count();
    if torn > 0 {
        file.set_len(length - torn as u64)?;
    }
    let last = tail
        .rsplit(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
        .find_map(|line| serde_json::from_slice::<Head>(line).ok());
    Ok(last.map_or(1, |head| head.number + 1))
}
