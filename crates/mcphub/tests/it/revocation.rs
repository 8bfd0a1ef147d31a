//! Revocation reaches everything that is open, within a second, on both databases.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::client::{self, Stream, call, call_headers, list, modern, open, send};
use crate::harness::peer::program;
use crate::harness::{Installation, Serving, eventually, on_both, tool};

/// How long a revocation may take to the last byte.
const DEADLINE: Duration = Duration::from_secs(1);

on_both! {
    fn a_disabled_user_is_out_within_a_second(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        let streams = open_everything(&hub, &key);
        deafen(&installation);
        installation.ok("user disable alice");
        all_end(streams);
        refused(&hub, &key);
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
    }

    fn a_revoked_key_is_out_within_a_second(installation) {
        let key = set_up(&installation);
        let other = installation.key("alice");
        let id = installation.json("key list alice").as_array().unwrap().iter()
            .find(|key| key["name"] == "test" && key["revoked_at"].is_null()).unwrap()["id"].as_str().unwrap().to_owned();
        let hub = installation.serve();
        // The newest key is listed first: it is revoked, the older one stays.
        let streams = open_everything(&hub, &other);
        deafen(&installation);
        installation.ok(&format!("key revoke {id}"));
        all_end(streams);
        refused(&hub, &other);
        assert_eq!(list(hub.address, "/mcp", &key).status, 200, "another key of hers still works");
    }

    fn a_changed_credential_closes_what_used_it(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        for command in ["credential set alice local TOKEN", "credential remove alice local TOKEN"] {
            assert_eq!(list(hub.address, "/mcp", &key).status, 200);
            let running = start(&hub, &key, "local__hang", json!({}));
            eventually("the call runs", || (open_leases(&hub) == 1).then_some(()));
            eventually("the server works on it", || installation.ok("server logs local").contains("hanging").then_some(()));
            installation.ok_with(command, "another-token");
            all_end(vec![("a running call", running)]);
        }
    }

    fn who_reads_nothing_is_out_within_a_second(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        assert_eq!(list(hub.address, "/mcp", &key).status, 200);
        let bearer = format!("Bearer {key}");
        let mut params = json!({ "name": "local__flood", "arguments": { "times": 10_000, "size": 60_000 } });
        params["_meta"]["progressToken"] = json!("p");
        let flood = client::begin(
            hub.address, "POST", "/mcp", &call_headers(&bearer, "local__flood"), &modern(1, "tools/call", params),
        );
        let mut last = 0;
        eventually("nothing more fits between the server and her", || {
            let sent = installation.ok("server logs local").matches("flooded").count();
            (std::mem::replace(&mut last, sent) == sent && sent > 10).then_some(())
        });
        assert_eq!(open_leases(&hub), 1);
        installation.ok("user disable alice");
        let revoked = Instant::now();
        eventually("her call ends", || (open_leases(&hub) == 0).then_some(()));
        assert!(revoked.elapsed() < DEADLINE, "after {:?}", revoked.elapsed());
        all_end(vec![("what was on its way", flood)]);
        eventually("the log says so", || {
            let found = installation.json("audit list --outcome revoked");
            (found.as_array().map(Vec::len) == Some(1)).then_some(())
        });
    }

    fn a_taken_grant_ends_what_it_allowed(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        assert_eq!(list(hub.address, "/mcp", &key).status, 200);
        let running = start(&hub, &key, "local__hang", json!({}));
        eventually("the call runs", || (open_leases(&hub) == 1).then_some(()));
        installation.ok("group leave devs alice");
        all_end(vec![("a running call", running)]);
        let answer = call(hub.address, "/mcp", &key, "local__fingerprint", json!({}));
        assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
        assert_eq!(list(hub.address, "/mcp", &key).json()["result"]["tools"], json!([]));
    }
}

fn set_up(installation: &Installation) -> String {
    let file = json!({ "mcpServers": { "local": {
        "command": tool("MCPHUB_TEST_PYTHON_2"), "args": [program("credential_server.py"), "--stdio"],
        "env": { "CREDENTIAL": "${USER_TOKEN}" },
    } } });
    installation.grant_all("alice", "local", &file);
    installation.ok_with("credential set alice local TOKEN", "token-of-alice");
    installation.key("alice")
}

/// Opens one stream of progress, one call that never answers, and one legacy event stream.
fn open_everything(hub: &Serving, key: &str) -> Vec<(&'static str, Stream)> {
    assert_eq!(list(hub.address, "/mcp", key).status, 200);
    let mut progress = start(hub, key, "local__slow", json!({ "times": 600, "interval_ms": 50 }));
    eventually("progress comes", || progress.line().filter(|line| line.contains("progress")));
    let hanging = start(hub, key, "local__hang", json!({}));
    let events = legacy_stream(hub, key);
    eventually("all three are open", || (open_leases(hub) == 3).then_some(()));
    vec![
        ("a stream of progress", progress),
        ("a call that never answers", hanging),
        ("an event stream", events),
    ]
}

/// Starts a call whose response has begun: it has sent its headers, or at least been taken up.
fn start(hub: &Serving, key: &str, name: &str, arguments: serde_json::Value) -> Stream {
    let bearer = format!("Bearer {key}");
    let mut params = json!({ "name": name, "arguments": arguments });
    params["_meta"]["progressToken"] = json!("p");
    let body = modern(1, "tools/call", params);
    if name.ends_with("hang") {
        return client::begin(hub.address, "POST", "/mcp", &call_headers(&bearer, name), &body);
    }
    open(hub.address, "POST", "/mcp", &call_headers(&bearer, name), &body)
}

fn open_leases(hub: &Serving) -> u32 {
    let page = send(hub.address, "GET", "/metrics", &[], "").body;
    page.lines()
        .find_map(|line| line.strip_prefix("mcphub_leases "))
        .and_then(|count| count.parse().ok())
        .unwrap()
}

fn legacy_stream(hub: &Serving, key: &str) -> Stream {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } });
    let answer = send(hub.address, "POST", "/mcp", &headers, &body.to_string());
    let session = answer.header("mcp-session-id").expect("a session").to_owned();
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Accept", "text/event-stream"),
        ("Mcp-Session-Id", session.as_str()),
    ];
    let stream = open(hub.address, "GET", "/mcp", &headers, "");
    assert_eq!(stream.head.status, 200);
    stream
}

/// Reads every stream to its last byte, which must come in time after this moment.
fn all_end(streams: Vec<(&'static str, Stream)>) {
    let revoked = Instant::now();
    for (what, mut stream) in streams {
        while let Some(line) = stream.line() {
            assert!(revoked.elapsed() < DEADLINE, "{what} still said {line:?}");
        }
        assert!(revoked.elapsed() < DEADLINE, "{what} was open for {:?}", revoked.elapsed());
    }
}

fn refused(hub: &Serving, key: &str) {
    let answer = call(hub.address, "/mcp", key, "local__fingerprint", json!({}));
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(answer.header("www-authenticate").is_some());
}

/// Takes the hub's ears away: the connection on which PostgreSQL tells of changes is cut.
fn deafen(installation: &Installation) {
    let Some(url) = installation.variable("MCPHUB_DATABASE__URL") else { return };
    let database = url.rsplit('/').next().unwrap();
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE 'LISTEN%'"
    );
    let psql = format!("{}/psql", tool("MCPHUB_TEST_POSTGRES_BIN"));
    let output =
        Command::new(psql).args(["-At", "-c", &sql, &tool("MCPHUB_TEST_POSTGRES_URL")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "t", "one connection listened");
}
