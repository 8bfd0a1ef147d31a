//! What passes through keeps its bytes: arguments, metadata, results, progress and whatever nobody knows arrive as they were
//! written, between clients and servers of both eras, over HTTP and as processes, alone and on the shared endpoint.
//!
//! The server is written by hand, for no SDK keeps bytes; what it gets and what the client gets is compared with what was
//! written, after the rewrites that the documents name and no others.

use std::sync::{Arc, Mutex};

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;

use crate::harness::bare::{Bare, Era};
use crate::harness::client::{Answer, send_for_anything};
use crate::harness::{Database, Installation, Serving};
use crate::json_text;

mod sketch;
use sketch::{Block, Sketch, block, content, plain, quoted, sketch};

/// How many messages are sent there and back.
const CASES: u32 = 400;
/// The servers: their names, their eras, and whether each is a process.
const SERVERS: [(&str, Era, bool); 4] = [
    ("modern", Era::Modern, false),
    ("legacy", Era::Legacy, false),
    ("modern-process", Era::Modern, true),
    ("legacy-process", Era::Legacy, true),
];
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Is one call, there and back.
#[derive(Clone, Debug)]
struct Case {
    client: Era,
    server: (&'static str, Era, bool),
    shared: bool,
    id: String,
    /// The client's progress token; the server tells of progress once if there is one.
    token: Option<String>,
    arguments: String,
    params: Sketch,
    meta: Option<Sketch>,
    progress: Sketch,
    content: Vec<Block>,
    result: Sketch,
    result_meta: Option<Sketch>,
}

/// Is what the servers say next, and what they got last.
#[derive(Default)]
struct Exchange {
    got: String,
    progress: Option<Sketch>,
    result: String,
}

/// Is a running hub with its servers and a client of each era.
struct House {
    exchange: Arc<Mutex<Exchange>>,
    hub: Serving,
    bearer: String,
    sessions: Vec<(String, String)>,
    _installation: Installation,
}

#[test]
fn what_passes_through_keeps_its_bytes() {
    let house = House::open();
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    runner.run(&case(), |case| house.pass(&case)).unwrap();
}

impl House {
    fn open() -> Self {
        let installation = Installation::new(Database::Sqlite);
        let exchange: Arc<Mutex<Exchange>> = Arc::default();
        for (name, era, is_process) in SERVERS {
            let exchange = Arc::clone(&exchange);
            let server = Bare::start(era, &["echo"], move |received, way| {
                if (received.method.as_str(), received.name.as_str()) != ("tools/call", "echo") {
                    return way.refuse(received);
                }
                let (progress, result) = {
                    let mut exchange = exchange.lock().unwrap();
                    exchange.got = String::from_utf8(received.bytes.clone()).unwrap();
                    (exchange.progress.take(), exchange.result.clone())
                };
                if let (Some(progress), Some(token)) = (progress, &received.token) {
                    let progress = progress.with("progressToken", token).loose();
                    way.tell(&flat(&notification(&progress)))?;
                }
                way.answer(received, &result)
            });
            let definition = if is_process { server.stdio() } else { server.http() };
            installation.grant_all("alice", name, &json!({ "mcpServers": { name: definition } }));
        }
        let (bearer, hub) = (format!("Bearer {}", installation.key("alice")), installation.serve());
        let mut house = Self { exchange, hub, bearer, sessions: Vec::new(), _installation: installation };
        let endpoints = SERVERS.iter().map(|(name, ..)| format!("/mcp/{name}")).chain(["/mcp".to_owned()]);
        house.sessions = endpoints.map(|path| (house.initialize(&path), path)).collect();
        house
    }

