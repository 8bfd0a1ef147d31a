//! Backups: everything but the key, as it was at one moment, for a recipient whose private key is
//! elsewhere.
//!
//! A backup is lines of text in an encrypted stream: what it is, then for each table its name and its
//! rows, then the manifest, which is signed. What is sealed stays sealed in it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use mcphub_domain::audit::ChainHead;
use mcphub_domain::{Event, InstallId, Timestamp};
use mcphub_policy::Administration;
use mcphub_store::Ended;
use mcphub_store::copy::{Export, Facts, SCHEMA};
use mcphub_vault::{Recipient, Signer, StreamError, encrypt, signed_by};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::error::HubError;
use crate::heads::Extent;
use crate::hub::{Hub, LastHead};

/// Separates the signature of a manifest from that of a head.
const DOMAIN: &[u8] = b"mcphub/backup/v1\n";
/// How long what runs in this process may take to end.
const END: Duration = Duration::from_secs(10);
/// The form of the lines.
pub(crate) const FORM: u8 = 1;

/// Is the first line of a backup.
#[derive(Serialize, Deserialize)]
pub(crate) struct Title {
    /// Says that this is a backup, and in which form.
    pub(crate) mcphub_backup: u8,
    /// The schema of its tables.
    pub(crate) schema: i64,
    /// The version of the hub that made it.
    pub(crate) version: String,
}

/// Is the last line of a backup: what it holds, signed by the installation that it is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// When it was made.
    pub at: Timestamp,
    /// The ends of the log's chains: with them the whole log is known.
    pub chains: Vec<ChainHead>,
    /// The installation.
    pub install: InstallId,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
    /// The schema of its tables.
    pub schema: i64,
    /// SHA-256 over every line before, in hexadecimal.
    pub sha256: String,
    /// Ed25519 over everything else, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    signature: String,
    /// The version of the hub that made it.
    pub version: String,
}

impl Manifest {
    fn sign(mut self, signer: &Signer) -> io::Result<Self> {
        self.signature = hex::encode(signer.sign(&self.message()?));
        Ok(self)
    }

    /// Says whether the holder of a key signed it.
    pub(crate) fn is_signed_by(&self, public: &[u8; 32]) -> bool {
        let signature = hex::decode(&self.signature).ok().and_then(|bytes| bytes.try_into().ok());
        let unsigned = Self { signature: String::new(), ..self.clone() };
        match (signature, unsigned.message()) {
            (Some(signature), Ok(message)) => signed_by(public, &message, &signature),
            _ => false,
        }
    }

    fn message(&self) -> io::Result<Vec<u8>> {
        Ok([DOMAIN, &serde_json_canonicalizer::to_vec(self)?].concat())
    }
}

impl Hub {
    /// Copies everything but the key, encrypted, and closes the hub: the record of the backup and the
    /// end of this process's chain are in the copy, so it is as new as the last signed head, unless
    /// others write on.
    ///
    /// The writing holds up this process; it is for a command, which does nothing else.
    pub async fn backup<W: Write>(
        &self,
        caller: &Caller,
        recipient: &Recipient,
        out: W,
    ) -> Result<Manifest, HubError> {
        let begun = self.begin_backup(caller, recipient).await;
        let Err(error) = begun else { return self.write_backup(recipient, out).await };
        self.close(END, LastHead::Signed).await?;
        Err(error)
    }

    async fn begin_backup(&self, caller: &Caller, recipient: &Recipient) -> Result<(), HubError> {
        self.administrate(caller, Administration::KeepCustody, "backup").await?;
        self.seal.open()?;
        self.record_durable(caller, Event::BackupBegun { recipient: recipient.to_string() }).await
    }

    async fn write_backup<W: Write>(&self, recipient: &Recipient, out: W) -> Result<Manifest, HubError> {
        let ended = self.end(END).await?;
        self.sign_head(Extent::All).await?;
        let written = self.write_lines(&ended, recipient, out).await;
        ended.close().await;
        written
    }

    async fn write_lines<W: Write>(
        &self,
        ended: &Ended,
        recipient: &Recipient,
        out: W,
    ) -> Result<Manifest, HubError> {
        let mut export = ended.export().await?;
        let Facts { install, chains } = export.facts().await?;
        let mut sheet = Sheet { out: encrypt(recipient, out)?, hash: Sha256::new() };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let title = Title { mcphub_backup: FORM, schema: SCHEMA, version: version.clone() };
        sheet.line(&serde_json::to_string(&title).map_err(|error| unwritten(error.into()))?)?;
        let rows = copy(&mut export, &mut sheet).await?;
        let sha256 = hex::encode(sheet.hash.clone().finalize());
        let (at, signature) = (self.clock.now(), String::new());
        let manifest = Manifest { at, chains, install, rows, schema: SCHEMA, sha256, signature, version };
        let manifest = manifest.sign(&self.seal.open()?.signer).map_err(unwritten)?;
        sheet.line(&json!({ "manifest": manifest }).to_string())?;
        sheet.out.finish().and_then(|mut out| out.flush()).map_err(unwritten)?;
        Ok(manifest)
    }
}

/// Writes lines, and computes their hash.
struct Sheet<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Sheet<W> {
    fn line(&mut self, text: &str) -> Result<(), HubError> {
        for part in [text.as_bytes(), b"\n"] {
            self.hash.update(part);
            self.out.write_all(part).map_err(unwritten)?;
        }
        Ok(())
    }
}

/// Writes every table, and counts its rows.
async fn copy<W: Write>(
    export: &mut Export,
    sheet: &mut Sheet<W>,
) -> Result<BTreeMap<String, u64>, HubError> {
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    let mut table = "";
    while let Some(page) = export.page().await? {
        if page.table != table {
            table = page.table;
            sheet.line(&json!({ "table": table }).to_string())?;
        }
        for row in &page.rows {
            sheet.line(row)?;
        }
        *rows.entry(table.to_owned()).or_default() += page.rows.len() as u64;
    }
    Ok(rows)
}

impl From<StreamError> for HubError {
    fn from(error: StreamError) -> Self {
        Self::Invalid(error.to_string())
    }
}

fn unwritten(error: io::Error) -> HubError {
    HubError::Invalid(format!("the backup can't be written: {error}"))
}
