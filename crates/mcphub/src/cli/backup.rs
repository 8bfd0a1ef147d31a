//! `mcphub backup` and `mcphub restore`: everything but the key, away and back.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use mcphub_hub::backup::Manifest;
use mcphub_hub::restore::{Elsewhere, Restored, Rollback, Target, Terms, restore};
use mcphub_hub::{HubError, Identities, LastHead, Process, Recipient};
use serde_json::{Value, json};

use super::answer::Answer;
use super::desk::Desk;
use super::failure::Failure;
use super::input;
use crate::Machine;
use crate::config::Config;

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// Who can read it: the public key that `age-keygen` printed on another machine
    #[arg(long, value_name = "AGE1…")]
    recipient: Recipient,
    /// The file, which must not exist yet; `-` is standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The backup; `-` is standard input
    file: PathBuf,
    /// The file with the private key, as `age-keygen` wrote it
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Restore even what is older than the signed heads here; the log will say so
    #[arg(long)]
    accept_rollback: bool,
    /// Restore even if the installation is kept elsewhere, as far as is known here: that one is gone for good
    #[arg(long)]
    take_over: bool,
}

impl Backup {
    pub(crate) async fn run(self, config: Config, machine: &Machine) -> Result<Answer, Failure> {
        if is_standard(&self.output) {
            let desk = Desk::open_existing(config, machine).await?;
            let out = std::io::stdout().lock();
            let manifest = desk.hub.backup(&desk.operator, &self.recipient, out).await?;
            return Ok(Answer::silent().with_note(told(&manifest)));
        }
        let draft = Draft::begin(&self.output)?;
        let desk = Desk::open_existing(config, machine).await?;
        let out = BufWriter::new(&draft.file);
        let manifest = desk.hub.backup(&desk.operator, &self.recipient, out).await?;
        draft.keep().map_err(|error| Failure::io(&self.output.display().to_string(), &error))?;
        Ok(Answer::new(told(&manifest), view(&manifest)).with_note(KEY))
    }
}

const KEY: &str = "The key file is not in it: keep a copy of that apart from the backups, for without it nobody can \
    restore them.";

impl Restore {
    /// Restores with one reading of the configuration, and opens what was restored with another.
    pub(crate) async fn run(self, configs: [Config; 2], machine: &Machine) -> Result<Answer, Failure> {
        let identities = Identities::parse(&input::secret_in(&self.identity)?).map_err(HubError::from)?;
        let [config, again] = configs;
        let settings = config.settings(Process::Command, machine.program.clone());
        let target = Target { place: settings.place, key: settings.key, heads: settings.heads };
        let rollback = if self.accept_rollback { Rollback::Accepted } else { Rollback::Refused };
        let elsewhere = if self.take_over { Elsewhere::TakenOver } else { Elsewhere::Refused };
        let terms = Terms { rollback, elsewhere };
        let by = (machine.clock.clone(), machine.entropy.clone());
        let restored = restore(target, &identities, self.open()?, terms, by).await?;
        // It opens, and a head is signed that covers the restoration.
        Desk::open(again, machine).await?.close(LastHead::Signed).await?;
        Ok(answer(&restored))
    }

    fn open(&self) -> Result<Box<dyn BufRead>, Failure> {
        if is_standard(&self.file) {
            return Ok(Box::new(BufReader::new(std::io::stdin())));
        }
        match File::open(&self.file) {
            Ok(file) => Ok(Box::new(BufReader::new(file))),
            Err(error) => Err(Failure::io(&self.file.display().to_string(), &error)),
        }
    }
}

/// Is a file that has its name only once it is whole; dropped before, it is gone.
struct Draft<'p> {
    file: File,
    draft: PathBuf,
    path: &'p Path,
}

impl<'p> Draft<'p> {
    fn begin(path: &'p Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io(&path.display().to_string(), &error);
        if path.try_exists().map_err(failed)? {
            return Err(Failure::new("conflict", format!("{} exists: name another file", path.display())));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let draft = path.with_file_name(name);
        let mut options = File::options();
        let file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
        Ok(Self { file, draft, path })
    }

    fn keep(self) -> std::io::Result<()> {
        self.file.sync_all()?;
        std::fs::hard_link(&self.draft, self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.draft) {
            tracing::warn!(%error, "{} is left", self.draft.display());
        }
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn told(manifest: &Manifest) -> String {
    let rows: u64 = manifest.rows.values().sum();
    format!(
        "installation {}: {rows} rows, as of {}; SHA-256 {}",
        manifest.install, manifest.at, manifest.sha256
    )
}

fn answer(restored: &Restored) -> Answer {
    let told = told(&restored.manifest);
    let json = json!({ "restored": view(&restored.manifest), "lost": restored.lost });
    if restored.lost.is_empty() {
        return Answer::new(format!("restored {told}"), json);
    }
    let lost = restored.lost.join("\n");
    Answer::new(format!("restored {told}\nthe log lacks what the signed heads know:\n{lost}"), json)
}

fn view(manifest: &Manifest) -> Value {
    json!({
        "at": manifest.at.to_string(),
        "install": manifest.install,
        "version": manifest.version,
        "schema": manifest.schema,
        "rows": manifest.rows,
        "chains": manifest.chains,
        "sha256": manifest.sha256,
    })
}
