//! Tasks of a server, in both eras (an extension of 2026-07-28, a part of 2025-11-25): whoever began one asks after it, and
//! nobody else.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::client::{Session, list, modern, modern_headers, send};
use crate::harness::peer::{Peer, asking, asking_on_events, client, program};
use crate::harness::{Installation, Serving, eventually, on_both, tool};

const OLD: &str = "MCPHUB_TEST_PYTHON_1";
/// Names the task in what is said in its course.
const RELATED: &str = "io.modelcontextprotocol/related-task";

on_both! {
    fn a_task_is_its_callers_alone_as_long_as_she_may_call_its_tool(installation) {
        let mut command = Command::new(tool("MCPHUB_TEST_PYTHON_2"));
        let server = Peer::listening(command.arg(program("conformance_server.py")), None);
        let (hub, alice, bob) = two_people(&installation, &server);
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
            let other = if id[9..].starts_with('A') { "B" } else { "A" };
            let changed = format!("{}{other}{}", &id[..9], &id[10..]);
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

    fn a_task_of_a_session_is_its_callers_alone_and_of_its_era(installation) {
        let server = asking(OLD);
        let (hub, alice, bob) = two_people(&installation, &server);
        let open = |path: &str, key: &str| Session::open(hub.address, path, key, ("2025-11-25", json!({})));
        let (own, shared) = (open("/mcp/tasks", &alice), open("/mcp", &alice));
        let sessions = [
            ("/mcp/tasks", &own, "slow_compute", &shared),
            ("/mcp", &shared, "tasks__slow_compute", &own),
        ];
        for (path, session, name, elsewhere) in sessions {
            let begun = call(session, name, &json!({ "seconds": 0.3, "label": "it" }));
            let id = begun["result"]["task"]["taskId"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
            let ask = |session: &Session, method: &str| session.ask(method, &json!({ "taskId": id }));
            assert_eq!(ask(session, "tasks/get")["result"]["taskId"], id.as_str(), "the name stays");
            let result = ask(session, "tasks/result")["result"].clone();
            assert_eq!(result["content"][0]["text"], "computed it");
            assert_eq!(result["_meta"][RELATED]["taskId"], id.as_str());
            for stranger in [elsewhere, &open("/mcp/tasks", &bob)] {
                for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
                    assert_eq!(ask(stranger, method)["error"]["code"], -32602, "{name} {method}");
                }
            }
            let of_modern = post(&hub, (&alice, path), ("tasks/get", &id), json!({ "taskId": id }));
            let error = (&of_modern["error"]["code"], &of_modern["error"]["message"]);
            // Its server would say more: which one it didn't find.
            assert_eq!(error, (&json!(-32602), &json!("Task not found")), "the eras know nothing of each other's tasks");
            for method in ["tasks/update", "tasks/list"] {
                assert_eq!(ask(session, method)["error"]["code"], -32601, "{method}");
            }
        }
        let begun = call(&own, "slow_compute", &json!({ "seconds": 60 }));
        let task = json!({ "taskId": begun["result"]["task"]["taskId"] });
        assert_eq!(own.ask("tasks/cancel", &task)["result"]["status"], "cancelled");
        // A session of an older revision knows nothing of them.
        let older = Session::open(hub.address, "/mcp/tasks", &alice, ("2025-06-18", json!({})));
        let whole = call(&older, "slow_compute", &json!({ "label": "it" }));
        assert_eq!(whole["result"]["content"][0]["text"], "computed it", "{whole}");
        assert_eq!(older.ask("tasks/get", &task)["error"]["code"], -32601);
        // A modern client hears nothing of them, and what it says of one reaches no server of the other era.
        let support = |tools: &Value| tools["result"]["tools"].to_string().contains("taskSupport");
        assert!(support(&own.ask("tools/list", &json!({}))) && !support(&list(hub.address, "/mcp/tasks", &alice).json()));
        let params = json!({ "name": "slow_compute", "arguments": { "label": "it" }, "task": {} });
        let whole = post(&hub, (&alice, "/mcp/tasks"), ("tools/call", "slow_compute"), params);
        assert_eq!(whole["result"]["content"][0]["text"], "computed it", "{whole}");
        let log = installation.json("audit list --limit 100").to_string();
        assert!(log.contains("tasks/result") && !log.contains(task["taskId"].as_str().unwrap()));
    }

    fn whoever_waits_for_a_task_hears_and_answers_what_is_said_in_its_course(installation) {
        let (sessions, events) = (asking(OLD), asking_on_events());
        // Each is shared, so that nothing but the task says whom it concerns.
        let args = [program("asking_server.py"), "--stdio".to_owned()];
        let servers = [
            ("sessions", json!({ "type": "streamable-http", "url": sessions.url })),
            ("events", json!({ "type": "sse", "url": events.url })),
            ("process", json!({ "command": tool(OLD), "args": args })),
        ];
        for (name, definition) in &servers {
            installation.grant_all("alice", name, &json!({ "mcpServers": { *name: definition } }));
        }
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        let (keys, hub) = ([installation.key("alice"), installation.key("bob")], installation.serve());
        for (name, _) in servers {
            let path = format!("/mcp/{name}");
            let people = [(&keys[0], "Ada", json!("token-of-ada")), (&keys[1], "Alan", json!(7))];
            let mut waiting = people.map(|(key, who, token)| {
                let session = Session::open(hub.address, &path, key, ("2025-11-25", json!({ "elicitation": {} })));
                let arguments = json!({ "ask": true, "color": true, "label": who });
                let meta = json!({ "progressToken": token });
                let begun = session.ask("tools/call", &json!({ "name": "slow_compute", "arguments": arguments, "task": { "ttl": 60_000 }, "_meta": meta }));
                let task = begun["result"]["task"]["taskId"].clone();
                let stream = session.begin("POST", &Session::request(9, "tasks/result", &json!({ "taskId": task })));
                (session, stream, who, token, task)
            });
            let answer = |session: &Session, asked: &Value, task: &Value, content: Value| {
                assert_eq!((&asked["method"], &asked["params"]["_meta"][RELATED]["taskId"]), (&json!("elicitation/create"), task), "{name}: {asked}");
                let result = json!({ "action": "accept", "content": content, "_meta": { RELATED: { "taskId": task } } });
                session.post(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }).to_string());
            };
            // Both wait when either is told something.
            for (session, stream, who, _, task) in &mut waiting {
                answer(session, &stream.message(), task, json!({ "name": who }));
            }
            for (session, stream, who, token, task) in waiting.iter_mut().rev() {
                let mut told = [stream.message(), stream.message(), stream.message()];
                // What a session's own stream brings may overtake the answer's.
                told.sort_by_key(|one| one["method"].as_str().map(str::to_owned));
                let [asked, progress, status] = told;
                assert_eq!((&progress["params"]["progressToken"], &progress["params"]["message"]), (&*token, &json!(format!("halfway for {who}"))), "{name}: {progress}");
                assert_eq!((&status["params"]["taskId"], &status["params"]["statusMessage"]), (&*task, &json!("computing")), "{name}: {status}");
                answer(session, &asked, task, json!({ "color": "red" }));
                let last = loop {
                    let message = stream.message();
                    if message.get("result").is_some() { break message }
                    assert_eq!(message["params"]["taskId"], *task, "{name}: {message}");
                };
                assert_eq!(last["result"]["content"][0]["text"], format!("computed {who} for {who}"), "{name}: {last}");
            }
        }
    }

    fn a_task_that_asks_its_person_names_itself_as_she_knows_it(installation) {
        let server = asking(OLD);
        let (hub, alice, _) = two_people(&installation, &server);
        for (path, name) in [("/mcp/tasks", "slow_compute"), ("/mcp", "tasks__slow_compute")] {
            let (url, header) = (hub.url(path), format!("Authorization: Bearer {alice}"));
            let options = ["--url", &url, "--header", &header, "--elicit", "accept", "--tasks"].map(str::to_owned);
            let asks = json!({ "action": "call", "name": name, "arguments": { "ask": true, "label": "it" } });
            let done = client(OLD, &options, &json!([asks])).remove(0);
            assert_eq!((&done["status"], &done["task"]["content"][0]["text"]), (&json!("completed"), &json!("computed it for a name")));
            let id = &done["result"]["task"]["taskId"];
            assert_eq!(id, &done["name"]);
            assert_eq!(id, &done["task"]["_meta"][RELATED]["taskId"], "{done}");
            assert_eq!(id, &done["asked"][0]["_meta"][RELATED]["taskId"], "{done}");
        }
    }
}

/// Starts a hub before a server, with two people who may call everything there.
fn two_people(installation: &Installation, server: &Peer) -> (Serving, String, String) {
    let file = json!({ "mcpServers": { "tasks": { "type": "streamable-http", "url": server.url } } });
    installation.grant_all("alice", "tasks", &file);
    installation.ok("user add bob --role user");
    installation.ok("group join devs bob");
    let keys = (installation.key("alice"), installation.key("bob"));
    (installation.serve(), keys.0, keys.1)
}

/// Calls a tool of a session's endpoint so that it becomes a task.
fn call(session: &Session, name: &str, arguments: &Value) -> Value {
    session.ask("tools/call", &json!({ "name": name, "arguments": arguments, "task": { "ttl": 60_000 } }))
}

/// Posts a request of a client that knows tasks.
fn post(hub: &Serving, (key, path): (&str, &str), (method, name): (&str, &str), mut params: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let bearer = format!("Bearer {key}");
    let headers = [&modern_headers(&bearer, method)[..], &[("Mcp-Name", name)]].concat();
    send(hub.address, "POST", path, &headers, &modern(1, method, params)).json()
}
