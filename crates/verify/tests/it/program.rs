//! The program itself: what it exits with and says.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::bundles::{EXPORT, KEY, PROOF};

fn path(name: &str) -> String {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "it", "bundles", name].iter().collect();
    folder.to_str().unwrap().to_owned()
}

fn run(words: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcphub-verify"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who is called wrongly reads nothing.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn a_whole_bundle_exits_with_0() {
    let (fingerprint, file) = (KEY.split_whitespace().last().unwrap(), path("key.txt"));
    for words in [
        vec![path("export.jsonl")],
        vec![path("proof.jsonl"), "--key".to_owned(), fingerprint.to_owned()],
        vec!["--key".to_owned(), file, path("span.jsonl")],
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = run(&words, b"");
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output).contains("not compared"), !words.contains(&"--key"), "{}", said(&output));
    }
    let output = run(&["-", "--json"], PROOF);
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &verdict["whole"]), (Some(0), &Value::Bool(true)));
    assert!(verdict["proved"].as_str().unwrap().contains("user.added"));
}

#[test]
fn anything_wrong_exits_with_1_and_is_named() {
    let changed = String::from_utf8_lossy(EXPORT).replacen("user.added", "user.\u{7f}dded", 1);
    let output = run(&["-"], changed.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("altered: line ") && said(&output).contains("record 1 of chain "),
        "{}",
        said(&output)
    );
    let output = run(&["-", "--json"], changed.as_bytes());
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&verdict["findings"][0]["kind"], &verdict["findings"][0]["record"]),
        (&"altered".into(), &1.into())
    );
    let other = format!("sha256:{}", "0".repeat(64));
    let output = run(&[&path("export.jsonl"), "--key", &other], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("wrong-key"), "{}", said(&output));
}

#[test]
fn a_wrong_call_exits_with_2() {
    let bundle = path("export.jsonl");
    for words in [
        vec![],
        vec!["--key"],
        vec![&bundle, &bundle],
        vec![&bundle, "--unknown"],
        vec!["/does/not/exist"],
        vec![&bundle, "--key", "sha256:12"],
        vec![&bundle, "--key", &bundle],
    ] {
        let output = run(&words, b"");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", said(&output));
        assert!(said(&output).starts_with("error: "), "{words:?}: {}", said(&output));
    }
    let cut_off = run(&[&bundle, "--key", "sha256:12"], b"");
    assert!(said(&cut_off).contains("64 digits"), "it is no name of a file: {}", said(&cut_off));
    for word in ["--help", "--version"] {
        assert_eq!(run(&[word], b"").status.code(), Some(0), "{word}");
    }
}
