//! Servers that ask back, in both eras, of clients of both eras: every cell of the bridge with real SDKs on both ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::client::{call_headers, modern, send};
use crate::harness::peer::{asking, client, program};
use crate::harness::{Installation, Serving, eventually, on_both, tool};

/// The clients: SDK 2.3 in both eras, SDK 1.30.
pub(crate) const CLIENTS: [(&str, &str); 3] = [
    ("MCPHUB_TEST_PYTHON_2", "modern"),
    ("MCPHUB_TEST_PYTHON_2", "legacy"),
    ("MCPHUB_TEST_PYTHON_1", "legacy"),
];
/// What lets a client answer everything.
pub(crate) const ABLE: [&str; 3] = ["--able", "--elicit", "accept"];
/// The servers: SDK 2.3 asks in results and knows no sessions, SDK 1.30 asks in requests.
const SERVERS: [(&str, &str); 2] = [("modern", "MCPHUB_TEST_PYTHON_2"), ("legacy", "MCPHUB_TEST_PYTHON_1")];

on_both! {
    fn every_client_hears_what_every_server_asks_over_http(installation) {
        let servers = SERVERS.map(|(name, python)| (name, asking(python)));
        for (name, server) in &servers {
            grant(&installation, name, &json!({ "type": "streamable-http", "url": server.url }));
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        for (name, _) in &servers {
            compare(&CLIENTS, &hub.url(&format!("/mcp/{name}")), "", &key);
            // One of each era shows what a shared name changes.
            compare(&CLIENTS[..2], &hub.url("/mcp"), &format!("{name}__"), &key);
        }
        // What a legacy server hears in the middle of its call is recorded before: five answers and a declined one of
        // each client, of which two come by the shared endpoint as well.
        let log = installation.ok("audit list --limit 1000 --json");
        assert_eq!(log.matches("\"type\":\"inquiry.answered\"").count(), 6 * (CLIENTS.len() + 2));
    }

    fn every_client_hears_what_every_server_asks_over_stdio(installation) {
        for (name, python) in SERVERS {
            let args = [program("asking_server.py"), "--stdio".to_owned()];
            // What asks a person needs a process for her alone.
            let server = json!({ "command": tool(python), "args": args, "env": { "WHOSE": "${HUB_USER_ID}" } });
            grant(&installation, name, &server);
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        for (name, _) in SERVERS {
            compare(&CLIENTS, &hub.url(&format!("/mcp/{name}")), "", &key);
        }
    }

    fn a_call_that_waits_is_its_callers_alone_and_ends_with_her_right(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_1");
        grant(&installation, "legacy", &json!({ "type": "streamable-http", "url": server.url }));
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        let hub = installation.serve();
        let (alice, bob) = (Person::new(&hub, installation.key("alice")), Person::new(&hub, installation.key("bob")));

        let call = json!({ "name": "greet", "arguments": {} });
        let asked = ask(&alice, "/mcp/legacy", &call);
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        assert_eq!(asked["inputRequests"]["question"]["method"], "elicitation/create");
        let state = asked["requestState"].as_str().unwrap().to_owned();
        let retry = |name: &str, state: &str| {
            json!({
                "name": name, "arguments": {}, "requestState": state,
                "inputResponses": { "question": { "action": "accept", "content": { "name": "Ada" } } },
            })
        };
        // Another person, another tool, another endpoint, another state: nobody learns which it was.
        let other: String = state.chars().rev().collect();
        for (client, path, params) in [
            (&bob, "/mcp/legacy", retry("greet", &state)),
            (&alice, "/mcp/legacy", retry("ask_twice", &state)),
            (&alice, "/mcp", retry("legacy__greet", &state)),
            (&alice, "/mcp/legacy", retry("greet", &other)),
            (&alice, "/mcp/legacy", retry("greet", "")),
        ] {
            let refused = client.call(path, params.clone());
            assert_eq!(refused["error"]["code"], -32602, "{params}: {refused}");
        }
        // Without an answer the same is asked again; each state is good once.
        let again = ask(&alice, "/mcp/legacy", &json!({ "name": "greet", "arguments": {}, "requestState": state }));
        assert_eq!(again["resultType"], "input_required", "{again}");
        let newer = again["requestState"].as_str().unwrap().to_owned();
        let gone = alice.call("/mcp/legacy", retry("greet", &state));
        assert_eq!(gone["error"]["code"], -32602, "{gone}");
        let greeted = ask(&alice, "/mcp/legacy", &retry("greet", &newer));
        assert_eq!(greeted["content"][0]["text"], "Hello, Ada!", "{greeted}");

        // A right that ends, ends what waits.
        let waits = ask(&alice, "/mcp/legacy", &call);
        let state = waits["requestState"].as_str().unwrap().to_owned();
        installation.ok("group leave devs alice");
        eventually("the call that waited is recorded as revoked", || {
            let log = installation.json("audit list --limit 20").to_string();
            log.contains("revoked").then_some(())
        });
        installation.ok("group join devs alice");
        eventually("alice may call again", || {
            (alice.call("/mcp/legacy", call.clone())["result"]["resultType"] == "input_required").then_some(())
        });
        let late = alice.call("/mcp/legacy", retry("greet", &state));
        assert_eq!(late["error"]["code"], -32602, "{late}");
    }

    fn a_call_that_waits_ends_with_its_server(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_1");
        grant(&installation, "legacy", &json!({ "type": "streamable-http", "url": server.url }));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let alice = Person::new(&hub, key);
        let asked = ask(&alice, "/mcp/legacy", &json!({ "name": "greet", "arguments": {} }));
        drop(server);
        eventually("the call's end is recorded", || {
            installation.ok("audit list --limit 20 --json").contains("unreachable").then_some(())
        });
        let retry = json!({ "name": "greet", "arguments": {}, "requestState": asked["requestState"] });
        let late = alice.call("/mcp/legacy", retry);
        assert_eq!(late["error"]["code"], -32602, "{late}");
    }

    fn a_modern_servers_state_comes_back_from_its_person_and_request_alone(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_2");
        grant(&installation, "modern", &json!({ "type": "streamable-http", "url": server.url }));
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        let hub = installation.serve();
        let (alice, bob) = (Person::new(&hub, installation.key("alice")), Person::new(&hub, installation.key("bob")));
        let answer = |key: &str, value: &str| json!({ key: { "action": "accept", "content": { key: value } } });
        let first = json!({ "name": "ask_twice", "arguments": {}, "inputResponses": answer("name", "Ada") });
        let asked = ask(&alice, "/mcp/modern", &first);
        let state = asked["requestState"].as_str().unwrap().to_owned();
        assert!(!state.contains("Ada"), "it is sealed: {state}");
        let second = json!({
            "name": "ask_twice", "arguments": {}, "inputResponses": answer("color", "blue"), "requestState": state,
        });
        let stolen = bob.call("/mcp/modern", second.clone());
        assert_eq!(stolen["error"]["code"], -32602, "{stolen}");
        let mut changed = second.clone();
        changed["arguments"] = json!({ "more": true });
        let changed = alice.call("/mcp/modern", changed);
        assert_eq!(changed["error"]["code"], -32602, "{changed}");
        assert_eq!(ask(&alice, "/mcp/modern", &second)["content"][0]["text"], "Ada likes blue.");
        // Both rounds have the same arguments; the log says that something else was brought back.
        let log = installation.ok("audit list --limit 50 --json");
        let digests: BTreeSet<&str> = log
            .match_indices("\"arguments\"")
            .filter_map(|(at, _)| log[at..].split('"').nth(3).filter(|text| text.len() == 64))
            .collect();
        assert!(digests.len() >= 2, "{log}");
    }

    fn nobody_is_asked_what_she_can_not_do(installation) {
        let servers = SERVERS.map(|(name, python)| (name, asking(python)));
        for (name, server) in &servers {
            grant(&installation, name, &json!({ "type": "streamable-http", "url": server.url }));
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        let script = json!([{ "action": "call", "name": "greet" }, { "action": "call", "name": "ask_model" }]);
        let alice = Person::new(&hub, key.clone());
        for (name, _) in &servers {
            let params = json!({ "name": "greet", "arguments": {} });
            let answer = alice.call_with(&format!("/mcp/{name}"), params, json!({ "sampling": {} }));
            assert_ne!(answer["result"]["resultType"], "input_required", "{name}: {answer}");
            for (python, era) in CLIENTS {
                let answers = through((python, era), (&hub.url(&format!("/mcp/{name}")), &key), &[], &script);
                for answer in answers {
                    assert_eq!(answer.get("questions"), None, "{name}, {python} {era}: {answer}");
                    let failed = answer.get("error").is_some() || answer["result"]["isError"] == true;
                    assert!(failed, "{name}, {python} {era}: {answer}");
                }
            }
        }
    }

    fn log_messages_come_as_grave_as_the_client_wants(installation) {
        let servers = SERVERS.map(|(name, python)| (name, asking(python)));
        for (name, server) in &servers {
            grant(&installation, name, &json!({ "type": "streamable-http", "url": server.url }));
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        let script = json!([{ "action": "call", "name": "log_some" }]);
        for (name, _) in &servers {
            for (python, era) in CLIENTS {
                for (level, heard) in [(None, 2), (Some("debug"), 3), (Some("error"), 1), (Some("alert"), 0)] {
                    // A modern client that says nothing wants nothing.
                    let heard = if level.is_none() && era == "modern" { 0 } else { heard };
                    let options: Vec<&str> = level.iter().flat_map(|level| ["--level", level]).collect();
                    let answers = through((python, era), (&hub.url(&format!("/mcp/{name}")), &key), &options, &script);
                    let logged = answers[0]["logged"].as_array().map_or(0, Vec::len);
                    assert_eq!(logged, heard, "{name}, {python} {era} {level:?}: {answers:?}");
                }
            }
        }
    }
}

/// Runs every question with a client of each kind.
pub(crate) fn compare(clients: &[(&str, &str)], url: &str, prefix: &str, key: &str) {
    let greet = json!({ "action": "call", "name": format!("{prefix}greet") });
    for &(python, era) in clients {
        let who = format!("{python} {era} at {url}");
        let ask = |options: &[&str], script: &Value| through((python, era), (url, key), options, script);
        expect_answers(&ask(&ABLE, &questions(prefix)), &who);
        let declined = ask(&["--elicit", "decline"], &json!([greet]));
        assert_eq!(
            declined[0]["result"]["content"][0]["text"], "decline: hello anyway.",
            "{who}: {declined:?}"
        );
    }
}

/// Calls each tool that asks something, by the names of an endpoint.
pub(crate) fn questions(prefix: &str) -> Value {
    let call = |name: &str| json!({ "action": "call", "name": format!("{prefix}{name}") });
    json!([call("greet"), call("ask_model"), call("count_folders"), call("ask_twice")])
}

/// Checks that each of those calls knew what its client had answered.
pub(crate) fn expect_answers(answers: &[Value], who: &str) {
    let texts: Vec<&Value> = answers.iter().map(|answer| &answer["result"]["content"][0]["text"]).collect();
    let expected = [
        "Hello, a name!",
        "The model says: Paris",
        "folders: file:///one, file:///two",
        "a name likes a color.",
    ];
    assert_eq!(texts, expected, "{who}: {answers:#?}");
    assert_eq!(answers[3]["asked"].as_array().map(Vec::len), Some(2), "{who}");
}

pub(crate) fn through(
    (python, era): (&str, &str),
    (url, key): (&str, &str),
    more: &[&str],
    script: &Value,
) -> Vec<Value> {
    let header = format!("Authorization: Bearer {key}");
    let spoken = if era == "events" { &["legacy", "--events"][..] } else { &[era] };
    let options = [&["--url", url, "--header", &header, "--era"], spoken, more].concat();
    client(python, &options.into_iter().map(str::to_owned).collect::<Vec<_>>(), script)
}

pub(crate) fn grant(installation: &Installation, name: &str, server: &Value) {
    installation.grant_all("alice", name, &json!({ "mcpServers": { name: server } }));
}

/// Is a person with a modern client that can be asked everything.
struct Person {
    address: SocketAddr,
    bearer: String,
}

impl Person {
    fn new(hub: &Serving, key: String) -> Self {
        Self { address: hub.address, bearer: format!("Bearer {key}") }
    }

    fn call(&self, path: &str, params: Value) -> Value {
        self.call_with(path, params, json!({ "elicitation": {}, "sampling": {}, "roots": {} }))
    }

    fn call_with(&self, path: &str, mut params: Value, capabilities: Value) -> Value {
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        let name = params["name"].as_str().unwrap().to_owned();
        let body = modern(1, "tools/call", params);
        send(self.address, "POST", path, &call_headers(&self.bearer, &name), &body).json()
    }
}

fn ask(person: &Person, path: &str, params: &Value) -> Value {
    let answer = person.call(path, params.clone());
    assert!(answer.get("result").is_some(), "{params}: {answer}");
    answer["result"].clone()
}
