//! The check that every other test makes by itself bites: what no schema allows isn't let pass.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use crate::harness::client::{call, list, modern, modern_headers};
use crate::harness::schema::{Side, check};
use crate::harness::witness::Witness;
use crate::harness::{Database, Installation, eventually, tool};

/// A server whose every call has a result that no revision allows.
const SERVER: &str = r#"
import json, sys
info = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
for line in sys.stdin:
    message = json.loads(line)
    results = {
        "server/discover": {**info, "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
        "tools/list": {**info, "tools": [{"name": "wrong", "inputSchema": {"type": "object"}}]},
        "tools/call": {"resultType": "complete", "content": "no list"},
    }
    if "id" in message:
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]}
        print(json.dumps(answer), flush=True)
"#;

#[test]
fn each_kind_of_message_is_compared_with_the_schema_of_its_revision() {
    let answer = |result: Value| json!({ "jsonrpc": "2.0", "id": 1, "result": result });
    let refusal = |error: Value| json!({ "jsonrpc": "2.0", "id": 1, "error": error });
    let notice =
        |method: &str, params: Value| json!({ "jsonrpc": "2.0", "method": method, "params": params });
    let ask = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let versions = json!({ "supported": ["2026-07-28"], "requested": "x" });
    let (modern, legacy) = ("2026-07-28", "2025-11-25");
    let table = [
        (true, modern, "tools/list", answer(list_of(json!([])))),
        (false, modern, "tools/list", answer(list_of(json!([{ "name": "a" }])))),
        (false, modern, "tools/list", answer(json!({ "tools": [] }))),
        (true, legacy, "tools/list", answer(json!({ "tools": [] }))),
        (false, legacy, "tools/list", answer(json!({}))),
        (false, legacy, "tools/call", answer(json!({ "content": [{ "type": "text" }] }))),
        (false, modern, "tools/call", answer(json!({ "content": [], "resultType": "other" }))),
        (false, legacy, "initialize", answer(json!({ "protocolVersion": "2025-11-25", "capabilities": {} }))),
        (true, modern, "", refusal(json!({ "code": -32022, "message": "no", "data": versions }))),
        (false, modern, "", refusal(json!({ "code": -32022, "message": "no" }))),
        (false, legacy, "", refusal(json!({ "code": "1", "message": "no" }))),
        (true, legacy, "", notice("notifications/progress", json!({ "progressToken": 1, "progress": 1 }))),
        (false, legacy, "", notice("notifications/progress", json!({ "progress": 1 }))),
        (false, modern, "", notice("notifications/nothing", json!({}))),
        (true, legacy, "", ask("roots/list", json!({}))),
        (false, modern, "", ask("roots/list", json!({}))),
        (false, legacy, "", ask("tools/list", json!({}))),
        (false, legacy, "", json!([answer(json!({}))])),
        (true, "2025-03-26", "ping", json!([answer(json!({}))])),
        (true, "2025-06-18", "", json!({ "jsonrpc": "2.0", "error": { "code": -32600, "message": "no" } })),
        (false, modern, "", json!({ "jsonrpc": "2.0", "id": null, "error": { "code": 1, "message": "no" } })),
        (true, modern, "tools/call", answer(json!({ "resultType": "input_required", "requestState": "x" }))),
        (false, modern, "tools/list", answer(json!({ "resultType": "input_required", "requestState": "x" }))),
    ];
    for (valid, revision, asked, message) in table {
        let found = check(revision, Side::Server, &message, &|_| Some(asked.to_owned()));
        assert_eq!(found.is_ok(), valid, "{revision} {asked} {message}: {found:?}");
    }
}

#[test]
fn a_wrong_message_of_a_hub_fails_the_test_that_receives_it() {
    let bearer = "Bearer mcphub_x";
    let headers = modern_headers(bearer, "tools/list");
    let look = |kind: &str, body: &str| {
        let mut witness = Witness::of("/mcp", &headers, &modern(1, "tools/list", json!({}))).unwrap();
        complaint(|| witness.body(kind, body))
    };
    let good = json!({ "jsonrpc": "2.0", "id": 1, "result": list_of(json!([])) }).to_string();
    let wrong = good.replace("ttlMs", "ttl");
    assert_eq!(look("application/json", &good), None);
    for (kind, body) in
        [("application/json", wrong.clone()), ("text/event-stream", format!("data: {wrong}\n\n"))]
    {
        let complaint = look(kind, &body).unwrap();
        assert!(complaint.contains("\"ttlMs\" is a required property"), "{complaint}");
    }
}

#[test]
fn what_a_server_says_wrongly_is_seen_behind_the_hub() {
    let installation = Installation::new(Database::Sqlite);
    let server = json!({ "command": tool("MCPHUB_TEST_PYTHON_2"), "args": ["-c", SERVER] });
    installation.grant_all("alice", "wrong", &json!({ "mcpServers": { "wrong": server } }));
    let (key, hub) = (installation.key("alice"), installation.serve());
    eventually("the tool is listed", || {
        list(hub.address, "/mcp/wrong", &key).json()["result"]["tools"][0]["name"].as_str().map(drop)
    });
    let complaint = complaint(|| call(hub.address, "/mcp/wrong", &key, "wrong", json!({}))).unwrap();
    assert!(complaint.contains("is not of type \"array\""), "{complaint}");
}

fn list_of(tools: Value) -> Value {
    json!({ "resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private" })
}

/// Returns what somebody complains about, if he does.
fn complaint<T>(act: impl FnOnce() -> T) -> Option<String> {
    let caught = catch_unwind(AssertUnwindSafe(|| drop(act()))).err()?;
    Some(caught.downcast_ref::<String>().cloned().unwrap_or_default())
}
