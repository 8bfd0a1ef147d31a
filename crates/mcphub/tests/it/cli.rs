//! The command line as people use it, alone and beside a running hub.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::client::{call, list};
use crate::harness::{Database, Installation, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mcphub");

fn installation() -> Installation {
    Installation::new(Database::Sqlite)
}

/// Writes a file with one personal and one shared-nothing server, both made of the demo server.
fn servers(installation: &Installation) -> PathBuf {
    let file = json!({ "mcpServers": {
        "github": { "command": PROGRAM, "args": ["demo-server"], "env": { "DEMO_TOKEN": "${GITHUB_TOKEN}" } },
        "open": { "command": PROGRAM, "args": ["demo-server"] },
    } });
    installation.file("servers.json", &file.to_string())
}

/// Sets up everything that alice needs to call `github`, with the documented lines.
fn set_up(installation: &Installation) -> String {
    installation.ok("user add alice --role user");
    installation.ok("group add devs");
    installation.ok("group join devs alice");
    installation.ok(&format!("server import {}", servers(installation).display()));
    installation.ok("grant add devs github --rights read,write,execute");
    installation.ok_with("credential set alice github GITHUB_TOKEN", "tok-3n-of-alice\n");
    installation.key("alice")
}

/// Runs a command that must fail, and returns its exit code and what it says.
fn fails(installation: &Installation, line: &str) -> (i32, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Output { status, stdout, stderr } = installation.run(&words, "");
    assert!(stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&stdout));
    (status.code().unwrap(), String::from_utf8(stderr).unwrap().trim().to_owned())
}

fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn people_groups_and_grants_are_added_shown_and_taken_away() {
    let hub = installation();
    let alice = hub.json("user add alice --role user --email alice@example.org");
    assert_eq!(
        (&alice["name"], &alice["role"], &alice["state"]),
        (&json!("alice"), &json!("user"), &json!("active"))
    );
    hub.ok("user add bob --role manager");
    assert_eq!(names(&hub.json("user list"), "name"), ["alice", "bob"]);
    assert_eq!(hub.json("user update alice --role viewer --auditor yes")["auditor"], "yes");
    hub.ok("group add devs");
    hub.ok("group join devs alice --expires 30d");
    assert_eq!(hub.json("user show alice")["groups"], json!(["devs"]));
    hub.ok(&format!("server import {}", servers(&hub).display()));
    let grant = hub.json("grant add devs github --rights read,execute --tools get_* --tools list_x --deny");
    assert_eq!((&grant["verdict"], &grant["rights"]), (&json!("deny"), &json!(["read", "execute"])));
    assert_eq!(grant["tools"], json!(["get_*", "list_x"]));
    hub.ok(&format!("grant remove {}", grant["id"].as_str().unwrap()));
    assert_eq!(hub.json("grant list devs"), json!([]));
    hub.ok("group leave devs alice");
    assert_eq!(hub.json("group list")[0]["members"], json!([]));
    hub.ok("group remove devs");
    assert_eq!(hub.json("user disable alice")["state"], "disabled");
    assert_eq!(hub.json("user enable alice")["state"], "active");
    assert_eq!(hub.json("audit verify")["findings"], json!([]));
}

#[test]
fn a_table_is_for_people() {
    let hub = installation();
    assert_eq!(hub.ok("user list"), "nobody yet: add a person with `mcphub user add NAME`\n");
    hub.ok("user add alice --role user");
    hub.ok("user add christopher --role viewer");
    assert_eq!(
        hub.ok("user list"),
        "NAME         ROLE    STATE   AUDITOR  EMAIL\n\
         alice        user    active  no       -\n\
         christopher  viewer  active  no       -\n"
    );
}

#[test]
fn what_is_imported_has_a_size() {
    let installation = Installation::new(Database::Sqlite);
    let file = |length: usize| {
        let text = r#"{"mcpServers":{}}"#;
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    assert!(installation.run(&["server", "import", "-"], &file(1 << 20)).status.success());
    let path = installation.file("large.json", &file((1 << 20) + 1));
    let refused = installation.run(&["server", "import", path.to_str().unwrap()], "");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("larger than 1048576 bytes"), "{told}");
}

