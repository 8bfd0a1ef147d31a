//! The keys that everything is sealed under: rotated under load, killed, and by those who can't know yet.

use std::time::Instant;

use serde_json::{Value, json};

use crate::faults::{key_file, process_with, set_up};
use crate::harness::client::{Answer, call};
use crate::harness::{Installation, Serving, eventually, on_both};

on_both! {
    fn a_running_hub_goes_on_while_its_key_is_rotated(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        let process = process_with(&installation).expect("alice's own process");
        let first = keys(&installation)[0]["id"].clone();
        std::thread::scope(|scope| {
            let rotation = scope.spawn(|| installation.json("vault rotate"));
            let mut calls = 0;
            while !rotation.is_finished() {
                assert_eq!(fingerprint(&hub, &key), before);
                calls += 1;
            }
            let rotated = rotation.join().unwrap();
            assert!(calls > 1 && rotated["moved"].as_u64().is_some_and(|moved| moved >= 4), "{rotated}");
            assert_eq!((&rotated["left"], &rotated["resumed"]), (&json!(0), &json!(false)));
            assert_ne!(rotated["key"], first);
        });
        assert_eq!(process_with(&installation), Some(process), "no connection was closed");
        let known = keys(&installation);
        let of = |state: &str| known.iter().find(|key| key["state"] == state).unwrap();
        assert_eq!((&of("old")["id"], &of("old")["values"]), (&first, &json!(0)));
        assert!(of("current")["values"].as_u64().is_some_and(|values| values >= 4), "{known:?}");
        installation.ok_with("credential set alice local TOKEN", "another-token");
        // A call that runs while its credential is replaced is closed with what used that.
        let opened = || fingerprinted(&hub, &key).ok().filter(|print| *print != before);
        eventually("what is sealed under the new key opens", opened);
        assert_eq!(installation.json("vault retire")["retired"], json!([first]));
        assert_eq!(lines(&installation), 2, "the file has the header and one key");
        assert_eq!(fingerprint(&hub, &key).len(), 64);
        hub.stop();
        let hub = installation.serve();
        assert_eq!(fingerprint(&hub, &key).len(), 64, "and after a start with the new key alone");
        hub.stop();
        let log = installation.ok("audit list --json --limit 100000");
        for event in ["vault.key-added", "vault.key-current", "vault.rewrapped", "vault.rotated", "vault.key-retired"] {
            assert!(log.contains(event), "{event}");
        }
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
    }

    fn a_rotation_that_is_killed_anywhere_goes_on(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        let started = Instant::now();
        installation.ok("vault rotate");
        let whole = started.elapsed();
        for part in 0..12 {
            let mut rotation = installation.begin(&["vault", "rotate"]);
            std::thread::sleep(whole * part / 11);
            rotation.kill().unwrap();
            rotation.wait().unwrap();
            assert_eq!(fingerprint(&hub, &key), before, "killed after {part}/11");
        }
        hub.stop();
        installation.run(&["vault", "rotate"], "");
        installation.ok("vault rotate");
        installation.ok("vault status");
        installation.ok("vault retire");
        assert_eq!(keys(&installation).len(), 1);
        assert_eq!(keys(&installation)[0]["held"], true);
        let hub = installation.serve();
        assert_eq!(fingerprint(&hub, &key), before);
        hub.stop();
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
    }

    fn nothing_is_sealed_under_a_key_that_a_running_hub_lacks(installation) {
        let mut installation = installation;
        let (old, new) = (digits(1), digits(2));
        installation.set("MCPHUB_VAULT__PROVIDER", "env");
        installation.set("MCPHUB_VAULT__KEY", &old);
        let key = set_up(&installation);
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        let told = refused(&installation, &["vault", "rotate"]);
        assert!(told.contains("openssl rand -hex 32"), "{told}");
        installation.set("MCPHUB_VAULT__KEY", &format!("{new},{old}"));
        let told = refused(&installation, &["vault", "rotate"]);
        assert!(told.contains("have not taken up key"), "{told}");
        let waiting = keys(&installation);
        assert!(waiting.iter().all(|key| key["state"] != "next" || key["values"] == 0), "{waiting:?}");
        assert_eq!(fingerprint(&hub, &key), before);
        hub.stop();
        let hub = installation.serve();
        assert_eq!(fingerprint(&hub, &key), before);
        let rotated = installation.json("vault rotate");
        assert_eq!((&rotated["resumed"], &rotated["left"]), (&json!(true), &json!(0)));
        installation.ok("vault retire");
        hub.stop();
        installation.set("MCPHUB_VAULT__KEY", &new);
        let hub = installation.serve();
        assert_eq!(fingerprint(&hub, &key), before, "the old key is not needed any more");
    }

    fn a_hub_that_was_killed_holds_up_no_rotation(installation) {
        let mut installation = installation;
        installation.set("MCPHUB_VAULT__PROVIDER", "env");
        installation.set("MCPHUB_VAULT__KEY", &digits(1));
        let key = set_up(&installation);
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        hub.kill();
        installation.set("MCPHUB_VAULT__KEY", &format!("{},{}", digits(2), digits(1)));
        assert_eq!(installation.json("vault rotate")["left"], json!(0));
        assert_eq!(fingerprint(&installation.serve(), &key), before);
    }

    fn a_rotation_whose_new_key_is_lost_is_given_up(installation) {
        let mut installation = installation;
        installation.set("MCPHUB_VAULT__PROVIDER", "env");
        installation.set("MCPHUB_VAULT__KEY", &digits(1));
        let key = set_up(&installation);
        let hub = installation.serve();
        let before = fingerprint(&hub, &key);
        assert!(refused(&installation, &["vault", "rotate", "--abandon"]).contains("no rotation waits"));
        let both = |new: u8| format!("{},{}", digits(new), digits(1));
        installation.set("MCPHUB_VAULT__KEY", &both(2));
        assert!(refused(&installation, &["vault", "rotate"]).contains("have not taken up key"));
        installation.set("MCPHUB_VAULT__KEY", &digits(1));
        assert!(refused(&installation, &["vault", "rotate"]).contains("which is not in the key file here"));
        installation.ok("vault rotate --abandon");
        assert_eq!(keys(&installation).len(), 1);
        assert_eq!(fingerprint(&hub, &key), before);
        hub.stop();
        installation.set("MCPHUB_VAULT__KEY", &both(2));
        assert!(refused(&installation, &["vault", "rotate"]).contains("openssl rand"), "a key that was given up never comes back");
        installation.set("MCPHUB_VAULT__KEY", &both(3));
        assert_eq!(installation.json("vault rotate")["left"], json!(0));
    }

    fn the_status_says_what_is_wrong(installation) {
        set_up(&installation);
        installation.ok("vault status");
        let file = key_file(&installation);
        let status = || {
            let output = installation.run(&["vault", "status"], "");
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let mode = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0o444);
        let (fine, text) = status();
        assert!(!fine && text.contains("has mode 0444") && text.starts_with("sealed"), "{text}");
        mode(0o400);
        installation.ok("vault status");
        std::fs::rename(&file, file.with_extension("away")).unwrap();
        let (fine, text) = status();
        assert!(!fine && text.contains("there is no key file") && text.contains("is not here"), "{text}");
    }
}

/// Runs a command that must fail, and returns what it said.
fn refused(installation: &Installation, line: &[&str]) -> String {
    let output = installation.run(line, "");
    assert!(!output.status.success(), "{line:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn keys(installation: &Installation) -> Vec<Value> {
    let output = installation.run(&["vault", "status", "--json"], "");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["keys"].as_array().unwrap().clone()
}

/// Spells a key of its own for each seed.
pub(crate) fn digits(seed: u8) -> String {
    (1..=32_u8).map(|place| format!("{:02x}", place.wrapping_mul(73).wrapping_add(seed))).collect()
}

fn lines(installation: &Installation) -> usize {
    std::fs::read_to_string(key_file(installation)).unwrap().lines().count()
}

/// Calls a tool that answers with the digest of the credential that it got.
pub(crate) fn fingerprint(hub: &Serving, key: &str) -> String {
    fingerprinted(hub, key).unwrap_or_else(|answer| panic!("{answer:?}"))
}

fn fingerprinted(hub: &Serving, key: &str) -> Result<String, Answer> {
    let answer = call(hub.address, "/mcp", key, "local__fingerprint", json!({}));
    let text = answer.json()["result"]["content"][0]["text"].as_str().map(str::to_owned);
    text.ok_or(answer)
}
