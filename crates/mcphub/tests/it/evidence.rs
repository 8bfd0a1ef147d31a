//! The log as evidence: what is done to it, or to its heads, behind the hub's back is found.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::database::Session;
use crate::harness::{Database, Installation, on_both};

/// Finds the file of the signed heads.
fn heads_file(installation: &Installation) -> PathBuf {
    let folder = installation.folder().join("state/mcphub");
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|end| end == "heads")).unwrap()
}

fn heads(installation: &Installation) -> String {
    std::fs::read_to_string(heads_file(installation)).unwrap()
}

/// Verifies, with copies of the heads or without, and shows what is found.
fn findings(installation: &Installation, copies: &[&str]) -> Vec<Value> {
    let mut line = vec!["audit", "verify", "--json"];
    line.extend(copies.iter().flat_map(|copy| ["--heads", copy]));
    let output = installation.run(&line, "");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().unwrap().clone();
    assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())), "{report}");
    findings
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["kind"].as_str().unwrap()).collect()
}

/// Makes a log with a head for each of some commands.
fn with_heads() -> Installation {
    let installation = Installation::new(Database::Sqlite);
    for name in ["alice", "bob", "carol"] {
        installation.ok(&format!("user add {name} --role user"));
    }
    assert_eq!(heads(&installation).lines().count(), 3);
    assert_eq!(findings(&installation, &[]), [] as [Value; 0]);
    installation
}

#[test]
fn a_head_that_was_changed_is_found_and_a_torn_one_is_none() {
    let installation = with_heads();
    let (file, whole) = (heads_file(&installation), heads(&installation));
    let newest = whole.lines().last().unwrap();
    for torn in 0..=newest.len() {
        if torn % 97 == 0 || torn == newest.len() {
            std::fs::write(&file, &whole[..whole.len() - 1 - torn]).unwrap();
            assert_eq!(findings(&installation, &[]), [] as [Value; 0], "{torn} bytes are missing");
        }
    }
    let signature = newest.find("\"signature\":\"").unwrap() + 13;
    let other = if newest.as_bytes()[signature] == b'0' { "1" } else { "0" };
    let mut forged = newest.to_owned();
    forged.replace_range(signature..=signature, other);
    for line in [&forged, "not a head", "", &newest.replace("\"v\":1", "\"v\": 1")] {
        std::fs::write(&file, whole.replace(newest, line)).unwrap();
        let found = findings(&installation, &[]);
        assert_eq!(kinds(&found), ["bad-signature"], "{line}");
        assert!(found[0]["text"].as_str().unwrap().contains("line 3 of "), "{found:?}");
    }
}

#[test]
fn an_old_head_in_a_new_place_is_found() {
    let installation = with_heads();
    let (file, whole) = (heads_file(&installation), heads(&installation));
    let lines: Vec<&str> = whole.lines().collect();
    std::fs::write(&file, format!("{whole}{}\n", lines[0])).unwrap();
    let found = findings(&installation, &[]);
    assert_eq!(kinds(&found), ["replayed"]);
    assert!(
        found[0]["text"].as_str().unwrap().ends_with("is head 1, which stands after head 3"),
        "{found:?}"
    );
    std::fs::write(&file, format!("{}\n{}\n{}\n", lines[0], lines[2], lines[1])).unwrap();
    assert_eq!(kinds(&findings(&installation, &[])), ["replayed"]);
}

#[test]
fn what_was_rolled_back_with_its_heads_is_found_by_a_copy_of_them() {
    let installation = with_heads();
    let (file, old) = (heads_file(&installation), heads(&installation));
    let (database, copy) = (installation.data_dir().join("mcphub.db"), installation.folder().join("copy.db"));
    std::fs::copy(&database, &copy).unwrap();
    installation.ok("user add mallory --role admin");
    let newer = heads(&installation);
    std::fs::copy(&copy, &database).unwrap();
    std::fs::write(&file, old).unwrap();
    assert_eq!(findings(&installation, &[]), [] as [Value; 0], "nothing here knows of it");
    let collected = newer.lines().map(|line| {
        json!({ "level": "INFO", "target": "mcphub::head", "fields": { "message": line } }).to_string()
    });
    let collected: Vec<String> = collected.chain([json!({ "target": "other" }).to_string()]).collect();
    for text in [newer.clone(), collected.join("\n")] {
        let copy = installation.file("collected.jsonl", &text);
        let found = findings(&installation, &[copy.to_str().unwrap()]);
        assert_eq!(kinds(&found), ["truncated"], "{found:?}");
        assert_eq!(found[0]["record"], 0, "the whole chain of that command is gone");
    }
    installation.ok("user add dora --role user");
    assert_eq!(findings(&installation, &[]), [] as [Value; 0], "it went on as if nothing had happened");
    let copy = installation.file("collected.jsonl", &newer);
    assert_eq!(kinds(&findings(&installation, &[copy.to_str().unwrap()])), ["truncated"]);
    let nothing = installation.file("nothing.jsonl", "{}\n");
    let refused = installation.run(&["audit", "verify", "--heads", nothing.to_str().unwrap()], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no signed head"));
}

on_both! {
    fn the_index_is_made_anew_from_the_log(installation) {
        installation.ok("user add alice --role user");
        let hub = installation.serve();
        let search = || installation.json("audit list --outcome changed --person alice");
        let whole = search();
        assert_eq!(whole.as_array().map(Vec::len), Some(1));
        let mut session = Session::of(&installation);
        crate::harness::eventually("the index catches up", || {
            let behind = "SELECT COUNT(*) FROM audit_index WHERE outcome = 'changed' AND person <> ''";
            (session.run(behind) != ["0"]).then_some(())
        });
        session.run("UPDATE audit_index SET person = 'garbled ' || person");
        assert_eq!(search(), json!([]), "a garbled index hides records");
        let report = installation.json("audit verify");
        assert_eq!(report["findings"], json!([]));
        assert!(report["notices"][0].as_str().unwrap().contains("audit reindex"), "{report}");
        installation.ok("audit reindex");
        assert_eq!(search(), whole);
        assert_eq!(installation.json("audit verify")["notices"], json!([]));
        hub.stop();
    }
}