#[test]
fn servers_are_imported_changed_tried_and_removed() {
    let hub = installation();
    let report = hub.json(&format!("server import {}", servers(&hub).display()));
    assert_eq!((&report[0]["outcome"], &report[1]["outcome"]), (&json!("added"), &json!("added")));
    assert!(report[0]["notes"][0].as_str().unwrap().contains("${USER_GITHUB_TOKEN}"));
    assert_eq!(hub.json("server show github")["slots"], json!(["USER_GITHUB_TOKEN"]));
    let tested = hub.json("server test open");
    assert_eq!(tested["approved"], 3);
    assert_eq!(names(&hub.json("tool list open"), "name"), ["count_to", "fingerprint", "write_note"]);
    assert_eq!(hub.json("tool effect open write_note execute")["effect"], "execute");
    assert_eq!(hub.json("tool disable open write_note")["state"], "pending");
    assert_eq!(hub.json("tool approve open write_note")["state"], "approved");
    let tested = hub.json("server test github");
    assert_eq!((&tested["answers"], &tested["needs"]), (&json!(true), &json!(["USER_GITHUB_TOKEN"])));
    assert_eq!(
        hub.json("tool list github"),
        json!([]),
        "without a person's value its tools are not taken up"
    );
    assert_eq!(hub.json("server disable open")["state"], "disabled");
    assert_eq!(hub.json("server enable open")["state"], "enabled");
    hub.ok("server remove open");
    assert_eq!(names(&hub.json("server list"), "name"), ["github"]);
}

#[test]
fn a_server_can_be_added_by_its_parts() {
    let hub = installation();
    let added =
        hub.json("server add web --url https://example.org/mcp --header Authorization:ghp_0123456789abcdef");
    assert_eq!(added["outcome"], "added");
    let web = hub.json("server show web");
    assert_eq!(web["slots"], json!(["SHARED_AUTHORIZATION"]));
    assert!(!web.to_string().contains("ghp_"), "{web}");
    hub.ok("server add files --isolation person --timeout-ms 5000 --env TOKEN=${USER_TOKEN} -- npx -y files@1 --flag");
    let definition = &hub.json("server show files")["definition"];
    assert_eq!(
        (&definition["command"], &definition["args"]),
        (&json!("npx"), &json!(["-y", "files@1", "--flag"]))
    );
    assert_eq!((&definition["isolation"], &definition["timeoutMs"]), (&json!("person"), &json!(5000)));
    let (code, error) = fails(&hub, "server add web --url https://example.org/other");
    assert_eq!((code, error.as_str()), (1, "error: the name \"web\" is taken: choose another"));
}

#[test]
fn what_a_server_writes_to_standard_error_can_be_read() {
    let hub = installation();
    let script = hub.file("broken.sh", "echo 'no license found' >&2\nexit 3\n");
    hub.ok(&format!("server add broken -- sh {}", script.display()));
    let (code, _) = fails(&hub, "server test broken");
    assert_eq!(code, 1);
    let lines = hub.json("server logs broken --lines 10").to_string();
    assert!(lines.contains("no license found"), "{lines}");
    assert!(lines.contains("mcphub: the server ended with exit code 3"), "{lines}");
    let script = hub.file("killed.sh", "kill -9 $$\n");
    hub.ok(&format!("server add killed -- sh {}", script.display()));
    fails(&hub, "server test killed");
    let lines = hub.ok("server logs killed");
    assert!(lines.contains("mcphub: the server ended with exit code 137, perhaps by signal 9"), "{lines}");
}

#[test]
fn a_server_may_take_longer_to_start_than_a_world_is_trusted() {
    let hub = installation();
    let script = hub.file("slow.sh", "sleep 2.5\nexec \"$1\" demo-server\n");
    hub.ok(&format!("server add slow -- sh {} {PROGRAM}", script.display()));
    assert_eq!(hub.json("server test slow")["approved"], 3);
}

#[test]
fn what_keeps_a_hub_finds_one_or_says_that_there_is_none() {
    let hub = installation();
    for line in [
        "backup --recipient age1dy7ktrvx46yrhektwn2ejgexm8zyfg2lfrth2a60f84tdhsjs36sflxgjc --output -",
        "audit verify",
        "vault status",
    ] {
        let (code, error) = fails(&hub, line);
        assert!(
            code == 1 && error.contains("there is no hub in ") && error.contains("--data-dir"),
            "{error}"
        );
    }
    assert!(files_below(hub.folder()).is_empty(), "nothing is made");
}

