//! Prompts and resources: who may read them, and what they are called where several servers stand together.

use std::collections::BTreeSet;
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

    fn a_method_that_only_a_server_knows_reaches_it_for_who_may_do_everything(installation) {
        let record = installation.folder().join("record.jsonl");
        let servers = ["MCPHUB_TEST_PYTHON_2", "MCPHUB_TEST_PYTHON_1"]
            .map(|python| CredentialServer::start(python, Some(&record)));
        for (name, server) in ["modern", "legacy"].iter().zip(&servers) {
            let file = json!({ "mcpServers": { *name: { "type": "http", "url": server.url } } });
            installation.grant_all("alice", name, &file);
        }
        installation.ok("user add bob --role user");
        installation.ok("group add readers");
        installation.ok("group join readers bob");
        installation.ok("grant add readers modern --rights read,execute");
        let (alice, bob) = (installation.key("alice"), installation.key("bob"));
        let hub = installation.serve();
        let ask = |key: &str, path: &str, method: &str| {
            ask(hub.address, path, key, method, json!({ "own": [1.0, "\u{e9}"] }))
        };
        let taken = || {
            let lines = std::fs::read_to_string(&record).unwrap_or_default();
            let bodies = lines.lines().filter_map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                let body: Value = serde_json::from_str(line["body"].as_str()?).ok()?;
                (body["method"] == "vendor/own").then(|| body["params"]["own"].clone())
            });
            bodies.collect::<Vec<_>>()
        };
        // SDK 1.30 has another code for what it doesn't know.
        let refusals = [("/mcp/modern", 404, -32601), ("/mcp/legacy", 200, -32602)];
        for (number, (path, status, code)) in refusals.into_iter().enumerate() {
            let answer = ask(&alice, path, "vendor/own");
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)), "{path}");
            assert_eq!(taken().len(), number + 1, "{path}: the server itself says so");
        }
        assert!(taken().iter().all(|own| *own == json!([1.0, "\u{e9}"])));
        assert!(installation.ok("audit list --limit 50 --json").contains("vendor/own"));
        let long = format!("vendor/{}", "x".repeat(128));
        for (key, path, method) in [
            (&bob, "/mcp/modern", "vendor/own"),
            (&alice, "/mcp", "vendor/own"),
            (&alice, "/mcp/modern", long.as_str()),
            (&alice, "/mcp/modern", "ping"),
        ] {
            let answer = ask(key, path, method);
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!(-32601)), "{path} {method}");
        }
        assert_eq!(taken().len(), 2, "nobody else's came there");
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
                    let refused = ask(hub.address, path, key, method, params.clone());
                    assert_eq!(refused.json()["error"]["code"], -32602, "{who}, {why}: {path} {method}");
                    // A server of this name there is, of the other there is none.
                    let elsewhere = params.to_string().replace("everything", "nothing---");
                    let unknown = ask(hub.address, "/mcp", key, method, serde_json::from_str(&elsewhere).unwrap());
                    let same = refused.body.replace("everything", "nothing---");
                    if shared {
                        assert_eq!((refused.status, same), (unknown.status, unknown.body), "{who}, {why}: {method}");
                    }
                }
                for (method, member) in [("prompts/list", "prompts"), ("resources/list", "resources")] {
                    let listed = ask(hub.address, path, key, method, json!({})).json();
                    assert_eq!(listed["result"][member], json!([]), "{who}, {why}: {path} {method}");
                }
            }
        }
        let refused = records(&installation, "refused");
        assert_eq!(refused.len(), 4 * keys.len() * 3, "{refused:?}");
        let names = |kind| {
            let mut names: Vec<String> = records(&installation, kind).iter().map(thread).collect();
            names.sort();
            names
        };
        let asked = names("ask.intent");
        assert_eq!(asked.len(), 4, "those who may not asked nobody: {asked:?}");
        eventually("every question has its outcome", || (names("ask.outcome") == asked).then_some(()));
    }

    fn a_legacy_client_hears_in_its_own_words_that_there_is_no_such_resource(installation) {
        installation.ok("user add alice --role user");
        let bearer = format!("Bearer {}", installation.key("alice"));
        let hub = installation.serve();
        let json = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let client = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client }).to_string();
        let opened = send(hub.address, "POST", "/mcp", &json, &body);
        let session = [&json[..], &[("Mcp-Session-Id", opened.header("mcp-session-id").unwrap())]].concat();
        let body = json!({ "jsonrpc": "2.0", "id": 2, "method": "resources/read", "params": { "uri": "x+y:z" } });
        let answer = send(hub.address, "POST", "/mcp", &session, &body.to_string());
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["code"], &error["data"]), (200, &json!(-32002), &json!({ "uri": "x+y:z" })));
    }

    fn a_record_says_all_that_was_asked_and_shows_no_secret(installation) {
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", None);
        let file = json!({ "mcpServers": { "notes": { "type": "streamable-http", "url": server.url } } });
        installation.grant_all("alice", "notes", &file);
        let key = installation.key("alice");
        let hub = installation.serve();
        for (query, more) in [("one", "a"), ("two", "a"), ("two", "b")] {
            let uri = format!("notes://bob:hunter2@today/x?token={query}");
            let params = json!({ "uri": uri, "arguments": {}, "more": more });
            assert!(ask(hub.address, "/mcp/notes", &key, "resources/read", params).json()["error"].is_object());
        }
        let asked: Vec<Value> = records(&installation, "ask.intent").iter().map(|record| record["event"].clone()).collect();
        assert!(asked.iter().all(|event| event["target"] == "notes://today/x"), "{asked:?}");
        let digests: BTreeSet<&str> = asked.iter().map(|event| event["arguments"].as_str().unwrap()).collect();
        assert_eq!((asked.len(), digests.len()), (3, 3), "{asked:?}");
        assert!(!installation.ok("audit list --limit 1000 --json").contains("hunter2"));
    }

    fn questions_and_lists_count_as_calls(installation) {
        let mut installation = installation;
        installation.set("MCPHUB_LIMITS__CALLS_PER_MINUTE", "2");
        let server = everything();
        let name = "a-server-with-a-name-very-long";
        let file = json!({ "mcpServers": { name: { "type": "streamable-http", "url": server.url } } });
        installation.grant_all("alice", name, &file);
        let key = installation.key("alice");
        let hub = installation.serve();
        let ask = |method: &str, params: Value| ask(hub.address, "/mcp", &key, method, params).json();
        assert!(ask("prompts/list", json!({}))["result"].is_object());
        assert!(ask("prompts/get", json!({ "name": format!("{name}__simple-prompt") }))["result"].is_object());
        let before = records(&installation, "ask.intent").len();
        let long = format!("{name}__a-prompt-whose-name-is-long");
        for (method, params) in [
            ("resources/list", json!({})),
            ("resources/read", json!({ "uri": format!("{name}+{READ}") })),
            ("prompts/get", json!({ "name": long })),
        ] {
            assert_eq!(ask(method, params)["error"]["code"], -31029, "{method}");
        }
        assert_eq!(records(&installation, "ask.intent").len(), before, "the server was asked nothing");
    }

    fn what_may_not_be_read_any_more_is_in_no_list_that_is_still_being_made(installation) {
        let (server, silent) = (everything(), TcpListener::bind("127.0.0.1:0").unwrap());
        let silent_url = format!("http://{}/mcp", silent.local_addr().unwrap());
        let file = json!({ "mcpServers": {
            "here": { "type": "streamable-http", "url": server.url },
            "silent": { "type": "streamable-http", "url": silent_url },
        } });
        installation.grant_all("alice", "here", &file);
        installation.ok("group add others");
        installation.ok("group join others alice");
        installation.ok("grant add others silent --rights read");
        let bearer = format!("Bearer {}", installation.key("alice"));
        let hub = installation.serve();
        let body = modern(1, "prompts/list", json!({}));
        let mut answer = begin(hub.address, "POST", "/mcp", &headers(&bearer, "prompts/list", ""), &body);
        eventually("one server has answered", || records(&installation, "ask.outcome").pop());
        installation.ok("group leave devs alice");
        let said = std::iter::from_fn(|| answer.line()).find(|line| line.contains("\"result\"")).unwrap();
        let result: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(result["result"]["prompts"], json!([]), "{said}");
        assert_eq!(result["result"]["_meta"]["mcphub/absent"][0]["server"], "silent");
        let slow = eventually("the end of the other list is recorded", || {
            records(&installation, "ask.outcome").into_iter().find(|record| record["event"]["status"] != "ok")
        });
        assert_eq!(slow["event"]["status"], "unreachable", "nobody cancelled it");
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
        eventually("the question is asked", || records(&installation, "ask.intent").pop());
        installation.ok("group leave devs alice");
        let said = std::iter::from_fn(|| answer.line()).find(|line| line.contains("-31001")).unwrap();
        assert!(said.contains("revoked"), "{said}");
        eventually("its outcome says so", || {
            records(&installation, "ask.outcome").into_iter().find(|record| record["event"]["status"] == "revoked")
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

/// Lists the records of a kind in the log, the newest first.
fn records(installation: &Installation, kind: &str) -> Vec<Value> {
    let records = installation.json("audit list --limit 1000");
    let of_kind = |record: &&Value| record["event"]["type"] == kind;
    records.as_array().unwrap().iter().filter(of_kind).cloned().collect()
}

/// Names what an intent and its outcome have in common.
fn thread(record: &Value) -> String {
    format!("{} {} {}", record["request"], record["event"]["server"], record["event"]["method"])
}
