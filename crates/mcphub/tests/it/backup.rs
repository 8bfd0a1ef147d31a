//! Backups of a hub that works, and what becomes of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::custody::fingerprint;
use crate::faults::{file_in, key_file, set_up};
use crate::harness::database::Session;
use crate::harness::{Database, Installation, on_both};

/// A key pair that `age-keygen` could have made, for these tests alone.
const PUBLIC: &str = "age1dy7ktrvx46yrhektwn2ejgexm8zyfg2lfrth2a60f84tdhsjs36sflxgjc";
const PRIVATE: &str = "AGE-SECRET-KEY-1KMCT5TR5QX85WALSX0U4XSKENNDZLGGM7F0K9GZFA9UY8EXJ4JKQ7VQCTA";

on_both! {
    fn a_backup_under_load_becomes_the_same_hub_on_either_database(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        let done = AtomicBool::new(false);
        let (backup, manifest) = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(fingerprint(&hub, &key), before);
                    }
                });
            }
            let backup = back_up(&installation, "hub.age");
            done.store(true, Ordering::Relaxed);
            backup
        });
        hub.kill();
        for database in [Database::Sqlite, Database::Postgres] {
            let other = Installation::new(database);
            give_key(&installation, &other);
            let restored = restore(&other, &backup, &[]).unwrap();
            assert_eq!((&restored["restored"], &restored["lost"]), (&manifest, &json!([])));
            assert_eq!(rows(&other, &manifest), manifest["rows"], "every row, and no other");
            let hub = other.serve();
            assert_eq!(fingerprint(&hub, &key), before, "key, credential and server");
            hub.stop();
            assert_eq!(other.json("audit verify")["findings"], json!([]));
            let log = other.ok("audit list --json --limit 100000");
            assert!(log.contains("backup.begun") && log.contains("backup.restored") && log.contains("call.intent"));
            let again = restore(&other, &backup, &["--accept-rollback"]).unwrap_err();
            assert!(again.contains("there is data already"), "{again}");
        }
    }

    fn an_older_backup_than_the_heads_know_is_restored_only_by_choice(installation) {
        let key = set_up(&installation);
        let (latest, _) = back_up(&installation, "latest.age");
        let heads = file_in(&installation.folder().join("state/mcphub"), "heads");
        let at_once = Installation::new(Database::Sqlite);
        give_key(&installation, &at_once);
        give(&heads, &at_once.folder().join("state/mcphub"));
        give(&heads.with_extension("place"), &at_once.folder().join("state/mcphub"));
        let refused = restore(&at_once, &latest, &[]).unwrap_err();
        assert!(refused.contains("is kept in") && refused.contains("MCPHUB_AUDIT__HEADS_DIR"), "{refused}");
        let restored = restore(&at_once, &latest, &["--take-over"]).unwrap();
        assert_eq!(restored["lost"], json!([]), "nothing came after it");
        assert_eq!(at_once.json("audit verify")["findings"], json!([]));
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        hub.stop();
        let later = Installation::new(Database::Postgres);
        give_key(&installation, &later);
        give(&heads, &later.folder().join("state/mcphub"));
        let refused = restore(&later, &latest, &[]).unwrap_err();
        assert!(refused.contains("older than what the signed heads") && refused.contains("truncated"), "{refused}");
        let restored = restore(&later, &latest, &["--accept-rollback"]).unwrap();
        let lost = restored["lost"].as_array().unwrap().clone();
        assert!(!lost.is_empty());
        let hub = later.serve();
        assert_eq!(fingerprint(&hub, &key), before);
        hub.stop();
        let records = later.json("audit list --limit 1000");
        let record = records.as_array().unwrap().iter().find(|record| record["event"]["type"] == "backup.restored");
        assert_eq!(record.unwrap()["event"]["lost"], json!(lost));
        let output = later.run(&["audit", "verify", "--json"], "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|finding| &finding["text"]).collect();
        assert_eq!(found, lost.iter().collect::<Vec<_>>(), "verify names what was accepted, and nothing else");
    }

    fn a_backup_is_tried_beside_its_hub_and_both_logs_stay_whole(installation) {
        set_up(&installation);
        let (backup, _) = back_up(&installation, "hub.age");
        let heads = file_in(&installation.folder().join("state/mcphub"), "heads");
        let mut trial = Installation::new(Database::Sqlite);
        give_key(&installation, &trial);
        trial.set("MCPHUB_AUDIT__HEADS_DIR", trial.folder().join("heads").to_str().unwrap());
        restore(&trial, &backup, &[]).unwrap();
        for each in [&installation, &trial] {
            each.ok("user add bob --role user");
            assert_eq!(each.json("audit verify")["findings"], json!([]));
        }
        trial.set("MCPHUB_AUDIT__HEADS_DIR", heads.parent().unwrap().to_str().unwrap());
        let output = trial.run(&["user", "add", "carol", "--role", "user"], "");
        let is_file = installation.data_dir().join("mcphub.db").exists();
        assert_eq!(output.status.success(), !is_file, "{}", String::from_utf8_lossy(&output.stderr));
        if is_file {
            assert_eq!(installation.json("audit verify")["findings"], json!([]), "the copy signed nothing there");
        }
    }

    fn what_is_not_whole_is_not_restored(installation) {
        set_up(&installation);
        let (backup, _) = back_up(&installation, "hub.age");
        assert!(backup_fails(&installation, "hub.age").contains("exists"));
        let bytes = std::fs::read(&backup).unwrap();
        let other = Installation::new(Database::Sqlite);
        give_key(&installation, &other);
        let broken = installation.folder().join("broken.age");
        for at in (0..bytes.len()).step_by(bytes.len() / 6) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            std::fs::write(&broken, changed).unwrap();
            restore(&other, &broken, &["--accept-rollback"]).unwrap_err();
            std::fs::write(&broken, &bytes[..at]).unwrap();
            restore(&other, &broken, &["--accept-rollback"]).unwrap_err();
        }
        restore(&other, &backup, &[]).unwrap();
        other.ok("vault status");
    }
}

