//! The MCP front end on the wire: both eras on one endpoint, and everything that it refuses.

use serde_json::{Value, json};

use crate::harness::client::{Answer, begin, call_headers, list, modern, send};
use crate::harness::peer::{CredentialServer, program};
use crate::harness::{Installation, Serving, eventually, on_both, tool};

/// The versions that a session can have, and what an unknown one becomes.
const NEGOTIATED: [(&str, &str); 6] = [
    ("2024-11-05", "2024-11-05"),
    ("2025-03-26", "2025-03-26"),
    ("2025-06-18", "2025-06-18"),
    ("2025-11-25", "2025-11-25"),
    ("2026-07-28", "2025-11-25"),
    ("1999-01-01", "2025-11-25"),
];

on_both! {
    fn a_session_belongs_to_who_opened_it_and_outlives_the_hub(installation) {
        let (alice, bob) = set_up(&installation);
        let hub = installation.serve();
        for (asked, answered) in NEGOTIATED {
            let opened = initialize(&hub, "/mcp", &alice, asked);
            assert_eq!(opened.json()["result"]["protocolVersion"], answered);
        }
        let session = session_of(&initialize(&hub, "/mcp", &alice, "2025-06-18"));
        let ping = json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" });
        assert_eq!(legacy(&hub, "/mcp", &alice, &session, &ping).json(), json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
        let stolen = legacy(&hub, "/mcp", &bob, &session, &ping);
        let unknown = legacy(&hub, "/mcp", &bob, &"0".repeat(64), &ping);
        assert_eq!((stolen.status, &stolen.body), (404, &unknown.body), "somebody else's is as unknown as none");
        assert_eq!(legacy(&hub, "/mcp/local", &alice, &session, &ping).status, 404, "it is of another endpoint");
        hub.stop();
        let hub = installation.serve();
        assert_eq!(legacy(&hub, "/mcp", &alice, &session, &ping).status, 200, "a restart doesn't end it");
        assert_eq!(delete(&hub, &bob, &session).status, 404);
        assert_eq!(delete(&hub, &alice, &session).status, 204);
        assert_eq!(legacy(&hub, "/mcp", &alice, &session, &ping).status, 404);
    }

    fn a_client_that_goes_away_cancels_its_call(installation) {
        let (alice, _) = set_up(&installation);
        let hub = installation.serve();
        list(hub.address, "/mcp", &alice);
        let bearer = format!("Bearer {alice}");
        let body = modern(1, "tools/call", json!({ "name": "local__hang", "arguments": {} }));
        let call = begin(hub.address, "POST", "/mcp", &call_headers(&bearer, "local__hang"), &body);
        eventually("the server works on it", || written(&installation, "hanging"));
        drop(call);
        eventually("the server is told", || written(&installation, "cancelled"));
        eventually("the log says so", || {
            let found = installation.json("audit list --outcome cancelled");
            (found.as_array().map(Vec::len) == Some(1)).then_some(())
        });
    }

    fn a_legacy_call_that_waits_for_its_first_byte_is_cancelled_too(installation) {
        let record = installation.folder().join("received");
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&record));
        let file = json!({ "mcpServers": { "remote": {
            "url": server.url, "headers": { "Authorization": "Bearer ${USER_TOKEN}" },
        } } });
        installation.grant_all("alice", "remote", &file);
        installation.ok_with("credential set alice remote TOKEN", "token-of-alice");
        let alice = installation.key("alice");
        let hub = installation.serve();
        list(hub.address, "/mcp", &alice);
        let session = session_of(&initialize(&hub, "/mcp", &alice, "2025-06-18"));
        let bearer = format!("Bearer {alice}");
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "remote__hang", "arguments": {} } });
        let running = begin(hub.address, "POST", "/mcp", &legacy_headers(&bearer, &session), &call.to_string());
        eventually("the server works on it", || {
            std::fs::read_to_string(&record).unwrap_or_default().contains("\\\"hang\\\"").then_some(())
        });
        drop(running);
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
        assert_eq!(legacy(&hub, "/mcp", &alice, &session, &cancel).status, 202);
        eventually("the log says so", || {
            let found = installation.json("audit list --outcome cancelled");
            (found.as_array().map(Vec::len) == Some(1)).then_some(())
        });
    }

    fn a_legacy_call_is_cancelled_by_a_notification_and_not_by_leaving(installation) {
        let (alice, _) = set_up(&installation);
        let hub = installation.serve();
        list(hub.address, "/mcp", &alice);
        let session = session_of(&initialize(&hub, "/mcp", &alice, "2025-06-18"));
        let bearer = format!("Bearer {alice}");
        let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "local__hang", "arguments": {} } });
        let running = begin(hub.address, "POST", "/mcp", &legacy_headers(&bearer, &session), &call.to_string());
        eventually("the server works on it", || written(&installation, "hanging"));
        drop(running);
        let again = legacy(&hub, "/mcp", &alice, &session, &call);
        assert_eq!(again.json()["error"]["code"], -32600, "the first one still runs: {again:?}");
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } });
        assert_eq!(legacy(&hub, "/mcp", &alice, &session, &cancel).status, 202);
        eventually("the server is told", || written(&installation, "cancelled"));
    }
}

