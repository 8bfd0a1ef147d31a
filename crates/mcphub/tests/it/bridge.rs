//! The whole bridge in one table: each client before each server, with everything that the protocol has.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::page::settle;
use crate::harness::peer::{Peer, asking, client, program};
use crate::harness::{Database, Installation, Serving, tool};

/// Between these lines of the page stand the tables.
const MARKS: [&str; 2] = ["<!-- bridge -->\n", "<!-- /bridge -->\n"];
const NEW: &str = "MCPHUB_TEST_PYTHON_2";
const OLD: &str = "MCPHUB_TEST_PYTHON_1";
const NOTE: &str = "notes://a";
const TOOLS: &str = "notifications/tools/list_changed";
const PROMPTS: &str = "notifications/prompts/list_changed";
const NOTES: &str = "notifications/resources/updated";

const CLIENTS: [Client; 3] = [
    Client { sdk: "SDK 2.3", python: NEW, era: "modern" },
    Client { sdk: "SDK 2.3", python: NEW, era: "legacy" },
    Client { sdk: "SDK 1.30", python: OLD, era: "legacy" },
];

/// The servers: SDK 2.3 refuses sessions, SDK 1.30 knows nothing else.
const SERVERS: [Server; 4] = [
    Server { name: "modern-http", python: NEW, era: "modern", is_process: false },
    Server { name: "legacy-http", python: OLD, era: "legacy", is_process: false },
    Server { name: "modern-stdio", python: NEW, era: "modern", is_process: true },
    Server { name: "legacy-stdio", python: OLD, era: "legacy", is_process: true },
];

/// Is a client: which SDK it is made of, and the era that it speaks.
struct Client {
    sdk: &'static str,
    python: &'static str,
    era: &'static str,
}

/// Is a server: its name at the hub, and how it is spoken to.
struct Server {
    name: &'static str,
    python: &'static str,
    era: &'static str,
    is_process: bool,
}

/// Is something that the protocol has: what a client does to see it, and whether the answers show that it works.
struct Feature {
    name: &'static str,
    actions: Vec<Value>,
    works: fn(&[Value]) -> bool,
}

/// Is a reason why something doesn't pass: of which feature, in which cells, what
/// they say, and why.
struct Reason {
    feature: &'static str,
    applies: fn(&Client, &Server) -> bool,
    says: &'static str,
    why: &'static str,
}

const TASKS: &str = "tasks";
const HEADERS: &str = "arguments in headers (`x-mcp-header`)";

/// What no gateway can translate ("–").
const REASONS: [Reason; 4] = [
    Reason {
        feature: TASKS,
        applies: |client, server| client.era != server.era,
        says: "–",
        why: "Tasks are an extension of 2026-07-28; those of 2025-11-25 were an experiment of another shape. Each passes \
              within its era, and to the other a tool's call is one that waits for its result. A tool that has to become a \
              task (`taskSupport: required`) refuses a modern client's call.",
    },
    Reason {
        feature: TASKS,
        applies: |client, _| client.era == "legacy" && client.python == NEW,
        says: "–",
        why: "SDK 2.3 has no tasks of 2025-11-25.",
    },
    Reason {
        feature: HEADERS,
        applies: |_, server| server.is_process,
        says: "–",
        why: "A process is sent no headers; it gets the argument itself.",
    },
    Reason {
        feature: HEADERS,
        applies: |_, server| server.era == "legacy",
        says: "–",
        why: "Headers that repeat arguments came with 2026-07-28, and a legacy server looks for none; it gets the argument \
              itself.",
    },
];

fn call(name: &str) -> Value {
    json!({ "action": "call", "name": name })
}

fn with(name: &str, more: &Value) -> Value {
    let mut action = call(name);
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    action
}

fn list(kind: &str) -> Value {
    json!({ "action": "list", "kind": kind })
}

/// Returns the text that a call answered with.
fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_default()
}

fn named(items: &Value, name: &str) -> bool {
    items.as_array().into_iter().flatten().any(|item| item["name"] == name)
}

fn counts(answer: &Value, member: &str) -> usize {
    answer[member].as_array().map_or(0, Vec::len)
}

fn heard(answer: &Value, method: &str) -> bool {
    answer["heard"].as_array().into_iter().flatten().any(|heard| heard == method)
}

