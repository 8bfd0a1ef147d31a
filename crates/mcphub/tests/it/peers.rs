//! Real SDKs on both ends: what the hub lists and answers is what the server behind it does.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::peer::{CredentialServer, client, everything, program};
use crate::harness::{Installation, on_both, tool};

/// The clients: SDK 2.3 in both eras, SDK 1.30.
const CLIENTS: [(&str, &str); 3] = [
    ("MCPHUB_TEST_PYTHON_2", "modern"),
    ("MCPHUB_TEST_PYTHON_2", "legacy"),
    ("MCPHUB_TEST_PYTHON_1", "legacy"),
];

on_both! {
    fn server_everything_over_stdio(installation) {
        let file = json!({ "mcpServers": { "everything": {
            "command": tool("MCPHUB_TEST_NODE"), "args": [tool("MCPHUB_TEST_EVERYTHING"), "stdio"],
        } } });
        let key = set_up(&installation, "everything", &file);
        let hub = installation.serve();
        let direct = ["--stdio".to_owned(), format!("{} {} stdio", tool("MCPHUB_TEST_NODE"), tool("MCPHUB_TEST_EVERYTHING"))];
        compare_everything(&hub.url("/mcp/everything"), &key, &direct);
    }

    fn server_everything_over_http(installation) {
        let server = everything();
        let file = json!({ "mcpServers": { "everything": { "type": "streamable-http", "url": server.url } } });
        let key = set_up(&installation, "everything", &file);
        let hub = installation.serve();
        compare_everything(&hub.url("/mcp/everything"), &key, &["--url".to_owned(), server.url.clone()]);
    }

    fn a_python_server_over_http(installation) {
        for python in ["MCPHUB_TEST_PYTHON_2", "MCPHUB_TEST_PYTHON_1"] {
            let server = CredentialServer::start(python, None);
            let name = if python.ends_with('2') { "new" } else { "old" };
            let file = json!({ "mcpServers": { name: {
                "type": "streamable-http", "url": server.url, "headers": { "Authorization": "Bearer ${USER_TOKEN}" },
            } } });
            let key = set_up(&installation, name, &file);
            installation.ok_with(&format!("credential set alice {name} TOKEN"), "token-of-alice");
            let hub = installation.serve();
            let direct = ["--url".to_owned(), server.url.clone(), "--header".to_owned(), "Authorization: Bearer token-of-alice".to_owned()];
            compare_python(&hub.url(&format!("/mcp/{name}")), &key, &direct, python);
            hub.stop();
        }
    }

    fn a_python_server_over_stdio(installation) {
        for python in ["MCPHUB_TEST_PYTHON_2", "MCPHUB_TEST_PYTHON_1"] {
            let name = if python.ends_with('2') { "new" } else { "old" };
            let file = json!({ "mcpServers": { name: {
                "command": tool(python), "args": [program("credential_server.py"), "--stdio"],
                "env": { "CREDENTIAL": "${USER_TOKEN}" },
            } } });
            let key = set_up(&installation, name, &file);
            installation.ok_with(&format!("credential set alice {name} TOKEN"), "token-of-alice");
            let hub = installation.serve();
            let line = format!("{} {} --stdio", tool(python), program("credential_server.py"));
            let direct = ["--stdio".to_owned(), line, "--env".to_owned(), "CREDENTIAL=token-of-alice".to_owned()];
            compare_python(&hub.url(&format!("/mcp/{name}")), &key, &direct, python);
            hub.stop();
        }
    }
}

/// Sets up alice with everything granted on a server, and returns her key.
fn set_up(installation: &Installation, server: &str, file: &Value) -> String {
    installation.grant_all("alice", server, file);
    installation.key("alice")
}

fn compare_everything(url: &str, key: &str, direct: &[String]) {
    let script = json!([
        { "action": "list" },
        { "action": "call", "name": "echo", "arguments": { "message": "h\u{e4}? \u{1f600} \"quoted\"" } },
        { "action": "call", "name": "get-sum", "arguments": { "a": 2, "b": 40.5 } },
        { "action": "call", "name": "get-structured-content", "arguments": { "location": "Chicago" } },
        { "action": "call", "name": "get-annotated-message", "arguments": { "messageType": "error", "includeImage": true } },
        { "action": "call", "name": "trigger-long-running-operation", "arguments": { "duration": 1, "steps": 3 }, "progress": true },
        { "action": "call", "name": "get-sum", "arguments": { "a": "no number" } },
        { "action": "list", "kind": "prompts" },
        { "action": "list", "kind": "resources" },
        { "action": "list", "kind": "resource_templates" },
        { "action": "prompt", "name": "args-prompt", "arguments": { "city": "K\u{f6}ln" } },
        { "action": "prompt", "name": "no-such-prompt" },
        { "action": "read", "uri": "demo://resource/static/document/features.md" },
        { "action": "read", "uri": "demo://no/such" },
        {
            "action": "complete", "ref": { "type": "ref/prompt", "name": "completable-prompt" },
            "argument": "name", "value": "A", "arguments": { "department": "Engineering" },
        },
    ]);
    for (python, era) in CLIENTS {
        // It shows more to a client that can be asked, and the hub lists it as one.
        let able = ["--able", "--elicit", "accept"].map(str::to_owned);
        let through = client(python, &[&reach(url, key, era), &able[..]].concat(), &script);
        let legacy = ["--era", "legacy"].map(str::to_owned);
        let mut expected = client(python, &[direct, &legacy, &able].concat(), &script);
        if era == "modern" {
            forget_tasks(&mut expected);
        }
        same(&through, &expected, &format!("{python} {era}"));
    }
}