#[test]
fn a_value_goes_in_and_never_comes_out() {
    let hub = installation();
    set_up(&hub);
    let slots = hub.json("credential list alice github");
    let goes_to = format!("DEMO_TOKEN=${{USER_GITHUB_TOKEN}} {PROGRAM} demo-server");
    assert_eq!(
        slots,
        json!([{ "server": "github", "slot": "USER_GITHUB_TOKEN", "state": "ready", "goes_to": goes_to }])
    );
    for file in files_below(hub.folder()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(15).any(|part| part == b"tok-3n-of-alice"), "{}", file.display());
    }
    let removed = hub.json("credential remove alice github");
    assert_eq!(removed["slots"], json!(["GITHUB_TOKEN"]));
    assert_eq!(hub.json("credential list alice")[0]["state"], "missing");
    let (code, error) = fails(&hub, "credential set alice github GITHUB_TOKEN");
    assert!(code == 1 && error.contains("1 byte"), "{error}");
}

#[test]
fn a_value_waits_for_its_owner_when_the_server_moves() {
    let hub = installation();
    set_up(&hub);
    let moved = json!({ "mcpServers": { "github": {
        "command": PROGRAM, "args": ["demo-server", "--moved"], "env": { "DEMO_TOKEN": "${GITHUB_TOKEN}" },
    } } });
    let file = hub.file("moved.json", &moved.to_string());
    assert_eq!(hub.json(&format!("server import {}", file.display()))[0]["outcome"], "updated");
    assert_eq!(hub.json("credential list alice github")[0]["state"], "suspended");
    let (code, error) = fails(&hub, "credential confirm alice github");
    assert!(code == 1 && error.contains("only alice may"), "{error}");
    assert!(error.contains("http://127.0.0.1:3000/credentials/github"), "{error}");
    assert_eq!(fails(&hub, "credential confirm alice github GITHUB_TOKEN").1, error);
    assert_eq!(hub.json("credential list alice github")[0]["state"], "suspended");
    hub.ok_with("credential set alice github GITHUB_TOKEN", "a new one");
    assert_eq!(hub.json("credential list alice github")[0]["state"], "ready");
}

#[test]
fn keys_are_made_once_listed_and_revoked() {
    let hub = installation();
    hub.ok("user add alice --role user");
    let made = hub.json("key create alice --name laptop");
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with("mcphub_") && key.len() == 83, "{key}");
    assert_eq!(hub.ok("key create alice --name script --days 90").trim().len(), 83);
    let listed = hub.json("key list alice");
    assert_eq!(names(&listed, "name"), ["script", "laptop"]);
    assert!(!listed.to_string().contains("mcphub_"), "{listed}");
    hub.ok(&format!("key revoke {id}"));
    assert_eq!(hub.json("key list alice")[1]["state"], "revoked");
}

#[test]
fn errors_say_what_to_do_and_have_their_exit_codes() {
    let hub = installation();
    hub.ok("user add alice --role user");
    let (code, error) = fails(&hub, "user show alcie");
    assert_eq!(code, 1);
    assert_eq!(
        error,
        "error: there is no person alcie: did you mean alice? `mcphub user list` shows what there is"
    );
    let (code, error) = fails(&hub, "user show nobody --json");
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!((code, &error["error"]["code"]), (1, &json!("not_found")));
    let (code, error) = fails(&hub, "user add bob --role root --json");
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!((code, &error["error"]["code"]), (2, &json!("usage")));
    let (code, error) = fails(&hub, "serve --listen 192.0.2.1:1");
    assert!(code == 2 && error.contains("--behind-proxy"), "{error}");
    let config = hub.file("mcphub.toml", "[limits]\ncalls_per_minit = 1");
    let (code, error) = fails(&hub, &format!("--config {} user list", config.display()));
    assert!(code == 2 && error.ends_with("did you mean limits.calls_per_minute?"), "{error}");
}

#[test]
fn the_log_is_searched_by_what_people_remember() {
    let hub = installation();
    set_up(&hub);
    let about_alice = hub.json("audit list --person alice --outcome changed");
    let kinds = names(&about_alice, "what");
    assert!(
        kinds.contains(&"user.added".to_owned()) && kinds.contains(&"credential.set".to_owned()),
        "{kinds:?}"
    );
    assert!(about_alice.as_array().unwrap().iter().all(|record| record["about"] == "alice"));
    let about_github = names(&hub.json("audit list --server github --from 1h --limit 2"), "server");
    assert_eq!(about_github, ["github", "github"]);
    assert_eq!(hub.json("audit list --to 2020-01-01"), json!([]));
}

