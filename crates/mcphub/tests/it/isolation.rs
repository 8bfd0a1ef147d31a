//! Each person's own credential and nothing else: 10,000 interleaved calls, and a search for secrets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use memchr::memmem;
use serde_json::{Value, json};

use crate::harness::client::{call, list, send};
use crate::harness::peer::{CredentialServer, program};
use crate::harness::{Installation, eventually, on_both, tool};

/// Is planted: each must be found nowhere.
const ALICE: &str = "tok-alice-4f1c0b7a9d2e";
const BOB: &str = "tok-bob-93e5d1c6a870";
/// Is no secret and stands in every log: it must be found.
const KNOWN: &str = "chain.opened";

on_both! {
    fn each_answer_carries_the_callers_own_credential(installation) {
        let record = installation.folder().join("record.jsonl");
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&record));
        let keys = set_up(&installation, &server.url);
        let hub = installation.serve();
        for (tool_name, calls) in [("remote__fingerprint", "10000"), ("local__fingerprint", "10000")] {
            let output = Command::new(tool("MCPHUB_TEST_PYTHON_2"))
                .arg(program("load.py"))
                .args(["--url", &hub.url("/mcp"), "--tool", tool_name, "--calls", calls, "--connections", "64"])
                .args(["--key", &keys["alice"], "--key", &keys["bob"]])
                .args(["--expect", &sha256(ALICE), "--expect", &sha256(BOB)])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{tool_name}: {said} {}", String::from_utf8_lossy(&output.stderr));
        }
        nothing_foreign_was_sent(&record, &keys);
        let arguments = arguments_of_processes(hub.id());
        hub.stop();
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
        let secrets = [ALICE, BOB, &keys["alice"], &keys["bob"]];
        for secret in secrets {
            assert!(!arguments.contains(secret), "a secret stands in a process's arguments");
        }
        nothing_secret_is_stored(&installation, &secrets);
    }

    fn a_person_without_a_group_sees_nothing_and_can_call_nothing(installation) {
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", None);
        set_up(&installation, &server.url);
        installation.ok("user add carol --role user");
        installation.ok("user add dora --role admin");
        let hub = installation.serve();
        for person in ["carol", "dora"] {
            let key = installation.key(person);
            let listed = eventually("the new key is known", || {
                Some(list(hub.address, "/mcp", &key)).filter(|listed| listed.status == 200)
            });
            assert_eq!(listed.json()["result"]["tools"], json!([]));
            let forbidden = call(hub.address, "/mcp", &key, "remote__fingerprint", json!({}));
            let unknown = call(hub.address, "/mcp", &key, "remote__fingerprinx", json!({}));
            assert_eq!(forbidden.json()["error"]["code"], -32602);
            assert_eq!(forbidden.status, unknown.status);
            assert_eq!(forbidden.headers, unknown.headers);
            assert_eq!(forbidden.body, unknown.body.replace("fingerprinx", "fingerprint"), "alike but for the name");
            let endpoints = ["/mcp/remote", "/mcp/devs", "/mcp/nowhere"].map(|path| list(hub.address, path, &key));
            assert!(endpoints.iter().all(|answer| answer.status == 404 && answer.body == endpoints[0].body), "{endpoints:?}");
        }
    }

    fn a_missing_credential_is_named_with_the_page_that_fixes_it(installation) {
        let record = installation.folder().join("record.jsonl");
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&record));
        let keys = set_up(&installation, &server.url);
        let hub = installation.serve();
        list(hub.address, "/mcp", &keys["alice"]);
        installation.ok("credential remove bob remote TOKEN");
        let before = std::fs::read_to_string(&record).unwrap_or_default();
        let result = eventually("the removal is taken up", || {
            let result = call(hub.address, "/mcp", &keys["bob"], "remote__fingerprint", json!({})).json()["result"].clone();
            (result["isError"] == true).then_some(result)
        });
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("TOKEN") && text.contains("/credentials/remote"), "{text}");
        assert_eq!(result["_meta"]["mcphub/error"]["data"]["missing"], json!(["TOKEN"]));
        assert_eq!(result["_meta"]["mcphub/error"]["code"], -31002);
        let sent = std::fs::read_to_string(&record).unwrap_or_default();
        let calls = |text: &str| text.matches("tools/call").count();
        assert_eq!(calls(&sent), calls(&before), "nothing was sent");
    }

    fn a_moved_server_gets_no_credential_until_its_owner_confirms(installation) {
        let (first, second) = (CredentialServer::start("MCPHUB_TEST_PYTHON_2", None), installation.folder().join("second.jsonl"));
        let trap = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&second));
        let keys = set_up(&installation, &first.url);
        let hub = installation.serve();
        let fingerprint = |key: &str| call(hub.address, "/mcp", key, "remote__fingerprint", json!({})).json()["result"].clone();
        list(hub.address, "/mcp", &keys["alice"]);
        assert_eq!(fingerprint(&keys["alice"])["content"][0]["text"], sha256(ALICE));
        let moved = installation.file("moved.json", &servers(&trap.url).to_string());
        installation.ok(&format!("server import {}", moved.display()));
        let result = eventually("the move is taken up", || {
            Some(fingerprint(&keys["alice"])).filter(|result| result["isError"] == true)
        });
        assert_eq!(result["_meta"]["mcphub/error"]["data"]["suspended"], json!(["TOKEN"]));
        assert!(!std::fs::read_to_string(&second).unwrap_or_default().contains(ALICE), "the new place got nothing");
        confirm(hub.address, &keys["alice"], "remote");
        eventually("the confirmation is taken up", || {
            (fingerprint(&keys["alice"])["content"][0]["text"] == sha256(ALICE)).then_some(())
        });
        assert_eq!(fingerprint(&keys["bob"])["isError"], true, "bob has not confirmed");
    }
}

