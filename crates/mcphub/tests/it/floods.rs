//! Servers that say more than anybody reads. The hub holds a little of it and no more, counts what it drops, serves others
//! meanwhile, and loses no answer; whatever era either end speaks, over HTTP and as a process.
//!
//! The server is written by hand: it says as much as it can, as fast as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::bare::{Bare, Era, Received, Way};
use crate::harness::client::{Stream, call, call_headers, list, modern, modern_headers, open, send};
use crate::harness::{Database, Installation, Serving, eventually_within};

/// How many notifications a flood has, each with as many bytes of something: together more than may be held.
const FLOOD: usize = 20_000;
const BYTES: usize = 6_144;
/// By how much the hub's memory may grow meanwhile, in KiB.
const MARGIN: u64 = 32 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
const URI: &str = "notes://a";
const KINDS: [(Era, Transport); 4] = [
    (Era::Modern, Transport::Http),
    (Era::Legacy, Transport::Http),
    (Era::Modern, Transport::Stdio),
    (Era::Legacy, Transport::Stdio),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Http,
    Stdio,
}

/// Is a hub with one server that floods.
struct House {
    hub: Serving,
    key: String,
    /// How many notifications the server could say.
    said: Arc<AtomicUsize>,
    _installation: Installation,
}

/// Is a client that reads when it wants to.
struct Client<'a> {
    house: &'a House,
    era: Era,
    bearer: String,
    session: String,
}

#[test]
fn a_flood_in_a_call_costs_nobody_anything_and_not_its_answer() {
    for (server, transport) in KINDS {
        for client in [Era::Modern, Era::Legacy] {
            let what = format!("{client:?} client, {server:?} server over {transport:?}");
            println!("{what}");
            in_a_call(&House::open((server, transport)), (client, transport), &what);
        }
    }
}

#[test]
fn a_flood_on_a_stream_costs_nobody_anything_and_not_the_stream() {
    for (server, transport) in KINDS {
        for client in [Era::Modern, Era::Legacy] {
            let what = format!("{client:?} client, {server:?} server over {transport:?}");
            println!("{what}");
            on_a_stream(&House::open((server, transport)), client, &what);
        }
    }
}

fn in_a_call(house: &House, (client, transport): (Era, Transport), what: &str) {
    let before = house.hub.memory();
    let mut stream = Client::new(house, client).calls("flood");
    house.works(what);
    house.settles(transport == Transport::Stdio, what);
    house.holds_little(before, what);
    house.works(what);
    let (mut progress, mut logged) = (0, 0);
    let answer = loop {
        let message = next(&mut stream).unwrap_or_else(|| panic!("{what}: the answer is lost"));
        match message["method"].as_str() {
            Some("notifications/progress") => progress += 1,
            Some("notifications/message") => logged += 1,
            Some(other) => panic!("{what}: {other}"),
            None => break message,
        }
    };
    assert_eq!(answer["result"]["content"][0]["text"], "done", "{what}: {answer}");
    let dropped = house.dropped();
    match transport {
        // The server waits for whoever reads.
        Transport::Http => assert_eq!((progress, logged, dropped), (FLOOD / 2, FLOOD / 4, 0), "{what}"),
        // A process serves others, too, and waits for nobody.
        Transport::Stdio => {
            assert!(progress > 0 && dropped > FLOOD / 4, "{what}: {progress} heard, {dropped} dropped");
            assert!(progress + dropped >= FLOOD / 2, "{what}: {progress} heard, {dropped} dropped");
        }
    }
}