#[test]
fn what_is_malformed_is_refused_with_the_protocols_code() {
    let installation = Installation::new(crate::harness::Database::Sqlite);
    let (alice, _) = set_up(&installation);
    let hub = installation.serve();
    let good = modern(1, "tools/list", json!({}));
    let table = [
        (
            "no metadata",
            "2026-07-28",
            "tools/list",
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string(),
            400,
            -32602,
        ),
        ("another version in the header", "2027-01-01", "tools/list", good.clone(), 400, -32020),
        ("another method in the header", "2026-07-28", "tools/call", good.clone(), 400, -32020),
        ("no method in a header", "2026-07-28", "", good.clone(), 400, -32020),
        (
            "a version that nobody speaks",
            "2030-01-01",
            "tools/list",
            good.replace("2026-07-28", "2030-01-01"),
            400,
            -32022,
        ),
        ("a method that is gone", "2026-07-28", "ping", modern(1, "ping", json!({})), 404, -32601),
        (
            "initialize in modern words",
            "2026-07-28",
            "initialize",
            modern(1, "initialize", json!({})),
            404,
            -32601,
        ),
        (
            "a doubled key",
            "2026-07-28",
            "tools/list",
            good.replacen("{\"id\"", "{\"id\":1,\"id\"", 1),
            400,
            -32600,
        ),
        (
            "a key in another case",
            "2026-07-28",
            "tools/list",
            good.replacen("\"method\"", "\"Method\"", 1),
            400,
            -32600,
        ),
        ("no JSON", "2026-07-28", "tools/list", "{".to_owned(), 400, -32700),
        ("a batch", "2026-07-28", "tools/list", format!("[{good}]"), 400, -32600),
        (
            "neither modern nor of a session",
            "",
            "",
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string(),
            400,
            -32600,
        ),
    ];
    for (what, version, method, body, status, code) in table {
        let bearer = format!("Bearer {alice}");
        let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        if !version.is_empty() {
            headers.push(("MCP-Protocol-Version", version));
        }
        if !method.is_empty() {
            headers.push(("Mcp-Method", method));
        }
        let answer = send(hub.address, "POST", "/mcp", &headers, &body);
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].clone()),
            (status, json!(code)),
            "{what}: {answer:?}"
        );
    }
    assert_eq!(list(hub.address, "/mcp", &alice).status, 200, "the hub is well");
    let refused = installation.json("audit list --outcome malformed --limit 100");
    assert_eq!(refused.as_array().map(Vec::len), Some(12), "each is a record of its own");
}

#[test]
fn only_sessions_of_2025_03_26_send_batches() {
    let installation = Installation::new(crate::harness::Database::Sqlite);
    let (alice, _) = set_up(&installation);
    let hub = installation.serve();
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": "two", "method": "tools/list" },
    ]);
    for (version, status) in [("2025-03-26", 200), ("2025-06-18", 400), ("2025-11-25", 400)] {
        let session = session_of(&initialize(&hub, "/mcp", &alice, version));
        let answer = legacy(&hub, "/mcp", &alice, &session, &batch);
        assert_eq!(answer.status, status, "{version}: {answer:?}");
        if status == 200 {
            let answers = answer.json();
            assert_eq!((answers[0]["id"].clone(), answers[1]["id"].clone()), (json!(1), json!("two")));
            assert!(answers[1]["result"]["tools"].is_array(), "{answers}");
        }
    }
}

#[test]
fn a_batch_with_too_large_answers_is_not_run_to_its_end() {
    let installation = Installation::new(crate::harness::Database::Sqlite);
    let (alice, _) = set_up(&installation);
    let hub = installation.serve();
    let session = session_of(&initialize(&hub, "/mcp", &alice, "2025-03-26"));
    let params = json!({ "name": "local__big", "arguments": { "size": 6 << 20 } });
    let call = |id| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
    let answers = legacy(&hub, "/mcp", &alice, &session, &json!([call(1), call(2), call(3), call(4)])).json();
    let ran: Vec<bool> = answers.as_array().unwrap().iter().map(|one| one["result"].is_object()).collect();
    assert_eq!(ran, [true, true, true, false]);
    assert_eq!((&answers[3]["id"], &answers[3]["error"]["code"]), (&json!(4), &json!(-32600)));
}

fn set_up(installation: &Installation) -> (String, String) {
    let file = json!({ "mcpServers": { "local": {
        "command": tool("MCPHUB_TEST_PYTHON_2"), "args": [program("credential_server.py"), "--stdio"],
        "env": { "CREDENTIAL": "${USER_TOKEN}" },
    } } });
    installation.grant_all("alice", "local", &file);
    installation.ok_with("credential set alice local TOKEN", "token-of-alice");
    installation.ok("user add bob --role user");
    (installation.key("alice"), installation.key("bob"))
}

fn initialize(hub: &Serving, path: &str, key: &str, version: &str) -> Answer {
    let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } });
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    send(hub.address, "POST", path, &headers, &body.to_string())
}

fn session_of(answer: &Answer) -> String {
    answer.header("mcp-session-id").expect("a session").to_owned()
}

fn legacy(hub: &Serving, path: &str, key: &str, session: &str, body: &Value) -> Answer {
    send(hub.address, "POST", path, &legacy_headers(&format!("Bearer {key}"), session), &body.to_string())
}

fn delete(hub: &Serving, key: &str, session: &str) -> Answer {
    send(hub.address, "DELETE", "/mcp", &legacy_headers(&format!("Bearer {key}"), session), "")
}

fn legacy_headers<'a>(bearer: &'a str, session: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("Authorization", bearer),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Mcp-Session-Id", session),
    ]
}

/// Looks for a word among what the server wrote to its standard error.
fn written(installation: &Installation, word: &str) -> Option<()> {
    installation.ok("server logs local").contains(word).then_some(())
}
