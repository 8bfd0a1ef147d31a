//! An HTTP server that can do everything wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::schema;

/// Is the server; at its end, all that it has seen has to be valid.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

/// Is a request that came; `CLOSED` is the end of a connection whose answer was left open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) verb: String,
    pub(crate) head: String,
    pub(crate) body: Value,
    /// The body as it came, JSON or not.
    pub(crate) text: String,
}

pub(crate) struct Plan {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Takes the next request.
    KeepAlive,
    /// Breaks the connection.
    Close,
    /// Leaves the answer open until the other side closes.
    Hang,
    /// Sends the last piece again and again until the other side closes.
    Flood,
}

impl Seen {
    pub(crate) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    /// Is the path that is asked for, with its query.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &Value {
        &self.body["id"]
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }
}

impl Web {
    pub(crate) async fn start(respond: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, respond) = (Arc::new(Mutex::new(Vec::new())), Arc::new(respond));
        let log = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (respond, log) = (Arc::clone(&respond), Arc::clone(&log));
                connections.spawn(async move { serve(stream, &*respond, &log).await });
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    /// Starts a modern server whose calls are answered by `respond`.
    pub(crate) async fn modern(respond: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Self {
        Self::start(
            move |seen| if seen.method() == "server/discover" { discovery(seen) } else { respond(seen) },
        )
        .await
    }

    /// Starts a legacy server with sessions whose calls are answered by `respond`.
    pub(crate) async fn legacy(respond: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Self {
        Self::start(move |seen| match (seen.verb.as_str(), seen.method()) {
            ("DELETE", _) => status(200),
            (_, "server/discover") => error(seen, 400, -32600),
            (_, "initialize") => initialized(seen, "first"),
            (_, "tools/call" | "tools/list") => respond(seen),
            _ => status(202),
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub(crate) fn definition(&self) -> Value {
        json!({ "type": "streamable-http", "url": self.url(), "headers": { "authorization": "Bearer ${USER_T}" } })
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn methods(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|seen| if seen.body.is_null() { seen.verb.clone() } else { seen.method().to_owned() })
            .collect()
    }

    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method() == "tools/call").collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let of_protocol = |seen: &Seen| seen.body.get("jsonrpc").is_some();
            for seen in self.seen().into_iter().filter(of_protocol) {
                schema::check_received(seen.header("mcp-protocol-version"), &seen.body);
            }
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    respond: &(dyn Fn(&Seen) -> Plan + Send + Sync),
    log: &Mutex<Vec<Seen>>,
) {
    while let Some(request) = read(&mut stream).await {
        log.lock().push(request.clone());
        let plan = respond(&request);
        for piece in &plan.pieces {
            if stream.write_all(piece).await.is_err() {
                return;
            }
        }
        match plan.end {
            End::KeepAlive => continue,
            End::Close => return,
            End::Flood => while stream.write_all(plan.pieces.last().unwrap()).await.is_ok() {},
            End::Hang => while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {},
        }
        log.lock().push(Seen { verb: "CLOSED".into(), ..Seen::default() });
        return;
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let seen = Seen { verb: head.split(' ').next().unwrap().into(), head, ..Seen::default() };
            let length: usize = seen.header("content-length").map_or(0, |value| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let text = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                let body = serde_json::from_str(&text).unwrap_or(Value::Null);
                return Some(Seen { body, text, ..seen });
            }
        }
        // A TLS handshake is no request.
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes.starts_with(b"\x16\x03") {
            return None;
        }
    }
}

pub(crate) fn raw(head: &str, body: &str, end: End) -> Plan {
    Plan { pieces: vec![format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()], end }
}

pub(crate) fn status(code: u16) -> Plan {
    raw(&format!("{code} X\r\ncontent-length: 0"), "", End::KeepAlive)
}

pub(crate) fn message(code: u16, extra: &str, body: &Value) -> Plan {
    let body = body.to_string();
    let head = format!("{code} X\r\ncontent-type: application/json\r\n{extra}content-length: {}", body.len());
    raw(&head, &body, End::KeepAlive)
}

pub(crate) fn result(seen: &Seen, result: &Value) -> Plan {
    message(200, "", &json!({ "jsonrpc": "2.0", "id": seen.id(), "result": result }))
}

pub(crate) fn error(seen: &Seen, code: u16, number: i64) -> Plan {
    let error = json!({ "code": number, "message": "no" });
    message(code, "", &json!({ "jsonrpc": "2.0", "id": seen.id(), "error": error }))
}

pub(crate) fn discovery(seen: &Seen) -> Plan {
    let versions = ["2026-07-28"];
    result(
        seen,
        &json!({ "resultType": "complete", "supportedVersions": versions, "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "private" }),
    )
}

pub(crate) fn initialized(seen: &Seen, session: &str) -> Plan {
    let info = json!({ "name": "s", "version": "1" });
    let result = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info });
    let body = json!({ "jsonrpc": "2.0", "id": seen.id(), "result": result });
    message(200, &format!("mcp-session-id: {session}\r\n"), &body)
}

/// Answers with events; each piece is written alone.
pub(crate) fn events(pieces: Vec<Vec<u8>>, end: End) -> Plan {
    let mut all =
        vec![b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec()];
    all.extend(pieces);
    Plan { pieces: all, end }
}

pub(crate) fn event(body: &Value) -> Vec<u8> {
    format!("event: message\ndata: {body}\n\n").into_bytes()
}
