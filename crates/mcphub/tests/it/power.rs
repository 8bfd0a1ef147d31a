//! Kills under load, and what a power cut does to files: nothing that was answered is missing, nothing
//! looks like tampering, no credential is lost.
//!
//! `MCPHUB_TEST_KILLS` says how many kills; a few by default.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::Person;
use crate::harness::client::{call, call_headers, list, modern, send};
use crate::harness::notes::{assert_recorded, received, sha256};
use crate::harness::peer::{CredentialServer, Peer};
use crate::harness::{Database, Installation, Serving, eventually, kills, on_both};

/// How many clients call at once.
const CLIENTS: usize = 4;
/// Where she keeps her token.
const SLOTS: &str = "/users/me/servers/remote/credentials";
/// The header of a write-ahead log, and of each frame in it, in bytes.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// Throws numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        let digest = Sha256::digest(self.0.to_be_bytes());
        u64::from_be_bytes(digest[..8].try_into().unwrap()) % end
    }
}

/// Is a hub's installation with one person who calls a server with a token of her own, and changes it all the time.
struct Scene {
    installation: Installation,
    record: PathBuf,
    key: String,
    token: Mutex<Token>,
    _server: Peer,
}

/// Is what she knows of her token.
struct Token {
    /// The last one that was taken.
    taken: String,
    /// The one that she has sent since. Nobody has told her what became of it.
    sent: Option<String>,
}

impl Scene {
    fn set(installation: Installation) -> Self {
        let record = installation.folder().join("record.jsonl");
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&record));
        let headers = json!({ "authorization": "Bearer ${USER_TOKEN}" });
        let file = json!({ "mcpServers": { "remote": { "url": server.url, "headers": headers } } });
        installation.grant_all("alice", "remote", &file);
        let taken = "tok-alice".to_owned();
        installation.ok_with("credential set alice remote TOKEN", &taken);
        let key = installation.key("alice");
        Self { installation, record, key, token: Mutex::new(Token { taken, sent: None }), _server: server }
    }

    /// Starts the hub and checks that nothing is lost of what it needs to call.
    fn start(&self) -> Serving {
        let hub = self.installation.serve();
        eventually("it is ready", || {
            (send(hub.address, "GET", "/readyz", &[], "").status == 200).then_some(())
        });
        assert_eq!(list(hub.address, "/mcp", &self.key).status, 200);
        let answer = call(hub.address, "/mcp", &self.key, "remote__fingerprint", json!({})).json();
        let mut token = self.token.lock().unwrap();
        let is_had = |known: &&String| answer["result"]["content"][0]["text"] == sha256(known);
        let had = std::iter::once(&token.taken).chain(&token.sent).find(is_had);
        let taken = had.unwrap_or_else(|| panic!("the credential is lost: {answer}")).clone();
        *token = Token { taken, sent: None };
        hub
    }

    /// Calls from many sides, and changes the token, until the hub is killed; returns the texts of the calls that were
    /// answered.
    fn kill_under_load(&self, hub: Serving, round: u64, after: u64) -> Vec<String> {
        let (answered, address, is_killed) = (Mutex::new(Vec::new()), hub.address, AtomicBool::new(false));
        let slot = Person::new(&hub, &self.key).gets(SLOTS)[0].clone();
        let before = self.token.lock().unwrap().taken.clone();
        let calls = |client: usize| {
            let lives = (0..).take_while(|_| !is_killed.load(Ordering::Acquire));
            for text in lives.map(|number| format!("note {round}.{client}.{number}")) {
                if self.is_answered(address, &text) {
                    answered.lock().unwrap().push(text);
                }
            }
        };
        std::thread::scope(|scope| {
            let calls = &calls;
            for client in 0..CLIENTS {
                scope.spawn(move || calls(client));
            }
            scope.spawn(|| self.change_token(address, round, &slot, &answered));
            eventually("calls are answered, and the token is changed", || {
                let is_changed = self.token.lock().unwrap().taken != before;
                (is_changed && answered.lock().unwrap().len() as u64 > after).then_some(())
            });
            hub.kill();
            is_killed.store(true, Ordering::Release);
        });
        answered.into_inner().unwrap()
    }

    /// Changes the token again and again, as its owner does at the console, and calls with each, until nobody takes it.
    fn change_token(&self, address: SocketAddr, round: u64, slot: &Value, answered: &Mutex<Vec<String>>) {
        let (mut revision, bearer) = (slot["revision"].as_i64().unwrap(), format!("Bearer {}", self.key));
        let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
        loop {
            let token = format!("tok-alice-{round}-{revision}");
            let change = json!({ "value": token, "revision": revision, "destination": slot["destination"] });
            self.token.lock().unwrap().sent = Some(token.clone());
            let answer =
                attempt(address, &format!("PUT /api/v1{SLOTS}/TOKEN"), &headers, &change.to_string());
            if !answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 204")) {
                return;
            }
            let text = format!("with {token}");
            *self.token.lock().unwrap() = Token { taken: token, sent: None };
            revision += 1;
            if self.is_answered(address, &text) {
                answered.lock().unwrap().push(text);
            }
        }
    }

    /// Calls, and says whether an answer came.
    fn is_answered(&self, address: SocketAddr, text: &str) -> bool {
        let body =
            modern(1, "tools/call", json!({ "name": "remote__write_note", "arguments": { "text": text } }));
        let bearer = format!("Bearer {}", self.key);
        let headers = call_headers(&bearer, "remote__write_note");
        let answer = attempt(address, "POST /mcp", &headers, &body).unwrap_or_default();
        answer.contains("\"isError\":false")
    }

    fn findings(&self) -> Vec<Value> {
        let output = self.installation.run(&["audit", "verify", "--json"], "");
        let error = String::from_utf8_lossy(&output.stderr);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
        report["findings"].as_array().unwrap().clone()
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.installation.data_dir().join(format!("mcphub.db{ending}"))
    }

    fn heads(&self) -> PathBuf {
        let folder = self.installation.folder().join("state/mcphub");
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|end| end == "heads")).unwrap()
    }
}

