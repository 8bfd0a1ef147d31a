//! Prompts and resources: who may read them, and what they are called where several servers stand together.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::harness::client::{Answer, begin, call, modern, send};
use crate::harness::peer::{CredentialServer, everything};
use crate::harness::{Installation, eventually, on_both};

const READ: &str = "demo://resource/static/document/features.md";

on_both! {
    fn servers_that_stand_together_keep_their_prompts_and_resources_apart(installation) {
        let (server, nobody) = (everything(), TcpListener::bind("127.0.0.1:0").unwrap());
        let gone = nobody.local_addr().unwrap();
        drop(nobody);
        let file = json!({ "mcpServers": {
            "one": { "type": "streamable-http", "url": server.url },
            "two": { "type": "streamable-http", "url": server.url },
            "gone": { "type": "streamable-http", "url": format!("http://{gone}/mcp") },
        } });
        installation.grant_all("alice", "one", &file);
        for name in ["two", "gone"] {
            installation.ok(&format!("grant add devs {name} --rights read,write,execute"));
        }
        let key = installation.key("alice");
        let hub = installation.serve();
        let ask = |method: &str, params: Value| ask(hub.address, "/mcp", &key, method, params).json();

        let prompts = ask("prompts/list", json!({}))["result"].clone();
        let both = |name: &str| vec![format!("one__{name}"), format!("two__{name}")];
        let named = |list: &Value, key: &str| {
            let items = list.as_array().unwrap().iter();
            items.map(|item| item[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let names = named(&prompts["prompts"], "name");
        assert!(both("args-prompt").iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(names.len() % 2, 0);
        assert_eq!(prompts["_meta"]["mcphub/absent"][0]["server"], "gone", "one hides not the others");
        assert_eq!((&prompts["ttlMs"], &prompts["cacheScope"]), (&json!(0), &json!("private")));
        let resources = ask("resources/list", json!({}))["result"]["resources"].clone();
        assert!(named(&resources, "uri").contains(&format!("two+{READ}")), "{resources}");
        let templates = ask("resources/templates/list", json!({}))["result"]["resourceTemplates"].clone();
        assert!(named(&templates, "uriTemplate").contains(&"one+demo://resource/dynamic/text/{resourceId}".to_owned()));

        let read = ask("resources/read", json!({ "uri": format!("two+{READ}") }))["result"].clone();
        assert_eq!(read["contents"][0]["uri"], format!("two+{READ}"));
        assert_eq!((&read["resultType"], &read["ttlMs"]), (&json!("complete"), &json!(0)));
        let arguments = json!({ "resourceType": "Text", "resourceId": "1" });
        let prompt = ask("prompts/get", json!({ "name": "one__resource-prompt", "arguments": arguments }));
        let holds = |message: &&Value| message["content"]["type"] == "resource";
        let messages = prompt["result"]["messages"].as_array().unwrap();
        let uri = &messages.iter().find(holds).unwrap()["content"]["resource"]["uri"];
        assert!(uri.as_str().unwrap().starts_with("one+demo://"), "{prompt}");
        for (kind, key, target, argument) in [
            ("ref/prompt", "name", "two__completable-prompt", "department"),
            ("ref/resource", "uri", "two+demo://resource/dynamic/text/{resourceId}", "resourceId"),
        ] {
            let reference = json!({ "type": kind, key: target });
            let params = json!({ "ref": reference, "argument": { "name": argument, "value": "" } });
            let completed = ask("completion/complete", params);
            assert!(completed["result"]["completion"]["values"].is_array(), "{target}: {completed}");
        }
        let linked = call(hub.address, "/mcp", &key, "one__get-resource-links", json!({ "count": 1 })).json();
        let blocks = linked["result"]["content"].as_array().unwrap();
        let link = blocks.iter().find(|block| block["type"] == "resource_link").unwrap();
        let uri = link["uri"].as_str().unwrap();
        assert!(uri.starts_with("one+demo://"), "{linked}");
        assert_eq!(ask("resources/read", json!({ "uri": uri }))["result"]["contents"][0]["uri"], uri);
        for nobodys in [READ, "three+demo://x", "ui://three/x"] {
            let refused = ask("resources/read", json!({ "uri": nobodys }));
            assert_eq!((&refused["error"]["code"], &refused["error"]["data"]["uri"]), (&json!(-32602), &json!(nobodys)));
        }
    }

    fn a_grant_to_read_all_of_a_server_gives_its_prompts_and_resources_and_nothing_else_does(installation) {
        let server = everything();
        let file = json!({ "mcpServers": { "everything": { "type": "streamable-http", "url": server.url } } });
        installation.grant_all("alice", "everything", &file);
        let keys: Vec<(&str, &str, String)> = [
            ("writer", "--rights write,execute", "only to write"),
            ("picker", "--rights read --tools echo", "only one tool"),
            ("barred", "--rights read", "taken away again"),
        ]
        .into_iter()
        .map(|(name, grant, why)| {
            installation.ok(&format!("user add {name} --role user"));
            installation.ok(&format!("group add {name}s"));
            installation.ok(&format!("group join {name}s {name}"));
            installation.ok(&format!("grant add {name}s everything {grant}"));
            (name, why, installation.key(name))
        })
        .collect();
        installation.ok("grant add barreds everything --rights read --deny");
        let alice = installation.key("alice");
        let hub = installation.serve();
        for path in ["/mcp", "/mcp/everything"] {
            let shared = path == "/mcp";
            let (uri, name) = match shared {
                true => (format!("everything+{READ}"), "everything__simple-prompt"),
                false => (READ.to_owned(), "simple-prompt"),
            };
            let requests = [
                ("resources/read", json!({ "uri": uri })),
                ("prompts/get", json!({ "name": name })),
                ("completion/complete", json!({
                    "ref": { "type": "ref/prompt", "name": name }, "argument": { "name": "x", "value": "" },
                })),
            ];
            for (method, params) in &requests[..2] {
                let answer = ask(hub.address, path, &alice, method, params.clone()).json();
                assert!(answer["result"].is_object(), "{path} {method}: {answer}");
            }
            for (who, why, key) in &keys {
                for (method, params) in &requests {
                    let refused = ask(hub.address, path, key, method, params.clone()).json();
                    assert_eq!(refused["error"]["code"], -32602, "{who}, {why}: {path} {method}: {refused}");
                    assert!(!refused.to_string().contains("grant"), "it looks as if there were none: {refused}");
                }
                for (method, member) in [("prompts/list", "prompts"), ("resources/list", "resources")] {
                    let listed = ask(hub.address, path, key, method, json!({})).json();
                    assert_eq!(listed["result"][member], json!([]), "{who}, {why}: {path} {method}");
                }
            }
        }
        let refused = outcomes(&installation, "refused");
        assert_eq!(refused.len(), 2 * keys.len() * 3, "{refused:?}");
        let asked = outcomes(&installation, "ask.intent");
        let read = asked.iter().find(|event| event["method"] == "resources/read").unwrap();
        assert_eq!(read["arguments"].as_str().unwrap().len(), 64);
        eventually("every question has its outcome", || {
            (outcomes(&installation, "ask.outcome").len() == asked.len()).then_some(())
        });
    }

    fn a_question_ends_with_the_right_to_ask_it(installation) {
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", None);
        let file = json!({ "mcpServers": { "notes": { "type": "streamable-http", "url": server.url } } });
        installation.grant_all("alice", "notes", &file);
        let bearer = format!("Bearer {}", installation.key("alice"));
        let hub = installation.serve();
        let params = json!({ "uri": "notes://never" });
        let (method, name) = ("resources/read", name_of(&params));
        let body = modern(1, method, params);
        let mut answer = begin(hub.address, "POST", "/mcp/notes", &headers(&bearer, method, &name), &body);
        eventually("the question is asked", || outcomes(&installation, "ask.intent").pop());
        installation.ok("group leave devs alice");
        let said = std::iter::from_fn(|| answer.line()).find(|line| line.contains("-31001")).unwrap();
        assert!(said.contains("revoked"), "{said}");
        eventually("its outcome says so", || {
            outcomes(&installation, "ask.outcome").into_iter().find(|event| event["status"] == "revoked")
        });
    }

    fn a_prompt_whose_name_is_too_long_for_all_is_found_by_its_short_one(installation) {
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", None);
        let file = json!({ "mcpServers": { "notes": {
            "type": "streamable-http", "url": server.url, "headers": { "Authorization": "Bearer ${USER_TOKEN}" },
        } } });
        installation.grant_all("alice", "notes", &file);
        let key = installation.key("alice");
        let hub = installation.serve();
        let ask = |method: &str, params: Value| ask(hub.address, "/mcp", &key, method, params).json();
        let absent = ask("prompts/list", json!({}))["result"]["_meta"]["mcphub/absent"][0].clone();
        assert!(absent["url"].as_str().unwrap().contains("notes"), "it says where to store what is missing: {absent}");
        let refused = ask("resources/read", json!({ "uri": "notes+notes://today" }))["error"].clone();
        assert_eq!((&refused["code"], &refused["data"]["missing"]), (&json!(-31002), &json!(["TOKEN"])));
        installation.ok_with("credential set alice notes TOKEN", "token-of-alice");
        let listed = eventually("the hub has her credential", || {
            let listed = ask("prompts/list", json!({}))["result"]["prompts"].clone();
            listed[0]["name"].as_str().map(str::to_owned)
        });
        assert!(listed.len() == 56 && listed.starts_with("notes__summarize_the_notes"), "{listed}");
        let got = ask("prompts/get", json!({ "name": listed, "arguments": { "style": "long" } }));
        assert_eq!(got["result"]["messages"][0]["content"]["text"], "Summarize the notes in a long way.");
        let read = ask("resources/read", json!({ "uri": "notes+notes://today" }));
        assert_eq!(read["result"]["contents"][0]["uri"], "notes+notes://today");
    }
}

/// Asks as a modern client.
fn ask(address: SocketAddr, path: &str, key: &str, method: &str, params: Value) -> Answer {
    let (bearer, name) = (format!("Bearer {key}"), name_of(&params));
    send(address, "POST", path, &headers(&bearer, method, &name), &modern(1, method, params))
}

/// Finds what the header `Mcp-Name` repeats.
fn name_of(params: &Value) -> String {
    params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default().to_owned()
}

fn headers<'a>(bearer: &'a str, method: &'a str, name: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![
        ("Authorization", bearer),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", method),
    ];
    if !name.is_empty() {
        headers.push(("Mcp-Name", name));
    }
    headers
}

/// Lists the events of a kind in the log.
fn outcomes(installation: &Installation, kind: &str) -> Vec<Value> {
    let records = installation.json("audit list --limit 1000");
    let events = records.as_array().unwrap().iter().map(|record| record["event"].clone());
    events.filter(|event| event["type"] == kind).collect()
}
