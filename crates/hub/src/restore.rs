//! Restoring: an empty database becomes what a backup holds, whole, or stays empty.
//!
//! Refused is what was cut off or changed, what another key than the installation's signed, and what
//! is older than the signed heads on this machine know, unless somebody accepts that loss; the log
//! then says so.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use mcphub_domain::{ChainId, Clock, Entropy, Event, Principal, RequestId};
use mcphub_policy::{Administration, World, decide};
use mcphub_store::Place;
use mcphub_store::audit::{Source, Witness};
use mcphub_store::copy::{Import, SCHEMA};
use mcphub_vault::{Identities, Sealed, Signer, Vault, decrypt};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::backup::{FORM, Manifest, Title};
use crate::error::HubError;
use crate::heads::{Heads, Reading};
use crate::seal::{KeySource, own_secret, provider};

/// The longest line, in bytes: a row with a segment of the log that nobody could write for long.
const LONGEST: u64 = 256 << 20;

/// Says where a backup is restored to.
pub struct Target {
    /// Where everything is kept.
    pub place: Place,
    /// Where the key-encryption key comes from; it isn't in the backup.
    pub key: KeySource,
    /// The folder of the signed heads.
    pub heads: PathBuf,
}

/// Is what somebody may accept of a backup.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What to do with one that is older than what is known.
    pub rollback: Rollback,
    /// What to do if its installation is kept elsewhere.
    pub elsewhere: Elsewhere,
}

/// Says what to do with a backup whose installation signs its log from another place, as far as is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elsewhere {
    /// It is refused: signed by two, the heads say of either's log that it was cut.
    Refused,
    /// It is restored and takes over.
    TakenOver,
}

/// Says what to do with a backup that is older than what is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rollback {
    /// It is refused.
    Refused,
    /// It is restored, and the log says what was lost.
    Accepted,
}

/// Is what was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// What the signed heads know beyond it.
    pub lost: Vec<String>,
}

/// Is a line that is no row.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Table(String),
    Manifest(Manifest),
}

/// Fills an empty database from a backup.
pub async fn restore(
    target: Target,
    identities: &Identities,
    from: impl BufRead,
    terms: Terms,
    (clock, entropy): (Clock, Entropy),
) -> Result<Restored, HubError> {
    let mut lines = Lines::new(decrypt(identities, from)?)?;
    let mut import = Import::begin(&target.place, ChainId::random(&entropy), clock.clone()).await?;
    let manifest = fill(&mut import, &mut lines).await?;
    let signer = check_author(&mut import, &manifest, target.key).await?;
    let heads = Heads::new(&target.heads, manifest.install, &target.place)?;
    if terms.elsewhere == Elsewhere::Refused
        && let Some(other) = heads.rival().await?
    {
        return Err(HubError::Conflict(kept_elsewhere(&manifest, &other, heads.path())));
    }
    let lost = check_log(&mut import, &manifest, heads.known(&signer.public()).await?).await?;
    if let (Some(first), Rollback::Refused) = (lost.first(), terms.rollback) {
        return Err(HubError::Conflict(rolled_back(&manifest, first, lost.len())));
    }
    let event =
        Event::BackupRestored { made_at: manifest.at, sha256: manifest.sha256.clone(), lost: lost.clone() };
    let action = Administration::KeepCustody;
    let permit = decide::administration(&World::default(), Principal::Operator, action, clock.now())?;
    if terms.elsewhere == Elsewhere::TakenOver {
        // Before, for it can be done again, and this not.
        heads.take_over().await?;
    }
    import.commit(permit.entry(event, RequestId::random(&entropy), BTreeMap::new())).await?;
    Ok(Restored { manifest, lost })
}

/// Puts every row in, and returns the manifest that fits them.
async fn fill<R: Read>(import: &mut Import, lines: &mut Lines<R>) -> Result<Manifest, HubError> {
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    let mut table = String::new();
    loop {
        let sha256 = hex::encode(lines.hash.clone().finalize());
        let line = lines.next()?.ok_or_else(|| damaged("its end is missing"))?;
        if line.starts_with('[') {
            import.row(&table, &line).await?;
            *rows.entry(table.clone()).or_default() += 1;
            continue;
        }
        match serde_json::from_str(&line).map_err(|_| damaged("a line is none"))? {
            Mark::Table(name) => table = name,
            Mark::Manifest(manifest) => {
                let fits = manifest.rows == rows && manifest.sha256 == sha256 && manifest.schema == SCHEMA;
                let is_last = lines.next()?.is_none();
                return if fits && is_last {
                    Ok(manifest)
                } else {
                    Err(damaged("it isn't what its manifest says"))
                };
            }
        }
    }
}