fn on_a_stream(house: &House, client: Era, what: &str) {
    let before = house.hub.memory();
    let mut stream = Client::new(house, client).listens();
    house.works(what);
    house.settles(true, what);
    house.holds_little(before, what);
    house.works(what);
    let mut heard = 0;
    loop {
        let message = next(&mut stream).unwrap_or_else(|| panic!("{what}: the stream has ended"));
        if message["params"]["last"] == true {
            break;
        }
        let method = message["method"].as_str().unwrap_or_default();
        // A session is told of lists once a second, however often they change.
        let counts = client == Era::Modern || method == "notifications/resources/updated";
        heard += usize::from(counts && method.ends_with("ed"));
    }
    let wanted = if client == Era::Modern { FLOOD } else { FLOOD / 2 };
    let dropped = house.dropped();
    assert!(heard > 0 && dropped > wanted / 2, "{what}: {heard} heard, {dropped} dropped");
    assert!(heard + dropped >= wanted, "{what}: {heard} heard, {dropped} dropped");
}

impl House {
    fn open((era, transport): (Era, Transport)) -> Self {
        let (installation, said) = (Installation::new(Database::Sqlite), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&said);
        let server = Bare::start(era, &["flood", "echo"], move |received, way| {
            let is_process = matches!(way, Way::Lines(_));
            match (received.method.as_str(), received.name.as_str()) {
                ("tools/call", "flood") => flood_call(received, way, &counted),
                ("tools/call", _) => way.answer(received, &done()),
                ("subscriptions/listen", _) => flood_listener(received, way, &counted),
                ("resources/subscribe", _) => {
                    way.answer(received, "{}")?;
                    if is_process { flood_session(way, &counted) } else { Ok(()) }
                }
                ("resources/unsubscribe", _) => way.answer(received, "{}"),
                ("GET", _) => flood_session(way, &counted),
                _ => way.refuse(received),
            }
        });
        let definition = if transport == Transport::Http { server.http() } else { server.stdio() };
        installation.grant_all("alice", "bare", &json!({ "mcpServers": { "bare": definition } }));
        let (key, hub) = (installation.key("alice"), installation.serve());
        list(hub.address, "/mcp/bare", &key);
        let house = Self { hub, key, said, _installation: installation };
        house.works("the start");
        house
    }

    /// Waits until the server has said everything, or, where it has to wait itself, says nothing more.
    fn settles(&self, says_all: bool, what: &str) {
        let (mut last, mut still) = (0, 0);
        eventually_within(PATIENCE, what, || {
            let said = self.said.load(Ordering::Relaxed);
            still = if said == last && said > 0 { still + 1 } else { 0 };
            last = said;
            // It may be asked for its news more than once.
            let rests = still == 25 && (!says_all || said >= FLOOD);
            (said == FLOOD || rests).then_some(())
        });
    }

    fn holds_little(&self, before: u64, what: &str) {
        let after = self.hub.memory();
        assert!(after < before + MARGIN, "{what}: from {before} to {after} KiB");
    }

    fn works(&self, what: &str) {
        let answer = call(self.hub.address, "/mcp/bare", &self.key, "echo", json!({})).json();
        assert_eq!(answer["result"]["content"][0]["text"], "done", "{what}: {answer}");
    }

    fn dropped(&self) -> usize {
        self.hub.metric("mcphub_dropped_notifications_total")
    }
}

