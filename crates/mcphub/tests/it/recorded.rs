//! No request of a known person goes without a record, whatever becomes of it.

use serde_json::{Value, json};

use crate::faults::set_up;
use crate::harness::client::{call, modern, open};
use crate::harness::{Installation, eventually, on_both};

/// Is a request: its name here, its method, its path, its headers but for the key, its body.
type Request<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>, String);

const JSON: (&str, &str) = ("Content-Type", "application/json");
const MODERN: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");

on_both! {
    fn every_request_of_a_known_person_is_recorded(installation) {
        installation.ok("user add alice --role admin");
        let key = installation.key("alice");
        let bearer = format!("Bearer {key}");
        let hub = installation.serve();
        let session = {
            let headers = [("Authorization", bearer.as_str()), JSON];
            let opened = open(hub.address, "POST", "/mcp", &headers, &initialize());
            opened.head.header("mcp-session-id").unwrap().to_owned()
        };
        let server = json!({ "name": "a", "definition": { "command": "true" } }).to_string();
        let imported = json!({ "mcpServers": { "b": { "url": "ftp://b" } } }).to_string();
        for (name, method, path, headers, body) in requests(&session, &server, &imported) {
            let before = records(&installation);
            let mut all = vec![("Authorization", bearer.as_str())];
            all.extend(headers);
            let stream = open(hub.address, method, path, &all, &body);
            let status = stream.head.status;
            let what = format!("a record of {name}, answered {status}");
            eventually(&what, || (records(&installation) > before).then_some(()));
        }
    }

    fn a_refused_call_is_found_by_its_server_and_its_tool(installation) {
        let alice = set_up(&installation);
        installation.ok("user add bob --role user");
        let (bob, hub) = (installation.key("bob"), installation.serve());
        assert_eq!(call(hub.address, "/mcp", &alice, "local__fingerprint", json!({})).status, 200);
        let answer = call(hub.address, "/mcp", &bob, "local__fingerprint", json!({}));
        assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
        for filter in ["--server local", "--tool fingerprint"] {
            let line = format!("audit list --person bob --outcome not-granted {filter}");
            let found = installation.json(&line);
            assert_eq!(found[0]["event"]["target"], "local__fingerprint", "{line}: {found}");
            let told = installation.ok(&line);
            assert!(told.contains("refused tools/call local__fingerprint"), "{told}");
        }
    }
}

fn requests<'a>(session: &'a str, server: &'a str, imported: &'a str) -> Vec<Request<'a>> {
    let legacy = || vec![JSON, ("Mcp-Session-Id", session)];
    let modern_headers = |method| vec![JSON, MODERN, ("Mcp-Method", method)];
    let rpc = |body: Value| body.to_string();
    vec![
        ("initialize", "POST", "/mcp", vec![JSON], initialize()),
        (
            "a notification",
            "POST",
            "/mcp",
            legacy(),
            rpc(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })),
        ),
        ("a response", "POST", "/mcp", legacy(), rpc(json!({ "jsonrpc": "2.0", "id": 9, "result": {} }))),
        ("a ping", "POST", "/mcp", legacy(), rpc(json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))),
        (
            "an unknown method",
            "POST",
            "/mcp",
            legacy(),
            rpc(json!({ "jsonrpc": "2.0", "id": 1, "method": "x" })),
        ),
        ("a stream", "GET", "/mcp", legacy(), String::new()),
        ("a modern stream", "GET", "/mcp", vec![MODERN], String::new()),
        ("another method", "PUT", "/mcp", vec![JSON, MODERN], String::new()),
        (
            "a discovery",
            "POST",
            "/mcp",
            modern_headers("server/discover"),
            modern(1, "server/discover", json!({})),
        ),
        ("a list", "POST", "/mcp", modern_headers("tools/list"), modern(1, "tools/list", json!({}))),
        (
            "a list that contradicts its header",
            "POST",
            "/mcp",
            modern_headers("tools/call"),
            modern(1, "tools/list", json!({})),
        ),
        (
            "a modern notification",
            "POST",
            "/mcp",
            modern_headers("notifications/cancelled"),
            rpc(
                json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
            ),
        ),
        ("garbage", "POST", "/mcp", vec![JSON], "{".to_owned()),
        ("an unknown endpoint", "POST", "/mcp/nowhere", vec![JSON], initialize()),
        ("the end of an unknown session", "DELETE", "/mcp", vec![("Mcp-Session-Id", "x")], String::new()),
        ("the end of a session", "DELETE", "/mcp", legacy(), String::new()),
        ("a read", "GET", "/api/v1/users", vec![], String::new()),
        ("an unknown path", "GET", "/api/v1/nothing", vec![], String::new()),
        ("a wrong method", "PUT", "/api/v1/users", vec![JSON], String::new()),
        (
            "a body of another kind",
            "POST",
            "/api/v1/users",
            vec![("Content-Type", "text/plain")],
            "x".to_owned(),
        ),
        ("a malformed body", "POST", "/api/v1/users", vec![JSON], "{".to_owned()),
        ("a body that is too large", "POST", "/api/v1/users", vec![JSON], " ".repeat((1 << 20) + 1)),
        ("a change", "POST", "/api/v1/servers", vec![JSON], server.to_owned()),
        ("the same change", "POST", "/api/v1/servers", vec![JSON], server.to_owned()),
        ("an import that is refused", "POST", "/api/v1/servers/import", vec![JSON], imported.to_owned()),
        ("a query that is refused", "GET", "/api/v1/audit?limit=x", vec![], String::new()),
        ("a search without the right", "GET", "/api/v1/audit", vec![], String::new()),
    ]
}

fn initialize() -> String {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } })
    .to_string()
}

fn records(installation: &Installation) -> usize {
    installation.json("audit list --person alice --limit 1000").as_array().unwrap().len()
}
