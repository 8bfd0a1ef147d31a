//! A small HTTP/1.1 client over one connection for each request: enough to send what no library would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::witness::Witness;

/// Is an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Reads the body, or the last event of a stream, as JSON.
    pub(crate) fn json(&self) -> Value {
        let text = self.body.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(text.unwrap_or(&self.body)).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Is an answer whose body is still coming.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    witness: Option<Witness>,
    pub(crate) head: Answer,
}

impl Stream {
    /// Reads the whole body.
    pub(crate) fn rest(self) -> Answer {
        let Self { mut reader, witness, mut head } = self;
        let mut raw = Vec::new();
        reader.read_to_end(&mut raw).unwrap();
        head.body =
            if head.header("transfer-encoding") == Some("chunked") { unchunk(&raw) } else { text(raw) };
        if let Some(mut witness) = witness {
            witness.body(head.header("content-type").unwrap_or_default(), &head.body);
        }
        head
    }

    /// Waits for the next message in the events of the body, but not for ever.
    pub(crate) fn message(&mut self) -> Value {
        let mut signs = 0;
        loop {
            let line = self.line().expect("the stream is open");
            signs += usize::from(line.starts_with(':'));
            assert!(signs < 2, "nothing comes");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// Waits for the next line of data in the events of the body; nothing when the other side has closed.
    pub(crate) fn line_of_data(&mut self) -> Option<String> {
        loop {
            let line = self.line()?;
            if line.starts_with("data:") {
                return Some(line);
            }
        }
    }

    /// Reads the next line of the body; nothing when the other side has closed.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                self.witness.iter_mut().for_each(|witness| witness.line(&line));
                Some(line.trim_end().to_owned())
            }
        }
    }
}

/// Sends a request and reads nothing yet: every line of its answer, the first included, is still to come.
pub(crate) fn begin(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Stream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    socket.write_all(text.as_bytes()).unwrap();
    let head = Answer { status: 0, headers: Vec::new(), body: String::new() };
    Stream { reader: BufReader::new(socket), witness: Witness::of(path, headers, body), head }
}

/// Sends a request and reads the head of its answer.
pub(crate) fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Stream {
    let Stream { mut reader, mut witness, .. } = begin(address, method, path, headers, body);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    witness.iter_mut().for_each(|witness| witness.answered(&headers));
    Stream { reader, witness, head: Answer { status, headers, body: String::new() } }
}

/// Sends a request whose answer holds what a server made up: what a call of it brings is nobody's protocol.
pub(crate) fn send_for_anything(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut stream = open(address, "POST", path, headers, body);
    stream.witness = None;
    stream.rest()
}

/// Sends a request and reads its whole answer.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    open(address, method, path, headers, body).rest()
}

/// Is a session of a legacy client that sends what it likes.
pub(crate) struct Session {
    address: SocketAddr,
    path: String,
    bearer: String,
    id: String,
}

impl Session {
    /// Opens one.
    pub(crate) fn open(address: SocketAddr, path: &str, key: &str, (version, able): (&str, Value)) -> Self {
        let mut session =
            Self { address, path: path.to_owned(), bearer: format!("Bearer {key}"), id: String::new() };
        let hello = json!({
            "protocolVersion": version, "capabilities": able, "clientInfo": { "name": "test", "version": "1" },
        });
        let opened = session.post(&Self::request(1, "initialize", &hello));
        assert_eq!(opened.json()["result"]["protocolVersion"], version, "{opened:?}");
        session.id = opened.header("mcp-session-id").unwrap().to_owned();
        session
    }

    /// Writes a request.
    pub(crate) fn request(id: u64, method: &str, params: &Value) -> String {
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    }

    /// Asks for something and reads the answer.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        self.post(&Self::request(2, method, params)).json()
    }

    pub(crate) fn post(&self, body: &str) -> Answer {
        self.begin("POST", body).rest()
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) fn begin(&self, method: &str, body: &str) -> Stream {
        self.begin_with(method, body, &[])
    }

    fn begin_with(&self, method: &str, body: &str, more: &[(&str, &str)]) -> Stream {
        let mut headers = vec![
            ("Authorization", self.bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        if !self.id.is_empty() {
            headers.push(("Mcp-Session-Id", self.id.as_str()));
        }
        headers.extend(more);
        open(self.address, method, &self.path, &headers, body)
    }

    /// Opens its stream, or goes on with one behind an event.
    pub(crate) fn listen_after(&self, event: &str) -> Stream {
        self.begin_with("GET", "", &[("Last-Event-ID", event)])
    }

    /// Opens its stream.
    pub(crate) fn listen(&self) -> Stream {
        self.begin("GET", "")
    }

    /// Ends it.
    pub(crate) fn end(self) {
        assert_eq!(self.begin("DELETE", "").rest().status, 204);
    }
}

fn text(raw: Vec<u8>) -> String {
    String::from_utf8(raw).unwrap()
}

fn unchunk(raw: &[u8]) -> String {
    let mut whole = Vec::new();
    let mut rest = raw;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    text(whole)
}

/// Writes a modern request, of a client that can't be asked anything unless the parameters say so.
pub(crate) fn modern(id: u64, method: &str, mut params: Value) -> String {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    let capabilities = &mut params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    if capabilities.is_null() {
        *capabilities = json!({});
    }
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// Calls a tool as a modern client.
pub(crate) fn call(address: SocketAddr, path: &str, key: &str, tool: &str, arguments: Value) -> Answer {
    let body = modern(1, "tools/call", json!({ "name": tool, "arguments": arguments }));
    send(address, "POST", path, &call_headers(&format!("Bearer {key}"), tool), &body)
}

/// Lists the tools as a modern client.
pub(crate) fn list(address: SocketAddr, path: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = modern_headers(&bearer, "tools/list");
    send(address, "POST", path, &headers, &modern(1, "tools/list", json!({})))
}

/// Lists the headers that every modern request has.
pub(crate) fn modern_headers<'a>(bearer: &'a str, method: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("Authorization", bearer),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", method),
    ]
}

/// Lists the headers of a modern call.
pub(crate) fn call_headers<'a>(bearer: &'a str, tool: &'a str) -> [(&'a str, &'a str); 6] {
    let [a, b, c, d, e] = modern_headers(bearer, "tools/call");
    [a, b, c, d, e, ("Mcp-Name", tool)]
}
