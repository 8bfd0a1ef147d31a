//! A server written by hand, because every SDK reads a message into types and writes another one: here a test sees the
//! very bytes that came, and says the very bytes that go back. It speaks either era, over HTTP and as a process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::peer::program;
use super::tool;

/// Says which protocol a server or a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Era {
    Modern,
    Legacy,
}

/// Is a running server; it lasts as long as the test.
pub(crate) struct Bare {
    address: SocketAddr,
}

/// Is a request that came, or the wish for a session's stream, whose method is `GET`.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// The tool or the like that it names.
    pub(crate) name: String,
    /// Its id, as written.
    pub(crate) id: String,
    /// Its progress token, as written.
    pub(crate) token: Option<String>,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

/// Leads back to whoever sent a message.
pub(crate) enum Way {
    /// The connection of one request; `true` once events have begun.
    Http(TcpStream, bool),
    /// The line that all messages share.
    Lines(Arc<Mutex<TcpStream>>),
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow, default)]
    params: Params<'a>,
}

#[derive(Deserialize, Default)]
struct Params<'a> {
    name: Option<String>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Meta<'a>,
}

#[derive(Deserialize, Default)]
struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    token: Option<&'a RawValue>,
}

/// Does what a test wants with a request.
type Act = dyn Fn(&Received, &mut Way) -> io::Result<()> + Send + Sync;

/// Is what every connection of a server shares.
struct Server {
    era: Era,
    tools: Vec<&'static str>,
    act: Box<Act>,
}

impl Bare {
    /// Starts a server that opens and lists as its era does, and leaves all other requests to `act`.
    pub(crate) fn start(
        era: Era,
        tools: &[&'static str],
        act: impl Fn(&Received, &mut Way) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Server { era, tools: tools.to_vec(), act: Box::new(act) });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                // However a connection ends: what the test waits for shows it.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        Self { address }
    }

    /// Describes the server as one over HTTP.
    pub(crate) fn http(&self) -> Value {
        json!({ "type": "streamable-http", "url": format!("http://{}/mcp", self.address), "timeoutMs": 60_000 })
    }

    /// Describes the server as a process, one for each person.
    pub(crate) fn stdio(&self) -> Value {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        json!({
            "command": tool("MCPHUB_TEST_PYTHON_2"), "args": [program("relay.py"), host, port],
            "env": { "WHOSE": "${HUB_USER_ID}" }, "sandbox": "off", "timeoutMs": 60_000,
        })
    }
}

impl Received {
    fn read(bytes: Vec<u8>) -> Option<Self> {
        let message: Message<'_> = serde_json::from_slice(&bytes).unwrap();
        let written = |raw: &RawValue| raw.get().to_owned();
        Some(Self {
            method: message.method?,
            name: message.params.name.unwrap_or_default(),
            id: written(message.id?),
            token: message.params.meta.token.map(written),
            bytes,
        })
    }
}

impl Way {
    /// Says something before the answer.
    pub(crate) fn tell(&mut self, message: &str) -> io::Result<()> {
        match self {
            Self::Http(stream, begun) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                let head = if std::mem::replace(begun, true) { "" } else { head };
                let event = format!("data: {message}\n\n");
                stream.write_all(format!("{head}{:x}\r\n{event}\r\n", event.len()).as_bytes())
            }
            Self::Lines(stream) => stream.lock().unwrap().write_all(format!("{message}\n").as_bytes()),
        }
    }

    /// Says the last that is to be said to a request.
    pub(crate) fn end(&mut self, message: &str) -> io::Result<()> {
        match self {
            Self::Http(stream, false) => respond(stream, "200 OK", "", message),
            Self::Http(..) => {
                self.tell(message)?;
                self.close()
            }
            Self::Lines(_) => self.tell(message),
        }
    }

    /// Answers with a result.
    pub(crate) fn answer(&mut self, received: &Received, result: &str) -> io::Result<()> {
        self.end(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, received.id))
    }

    /// Says that there is no such thing.
    pub(crate) fn refuse(&mut self, received: &Received) -> io::Result<()> {
        match self {
            Self::Http(stream, _) if received.method == "GET" => respond(stream, "405 No", "", ""),
            _ => self.end(&format!(
                r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"no such method"}}}}"#,
                received.id
            )),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Http(stream, _) => stream.write_all(b"0\r\n\r\n"),
            Self::Lines(_) => Ok(()),
        }
    }
}

impl Server {
    fn serve(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        stream.peek(&mut first)?;
        match first {
            [b'{'] => self.serve_lines(stream),
            _ => self.serve_http(stream),
        }
    }

    /// Serves a process, whose requests are all served at once.
    fn serve_lines(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let writer = Arc::new(Mutex::new(stream));
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            line.pop();
            let (server, mut way) = (Arc::clone(self), Way::Lines(Arc::clone(&writer)));
            if let Some(received) = Received::read(line) {
                thread::spawn(move || drop(server.take(&received, &mut way)));
            }
        }
    }

    /// Serves a connection, one request after the other.
    fn serve_http(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let Some((verb, body)) = read_request(&mut reader)? else { return Ok(()) };
            let mut stream = stream.try_clone()?;
            match (verb.as_str(), body.is_empty()) {
                ("GET", _) => {
                    let (method, id, name) = (verb, "0".to_owned(), String::new());
                    let received = Received { method, name, id, token: None, bytes: Vec::new() };
                    self.take(&received, &mut Way::Http(stream, false))?;
                }
                ("POST", false) => match Received::read(body) {
                    Some(received) => self.take(&received, &mut Way::Http(stream, false))?,
                    None => respond(&mut stream, "202 Accepted", "", "")?,
                },
                _ => respond(&mut stream, "200 OK", "", "")?,
            }
        }
    }

    fn take(&self, received: &Received, way: &mut Way) -> io::Result<()> {
        let capabilities = json!({
            "tools": {}, "prompts": { "listChanged": true }, "resources": { "subscribe": true }, "logging": {},
        });
        let info = json!({ "name": "bare", "version": "1" });
        let result = match (self.era, received.method.as_str()) {
            (Era::Modern, "server/discover") => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                "ttlMs": 0, "cacheScope": "private",
            }),
            (Era::Legacy, "initialize") => {
                json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info })
            }
            (Era::Modern, "initialize") | (Era::Legacy, "server/discover") => return way.refuse(received),
            (_, "tools/list") => json!({
                "tools": self.tools.iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } })).collect::<Vec<_>>(),
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            }),
            (_, "ping" | "logging/setLevel") => json!({}),
            _ => return (self.act)(received, way),
        };
        match way {
            Way::Http(stream, _) if received.method == "initialize" => {
                let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, received.id);
                respond(stream, "200 OK", "mcp-session-id: one\r\n", &body)
            }
            _ => way.answer(received, &result.to_string()),
        }
    }
}

/// Reads a request whole: its verb and its body.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut verb, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if verb.is_empty() {
            verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((verb, body)))
}

fn respond(stream: &mut TcpStream, status: &str, more: &str, body: &str) -> io::Result<()> {
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let head = format!("HTTP/1.1 {status}\r\n{kind}{more}content-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes())
}
