//! Tasks of a server (the extension of 2026-07-28): whoever began one asks after it, and nobody else.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::client::{modern, modern_headers, send};
use crate::harness::peer::{Peer, program};
use crate::harness::{Serving, eventually, on_both, tool};

on_both! {
    fn a_task_is_its_callers_alone_as_long_as_she_may_call_its_tool(installation) {
        let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_2"));
        let server = Peer::listening(command.arg(program("conformance_server.py")), None);
        let file = json!({ "mcpServers": { "tasks": { "type": "streamable-http", "url": server.url } } });
        installation.grant_all("alice", "tasks", &file);
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        let (alice, bob) = (installation.key("alice"), installation.key("bob"));
        let hub = installation.serve();
        let ask = |key: &str, path: &str, method: &str, id: &str| {
            post(&hub, (key, path), (method, id), json!({ "taskId": id, "inputResponses": {} }))
        };
        let call = |path: &str, name: &str, arguments: Value| {
            let begun = post(&hub, (&alice, path), ("tools/call", name), json!({ "name": name, "arguments": arguments }));
            assert_eq!(begun["result"]["resultType"], "task", "{begun}");
            begun["result"]["taskId"].as_str().unwrap().to_owned()
        };
        eventually("the tools are listed", || {
            let greeted = json!({ "name": "greet", "arguments": { "name": "Ada" } });
            let answer = post(&hub, (&alice, "/mcp/tasks"), ("tools/call", "greet"), greeted);
            (answer["result"]["content"][0]["text"] == "Hello, Ada!").then_some(())
        });
        for (path, name) in [("/mcp/tasks", "slow_compute"), ("/mcp", "tasks__slow_compute")] {
            let id = call(path, name, json!({ "seconds": 0.3, "label": "it" }));
            let first = ask(&alice, path, "tasks/get", &id);
            assert_eq!(first["result"]["taskId"], id.as_str(), "the name stays: {first}");
            let elsewhere = if path == "/mcp" { "/mcp/tasks" } else { "/mcp" };
            let changed = format!("{}A{}", &id[..9], &id[10..]);
            for (key, path, id) in [(&bob, path, &*id), (&alice, elsewhere, &id), (&alice, path, &changed), (&alice, path, "x")] {
                for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
                    let refused = ask(key, path, method, id);
                    assert_eq!(refused["error"]["code"], -32602, "{path} {method} {id}: {refused}");
                }
            }
            let text = eventually("the task is done", || {
                let task = ask(&alice, path, "tasks/get", &id)["result"].clone();
                (task["status"] == "completed").then(|| task["result"]["content"][0]["text"].clone())
            });
            assert_eq!(text, "computed it");
        }
        let id = call("/mcp/tasks", "slow_compute", json!({ "seconds": 60 }));
        assert_eq!(ask(&alice, "/mcp/tasks", "tasks/cancel", &id)["result"]["resultType"], "complete");
        assert_eq!(ask(&alice, "/mcp/tasks", "tasks/get", &id)["result"]["status"], "cancelled");
        installation.ok("group leave devs alice");
        eventually("her right to the tool was her right to the task", || {
            ask(&alice, "/mcp/tasks", "tasks/get", &id).get("error").is_some().then_some(())
        });
        let log = installation.json("audit list --limit 100").to_string();
        assert!(log.contains("tasks/cancel") && !log.contains(&id), "the log names the tool, not the task");
    }
}

/// Posts a request of a client that knows tasks.
fn post(hub: &Serving, (key, path): (&str, &str), (method, name): (&str, &str), mut params: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let bearer = format!("Bearer {key}");
    let headers = [&modern_headers(&bearer, method)[..], &[("Mcp-Name", name)]].concat();
    send(hub.address, "POST", path, &headers, &modern(1, method, params)).json()
}