/// Confirms, as the page does, that a person's values go where the server is now.
fn confirm(address: SocketAddr, key: &str, server: &str) {
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = format!("/api/v1/users/me/servers/{server}/credentials");
    for slot in send(address, "GET", &path, &headers, "").json().as_array().unwrap() {
        let seen = json!({ "revision": slot["revision"], "destination": slot["destination"] });
        let path = format!("{path}/{}/confirm", slot["slot"].as_str().unwrap());
        let confirmed = send(address, "POST", &path, &headers, &seen.to_string());
        assert_eq!(confirmed.status, 204, "{confirmed:?}");
    }
}

fn servers(url: &str) -> Value {
    json!({ "mcpServers": {
        "remote": { "type": "streamable-http", "url": url, "headers": { "Authorization": "Bearer ${USER_TOKEN}" } },
        "local": {
            "command": tool("MCPHUB_TEST_PYTHON_2"), "args": [program("credential_server.py"), "--stdio"],
            "env": { "CREDENTIAL": "${USER_TOKEN}" },
        },
    } })
}

/// Sets up alice and bob with everything granted and their credentials set; returns their keys.
fn set_up(installation: &Installation, url: &str) -> BTreeMap<&'static str, String> {
    let path = installation.file("servers.json", &servers(url).to_string());
    installation.ok("group add devs");
    installation.ok(&format!("server import {}", path.display()));
    installation.ok("grant add devs remote --rights read,write,execute");
    installation.ok("grant add devs local --rights read,write,execute");
    let mut keys = BTreeMap::new();
    for (person, token) in [("alice", ALICE), ("bob", BOB)] {
        installation.ok(&format!("user add {person} --role user"));
        installation.ok(&format!("group join devs {person}"));
        installation.ok_with(&format!("credential set {person} remote TOKEN"), token);
        installation.ok_with(&format!("credential set {person} local TOKEN"), token);
        keys.insert(person, installation.key(person));
    }
    keys
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks through everything that the server behind the hub received.
fn nothing_foreign_was_sent(record: &Path, keys: &BTreeMap<&str, String>) {
    let text = std::fs::read_to_string(record).unwrap();
    assert!(text.lines().count() >= 10_000);
    for line in text.lines() {
        assert!(!line.contains("mcphub_") && !line.to_lowercase().contains("\"cookie\""), "{line}");
        assert!(!(line.contains(ALICE) && line.contains(BOB)), "{line}");
        assert!(keys.values().all(|key| !line.contains(key.as_str())), "{line}");
    }
}

fn arguments_of_processes(hub: u32) -> String {
    let read = |id: &str| std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let processes =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let lines: Vec<String> =
        processes.filter(|name| name.parse::<u32>().is_ok()).map(|id| read(&id)).collect();
    assert!(!read(&hub.to_string()).is_empty(), "the hub still runs");
    // The program that makes the load has them in its arguments, and has ended.
    lines.join("\n")
}

/// Searches the database with its write-ahead log, the logs, the heads and all else for secrets.
pub(crate) fn nothing_secret_is_stored(installation: &Installation, secrets: &[&str]) {
    let mut folders = vec![
        installation.data_dir(),
        installation.folder().join("config"),
        installation.folder().join("state"),
    ];
    folders.extend(postgres_folders(installation));
    let mut files = vec![installation.folder().join("serve.log")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let mut is_looked_through = false;
    for file in files {
        let bytes = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        is_looked_through |= memmem::find(&bytes, KNOWN.as_bytes()).is_some();
        for secret in secrets {
            let found = memmem::find(&bytes, secret.as_bytes()).is_some();
            assert!(!found, "a secret stands in {}", file.display());
        }
    }
    assert!(is_looked_through, "what is no secret is found, so a secret would be too");
}

/// Finds where PostgreSQL keeps the installation's tables and its write-ahead log.
fn postgres_folders(installation: &Installation) -> Vec<std::path::PathBuf> {
    let Some(url) = installation.variable("MCPHUB_DATABASE__URL") else { return Vec::new() };
    let name = url.rsplit('/').next().unwrap();
    let psql = format!("{}/psql", tool("MCPHUB_TEST_POSTGRES_BIN"));
    let url = tool("MCPHUB_TEST_POSTGRES_URL");
    let ask = |sql: &str| {
        let output = Command::new(&psql).args(["-At", "-c", sql, &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    ask("CHECKPOINT");
    let data = std::path::PathBuf::from(ask("SHOW data_directory"));
    let database = ask(&format!("SELECT oid FROM pg_database WHERE datname = '{name}'"));
    vec![data.join("base").join(database), data.join("pg_wal")]
}
