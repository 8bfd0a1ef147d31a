//! `mcphub audit export`, `prove` and `key`: what people hand to somebody who checks it elsewhere.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use mcphub_hub::{Bundle, Span};
use serde_json::json;

use super::answer::Answer;
use super::desk::Desk;
use super::failure::Failure;
use super::input::{Moment, moment};

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Only records from this time on, such as 2026-11-22T10:00:00Z, 2026-11-22, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Moment>,
    /// Where the bundle goes; `-` is standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Prove {
    /// The record, as `audit list` names it
    #[arg(value_name = "ID")]
    record: RecordId,
    /// Where the bundle goes; `-` is standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Names a record: the beginning of its chain's id, a dot, its number there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RecordId {
    chain: String,
    number: u64,
}

impl FromStr for RecordId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_id = |c: char| c == '-' || (c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
        let parts = text.split_once('.').filter(|(chain, _)| chain.len() >= 4 && chain.chars().all(is_id));
        let parsed = parts
            .and_then(|(chain, number)| Some(Self { chain: chain.to_owned(), number: number.parse().ok()? }));
        parsed.ok_or_else(|| "expected what `mcphub audit list` shows, such as 6b1f0c9e.17".to_owned())
    }
}

impl Export {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        let resolve = |time: Option<Moment>| time.map(|time| time.resolve(desk.now));
        let span = Span { from: resolve(self.from), to: resolve(self.to) };
        let bundle = desk.hub.export_audit(&desk.operator, span).await?;
        write(bundle, &self.output).await
    }
}

impl Prove {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        let chain = desk.hub.chain_like(&desk.operator, &self.record.chain).await?;
        let bundle = desk.hub.prove_record(&desk.operator, (chain, self.record.number)).await?;
        write(bundle, &self.output).await
    }
}

/// Shows the key that heads and bundles are signed with.
pub(crate) async fn key(desk: &Desk) -> Result<Answer, Failure> {
    let key = desk.hub.signing_key(&desk.operator).await?;
    let text = format!("{}\n{}", key.key, key.fingerprint);
    let json = json!({ "install": key.install, "key": key.key, "fingerprint": key.fingerprint });
    Ok(Answer::new(text, json))
}

async fn write(mut bundle: Bundle, output: &Path) -> Result<Answer, Failure> {
    let failed = |error: io::Error| Failure::io(&output.display().to_string(), &error);
    let is_standard = output == Path::new("-");
    let mut to: Box<dyn Write + Send> = if is_standard {
        Box::new(io::stdout())
    } else {
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(output);
        Box::new(io::BufWriter::new(file.map_err(failed)?))
    };
    let mut bytes = 0;
    while let Some(piece) = bundle.next().await? {
        to.write_all(&piece).map_err(failed)?;
        bytes += piece.len();
    }
    to.flush().map_err(failed)?;
    if is_standard {
        return Ok(Answer::silent());
    }
    let (file, records) = (output.display(), bundle.records());
    let text = format!("{file}: {records} records; check it with `mcphub-verify {file}`");
    Ok(Answer::new(text, json!({ "file": output, "bytes": bytes, "records": records })))
}

#[cfg(test)]
mod tests {
    use super::RecordId;

    #[test]
    fn a_record_is_named_by_its_chain_and_its_number() {
        let id: RecordId = "6b1f0c9e.17".parse().unwrap();
        assert_eq!((id.chain.as_str(), id.number), ("6b1f0c9e", 17));
        assert!("6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e.0".parse::<RecordId>().is_ok());
        for wrong in ["", "17", "6b1.1", "6b1f0c9e.", "6b1f0c9e.-1", "6B1F0C9E.1", "6b1f'--.1", "x.y"] {
            assert!(wrong.parse::<RecordId>().is_err(), "{wrong}");
        }
    }
}