/// Checks that the installation itself made the backup: everybody can encrypt to a recipient, and only
/// who has the key-encryption key can sign.
async fn check_author(
    import: &mut Import,
    manifest: &Manifest,
    source: KeySource,
) -> Result<Signer, HubError> {
    let (install, key) = import.install().await?;
    let keyring = provider(source, install).load().map_err(|error| HubError::Invalid(error.to_string()))?;
    let vault = Vault::new(install, keyring.sealing_with(key)?);
    let sealed = Sealed::from_bytes(import.vault_secret("signer").await?)?;
    let signer = Signer::from_secret(&vault.open(&own_secret("signer"), &sealed)?)?;
    if install == manifest.install && manifest.is_signed_by(&signer.public()) {
        return Ok(signer);
    }
    Err(damaged("its manifest is not signed by the installation that it is of"))
}

/// Compares the log with the manifest and the signed heads; lists what the log lacks.
async fn check_log(
    import: &mut Import,
    manifest: &Manifest,
    known: Reading,
) -> Result<Vec<String>, HubError> {
    let own = |head: &_| Witness { head: Clone::clone(head), source: Source::Manifest };
    let (signed, findings) = known.into_witnesses();
    let witnesses = manifest.chains.iter().map(own).chain(signed).collect();
    let report = import.verify(witnesses).await?;
    Ok(findings.iter().chain(&report.findings).map(ToString::to_string).collect())
}

/// Reads the lines of a backup, and computes their hash.
struct Lines<R> {
    from: BufReader<R>,
    hash: Sha256,
    /// How long a line may be, without its end.
    longest: u64,
}

impl<R: Read> Lines<R> {
    /// Reads the first line, which says what the others are.
    fn new(from: R) -> Result<Self, HubError> {
        let mut lines = Self { from: BufReader::new(from), hash: Sha256::new(), longest: LONGEST };
        let line = lines.next()?.ok_or_else(|| damaged("it is empty"))?;
        let title: Title = serde_json::from_str(&line).map_err(|_| damaged("its first line is none"))?;
        match title {
            Title { mcphub_backup: FORM, schema: SCHEMA, .. } => Ok(lines),
            Title { schema, version, .. } => Err(HubError::Invalid(format!(
                "the backup was made by mcphub {version} with schema {schema}, this version knows {SCHEMA}: \
                 restore it with the version that made it"
            ))),
        }
    }

    fn next(&mut self) -> Result<Option<String>, HubError> {
        let mut line = Vec::new();
        let read = self.from.by_ref().take(self.longest + 1).read_until(b'\n', &mut line);
        read.map_err(|error| damaged(&format!("it is cut off or was changed: {error}")))?;
        self.hash.update(&line);
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => String::from_utf8(line).map(Some).map_err(|_| damaged("a line is no text")),
            Some(_) => Err(damaged("a line has no end")),
        }
    }
}

fn damaged(what: &str) -> HubError {
    HubError::Invalid(format!(
        "this backup can't be trusted ({what}), and nothing was restored: take another"
    ))
}

fn kept_elsewhere(manifest: &Manifest, other: &str, heads: &Path) -> String {
    format!(
        "installation {} is kept in {other}, which signs its log in {}, and nothing was restored: to try a backup, \
         let the copy sign elsewhere (MCPHUB_AUDIT__HEADS_DIR=DIR); if that one is gone for good, say --take-over",
        manifest.install,
        heads.display()
    )
}

fn rolled_back(manifest: &Manifest, first: &str, findings: usize) -> String {
    format!(
        "the backup of {} is older than what the signed heads on this machine know, and nothing was restored: \
         {first} ({findings} in all): take a newer one, or say --accept-rollback if what came after is lost; \
         the log will say so",
        manifest.at
    )
}

#[cfg(test)]
mod tests {
    use super::{FORM, LONGEST, Lines, SCHEMA, Title};

    #[test]
    fn a_line_of_a_backup_is_as_long_as_the_limit_and_no_longer() {
        let title = Title { mcphub_backup: FORM, schema: SCHEMA, version: String::new() };
        let title = serde_json::to_string(&title).unwrap();
        for (length, is_read) in [(1_000, true), (1_001, false)] {
            let text = format!("{title}\n{}\n", "x".repeat(length));
            let mut lines = Lines::new(text.as_bytes()).unwrap();
            assert_eq!(std::mem::replace(&mut lines.longest, 1_000), LONGEST);
            let read = lines.next().map(|line| line.map(|line| line.len()));
            assert_eq!(read.ok(), is_read.then_some(Some(length)), "{length}");
        }
    }
}