#[test]
fn a_large_log_takes_little_memory() {
    let installation = Installation::new(Database::Sqlite);
    set_up(&installation);
    let mut session = Session::of(&installation);
    let large = "INSERT INTO audit_segments (chain, first, count, body, leaves, previous, hash, root, at)
        WITH RECURSIVE n (x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x < 299)
        SELECT '00000000-0000-4000-8000-000000000000', x, 1, randomblob(1000000), zeroblob(32), zeroblob(32),
               zeroblob(32), zeroblob(32), 1 FROM n";
    session.run(&large.replace('\n', " "));
    drop(session);
    let line = ["backup", "--recipient", PUBLIC, "--output", "large.age"];
    let file = installation.folder().join("large.age");
    let mut line = line.map(str::to_owned);
    line[4] = file.to_str().unwrap().to_owned();
    let mut backup = installation.begin(&line.each_ref().map(String::as_str));
    let mut most = 0;
    while backup.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", backup.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(peak.unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(backup.wait().unwrap().success());
    assert!(std::fs::metadata(file).unwrap().len() > 300_000_000);
    assert!((1_000..150_000).contains(&most), "{most} kB for 300 MB of log");
}

fn back_up(installation: &Installation, name: &str) -> (PathBuf, Value) {
    let path = installation.folder().join(name);
    let line = format!("backup --recipient {PUBLIC} --output {}", path.display());
    (path, installation.json(&line))
}

fn backup_fails(installation: &Installation, name: &str) -> String {
    let path = installation.folder().join(name);
    let output = installation.run(&["backup", "--recipient", PUBLIC, "--output", path.to_str().unwrap()], "");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// Restores a backup, or says why not.
fn restore(installation: &Installation, backup: &Path, more: &[&str]) -> Result<Value, String> {
    let identity = installation.file("identity.txt", &format!("# created: 2026-11-23\n{PRIVATE}\n"));
    let words = ["restore", backup.to_str().unwrap(), "--identity", identity.to_str().unwrap(), "--json"];
    let output = installation.run(&[&words, more].concat(), "");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

fn give_key(from: &Installation, to: &Installation) {
    give(&key_file(from), &to.folder().join("config/mcphub"));
}

fn give(file: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
}

/// Counts the rows of the tables of a manifest, without what the restoration itself adds to the log.
fn rows(installation: &Installation, manifest: &Value) -> Value {
    let mut session = Session::of(installation);
    let mut counted = manifest["rows"].clone();
    for (table, count) in counted.as_object_mut().unwrap() {
        let found: u64 = session.run(&format!("SELECT COUNT(*) FROM {table}"))[0].parse().unwrap();
        let own = match table.as_str() {
            "audit_segments" | "nodes" => 1,
            "audit_named" => manifest["chains"].as_array().unwrap().len() as u64,
            _ => 0,
        };
        *count = json!(found - own);
    }
    counted
}