/// Lists everything, in the order of the table.
fn features() -> Vec<Feature> {
    let feature = |name, actions, works| Feature { name, actions, works };
    let watch = |tool: &str, change: &str| {
        vec![json!({ "action": "watch", "uri": NOTE, "name": tool, "for": [change] })]
    };
    let all = [
        offers(),
        vec![
            feature("progress", vec![with("count", &json!({ "progress": true }))], |answers| {
                counts(&answers[0], "progress") == 3 && text(&answers[0]) == "counted"
            }),
            feature("log messages", vec![call("log_some")], |answers| counts(&answers[0], "logged") == 3),
            feature(
                "cancellation",
                vec![with("hang", &json!({ "cancel_after": 0.5 })), call("was_cancelled")],
                |answers| answers[0]["cancelled"] == true && text(&answers[1]) == "cancelled",
            ),
            feature("a server says that its tools changed", watch("grow", TOOLS), |answers| {
                heard(&answers[0], TOOLS)
            }),
            feature("a server says that another list changed", watch("touch", PROMPTS), |answers| {
                heard(&answers[0], PROMPTS)
            }),
            feature("a resource changes (subscribed to)", watch("touch", NOTES), |answers| {
                heard(&answers[0], NOTES)
            }),
        ],
        questions(),
        vec![
            feature(
                TASKS,
                vec![with("slow_compute", &json!({ "arguments": { "seconds": 0.2, "label": "it" } }))],
                |answers| answers[0]["task"]["content"][0]["text"] == "computed it",
            ),
            feature(HEADERS, vec![with("region", &json!({ "arguments": { "region": "eu" } }))], |answers| {
                text(&answers[0]) == "eu"
            }),
        ],
    ];
    all.into_iter().flatten().collect()
}

/// Lists what a client asks a server for.
fn offers() -> Vec<Feature> {
    let feature = |name, actions, works| Feature { name, actions, works };
    let complete = json!({
        "action": "complete", "ref": { "type": "ref/prompt", "name": "first" }, "argument": "name", "value": "A",
    });
    vec![
        feature("tools: list, call", vec![list("tools"), call("count")], |answers| {
            named(&answers[0]["tools"], "count") && text(&answers[1]) == "counted"
        }),
        feature("structured content", vec![list("tools"), call("measure")], |answers| {
            let tools = answers[0]["tools"].as_array().unwrap();
            let described =
                tools.iter().any(|tool| tool["name"] == "measure" && tool["outputSchema"].is_object());
            described && answers[1]["result"]["structuredContent"] == json!({ "width": 3, "height": 4 })
        }),
        feature(
            "resources: list, read",
            vec![list("resources"), json!({ "action": "read", "uri": NOTE })],
            |answers| {
                named(&answers[0]["resources"], "note")
                    && answers[1]["result"]["contents"][0]["text"] == "a note"
            },
        ),
        feature(
            "resource templates: list, read",
            vec![list("resource_templates"), json!({ "action": "read", "uri": "notes://b/text" })],
            |answers| {
                answers[0]["resourceTemplates"][0]["uriTemplate"] == "notes://{name}/text"
                    && answers[1]["result"]["contents"][0]["text"] == "the note b"
            },
        ),
        feature(
            "prompts: list, get",
            vec![
                list("prompts"),
                json!({ "action": "prompt", "name": "first", "arguments": { "name": "Ada" } }),
            ],
            |answers| {
                named(&answers[0]["prompts"], "first")
                    && answers[1]["result"]["messages"][0]["content"]["text"] == "Say hello to Ada."
            },
        ),
        feature("lists in pages", vec![list("prompts")], |answers| {
            counts(&answers[0], "prompts") == 3 && named(&answers[0]["prompts"], "third")
        }),
        feature("completion", vec![complete], |answers| {
            answers[0]["result"]["completion"]["values"] == json!(["Ada", "Alan"])
        }),
    ]
}

/// Lists what a server asks a client for in the middle of a call.
fn questions() -> Vec<Feature> {
    let feature = |name, tool: &str, works| Feature { name, actions: vec![call(tool)], works };
    vec![
        feature("elicitation by a form", "greet", |answers| text(&answers[0]) == "Hello, a name!"),
        feature("elicitation by a URL", "open_page", |answers| {
            text(&answers[0]) == "the page: accept"
                && answers[0]["asked"][0]["url"] == "https://example.org/allow"
        }),
        feature("sampling", "ask_model", |answers| text(&answers[0]) == "The model says: Paris"),
        feature("roots", "count_folders", |answers| text(&answers[0]) == "folders: file:///one, file:///two"),
    ]
}

