//! An organisation of size: what a change costs when the world is large, and what open sessions hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Failure;
use crate::load::now;

/// How many requests of the filling are under way at once.
const BUSY: usize = 32;
/// How many changes are measured.
const CHANGES: usize = 50;

/// Is somebody who may fill the hub: an address and an admin's key.
#[derive(Clone)]
pub(crate) struct Filler {
    /// Where the hub listens.
    pub(crate) address: SocketAddr,
    /// An admin's key.
    pub(crate) key: String,
}

/// Is a response: its status, its session if it opened one, and its body.
struct Answer {
    status: u16,
    session: Option<String>,
    body: Vec<u8>,
}

impl Filler {
    /// Adds people named `person-0` and so on; returns the median time that one takes at the end, with
    /// everything that a change takes: its record, its commit, and the new world.
    pub(crate) fn add_people(&self, count: usize) -> Result<Duration, Failure> {
        block_on(async {
            let many = count.saturating_sub(CHANGES);
            let places = Arc::new(Semaphore::new(BUSY));
            let mut adding = JoinSet::new();
            for number in 0..many {
                let (filler, places) = (self.clone(), Arc::clone(&places));
                adding.spawn(async move {
                    let _place = places.acquire().await?;
                    filler.add_person(number).await
                });
            }
            while let Some(added) = adding.join_next().await {
                added??;
            }
            let mut times = Vec::new();
            for number in many..count {
                let start = now();
                self.add_person(number).await?;
                times.push(start.elapsed());
            }
            times.sort_unstable();
            Ok(times.get(times.len() / 2).copied().unwrap_or_default())
        })
    }

    async fn add_person(&self, number: usize) -> Result<(), Failure> {
        self.post("/api/v1/users", &json!({ "name": format!("person-{number}"), "role": "user" })).await?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut stream = TcpStream::connect(self.address).await?;
        let body = body.to_string();
        stream.write_all(self.head(path, &self.key, &body).as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let answer = read(&mut stream).await?;
        if !(200..300).contains(&answer.status) {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(format!("{path} answered {}: {text}", answer.status).into());
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    fn head(&self, path: &str, key: &str, body: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        )
    }

    /// Opens legacy sessions, each with its listening stream, and keeps them as long as the result lives.
    pub(crate) fn open_sessions(
        &self,
        keys: &[String],
        count: usize,
    ) -> Result<Vec<std::net::TcpStream>, Failure> {
        block_on(async {
            let places = Arc::new(Semaphore::new(BUSY));
            let mut opening = JoinSet::new();
            for key in keys.iter().cycle().take(count) {
                let (filler, places, key) = (self.clone(), Arc::clone(&places), key.clone());
                opening.spawn(async move {
                    let _place = places.acquire().await?;
                    filler.open_session(&key).await
                });
            }
            let mut open = Vec::with_capacity(count);
            while let Some(opened) = opening.join_next().await {
                open.push(opened??.into_std()?);
            }
            Ok(open)
        })
    }

    async fn open_session(&self, key: &str) -> Result<TcpStream, Failure> {
        let mut stream = TcpStream::connect(self.address).await?;
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } },
        });
        let body = body.to_string();
        stream.write_all((self.head("/mcp", key, &body) + &body).as_bytes()).await?;
        let answer = read(&mut stream).await?;
        let refused = || format!("no session: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        let session = answer.session.as_deref().ok_or_else(refused)?;
        let listen = format!(
            "GET /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nAccept: text/event-stream\r\n\
             MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n\r\n",
            self.address
        );
        stream.write_all(listen.as_bytes()).await?;
        let mut first = vec![0; 4096];
        let read = stream.read(&mut first).await?;
        match first.get(..read) {
            Some(head) if head.starts_with(b"HTTP/1.1 200") => Ok(stream),
            _ => Err("a session's stream was not opened".into()),
        }
    }
}

async fn read(stream: &mut TcpStream) -> Result<Answer, Failure> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err("the connection was closed".into());
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let (head, body) = bytes.split_at_checked(end + 4).ok_or("no head")?;
        let head = String::from_utf8_lossy(head).into_owned();
        let header = |name: &str| {
            let found = head.lines().filter_map(|line| line.split_once(':'));
            found
                .into_iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
        if body.len() >= length {
            let status =
                head.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or_default();
            return Ok(Answer { status, session: header("mcp-session-id"), body: body.to_vec() });
        }
    }
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