#[test]
fn a_log_that_was_rolled_back_is_found_out() {
    let hub = installation();
    hub.ok("user add alice --role user");
    let (database, copy) = (hub.data_dir().join("mcphub.db"), hub.folder().join("copy.db"));
    std::fs::copy(&database, &copy).unwrap();
    hub.ok("user add mallory --role admin");
    assert_eq!(hub.json("audit verify")["findings"], json!([]));
    std::fs::copy(&copy, &database).unwrap();
    let output = hub.run(&["audit", "verify", "--json"], "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(report["findings"][0]["kind"], "truncated");
}

#[test]
fn a_running_hub_takes_up_what_commands_change() {
    let installation = installation();
    let hub = installation.serve();
    let key = set_up(&installation);
    let called = eventually("the call works", || {
        let answer = call(hub.address, "/mcp", &key, "github__fingerprint", json!({}));
        (answer.status == 200 && answer.json()["result"].is_object()).then(|| answer.json())
    });
    assert!(called["result"]["content"][0]["text"].as_str().unwrap().starts_with("credential "), "{called}");
    installation.ok("tool disable github fingerprint");
    eventually("the tool is gone", || {
        let tools = list(hub.address, "/mcp", &key).json()["result"]["tools"].to_string();
        (!tools.contains("fingerprint")).then_some(())
    });
    installation.ok("user disable alice");
    eventually("alice is out", || (list(hub.address, "/mcp", &key).status == 401).then_some(()));
    let outcomes = names(&installation.json("audit list --person alice --tool fingerprint"), "outcome");
    assert_eq!(outcomes, ["ok", "intent"]);
    hub.stop();
    assert_eq!(installation.json("audit verify")["findings"], json!([]));
}

#[test]
fn one_data_directory_has_one_hub_and_one_address_has_one_listener() {
    let installation = installation();
    let hub = installation.serve();
    let (code, error) = fails(&installation, "serve --listen 127.0.0.1:0");
    assert!(
        code == 1
            && error.contains("is in use by another hub: end that one, or give this one another --data-dir"),
        "{error}"
    );
    let (code, error) = fails(&installation, &format!("serve --listen {}", hub.address));
    assert!(code == 1 && error.contains("choose another address"), "{error}");
    hub.stop();
    installation.serve().stop();
}

#[test]
fn the_description_of_the_api_is_printed() {
    let hub = installation();
    let description: Value = serde_json::from_str(&hub.ok("openapi")).unwrap();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."), "{description}");
    assert!(!hub.data_dir().exists());
}

/// Is a running demo, ended with the test.
struct Demo {
    child: Child,
    guide: Value,
}

impl Demo {
    fn start(home: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["demo", "--listen", "127.0.0.1:0", "--json"])
            .env_clear()
            .env("HOME", home)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, guide: serde_json::from_str(&line).unwrap() }
    }

    fn key(&self, person: usize) -> &str {
        self.guide["people"][person]["key"].as_str().unwrap()
    }

    /// Runs another command with the variables that the demo names.
    fn look(&self, home: &Path, words: &[&str]) -> Output {
        let variables = self.guide["variables"].as_object().unwrap();
        let variables = variables.iter().map(|(name, value)| (name, value.as_str().unwrap()));
        Command::new(PROGRAM).args(words).env_clear().env("HOME", home).envs(variables).output().unwrap()
    }

    fn call(&self, key: &str) -> (u16, String) {
        let address = self.guide["url"].as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap();
        let answer = call(address, "/mcp", key, "demo__fingerprint", json!({}));
        (answer.status, answer.json()["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "the demo did not stop well");
    }
}

#[test]
fn the_demo_shows_two_people_and_takes_up_what_it_made_before() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path());
    let (alice, bob) = (demo.call(demo.key(0)), demo.call(demo.key(1)));
    assert!(alice.0 == 200 && alice.1.starts_with("credential "), "{alice:?}");
    assert_ne!(alice, bob, "each person's own credential");
    eventually("its first head is signed, and its log is whole", || {
        demo.look(home.path(), &["audit", "verify"]).status.success().then_some(())
    });
    let log = String::from_utf8(demo.look(home.path(), &["audit", "list"]).stdout).unwrap();
    assert!(log.contains("fingerprint"), "{log}");
    let old_key = demo.key(0).to_owned();
    drop(demo);
    let again = Demo::start(home.path());
    assert_eq!(again.call(again.key(0)), alice, "the same credential");
    assert_eq!(again.call(&old_key).0, 401, "the key of the first run is revoked");
    let made = home.path().join(".local/share/mcphub");
    let folders: Vec<_> = std::fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(folders.len(), 2, "{folders:?}");
    assert!(!home.path().join(".config").exists() && !home.path().join(".local/state").exists());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
