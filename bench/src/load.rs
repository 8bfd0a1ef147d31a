//! The client: so many connections, each with one request at a time, for so long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Failure;

/// How much of an answer's head is looked through for its length.
const HEAD: usize = 16 * 1024;

/// Is what a load came to.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    /// How many requests were answered.
    pub(crate) calls: u64,
    /// How long it took.
    pub(crate) took: Duration,
    /// The median latency.
    pub(crate) p50: Duration,
    /// The latency that one call in a hundred exceeds.
    pub(crate) p99: Duration,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.calls as f64 / self.took.as_secs_f64();
        write!(out, "{} calls, {rate:.0} a second, p50 {:?}, p99 {:?}", self.calls, self.p50, self.p99)
    }
}

/// Is a request, ready to be sent again and again.
#[derive(Clone)]
pub(crate) struct Shot {
    /// Where it goes.
    pub(crate) address: SocketAddr,
    /// All its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What stands in every right answer.
    pub(crate) expected: &'static str,
}

impl Shot {
    /// Makes a POST to `path` of a modern request.
    pub(crate) fn new(address: SocketAddr, path: &str, key: Option<&str>, method: &str) -> Self {
        let (params, name, expected) = if method == "tools/call" {
            (
                r#""name":"echo","arguments":{"text":"a question of usual length"},"#,
                "Mcp-Name: echo\r\n",
                r#""text""#,
            )
        } else {
            ("", "", r#""tools""#)
        };
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}"#;
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{meta}}}}}"#);
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\n{key}Content-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: {method}\r\n{name}Content-Length: {}\r\n\r\n",
            body.len()
        );
        Self { address, bytes: (head + &body).into_bytes(), expected }
    }
}

/// Fires from all connections until the time is over.
pub(crate) fn fire(shot: &Shot, connections: usize, span: Duration) -> Result<Outcome, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let start = now();
        let mut shooters = JoinSet::new();
        for _ in 0..connections {
            let shot = shot.clone();
            shooters.spawn(async move { repeat(&shot, start + span).await });
        }
        let mut latencies: Vec<Duration> = Vec::new();
        while let Some(done) = shooters.join_next().await {
            latencies.extend(done??);
        }
        let took = start.elapsed();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place).or(latencies.last()).copied().unwrap_or_default()
        };
        Ok(Outcome { calls: latencies.len() as u64, took, p50: at(0.50), p99: at(0.99) })
    })
}

async fn repeat(shot: &Shot, end: Instant) -> Result<Vec<Duration>, Failure> {
    let mut stream = TcpStream::connect(shot.address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut buffer = Vec::new();
    loop {
        let begin = now();
        if begin >= end {
            return Ok(latencies);
        }
        stream.write_all(&shot.bytes).await?;
        read_answer(&mut stream, &mut buffer, shot.expected).await?;
        latencies.push(begin.elapsed());
    }
}

/// Reads one answer, all of it, and checks that it is one.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>, expected: &str) -> Result<(), Failure> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the connection was closed".into());
        }
        let Some(head) = buffer.windows(4).take(HEAD).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let (head, body) = buffer.split_at_checked(head + 4).ok_or("no head")?;
        let head = std::str::from_utf8(head)?;
        let length = length(head).ok_or_else(|| format!("an answer without a length: {head}"))?;
        if body.len() < length {
            let wanted = head.len() + length;
            while buffer.len() < wanted {
                if stream.read_buf(buffer).await? == 0 {
                    return Err("the connection was closed".into());
                }
            }
        }
        return check(buffer, expected);
    }
}

fn check(answer: &[u8], expected: &str) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(answer);
    if text.starts_with("HTTP/1.1 200") && text.contains(expected) {
        return Ok(());
    }
    Err(format!("a wrong answer: {}", text.chars().take(600).collect::<String>()).into())
}

fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

#[expect(clippy::disallowed_methods, reason = "this is a stop-watch")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