/// Sends a request to a hub that may die meanwhile, and returns what came of its answer.
fn attempt(address: SocketAddr, what: &str, headers: &[(&str, &str)], body: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    socket.write_all(format!("{head}{fields}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// Finds where the frames end that SQLite has shown to anybody. It shows none before it is synced, so
/// whatever comes later is what a power cut may take.
fn synced(log: &Path, index: &Path) -> u64 {
    let (log, index) = (std::fs::read(log).unwrap(), std::fs::read(index).unwrap());
    let big = |at: usize| u64::from(u32::from_be_bytes(log[at..at + 4].try_into().unwrap()));
    // The index begins with two copies of its header; the number of frames is the fifth word.
    let native = |at: usize| u64::from(u32::from_ne_bytes(index[at..at + 4].try_into().unwrap()));
    let frames = native(16).max(native(48 + 16));
    match frames {
        // It has just begun anew: all of it is in the database, and all of it was synced.
        0 => log.len() as u64,
        frames => (LOG_HEADER + frames * (FRAME_HEADER + big(8))).min(log.len() as u64),
    }
}

/// Does to the end of the write-ahead log what a power cut can do to bytes that aren't synced.
fn cut_power(scene: &Scene, dice: &mut Dice) {
    let (log, index) = (scene.file("-wal"), scene.file("-shm"));
    let (synced, length) = (synced(&log, &index), std::fs::metadata(&log).unwrap().len());
    let file = File::options().write(true).open(&log).unwrap();
    let noise: Vec<u8> = (0..dice.below(9_000)).map(|_| dice.below(256) as u8).collect();
    match dice.below(3) {
        0 => file.set_len(synced + dice.below(length - synced + 1)).unwrap(),
        1 => {
            file.set_len(synced).unwrap();
            File::options().append(true).open(&log).unwrap().write_all(&noise).unwrap();
        }
        _ => {
            // A frame that was written half, as it looks when it is the one before again.
            let whole = std::fs::read(&log).unwrap();
            let half = &whole[(synced as usize).saturating_sub(3_000)..synced as usize];
            file.set_len(synced).unwrap();
            File::options().append(true).open(&log).unwrap().write_all(half).unwrap();
        }
    }
    std::fs::remove_file(index).unwrap();
}

/// Tears the last line of the heads.
fn tear_head(scene: &Scene, dice: &mut Dice) {
    let path = scene.heads();
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.trim_end().rfind('\n').map_or(0, |end| end + 1);
    let kept = last + dice.below((text.len() - last) as u64) as usize;
    std::fs::write(path, &text[..kept]).unwrap();
}

on_both! {
    fn what_was_answered_survives_every_kill(installation) {
        let is_sqlite = installation.variable("MCPHUB_DATABASE__URL").is_none();
        let (scene, mut dice) = (Scene::set(installation), Dice(17));
        let mut answered = Vec::new();
        for round in 0..kills() {
            let hub = scene.start();
            answered.extend(scene.kill_under_load(hub, round, 2 + dice.below(60)));
            if is_sqlite {
                cut_power(&scene, &mut dice);
            }
            if dice.below(2) == 0 {
                tear_head(&scene, &mut dice);
            }
            assert_eq!(scene.findings(), [] as [Value; 0], "after kill {round}");
        }
        scene.start().stop();
        assert_eq!(scene.findings(), [] as [Value; 0]);
        let log = scene.installation.json("audit list --outcome intent --limit 100000");
        assert_recorded(&log, &answered);
        assert_recorded(&log, &received(&scene.record));
    }
}

/// Where a disk says that it has synced and hasn't, the log is shorter than its heads: that is found.
#[test]
fn what_a_lying_disk_lost_is_found_by_the_heads() {
    let scene = Scene::set(Installation::new(Database::Sqlite));
    let hub = scene.start();
    let heads = || std::fs::read_to_string(scene.heads()).unwrap().lines().count();
    for number in 0..20 {
        assert!(scene.is_answered(hub.address, &format!("note {number}")));
    }
    let before = heads();
    eventually("the end is signed", || (heads() > before).then_some(()));
    hub.kill();
    let (log, database) =
        (std::fs::read(scene.file("-wal")).unwrap(), std::fs::read(scene.file("")).unwrap());
    let mut dice = Dice(5);
    let (mut found, places) = (0, 8);
    for place in 0..places {
        let kept = log.len() as u64 / places * place + dice.below(log.len() as u64 / places);
        std::fs::write(scene.file(""), &database).unwrap();
        std::fs::write(scene.file("-wal"), &log[..kept as usize]).unwrap();
        if scene.file("-shm").exists() {
            std::fs::remove_file(scene.file("-shm")).unwrap();
        }
        let findings = scene.findings();
        assert!(findings.iter().all(|finding| finding["kind"] == "truncated"), "{kept} bytes: {findings:?}");
        found += u64::from(!findings.is_empty());
    }
    assert!(found >= places - 2, "only the last cuts can be beyond the last head: {found}");
}
