//! One connection to the hub, with one request at a time; dropped, it is gone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ledger::End;
use crate::Failure;
use crate::load::now;

/// How long an answer is waited for, before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(90);
/// What the hub says of a server that failed.
const SERVER_FAILED: i64 = -31010;
/// What it says when it can't record what it is asked to do.
pub(super) const NOT_RECORDED: i64 = -31003;

/// Is a connection, made when it is needed.
pub(super) struct Line {
    address: SocketAddr,
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

/// Is a request: what stands in it apart from the host.
#[derive(Clone)]
pub(super) struct Ask {
    /// The method of HTTP.
    pub(super) method: &'static str,
    /// The path.
    pub(super) path: String,
    /// The headers.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: Bytes,
}

/// Is an answer, all of it.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// The session that it opened, if any.
    pub(super) session: Option<String>,
    /// Its body, or the data of its events.
    pub(super) messages: Vec<Value>,
}

impl Line {
    /// Leads to an address.
    pub(super) const fn to(address: SocketAddr) -> Self {
        Self { address, open: None }
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn ask(&mut self, ask: Ask) -> Result<Answer, Failure> {
        let answered = async {
            let response = self.begin(ask).await?;
            let session = header(&response, "mcp-session-id");
            let streamed = header(&response, "content-type").is_some_and(|kind| kind == "text/event-stream");
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, Failure>(Answer { status, session, messages: messages(&body, streamed)? })
        };
        let answered = timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err("no answer in time".into()));
        if answered.is_err() {
            self.hang_up();
        }
        answered
    }

    /// Asks, and returns what comes as it comes.
    pub(super) async fn begin(&mut self, ask: Ask) -> Result<Response<Incoming>, Failure> {
        if self.open.as_ref().is_none_or(|open| open.sender.is_closed()) {
            self.open = Some(Open::make(self.address).await?);
        }
        let mut request =
            Request::builder().method(ask.method).uri(&ask.path).header("host", self.address.to_string());
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let open = self.open.as_mut().ok_or("no connection")?;
        open.sender.ready().await?;
        Ok(open.sender.send_request(request.body(Full::new(ask.body))?).await?)
    }

    /// Closes the connection, whatever is under way.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }
}

impl Open {
    async fn make(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        // What becomes of the connection shows in what is asked over it.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { sender, _driver: driver })
    }
}

impl Ask {
    /// Is a request with a key.
    pub(super) fn new(method: &'static str, path: impl Into<String>, key: &str) -> Self {
        let headers = vec![
            ("authorization", format!("Bearer {key}")),
            ("content-type", "application/json".to_owned()),
            ("accept", "application/json, text/event-stream".to_owned()),
        ];
        Self { method, path: path.into(), headers, body: Bytes::new() }
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sets the body.
    pub(super) fn saying(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self
    }

    /// Is a request in the words of 2026-07-28.
    pub(super) fn modern(key: &str, id: u64, method: &str, mut params: Value) -> Self {
        if let Some(params) = params.as_object_mut() {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
                "progressToken": id,
            });
            params.insert("_meta".to_owned(), meta);
        }
        let mut ask = Self::new("POST", "/mcp", key).with("mcp-protocol-version", "2026-07-28");
        ask = ask.with("mcp-method", method);
        if let Some(name) = params.get("name").and_then(Value::as_str) {
            ask = ask.with("mcp-name", name);
        }
        ask.saying(&message(id, method, &params))
    }

    /// Is a request in the words before that.
    pub(super) fn legacy((key, session): (&str, &str), id: u64, method: &str, mut params: Value) -> Self {
        if let Some(params) = params.as_object_mut() {
            params.insert("_meta".to_owned(), json!({ "progressToken": id }));
        }
        Self::within((key, session), "POST").saying(&message(id, method, &params))
    }

    /// Is a request within a session.
    pub(super) fn within((key, session): (&str, &str), method: &'static str) -> Self {
        Self::new(method, "/mcp", key)
            .with("mcp-protocol-version", "2025-06-18")
            .with("mcp-session-id", session)
    }
}

impl Answer {
    /// Says what became of a request that was not refused for what it was, if this is no success.
    pub(super) fn unsuccessful(&self) -> End {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            return End::Unavailable;
        }
        End::Refused(format!("{} {:?}", self.status, self.messages).chars().take(300).collect())
    }
}

/// Reads the messages of an answer as they come.
pub(super) struct Messages {
    body: Incoming,
    streamed: bool,
    text: BytesMut,
}

impl Messages {
    /// Reads those of a response.
    pub(super) fn of(response: Response<Incoming>) -> Self {
        let streamed = header(&response, "content-type").is_some_and(|kind| kind == "text/event-stream");
        Self { body: response.into_body(), streamed, text: BytesMut::new() }
    }

    /// Waits for the next one; nothing when the answer has ended.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        timeout(PATIENCE, self.read()).await.unwrap_or_else(|_| Err("no message in time".into()))
    }

    async fn read(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            if let (true, Some(end)) = (self.streamed, self.text.windows(2).position(|two| two == b"\n\n")) {
                let event = self.text.split_to(end + 2);
                if let Some(message) = messages(&event, true)?.into_iter().next() {
                    return Ok(Some(message));
                }
                continue;
            }
            match self.body.frame().await.transpose()? {
                Some(frame) => self.text.extend_from_slice(&frame.into_data().unwrap_or_default()),
                None => return Ok(messages(&self.text.split(), self.streamed)?.into_iter().next()),
            }
        }
    }
}

/// Writes a message of JSON-RPC.
pub(super) fn message(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// Asks once, and says what became of it: there must be exactly one answer to message `id`.
pub(super) async fn ask_once(line: &mut Line, ask: Ask, id: u64) -> End {
    let start = now();
    let answer = match line.ask(ask).await {
        Ok(answer) => answer,
        Err(failure) => return End::Lost(failure.to_string()),
    };
    let answers: Vec<&Value> =
        answer.messages.iter().filter(|message| message.get("method").is_none()).collect();
    let [one] = answers.as_slice() else {
        return End::Lost(format!("{} with {} answers", answer.status, answers.len()));
    };
    end_of(one, answer.status, (id, start))
}

/// Says what became of a request by its one answer.
pub(super) fn end_of(one: &Value, status: StatusCode, (id, start): (u64, Instant)) -> End {
    if one.get("result").is_some() && one.get("id") == Some(&json!(id)) {
        return End::Answered(start.elapsed());
    }
    let text = one.to_string().chars().take(300).collect();
    match one.pointer("/error/code").and_then(Value::as_i64) {
        Some(SERVER_FAILED) => End::Failed(text),
        Some(NOT_RECORDED) => End::Unavailable,
        _ if status == StatusCode::SERVICE_UNAVAILABLE => End::Unavailable,
        Some(_) => End::Refused(text),
        None if !status.is_success() => End::Refused(text),
        None => End::Lost(text),
    }
}

fn header(response: &Response<Incoming>, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn messages(body: &[u8], streamed: bool) -> Result<Vec<Value>, Failure> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    if !streamed {
        return Ok(vec![
            serde_json::from_slice(body).unwrap_or_else(|_| json!(String::from_utf8_lossy(body))),
        ]);
    }
    let events = std::str::from_utf8(body)?.lines().filter_map(|line| line.strip_prefix("data: "));
    events.filter(|data| !data.is_empty()).map(|data| Ok(serde_json::from_str(data)?)).collect()
}
