//! `mcphub connect --stdio`: clients of both eras that only speak stdio, made of the official SDKs, through the bridge.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::{call, list};
use crate::harness::database::Session;
use crate::harness::lines::{Lines, through};
use crate::harness::peer::{Peer, asking, client, program};
use crate::harness::{Database, Installation, eventually, tool};
use crate::rounds::{ABLE, expect_answers, questions};

/// The clients: SDK 2.3 in both eras, SDK 1.30.
const CLIENTS: [(&str, &str); 3] = [
    ("MCPHUB_TEST_PYTHON_2", "modern"),
    ("MCPHUB_TEST_PYTHON_2", "legacy"),
    ("MCPHUB_TEST_PYTHON_1", "legacy"),
];
/// The servers that ask: SDK 2.3 in results, SDK 1.30 in requests.
const ASKING: [(&str, &str); 2] = [("modern", "MCPHUB_TEST_PYTHON_2"), ("legacy", "MCPHUB_TEST_PYTHON_1")];

#[test]
fn every_client_gets_what_it_gets_over_http() {
    let installation = with_credentials();
    let (key, hub) = (installation.key("alice"), installation.serve());
    for (name, prefix) in [(Some("local"), ""), (None, "local__")] {
        let script = json!([
            { "action": "list" },
            { "action": "call", "name": format!("{prefix}fingerprint") },
            { "action": "call", "name": format!("{prefix}slow"), "arguments": { "times": 3, "interval_ms": 50 }, "progress": true },
            { "action": "call", "name": format!("{prefix}big"), "arguments": { "size": 3_000_000 } },
            { "action": "call", "name": "nothing" },
            { "action": "list", "kind": "prompts" },
            { "action": "list", "kind": "resources" },
            { "action": "prompt", "name": format!("{prefix}summarize_the_notes_of_this_week_for_the_whole_team") },
            { "action": "read", "uri": if name.is_some() { "notes://today" } else { "local+notes://today" } },
        ]);
        let url = hub.url(&name.map_or("/mcp".to_owned(), |name| format!("/mcp/{name}")));
        // A client that asks which era the other side speaks goes on in the newer one.
        for (python, era) in CLIENTS.into_iter().chain([("MCPHUB_TEST_PYTHON_2", "auto")]) {
            let era_of = ["--era", era].map(str::to_owned);
            let header = [
                "--url".to_owned(),
                url.clone(),
                "--header".to_owned(),
                format!("Authorization: Bearer {key}"),
            ];
            let direct = client(python, &[&header[..], &era_of].concat(), &script);
            let bridged = client(python, &[&through(&hub, name, &key)[..], &era_of].concat(), &script);
            assert_eq!(
                bridged[2]["progress"].as_array().map(Vec::len),
                Some(3),
                "{python} {era}: {bridged:#?}"
            );
            for (bridged, direct) in bridged.iter().zip(&direct) {
                assert_eq!(plain(bridged), plain(direct), "{python} {era} at {url}");
            }
        }
    }
}

#[test]
fn every_client_is_asked_in_the_middle_of_a_call() {
    let installation = Installation::new(Database::Sqlite);
    let servers = ASKING.map(|(name, python)| (name, asking(python)));
    for (name, server) in &servers {
        grant(&installation, name, server);
    }
    let (key, hub) = (installation.key("alice"), installation.serve());
    let able = ABLE.map(str::to_owned);
    for (name, _) in &servers {
        for (path, prefix) in [(Some(*name), String::new()), (None, format!("{name}__"))] {
            for (python, era) in CLIENTS {
                let era_of = ["--era", era].map(str::to_owned);
                let options = [&through(&hub, path, &key)[..], &era_of, &able].concat();
                let answers = client(python, &options, &questions(&prefix));
                expect_answers(&answers, &format!("{name} {path:?}, {python} {era}"));
            }
        }
    }
}

#[test]
fn a_cancellation_reaches_the_server_while_the_client_goes_on() {
    for (python, era) in CLIENTS {
        let installation = with_credentials();
        let (key, hub) = (installation.key("alice"), installation.serve());
        let mut client = Lines::client((python, era), &hub, &key);
        let works = json!({ "action": "call", "name": "local__fingerprint" });
        // The server's process runs from here on.
        assert!(client.until(&works, |_| true)["result"].is_object(), "{python} {era}");
        let hang = json!({ "action": "call", "name": "local__hang", "cancel_after": 1 });
        let answer = client.until(&hang, |_| true);
        assert_eq!(answer["cancelled"], true, "{python} {era}: {answer}");
        eventually("the server is told", || {
            installation.ok("server logs local").contains("cancelled").then_some(())
        });
        let answer = client.until(&works, |_| true);
        assert!(answer["result"]["content"][0]["text"].is_string(), "{python} {era}: {answer}");
    }
}

