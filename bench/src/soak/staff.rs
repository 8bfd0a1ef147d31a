//! Whoever else there is: an admin who changes things and a guest who feels it, an auditor, and strangers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::dice::Dice;
use super::ledger::{Due, End, Ledger};
use super::line::{Ask, Line, ask_once};
use crate::Failure;
use crate::load::now;

/// How long the admin, the auditor and a stranger wait before they come again.
const CHANGES: Duration = Duration::from_millis(1_500);
const SEARCHES: Duration = Duration::from_millis(700);
const VISITS: Duration = Duration::from_millis(500);
/// What the auditor looks for.
const SEARCHED: [&str; 4] = ["", "&outcome=ok", "&outcome=changed", "&tool=echo"];

/// Asks the REST interface as somebody.
struct Desk {
    line: Line,
    key: String,
    kind: &'static str,
    ledger: Arc<Ledger>,
}

impl Desk {
    /// Leads to the hub; what it asks for there is of a kind.
    fn new(address: SocketAddr, key: &str, kind: &'static str, ledger: &Arc<Ledger>) -> Self {
        Self { line: Line::to(address), key: key.to_owned(), kind, ledger: Arc::clone(ledger) }
    }

    /// Asks for what must succeed; what doesn't is noted, and ends the round.
    async fn asks(&mut self, method: &'static str, path: &str, body: &Value) -> Option<Value> {
        let mut ask = Ask::new(method, format!("/api/v1{path}"), &self.key);
        if !body.is_null() {
            ask = ask.saying(body);
        }
        let start = now();
        let (answer, ended) = match self.line.ask(ask).await {
            Ok(answer) if answer.status.is_success() => {
                let body = answer.messages.into_iter().next().unwrap_or_default();
                (Some(body), End::Answered(start.elapsed()))
            }
            Ok(answer) => (None, answer.unsuccessful()),
            Err(failure) => (None, End::Lost(format!("{method} {path}: {failure}"))),
        };
        self.ledger.note(self.kind, Due::Result, ended);
        answer
    }

    /// Calls a tool with a key.
    async fn calls(&mut self, key: &str, tool: &str, (kind, due): (&'static str, Due)) {
        let params = json!({ "name": tool, "arguments": {} });
        let ended = ask_once(&mut self.line, Ask::modern(key, 1, "tools/call", params), 1).await;
        self.ledger.note(kind, due, ended);
    }
}

/// Is an admin, with a guest who has nothing but what the admin gives her.
pub(super) struct Admin {
    admin: Desk,
    guest: Desk,
    /// The group that the guest is in.
    group: String,
    /// What a new server is, over HTTP and as a process.
    servers: [Value; 2],
}

impl Admin {
    /// Makes an admin and a guest with these keys. `servers` are definitions with a personal `TOKEN`.
    pub(super) fn new(
        address: SocketAddr,
        (admin, guest): (&str, &str),
        servers: [Value; 2],
        ledger: &Arc<Ledger>,
    ) -> Self {
        let desk = |key| Desk::new(address, key, "change", ledger);
        Self { admin: desk(admin), guest: desk(guest), group: String::new(), servers }
    }

    /// Changes one thing after the other until the time is over.
    pub(super) async fn work(mut self, load: &'static str, end: Instant) {
        let mut round = 0;
        while now() < end {
            if self.group.is_empty() {
                self.find_group().await;
            }
            // A round that didn't succeed is noted where that was found.
            if round % 3 == 2 {
                self.replace_key().await;
            } else {
                self.open_and_close(load, round).await;
            }
            round += 1;
            sleep(CHANGES).await;
        }
    }

    async fn find_group(&mut self) -> Option<()> {
        let groups = self.admin.asks("GET", "/groups", &Value::Null).await?;
        let guests = groups.as_array()?.iter().find(|group| text(group, "name") == "guests")?;
        self.group = text(guests, "id");
        Some(())
    }

