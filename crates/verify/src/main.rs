//! `mcphub-verify`: the command line around the check.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use mcphub_verify::{Expected, Verdict, check};
use serde_json::{Value, json};

const USAGE: &str = "usage: mcphub-verify BUNDLE [--key FINGERPRINT|KEY|FILE] [--json]

Checks a bundle of MCPHub's audit log. BUNDLE is a file, or - for standard input.

  --key   what the installation's people say that their key is: sha256:… or
          ed25519:…, or a file that holds one of them (`mcphub audit key`)
  --json  answer in JSON

Exits with 0 if the bundle is whole, 1 if anything is wrong, 2 if it can't be read.";

/// The largest file that is searched for a key.
const LARGEST: u64 = 64 << 10;

/// Is what was asked for.
struct Asked {
    bundle: String,
    expected: Option<Expected>,
    json: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return print(USAGE, 0);
    }
    if words.iter().any(|word| word == "--version" || word == "-V") {
        return print(concat!("mcphub-verify ", env!("CARGO_PKG_VERSION")), 0);
    }
    let done = parse(words).and_then(|asked| Ok((verify(&asked)?, asked.json)));
    match done {
        Ok((verdict, true)) => print(&in_json(&verdict).to_string(), u8::from(!verdict.is_whole())),
        Ok((verdict, false)) => print(&in_words(&verdict), u8::from(!verdict.is_whole())),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(words: Vec<String>) -> Result<Asked, String> {
    let (mut bundle, mut expected, mut json) = (None, None, false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => json = true,
            "--key" => expected = Some(key(&words.next().ok_or("--key needs a value")?)?),
            option if option.starts_with("--") => return Err(format!("unknown option {option}\n\n{USAGE}")),
            _ if bundle.is_none() => bundle = Some(word),
            _ => return Err(format!("one bundle at a time\n\n{USAGE}")),
        }
    }
    let bundle = bundle.ok_or_else(|| format!("which bundle?\n\n{USAGE}"))?;
    Ok(Asked { bundle, expected, json })
}

/// Reads what is expected: it stands there, or in a file.
fn key(text: &str) -> Result<Expected, String> {
    match text.parse() {
        Ok(expected) => return Ok(expected),
        Err(error) if text.starts_with("sha256:") || text.starts_with("ed25519:") => {
            return Err(format!("--key {text}: {error}"));
        }
        Err(_) => {}
    }
    let mut content = String::new();
    let read = File::open(text).and_then(|file| file.take(LARGEST).read_to_string(&mut content));
    read.map_err(|error| format!("--key {text}: {error}"))?;
    Expected::find(&content).ok_or_else(|| format!("--key {text}: there is no `sha256:` or `ed25519:` in it"))
}

fn verify(asked: &Asked) -> Result<Verdict, String> {
    let failed = |error: io::Error| format!("{}: {error}", asked.bundle);
    let expected = asked.expected.as_ref();
    if asked.bundle == "-" {
        return check(io::stdin().lock(), expected).map_err(failed);
    }
    check(File::open(&asked.bundle).map_err(failed)?, expected).map_err(failed)
}

fn in_words(verdict: &Verdict) -> String {
    let summary = &verdict.summary;
    let mut lines: Vec<String> = Vec::new();
    if verdict.is_whole() {
        lines.push(format!(
            "whole: {} of installation {}: {} records in {} chains, {} shown, {} covered by {} heads",
            summary.kind,
            summary.install,
            summary.records,
            summary.chains.max(1),
            summary.shown,
            summary.covered,
            summary.heads
        ));
        lines.extend(
            summary.newest.map(|(number, at)| format!("newest head: {number}, of {at} µs since 1970")),
        );
        lines.extend(summary.proved.as_ref().map(|record| format!("proved: {}", printable(record))));
    } else {
        lines.push(format!("{} findings", verdict.findings.len() as u64 + verdict.more));
        lines.extend(verdict.findings.iter().map(|finding| printable(&finding.to_string())));
    }
    if let Some(key) = summary.key {
        lines.push(format!("signed by: {key}, {}", key.fingerprint()));
        if !summary.is_expected {
            lines.push(
                "this key was not compared with anything: ask for its fingerprint, and give it as --key"
                    .to_owned(),
            );
        }
    }
    lines.join("\n")
}

fn in_json(verdict: &Verdict) -> Value {
    let summary = &verdict.summary;
    let findings = verdict.findings.iter().map(|finding| {
        let (chain, record) = finding.place.clone().unzip();
        let (kind, line, text) = (finding.kind.as_str(), finding.line, finding.to_string());
        json!({ "kind": kind, "line": line, "chain": chain, "record": record, "text": text })
    });
    json!({
        "whole": verdict.is_whole(),
        "findings": findings.collect::<Vec<_>>(),
        "more_findings": verdict.more,
        "install": summary.install,
        "kind": summary.kind,
        "key": summary.key.map(|key| key.to_string()),
        "fingerprint": summary.key.map(|key| key.fingerprint()),
        "key_was_compared": summary.is_expected,
        "from": summary.span.0,
        "to": summary.span.1,
        "heads": summary.heads,
        "newest_head": summary.newest.map(|(number, at)| json!({ "number": number, "at": at })),
        "chains": summary.chains,
        "records": summary.records,
        "shown": summary.shown,
        "covered": summary.covered,
        "proved": summary.proved,
    })
}

/// Replaces what would move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Prints an answer. A reader that went away needs no more.
fn print(text: &str, exit: u8) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::from(exit),
        Err(_) => ExitCode::from(2),
    }
}