#[test]
fn what_changes_is_heard_on_the_stream() {
    let installation = Installation::new(Database::Sqlite);
    let server = asking("MCPHUB_TEST_PYTHON_2");
    grant(&installation, "modern", &server);
    let (key, hub) = (installation.key("alice"), installation.serve());
    list(hub.address, "/mcp", &key);
    for (python, era) in CLIENTS {
        let mut command = Command::new(tool(python));
        command
            .arg(program("client.py"))
            .args(through(&hub, None, &key))
            .args(["--era", era, "hold", "--for", "60"]);
        let holding = Lines::start(&mut command);
        while holding.read()["event"] != "ready" {}
        let mut state = ["disable", "enable"].into_iter().cycle();
        // Nobody knows when a session's stream is open, so that the list changes over and over; so do others with it.
        eventually(&format!("{python} {era} hears that the tools have changed"), || {
            installation.ok(&format!("server {} modern", state.next().unwrap()));
            let heard = holding.read_within(Duration::from_millis(1_500))?;
            (heard["message"]["method"] == "notifications/tools/list_changed").then_some(())
        });
        installation.ok("server enable modern");
    }
}

#[test]
fn the_bridge_goes_on_when_the_hub_comes_back() {
    let installation = with_credentials();
    let key = installation.key("alice");
    let mut hub = installation.serve();
    let mut clients: Vec<(&str, Lines)> =
        CLIENTS.iter().map(|&(python, era)| (era, Lines::client((python, era), &hub, &key))).collect();
    let call = json!({ "action": "call", "name": "local__fingerprint" });
    for round in 0..3 {
        for (era, client) in &mut clients {
            let answer = client.until(&call, |_| true);
            assert!(answer["result"]["content"][0]["text"].is_string(), "{era}, round {round}: {answer}");
        }
        let address = hub.address;
        hub.kill();
        for (era, client) in &mut clients {
            let answer = client.until(&call, |_| true);
            assert_eq!(answer["error"]["code"], -31010, "{era}, round {round}: {answer}");
            let text = answer["error"]["message"].as_str().unwrap();
            assert!(text.contains(&format!("the hub at {address} can't be reached")), "{text}");
        }
        if round == 1 {
            // Now the hub knows the sessions no more.
            Session::of(&installation).run("DELETE FROM sessions");
        }
        hub = installation.serve_at(&address.to_string());
    }
}

#[test]
fn a_header_that_repeats_an_argument_is_written_without_a_list() {
    let installation = Installation::new(Database::Sqlite);
    let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_2"));
    let server = Peer::listening(command.arg(program("conformance_server.py")), None);
    grant(&installation, "suite", &server);
    let (key, hub) = (installation.key("alice"), installation.serve());
    let tools = list(hub.address, "/mcp", &key);
    assert!(tools.body.contains("x-mcp-header"), "{}", tools.body);
    let bare = call(hub.address, "/mcp", &key, "suite__test_x_mcp_header", json!({ "region": "eu" }));
    assert_eq!(bare.json()["error"]["code"], -32020, "the hub wants the header");
    let mut bridge = Lines::bridge(&hub, None, &key);
    for (id, region) in [(1, "eu"), (2, "K\u{f6}ln")] {
        let answer = bridge.ask(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "suite__test_x_mcp_header", "arguments": { "region": region }, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
        } } }));
        assert_eq!(answer["result"]["content"][0]["text"], format!("region={region}"), "{answer}");
    }
}

/// Sets up alice with everything granted on a server that wants a credential of hers.
pub(crate) fn with_credentials() -> Installation {
    let installation = Installation::new(Database::Sqlite);
    let file = json!({ "mcpServers": { "local": {
        "command": tool("MCPHUB_TEST_PYTHON_2"), "args": [program("credential_server.py"), "--stdio"],
        "env": { "CREDENTIAL": "${USER_TOKEN}" },
    } } });
    installation.grant_all("alice", "local", &file);
    installation.ok_with("credential set alice local TOKEN", "token-of-alice");
    installation
}

fn grant(installation: &Installation, name: &str, server: &Peer) {
    let file = json!({ "mcpServers": { name: { "type": "streamable-http", "url": server.url } } });
    installation.grant_all("alice", name, &file);
}

/// Takes away what is of one run or of one way: the time, the token, and the HTTP answer.
fn plain(answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer["ms"] = Value::Null;
    answer["http"] = Value::Null;
    if let Some(progress) = answer["progress"].as_array_mut() {
        progress.iter_mut().for_each(|step| step["progressToken"] = Value::Null);
    }
    answer
}