impl<'a> Client<'a> {
    fn new(house: &'a House, era: Era) -> Self {
        let mut client = Self { house, era, bearer: format!("Bearer {}", house.key), session: String::new() };
        if era == Era::Legacy {
            let hello = json!({
                "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" },
            });
            let body = legacy(1, "initialize", &hello);
            let opened = send(house.hub.address, "POST", "/mcp/bare", &client.headers()[..3], &body);
            client.session = opened.header("mcp-session-id").unwrap().to_owned();
        }
        client
    }

    fn headers(&self) -> [(&str, &str); 5] {
        [
            ("Authorization", &self.bearer),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2025-11-25"),
            ("Mcp-Session-Id", &self.session),
        ]
    }

    /// Calls a tool, and wants to hear of progress and of what is logged.
    fn calls(&self, tool: &str) -> Stream {
        let mut params = json!({ "name": tool, "_meta": { "progressToken": "mine" } });
        let address = self.house.hub.address;
        match self.era {
            Era::Modern => {
                params["_meta"]["io.modelcontextprotocol/logLevel"] = json!("info");
                let body = modern(1, "tools/call", params);
                open(address, "POST", "/mcp/bare", &call_headers(&self.bearer, tool), &body)
            }
            Era::Legacy => {
                open(address, "POST", "/mcp/bare", &self.headers(), &legacy(2, "tools/call", &params))
            }
        }
    }

    /// Opens the stream of what changes.
    fn listens(&self) -> Stream {
        let address = self.house.hub.address;
        match self.era {
            Era::Modern => {
                let wish = json!({
                    "resourceSubscriptions": [URI], "toolsListChanged": true, "promptsListChanged": true,
                });
                let body = modern(1, "subscriptions/listen", json!({ "notifications": wish }));
                let headers = modern_headers(&self.bearer, "subscriptions/listen");
                open(address, "POST", "/mcp/bare", &headers, &body)
            }
            Era::Legacy => {
                let stream = open(address, "GET", "/mcp/bare", &self.headers(), "");
                let body = legacy(2, "resources/subscribe", &json!({ "uri": URI }));
                let answer = send(address, "POST", "/mcp/bare", &self.headers(), &body).json();
                assert_eq!(answer["result"], json!({}));
                stream
            }
        }
    }
}

/// Floods a call with progress, log messages, and news that is for others.
fn flood_call(received: &Received, way: &mut Way, said: &AtomicUsize) -> std::io::Result<()> {
    let (token, more) = (received.token.as_deref().unwrap_or("0"), "x".repeat(BYTES));
    for number in 0..FLOOD {
        let (method, params) = match number % 4 {
            0 | 2 => (
                "notifications/progress",
                format!(r#"{{"progressToken":{token},"progress":{number},"message":"{more}"}}"#),
            ),
            1 => ("notifications/message", format!(r#"{{"level":"error","data":"{more}"}}"#)),
            _ => ("notifications/tools/list_changed", format!(r#"{{"more":"{more}"}}"#)),
        };
        way.tell(&notification(method, &params))?;
        said.fetch_add(1, Ordering::Relaxed);
    }
    way.answer(received, &done())
}

/// Floods a stream that was asked for.
fn flood_listener(received: &Received, way: &mut Way, said: &AtomicUsize) -> std::io::Result<()> {
    let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{}}}"#, received.id);
    let honoured = format!(r#"{{{meta},"notifications":{{}}}}"#);
    way.tell(&notification("notifications/subscriptions/acknowledged", &honoured))?;
    flood_stream(way, said, &meta)
}

/// Floods a session.
fn flood_session(way: &mut Way, said: &AtomicUsize) -> std::io::Result<()> {
    flood_stream(way, said, r#""more":1"#)
}

fn flood_stream(way: &mut Way, said: &AtomicUsize, mark: &str) -> std::io::Result<()> {
    let more = "x".repeat(BYTES);
    for number in 0..FLOOD {
        let (method, params) = match number % 4 {
            0 | 2 => ("notifications/resources/updated", format!(r#"{{"uri":"{URI}","x":"{more}",{mark}}}"#)),
            1 => ("notifications/tools/list_changed", format!(r#"{{"x":"{more}",{mark}}}"#)),
            _ => ("notifications/prompts/list_changed", format!(r#"{{"x":"{more}",{mark}}}"#)),
        };
        way.tell(&notification(method, &params))?;
        said.fetch_add(1, Ordering::Relaxed);
    }
    // Whoever listens still hears what comes later.
    loop {
        let params = format!(r#"{{"uri":"{URI}","last":true,{mark}}}"#);
        way.tell(&notification("notifications/resources/updated", &params))?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn done() -> String {
    r#"{"content":[{"type":"text","text":"done"}],"resultType":"complete"}"#.to_owned()
}

fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

fn legacy(id: u32, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// Reads the next message of a stream; nothing when it has ended.
fn next(stream: &mut Stream) -> Option<Value> {
    loop {
        if let Some(data) = stream.line()?.strip_prefix("data: ") {
            return Some(serde_json::from_str(data).unwrap());
        }
    }
}