/// Takes from lists of tools what they say of tasks, which means nothing in the other era.
fn forget_tasks(answers: &mut [Value]) {
    let tools = answers.iter_mut().filter_map(|answer| answer.get_mut("tools")?.as_array_mut()).flatten();
    for tool in tools {
        assert!(tool["execution"]["taskSupport"].is_string(), "{tool}");
        tool.as_object_mut().unwrap().remove("execution");
    }
}

fn compare_python(url: &str, key: &str, direct: &[String], server: &str) {
    let script = json!([
        { "action": "list" },
        { "action": "call", "name": "fingerprint", "arguments": {} },
        { "action": "call", "name": "slow", "arguments": { "times": 3, "interval_ms": 50 }, "progress": true },
        { "action": "call", "name": "write_note", "arguments": { "text": "a note" } },
        { "action": "list", "kind": "prompts" },
        { "action": "list", "kind": "resources" },
        { "action": "list", "kind": "resource_templates" },
        { "action": "prompt", "name": "summarize_the_notes_of_this_week_for_the_whole_team", "arguments": { "style": "long" } },
        { "action": "read", "uri": "notes://today" },
    ]);
    for (python, era) in CLIENTS {
        let through = client(python, &reach(url, key, era), &script);
        // A legacy server is asked directly in its own words; a modern client can't ask it at all.
        let era = if server.ends_with('1') { "legacy" } else { era };
        let expected = client(python, &[direct, &["--era".to_owned(), era.to_owned()]].concat(), &script);
        same(&through, &expected, &format!("{python} {era} against {server}"));
    }
}

/// Says how a client reaches the hub.
fn reach(url: &str, key: &str, era: &str) -> Vec<String> {
    let options = ["--url", url, "--header", &format!("Authorization: Bearer {key}"), "--era", era];
    options.map(str::to_owned).to_vec()
}

/// Compares answer by answer, field by field. What only the bridge between two eras adds is taken
/// away on both sides: the type of a result, how long it may be kept, and who sent it.
fn same(through: &[Value], direct: &[Value], who: &str) {
    assert_eq!(through.len(), direct.len(), "{who}: {through:#?}");
    for (mine, theirs) in through.iter().zip(direct) {
        let (mine, theirs) = (plain(mine), plain(theirs));
        assert!(mine == theirs, "{who} through the hub:\n{mine}\ndirectly:\n{theirs}");
    }
}

fn plain(answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer["ms"] = Value::Null;
    // What a server asks and logs when a session opens falls into whichever call runs then; `rounds` looks at the rest.
    for aside in ["asked", "logged", "questions"] {
        answer.as_object_mut().unwrap().remove(aside);
    }
    answer["pages"] = Value::Null;
    if let Some(progress) = answer["progress"].as_array_mut() {
        progress.iter_mut().for_each(|step| step["progressToken"] = Value::Null);
    }
    if let Some(result) = answer["result"].as_object_mut() {
        for added in ["resultType", "ttlMs", "cacheScope"] {
            result.remove(added);
        }
        let empty = result.get_mut("_meta").and_then(Value::as_object_mut).is_some_and(|meta| {
            meta.remove("io.modelcontextprotocol/serverInfo");
            meta.is_empty()
        });
        if empty {
            result.remove("_meta");
        }
    }
    answer
}

#[test]
fn the_demo_server_speaks_both_eras() {
    let line = format!("{} demo-server", env!("CARGO_BIN_EXE_mcphub"));
    let script = json!([{ "action": "list" }, { "action": "call", "name": "count_to", "arguments": { "number": 2 }, "progress": true }]);
    for (python, era) in CLIENTS {
        let options = ["--stdio".to_owned(), line.clone(), "--era".to_owned(), era.to_owned()];
        let answers = client(python, &options, &script);
        assert_eq!(answers[0]["tools"].as_array().unwrap().len(), 3, "{answers:?}");
        assert_eq!(answers[1]["result"]["content"][0]["text"], "counted to 2");
        assert_eq!(answers[1]["progress"].as_array().unwrap().len(), 2);
    }
    let child =
        Command::new(env!("CARGO_BIN_EXE_mcphub")).arg("demo-server").stdin(Stdio::null()).output().unwrap();
    assert!(child.status.success(), "it ends with its input");
}