    /// Adds a server, lets the guest in, and takes it all back; the guest calls before and after.
    async fn open_and_close(&mut self, load: &str, round: usize) -> Option<()> {
        let name = format!("passing-{load}-{round}");
        let definition = self.servers.get(round % 2)?.clone();
        let server = json!({ "name": name, "definition": definition });
        let server = text(&self.admin.asks("POST", "/servers", &server).await?, "id");
        let grant = json!({ "group": self.group, "server": server, "rights": ["read", "write", "execute"] });
        let grant = self.admin.asks("POST", "/grants", &grant).await?;
        let slots = format!("/users/me/servers/{name}/credentials");
        for value in ["the first of her values, 40 bytes long..", "the second one, she changed her mind...."]
        {
            let seen = self.guest.asks("GET", &slots, &Value::Null).await?;
            let slot = seen.get(0)?;
            let set = json!({ "value": value, "revision": slot.get("revision")?, "destination": slot.get("destination")? });
            self.guest.asks("PUT", &format!("{slots}/TOKEN"), &set).await?;
            let (key, tool) = (self.guest.key.clone(), format!("{name}__echo"));
            self.guest.calls(&key, &tool, ("call of a guest", Due::Result)).await;
        }
        self.admin.asks("DELETE", &revised("grants", &grant)?, &Value::Null).await?;
        let (key, tool) = (self.guest.key.clone(), format!("{name}__echo"));
        self.guest.calls(&key, &tool, ("call without a grant", Due::Refusal)).await;
        let server = self.admin.asks("GET", &format!("/servers/{server}"), &Value::Null).await?;
        self.admin.asks("DELETE", &revised("servers", &server)?, &Value::Null).await?;
        Some(())
    }

    /// Makes the guest a key, uses it, revokes it, uses it again.
    async fn replace_key(&mut self) -> Option<()> {
        let made =
            self.guest.asks("POST", "/users/me/keys", &json!({ "name": "passing", "days": 1 })).await?;
        let (key, text) = (made.get("key")?, text(&made, "text"));
        self.list(&text, Due::Result, "new key").await;
        self.admin.asks("DELETE", &revised("keys", key)?, &Value::Null).await?;
        self.list(&text, Due::Refusal, "revoked key").await;
        Some(())
    }

    async fn list(&mut self, key: &str, due: Due, kind: &'static str) {
        let ended = ask_once(&mut self.guest.line, Ask::modern(key, 1, "tools/list", json!({})), 1).await;
        self.guest.ledger.note(kind, due, ended);
    }
}

/// Reads the log, page by page, until the time is over.
pub(super) async fn search(address: SocketAddr, key: String, ledger: Arc<Ledger>, end: Instant) {
    let mut desk = Desk::new(address, &key, "look at the log", &ledger);
    for searched in SEARCHED.iter().cycle() {
        if now() >= end {
            return;
        }
        let path = format!("/audit?limit=50{searched}");
        let page = desk.asks("GET", &path, &Value::Null).await;
        if let Some(before) = page.as_ref().and_then(|page| page.get("before")?.as_str()) {
            desk.asks("GET", &format!("{path}&before={before}"), &Value::Null).await;
        }
        sleep(SEARCHES).await;
    }
}

/// Comes without a key or with a wrong one, breaks off, or says nothing, until the time is over.
pub(super) async fn intrude(address: SocketAddr, mut dice: Dice, ledger: Arc<Ledger>, end: Instant) {
    const NOISE: [&[u8]; 4] = [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /mcp HTTP/1.1\r\nHost: ",
        b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4000000\r\n\r\n{",
    ];
    while now() < end {
        let noise = NOISE.get(dice.below(8) as usize);
        if let Some(noise) = noise {
            let ended = make_noise(address, noise)
                .await
                .err()
                .map_or(End::Cancelled, |failure| End::Lost(failure.to_string()));
            ledger.note("noise", Due::Refusal, ended);
        } else {
            let wrong = format!("mcphub_{:040}", dice.below(u64::MAX));
            let (kind, key) = if dice.once_in(3) { ("no key", "") } else { ("wrong key", wrong.as_str()) };
            let ask = Ask::modern(key, 1, "tools/list", json!({}));
            ledger.note(kind, Due::Refusal, ask_once(&mut Line::to(address), ask, 1).await);
        }
        sleep(VISITS).await;
    }
}

/// Sends something, reads for a moment whatever comes, and leaves.
async fn make_noise(address: SocketAddr, noise: &[u8]) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(noise).await?;
    let mut heard = Vec::new();
    // Nothing is expected, and a connection that ends is as good as one that doesn't.
    drop(timeout(VISITS, stream.read_to_end(&mut heard)).await);
    Ok(())
}

fn revised(kind: &str, thing: &Value) -> Option<String> {
    Some(format!("/{kind}/{}?revision={}", thing.get("id")?.as_str()?, thing.get("revision")?))
}

fn text(thing: &Value, field: &str) -> String {
    thing.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
