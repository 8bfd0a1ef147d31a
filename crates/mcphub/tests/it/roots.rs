//! A client's folders change between its calls: a server that works for its person alone asks for them at her next one.

use serde_json::json;

use crate::harness::client::Session;
use crate::harness::peer::{asking, asking_on_events, program};
use crate::harness::{on_both, tool};

const OLD: &str = "MCPHUB_TEST_PYTHON_1";

on_both! {
    fn a_server_hears_that_the_folders_of_its_client_have_changed(installation) {
        let (sessions, events) = (asking(OLD), asking_on_events());
        // Each is personal, by a header or a variable.
        let of = |url: &str, kind: &str| json!({ "type": kind, "url": url, "headers": { "whose": "${HUB_USER_ID}" } });
        let args = [program("asking_server.py"), "--stdio".to_owned()];
        let servers = [
            ("sessions", of(&sessions.url, "streamable-http")),
            ("events", of(&events.url, "sse")),
            ("process", json!({ "command": tool(OLD), "args": args, "env": { "WHOSE": "${HUB_USER_ID}" } })),
        ];
        for (name, definition) in &servers {
            installation.grant_all("alice", name, &json!({ "mcpServers": { *name: definition } }));
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        for (name, _) in servers {
            let able = json!({ "roots": { "listChanged": true } });
            let session = Session::open(hub.address, &format!("/mcp/{name}"), &key, ("2025-11-25", able));
            let call = |name: &str| Session::request(9, "tools/call", &json!({ "name": name, "arguments": {} }));
            let watching = session.ask("tools/call", &json!({ "name": "watch_folders", "arguments": {} }));
            assert_eq!(watching["result"]["content"][0]["text"], "watching", "{name}: {watching}");
            let told = session.post(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#);
            assert_eq!(told.status, 202);
            let mut stream = session.begin("POST", &call("changed_folders"));
            let asked = stream.message();
            assert_eq!(asked["method"], "roots/list", "{name}: {asked}");
            let folders = json!({ "roots": [{ "uri": "file:///new" }] });
            session.post(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": folders }).to_string());
            assert_eq!(stream.message()["result"]["content"][0]["text"], "folders: file:///new", "{name}");
        }
    }
}