    fn initialize(&self, path: &str) -> String {
        let client = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client });
        let opened = self.post(path, &[], &body.to_string());
        opened.header("mcp-session-id").unwrap().to_owned()
    }

    fn post(&self, path: &str, more: &[(&str, &str)], body: &str) -> Answer {
        let headers = [
            ("Authorization", self.bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        // What the server sends back is arbitrary, and so mostly invalid.
        send_for_anything(self.hub.address, path, &[&headers, more].concat(), body)
    }

    /// Sends a call through the hub and compares both ends with what was written.
    fn pass(&self, case: &Case) -> Result<(), TestCaseError> {
        *self.exchange.lock().unwrap() = Exchange {
            got: String::new(),
            progress: case.token.is_some().then(|| case.progress.clone()),
            result: case.written_result(),
        };
        let answer = self.call(case);
        let got = std::mem::take(&mut self.exchange.lock().unwrap().got);
        let id = got.split(r#""id":"#).nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
        prop_assert_eq!(&got, &case.expected_request(id), "at the server; {:?}", answer);
        let mut expected = Vec::from_iter(case.expected_progress());
        expected.push(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, case.id, case.expected_result()));
        prop_assert_eq!(messages(&answer), expected, "at the client");
        Ok(())
    }

    fn call(&self, case: &Case) -> Answer {
        let (path, name) = (case.path(), case.name());
        let body = case.written_request();
        match case.client {
            Era::Modern => {
                let headers = [
                    ("MCP-Protocol-Version", "2026-07-28"),
                    ("Mcp-Method", "tools/call"),
                    ("Mcp-Name", name.as_str()),
                ];
                self.post(&path, &headers, &body)
            }
            Era::Legacy => {
                let session = self.sessions.iter().find(|(_, of)| *of == path).map(|(id, _)| id).unwrap();
                let headers = [("MCP-Protocol-Version", "2025-11-25"), ("Mcp-Session-Id", session.as_str())];
                self.post(&path, &headers, &body)
            }
        }
    }
}

impl Case {
    fn path(&self) -> String {
        if self.shared { "/mcp".to_owned() } else { format!("/mcp/{}", self.server.0) }
    }

    fn name(&self) -> String {
        if self.shared { format!("{}__echo", self.server.0) } else { "echo".to_owned() }
    }

    /// Writes the client's metadata, with what its era has to say.
    fn client_meta(&self) -> Option<Sketch> {
        let mut meta = self.meta.clone();
        if let Some(token) = &self.token {
            meta = Some(meta.unwrap_or_default().with("progressToken", token));
        }
        match self.client {
            Era::Modern => {
                let meta = meta.unwrap_or_default().with(PROTOCOL_VERSION, r#""2026-07-28""#);
                Some(meta.with(CAPABILITIES, "{}"))
            }
            Era::Legacy => meta,
        }
    }

    fn written_request(&self) -> String {
        let mut params =
            self.params.clone().with("name", &quoted(&self.name())).with("arguments", &self.arguments);
        if let Some(meta) = self.client_meta() {
            params = params.with("_meta", &meta.loose());
        }
        let (id, params, space) = (&self.id, params.loose(), &self.params.space);
        format!(
            r#"{{{space}"jsonrpc":"2.0","method":{space}"tools/call","params":{params},"id":{id}{space}}}"#
        )
    }

    /// Writes what has to arrive at the server, where the call has this id.
    fn expected_request(&self, id: &str) -> String {
        let mut params = self.params.clone().with("name", r#""echo""#).with("arguments", &self.arguments);
        let mut meta = self.client_meta().unwrap_or_default();
        if self.token.is_some() {
            meta = meta.with("progressToken", id);
        }
        let info = format!(r#"{{"name":"mcphub","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
        let meta = match self.server.1 {
            Era::Modern => {
                let meta = meta.with(PROTOCOL_VERSION, r#""2026-07-28""#);
                let meta = meta.with(CAPABILITIES, "{}").with(CLIENT_INFO, &info);
                // A legacy client hears log messages unless it says otherwise, a modern one if it says so.
                if self.client == Era::Legacy { meta.with(LOG_LEVEL, r#""info""#) } else { meta }
            }
            Era::Legacy => meta.without(PROTOCOL_VERSION).without(CAPABILITIES).without(CLIENT_INFO),
        };
        params = params.with_unless_empty("_meta", &meta);
        let message =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{}}}"#, params.tight());
        if self.server.2 { flat(&message) } else { message }
    }

    fn expected_progress(&self) -> Option<String> {
        let progress = self.progress.clone().with("progressToken", self.token.as_ref()?);
        // It comes in an event or a line, which has no line breaks, and leaves under a token that has none.
        Some(notification(&flat(&progress.tight())))
    }

    /// Writes the server's result: in one line where it comes in one.
    fn written_result(&self) -> String {
        let mut result = self.result.clone().with("content", &content(&self.content, Block::loose));
        if let Some(meta) = &self.result_meta {
            result = result.with("_meta", &meta.loose());
        }
        if self.server.1 == Era::Modern {
            result = result.with("resultType", r#""complete""#);
        }
        self.as_sent(&result.loose())
    }

    /// Writes what has to arrive at the client.
    fn expected_result(&self) -> String {
        let renames = self.shared && !self.content.iter().all(|block| matches!(block, Block::Other(_)));
        let blocks = match renames {
            true => content(&self.content, |block| block.shared(self.server.0)),
            false => content(&self.content, Block::loose),
        };
        let mut result = self.result.clone().with("content", &blocks);
        if let Some(meta) = &self.result_meta {
            result = result.with("_meta", &meta.loose());
        }
        let is_modern = self.server.1 == Era::Modern;
        if is_modern {
            result = result.with("resultType", r#""complete""#);
        }
        let mut meta = self.result_meta.clone().unwrap_or_default();
        let written = match (self.client, is_modern) {
            (Era::Modern, false) => {
                let version = env!("CARGO_PKG_VERSION");
                let info = format!(r#"{{"name":"mcphub","title":"MCPHub","version":"{version}"}}"#);
                meta = meta.with(SERVER_INFO, &info);
                result.with("resultType", r#""complete""#).with_unless_empty("_meta", &meta).tight()
            }
            (Era::Legacy, true) => result.without("resultType").with_unless_empty("_meta", &meta).tight(),
            _ if renames => result.tight(),
            _ => result.loose(),
        };
        self.as_sent(&written)
    }

    fn as_sent(&self, text: &str) -> String {
        if self.server.2 || self.token.is_some() { flat(text) } else { text.to_owned() }
    }
}

fn notification(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#)
}

/// Writes a text in one line. Inside of strings there are no line breaks.
fn flat(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Lists the messages of an answer: its body, or the data of its events.
fn messages(answer: &Answer) -> Vec<String> {
    if answer.header("content-type") != Some("text/event-stream") {
        return vec![answer.body.clone()];
    }
    let events = answer.body.split("\n\n").map(|event| {
        event.split('\n').filter_map(|line| line.strip_prefix("data: ")).collect::<Vec<_>>().join("\n")
    });
    events.filter(|data| !data.is_empty()).collect()
}

fn case() -> impl Strategy<Value = Case> {
    let client = prop_oneof![Just(Era::Modern), Just(Era::Legacy)];
    let to = (client, prop::sample::select(&SERVERS[..]), any::<bool>());
    let id = prop_oneof![Just("7".to_owned()), Just("-1".to_owned()), Just(quoted("é\"\u{2028}"))];
    let token = prop_oneof![Just("1".to_owned()), Just(r#""\u0074\/""#.to_owned()), Just(quoted("é"))];
    let request =
        (id, prop::option::of(token), arguments(), sketch("name", "arguments"), prop::option::of(plain(3)));
    let result = (
        sketch("progressToken", "progress"),
        prop::collection::vec(block(), 0..4),
        sketch("content", "structuredContent"),
        prop::option::of(plain(3)),
    );
    (to, request, result).prop_map(|((client, server, shared), request, result)| {
        let (id, token, arguments, params, meta) = request;
        let (progress, content, result, result_meta) = result;
        let progress = progress.with("progress", "1.0e+2");
        Case {
            client,
            server,
            shared,
            id,
            token,
            arguments,
            params,
            meta,
            progress,
            content,
            result,
            result_meta,
        }
    })
}

/// Writes arguments, which are an object.
fn arguments() -> impl Strategy<Value = String> {
    prop_oneof![9 => json_text::object(json_text::value()), 1 => plain(3).prop_map(|object| object.loose())]
}