#[test]
fn the_page_says_what_passes_between_each_client_and_each_server() {
    let installation = Installation::new(Database::Sqlite);
    let peers: Vec<Option<Peer>> = SERVERS.iter().map(|server| offer(&installation, server)).collect();
    let (key, hub) = (installation.key("alice"), installation.serve());
    let (features, mut notes, mut page) = (features(), Vec::new(), String::new());
    for client in &CLIENTS {
        let meet = |server: &Server| self::meet(client, (&hub, server.name, &key), &features);
        let met = std::thread::scope(|scope| {
            let running = SERVERS.each_ref().map(|server| scope.spawn(move || meet(server)));
            running.map(|one| one.join().unwrap())
        });
        for server in SERVERS.iter().filter(|server| server.is_process) {
            eprintln!("{}: {}", server.name, installation.ok(&format!("server logs {}", server.name)));
        }
        let columns: Vec<Vec<String>> = SERVERS
            .iter()
            .zip(&met)
            .map(|(server, (_, found))| cells((client, server), &features, found, &mut notes))
            .collect();
        let revisions: BTreeSet<&str> = met.iter().map(|(revision, _)| revision.as_str()).collect();
        let revisions = revisions.into_iter().collect::<Vec<_>>().join(", ");
        page.push_str(&format!(
            "**Client: {}, {revisions}**\n\n{}\n",
            client.sdk,
            table(&features, &columns)
        ));
    }
    let numbered = notes.iter().enumerate().map(|(at, note)| format!("{}. {note}\n", at + 1));
    page.extend(numbered);
    drop(peers);
    settle("bridging.md", MARKS, &page);
}

/// Makes a server known to the hub, and starts it if the hub doesn't.
fn offer(installation: &Installation, server: &Server) -> Option<Peer> {
    let peer = (!server.is_process).then(|| asking(server.python));
    let definition = match &peer {
        Some(peer) => json!({ "type": "streamable-http", "url": peer.url }),
        // What asks a person needs a process for her alone.
        None => json!({
            "command": tool(server.python), "args": [program("asking_server.py"), "--stdio"],
            "env": { "WHOSE": "${HUB_USER_ID}" },
        }),
    };
    installation.grant_all("alice", server.name, &json!({ "mcpServers": { server.name: definition } }));
    peer
}

/// Does everything with one client at one server; returns the revision they speak and whether each feature works.
fn meet(
    Client { python, era, .. }: &Client,
    (hub, server, key): (&Serving, &str, &str),
    features: &[Feature],
) -> (String, Vec<bool>) {
    let url = hub.url(&format!("/mcp/{server}"));
    let header = format!("Authorization: Bearer {key}");
    let mut options = vec!["--url", &url, "--header", &header, "--era", era, "--able", "--elicit", "accept"];
    options.extend(["--level", "debug"]);
    options.push("--tasks");
    let actions = std::iter::once(json!({ "action": "info" }));
    let script: Vec<Value> = actions.chain(features.iter().flat_map(|one| one.actions.clone())).collect();
    let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
    let answers = client(python, &options, &json!(script));
    assert_eq!(answers.len(), script.len(), "{url} {python} {era}: {answers:#?}");
    let mut rest = &answers[1..];
    let works = features.iter().map(|feature| {
        let (own, others) = rest.split_at(feature.actions.len());
        rest = others;
        let works = (feature.works)(own);
        if !works {
            eprintln!("{url} {python} {era}, {}: {own:?}", feature.name);
        }
        works
    });
    let works = works.collect();
    (answers[0]["protocol"].as_str().unwrap().to_owned(), works)
}

/// Writes what was found, and numbers the reasons for what doesn't pass; without one it has to.
fn cells(
    (client, server): (&Client, &Server),
    features: &[Feature],
    found: &[bool],
    notes: &mut Vec<&'static str>,
) -> Vec<String> {
    let mut cell = |(feature, works): (&Feature, &bool)| {
        if *works {
            return "yes".to_owned();
        }
        let mut reasons = REASONS.iter().filter(|reason| reason.feature == feature.name);
        let reason = reasons.find(|reason| (reason.applies)(client, server));
        let Reason { says, why, .. } = reason.unwrap_or_else(|| {
            panic!("{} does not pass between a client of {} and {}", feature.name, client.sdk, server.name)
        });
        let at = notes.iter().position(|note| note == why).unwrap_or_else(|| {
            notes.push(why);
            notes.len() - 1
        });
        format!("{says} ({})", at + 1)
    };
    features.iter().zip(found).map(&mut cell).collect()
}

/// Writes the table of one client.
fn table(features: &[Feature], columns: &[Vec<String>]) -> String {
    let mut table = "| | modern, HTTP | legacy, HTTP | modern, process | legacy, process |\n".to_owned();
    table.push_str("|---|---|---|---|---|\n");
    for (at, feature) in features.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[at].as_str()).collect();
        table.push_str(&format!("| {} | {} |\n", feature.name, cells.join(" | ")));
    }
    table
}
