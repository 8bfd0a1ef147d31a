//! The log as evidence: what is done to it, or to its heads, behind the hub's back is found.

use std::path::PathBuf;

use mcphub_verify::Verdict;
use serde_json::{Value, json};

use crate::api::Person;
use crate::harness::database::Session;
use crate::harness::{Database, Installation, eventually, on_both};

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
        eventually("the index catches up", || {
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

/// Writes a bundle and reads it.
fn bundle(installation: &Installation, command: &str) -> Vec<u8> {
    let file = installation.folder().join("bundle.jsonl");
    installation.ok(&format!("{command} --output {}", file.display()));
    std::fs::read(file).unwrap()
}

fn check(bundle: &[u8]) -> Verdict {
    mcphub_verify::check(bundle, None).unwrap()
}

/// Shows the kinds and places of what is found in a bundle.
fn found(bundle: &[u8]) -> Vec<(&'static str, Option<u64>)> {
    let findings = check(bundle).findings.into_iter();
    findings.map(|finding| (finding.kind.as_str(), finding.place.map(|(_, number)| number))).collect()
}

fn lines(bundle: &[u8]) -> Vec<Vec<u8>> {
    bundle.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Says on which of a bundle's lines the segment with a record begins.
fn segment_with(lines: &[Vec<u8>], text: &str) -> usize {
    let record = lines.iter().position(|line| String::from_utf8_lossy(line).contains(text)).unwrap();
    let is_segment = |line: &Vec<u8>| String::from_utf8_lossy(line).contains("\"shown\":");
    lines[..record].iter().rposition(is_segment).unwrap()
}

on_both! {
    fn what_leaves_as_evidence_is_checked_without_the_hub(installation) {
        for name in ["alice", "bob", "carol"] {
            installation.ok(&format!("user add {name} --role user"));
        }
        let key = installation.json("audit key");
        let whole = bundle(&installation, "audit export");
        let verdict = check(&whole);
        assert_eq!(verdict.findings, []);
        let summary = &verdict.summary;
        let uncovered = 1; // its own chain, of which no head can tell yet
        assert_eq!((summary.chains, summary.records, summary.shown), (5, summary.records, summary.records));
        assert!(summary.covered > 10 && summary.records - summary.covered <= 2 + uncovered, "{summary:?}");
        assert_eq!(summary.install, key["install"]);
        assert_eq!(summary.key.unwrap().to_string(), key["key"]);
        assert_eq!(summary.key.unwrap().fingerprint(), key["fingerprint"]);
        let expected = key["fingerprint"].as_str().unwrap().parse().unwrap();
        assert!(mcphub_verify::check(&whole[..], Some(&expected)).unwrap().is_whole());
        let other = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let verdict = mcphub_verify::check(&whole[..], Some(&other)).unwrap();
        assert_eq!(verdict.findings[0].kind.as_str(), "wrong-key");
        let later = check(&bundle(&installation, "audit export --from 2100-01-01"));
        assert_eq!(later.findings, []);
        assert!(later.summary.shown < later.summary.records, "{:?}", later.summary);
        let log = installation.ok("audit list --limit 1000");
        assert!(log.contains("audit.export"), "an export is recorded: {log}");
    }

    fn each_record_can_be_proved(installation) {
        installation.ok("user add alice --role user");
        let hub = installation.serve();
        installation.ok("user add bob --role user");
        hub.stop();
        installation.ok("user add carol --role user");
        let records = installation.json("audit list --limit 1000");
        let records = records.as_array().unwrap();
        assert!(records.len() > 8, "{records:?}");
        for record in records {
            let id = record["id"].as_str().unwrap();
            let proof = bundle(&installation, &format!("audit prove {id}"));
            let verdict = check(&proof);
            assert_eq!(verdict.findings, [], "{id}");
            let proved: Value = serde_json::from_str(&verdict.summary.proved.unwrap()).unwrap();
            assert_eq!((&proved["chain"], &proved["number"]), (&record["chain"], &record["number"]));
            assert_eq!(proved["event"], record["event"]);
        }
        let newest = records[0]["chain"].as_str().unwrap();
        let listed = installation.ok("audit list --limit 1");
        let short = listed.split_whitespace().last().unwrap();
        assert_eq!(short.len(), 10, "{listed}");
        for (id, code, text) in [
            (format!("{newest}.99999"), 1, "does not exist"),
            ("0123456789.0".to_owned(), 1, "does not exist"),
            ("17".to_owned(), 2, "audit list"),
        ] {
            let output = installation.run(&["audit", "prove", &id, "--output", "-"], "");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(code) && error.contains(text), "{id}: {error}");
        }
    }

    fn auditors_take_evidence_over_the_api(installation) {
        installation.ok("user add admin --role admin");
        installation.ok("user update admin --auditor yes");
        let key = installation.key("admin");
        let hub = installation.serve();
        let admin = Person::new(&hub, &key);
        let export = admin.asks("GET", "/audit/export", &Value::Null);
        assert_eq!((export.status, export.header("content-type")), (200, Some("application/jsonl")));
        let verdict = check(export.body.as_bytes());
        assert_eq!(verdict.findings, []);
        assert!(verdict.summary.records > 5);
        assert_eq!(admin.gets("/audit/key")["key"], verdict.summary.key.unwrap().to_string());
        let record = &admin.gets("/audit?outcome=changed&limit=1")["records"][0]["record"];
        let path = format!("/audit/records/{}/{}/proof", record["chain"].as_str().unwrap(), record["number"]);
        let proof = eventually("a head covers it", || {
            let answer = admin.asks("GET", &path, &Value::Null);
            (answer.status == 200).then_some(answer.body)
        });
        assert_eq!(check(proof.as_bytes()).findings, []);
        let empty = admin.asks("GET", "/audit/export?from=2100-01-01T00:00:00Z", &Value::Null);
        assert!(check(empty.body.as_bytes()).summary.span.0.is_some());
        let read = admin.gets("/audit?outcome=read&limit=1000").to_string();
        assert!(read.contains("audit.export") && read.contains("audit.prove") && read.contains("audit.key"));
        assert_eq!(admin.asks("GET", &format!("{path}s"), &Value::Null).status, 404);
    }
}

#[test]
fn a_bundle_of_a_log_that_was_tampered_with_says_so() {
    let installation = with_heads();
    let mut session = Session::of(&installation);
    session.run("DROP TRIGGER audit_segments_keep");
    let one =
        "SELECT chain FROM audit_segments WHERE instr(CAST(body AS TEXT), 'user.added') ORDER BY at LIMIT 1";
    session.run(&format!(
        "UPDATE audit_segments SET body = CAST(replace(CAST(body AS TEXT), 'user.added', 'user.edded') AS BLOB) WHERE chain = ({one})"
    ));
    let findings = findings(&installation, &[]);
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!((&finding["kind"], &finding["record"]), (&json!("altered"), &json!(1)));
    let verdict = check(&bundle(&installation, "audit export"));
    let [found] = &verdict.findings[..] else { panic!("{:?}", verdict.findings) };
    assert_eq!((found.kind.as_str(), found.place.as_ref().unwrap().1), ("altered", 1));
    assert_eq!(found.place.as_ref().unwrap().0, finding["chain"]);
}

#[test]
fn every_changed_byte_of_a_bundle_is_found() {
    let installation = Installation::new(Database::Sqlite);
    installation.ok("user add alice --role user");
    for command in ["audit export", "audit prove ID"] {
        let id = installation.json("audit list --outcome changed --limit 100")[1]["id"].clone();
        let whole = bundle(&installation, &command.replace("ID", id.as_str().unwrap()));
        assert_eq!(found(&whole), []);
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1 << (place % 8);
            assert_ne!(found(&changed), [], "{command}: byte {place} of {}", whole.len());
            // What is cut has no seal, wherever it is cut.
            if place % 7 == 0 {
                assert_ne!(found(&whole[..place]), [], "{command}: cut at byte {place}");
            }
        }
        assert_eq!(found(&[&whole[..], b"\n"].concat())[0].0, "malformed");
        let all = lines(&whole);
        for place in 0..all.len() {
            let mut without = all.clone();
            without.remove(place);
            assert_ne!(found(&without.concat()), [], "{command}: without line {place}");
            let mut twice = all.clone();
            twice.insert(place, all[place].clone());
            assert_ne!(found(&twice.concat()), [], "{command}: line {place} twice");
            let mut swapped = all.clone();
            swapped.swap(place, (place + 1) % all.len());
            assert_ne!(found(&swapped.concat()), [], "{command}: line {place} swapped");
        }
    }
}

#[test]
fn what_is_wrong_in_a_bundle_is_named_before_its_seal() {
    let installation = with_heads();
    let whole = bundle(&installation, "audit export");
    let all = lines(&whole);
    let opening = segment_with(&all, "chain.opened");
    let first = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut changed = all.clone();
        change(&mut changed);
        found(&changed.concat())[0]
    };
    let replace = |from: &'static str, to: &'static str| {
        move |line: &mut Vec<u8>| *line = String::from_utf8_lossy(line).replace(from, to).into_bytes()
    };
    assert_eq!(
        first(&|all| replace("\"command\"", "\"xommand\"")(&mut all[opening + 1])),
        ("altered", Some(0))
    );
    assert_eq!(first(&|all| replace("\"shown\":true", "\"shown\":talse")(&mut all[opening])).0, "malformed");
    assert_eq!(first(&|all| replace("\"number\":1,", "\"number\":2,")(&mut all[1])).0, "bad-signature");
    assert_eq!(first(&|all| all.swap(1, 2)), ("replayed", None));
    assert_eq!(
        first(&|all| {
            let seal = all.len() - 1;
            replace("\"seal\":\"", "\"seal\":\"0")(&mut all[seal])
        })
        .0,
        "malformed"
    );
}
