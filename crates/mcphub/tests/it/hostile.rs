//! Clients that send what no library would. Each gets a clear answer, costs nobody else anything, and
//! leaves a hub that works and a log without gaps.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::client::{Answer, call, list, modern, send};
use crate::harness::notes::assert_ended;
use crate::harness::peer::program;
use crate::harness::{Database, Installation, Serving, tool};

/// Is a hub, a person who may call one server there.
pub(crate) struct House {
    pub(crate) installation: Installation,
    pub(crate) hub: Serving,
    pub(crate) key: String,
}

impl House {
    pub(crate) fn open() -> Self {
        Self::of(Installation::new(Database::Sqlite))
    }

    fn of(installation: Installation) -> Self {
        let file = json!({ "mcpServers": { "local": {
            "command": tool("MCPHUB_TEST_PYTHON_2"), "args": [program("credential_server.py"), "--stdio"],
        } } });
        installation.grant_all("alice", "local", &file);
        let key = installation.key("alice");
        let hub = installation.serve();
        list(hub.address, "/mcp", &key);
        Self { installation, hub, key }
    }

    /// Makes a call that must work.
    pub(crate) fn works(&self, after: &str) {
        let answer = call(self.hub.address, "/mcp", &self.key, "local__write_note", json!({ "text": "x" }));
        assert_eq!(
            answer.json()["result"]["content"][0]["text"],
            "noted 1 characters",
            "after {after}: {answer:?}"
        );
    }

    /// Stops the hub and checks that its log has no gap, and an end for each call that it has the beginning of.
    pub(crate) fn close(self) {
        self.hub.stop();
        assert_eq!(self.installation.json("audit verify")["findings"], json!([]));
        let log = self.installation.json("audit list --tool write_note --limit 100000");
        assert_ended(&log);
    }

    /// Posts a message with the headers of a modern request.
    pub(crate) fn post(&self, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", "tools/list"),
        ];
        send(self.hub.address, "POST", "/mcp", &headers, body)
    }
}

/// Sends bytes as they are, and reads until the other side closes or says nothing more.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // The hub may refuse before it has read everything.
    drop(socket.write_all(bytes));
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads the status off an answer; without one it is 0.
pub(crate) fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

#[test]
fn what_is_no_proper_http_is_refused() {
    let house = House::open();
    let address = house.hub.address;
    let host = format!("Host: {address}\r\nConnection: close\r\n");
    let known = format!("{host}Authorization: Bearer {}\r\n", house.key);
    let get = |headers: &str| format!("GET /livez HTTP/1.1\r\n{host}{headers}\r\n").into_bytes();
    let post = |rest: &str| format!("POST /mcp HTTP/1.1\r\n{known}{rest}").into_bytes();
    let line = |line: &str| format!("{line}\r\n{host}\r\n").into_bytes();
    let table: [(&str, Vec<u8>, u16); 21] = [
        ("two lengths", post("Content-Length: 30\r\nContent-Length: 31\r\n\r\n"), 400),
        ("a length with a sign", post("Content-Length: +30\r\n\r\n"), 400),
        ("an encoding that is not the last", post("Transfer-Encoding: chunked, gzip\r\n\r\n"), 400),
        (
            "a chunk whose size overflows",
            post("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx"),
            400,
        ),
        ("two hosts", get(&format!("Host: {address}\r\n")), 400),
        ("no host", b"GET /livez HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("a space before the colon", get("X : y\r\n"), 400),
        ("a folded header", get("X: y\r\n z\r\n"), 400),
        ("a NUL in a header", get("X: \0\r\n"), 400),
        ("a method of no kind", line("(GET) /livez HTTP/1.1"), 400),
        ("a method that nobody knows", line("BREW /livez HTTP/1.1"), 405),
        ("a tunnel", line("CONNECT evil.example:443 HTTP/1.1"), 421),
        ("a proxy's request", line("GET http://evil.example/livez HTTP/1.1"), 421),
        ("HTTP/0.9", b"GET /livez\r\n\r\n".to_vec(), 400),
        ("HTTP/3 in words", line("GET /livez HTTP/3.0"), 400),
        ("a long path", line(&format!("GET /{} HTTP/1.1", "x".repeat(70_000))), 431),
        ("a long header", get(&format!("X: {}\r\n", "y".repeat(70_000))), 431),
        ("100 headers", get(&"X: y\r\n".repeat(98)), 200),
        ("101 headers", get(&"X: y\r\n".repeat(99)), 431),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        ("noise", vec![0xff; 1_000], 400),
    ];
    for (what, bytes, expected) in table {
        let answer = raw(address, &bytes);
        assert_eq!(status(&answer), expected, "{what}: {answer}");
    }
    house.works("bad HTTP");
    let lost = raw(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxx");
    assert!(!lost.contains("HTTP/1.1"), "{lost}");
    house.works("HTTP/2 that goes nowhere");
    house.close();
}

/// Those who read HTTP/2 count bytes, and no headers.
#[tokio::test]
async fn a_request_has_no_more_headers_over_http_2() {
    let house = tokio::task::spawn_blocking(House::open).await.unwrap();
    let address = house.hub.address;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for (headers, status) in [(100, 200), (101, 431)] {
        let request = Request::get(format!("http://{address}/livez"));
        let request = (0..headers).fold(request, |request, _| request.header("x", "y"));
        let answer = client.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{headers} headers");
    }
    drop(client);
    tokio::task::spawn_blocking(move || house.works("many headers")).await.unwrap();
}

#[test]
fn nothing_comes_in_behind_a_body_of_two_lengths() {
    let house = House::open();
    let (body, hidden) = ("1\r\nx\r\n0\r\n\r\n", "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    for framing in [
        "Content-Length: 11\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n",
            house.hub.address, house.key
        );
        let answer = raw(house.hub.address, format!("{head}{framing}\r\n{body}{hidden}").as_bytes());
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (400, 1), "{framing}: {answer}");
    }
    house.works("two lengths");
    house.close();
}

#[test]
fn a_message_may_be_as_large_as_the_limit_and_no_larger() {
    let house = House::open();
    let with = |extra: Value| modern(1, "tools/list", json!({ "x": extra }));
    let padded = |length: usize| {
        let body = with(json!(null));
        let spaces = " ".repeat(length - body.len());
        format!("{body}{spaces}")
    };
    let nested = |depth: usize| {
        with(json!(null)).replace("null", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)))
    };
    // The message has 8 keys of its own, and nests twice around `x`.
    let keys = |count: usize| with((8..count).map(|key| (key.to_string(), json!(1))).collect());
    let text = |length: usize| with(json!("x".repeat(length)));
    let named = |length: usize| {
        modern(1, "tools/list", json!({})).replacen(
            "\"id\":1",
            &format!("\"id\":\"{}\"", "x".repeat(length)),
            1,
        )
    };
    let table = [
        ("bytes", padded(4 << 20), padded((4 << 20) + 1), 413),
        ("levels", nested(62), nested(63), 400),
        ("keys", keys(10_000), keys(10_001), 400),
        ("bytes in a string", text(1 << 20), text((1 << 20) + 1), 400),
        ("characters in an id", named(128), named(129), 400),
    ];
    for (what, fits, too_large, refused) in table {
        let answer = house.post(&fits);
        assert_eq!(answer.status, 200, "{what}: {:.300}", answer.body);
        let answer = house.post(&too_large);
        assert_eq!(answer.status, refused, "{what}: {:.300}", answer.body);
        assert_eq!(answer.json()["error"]["code"], -32600, "{what}: {}", answer.body);
        house.works(what);
    }
    house.close();
}

#[test]
fn a_header_that_stands_twice_or_lies_refuses_the_message() {
    let house = House::open();
    let bearer = format!("Bearer {}", house.key);
    let body = modern(1, "tools/call", json!({ "name": "local__write_note", "arguments": { "text": "x" } }));
    let good = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "local__write_note"),
    ];
    let post = |headers: &[(&str, &str)]| send(house.hub.address, "POST", "/mcp", headers, &body);
    assert_eq!(post(&good).status, 200);
    for (name, value) in good.into_iter().filter(|(name, _)| *name != "Content-Type") {
        let twice = post(&[&good[..], &[(name, value)]].concat());
        let code = if name == "Authorization" { json!("key.ambiguous") } else { json!(-32020) };
        let found =
            [&twice.json()["code"], &twice.json()["error"]["code"]].into_iter().any(|found| *found == code);
        assert!(twice.status == 400 && found, "{name} twice: {twice:?}");
        let other: Vec<(&str, &str)> =
            good.iter().map(|header| if header.0 == name { (name, "other") } else { *header }).collect();
        let status = if name == "Authorization" { 401 } else { 400 };
        assert_eq!(post(&other).status, status, "another {name}");
        let without: Vec<(&str, &str)> = good.into_iter().filter(|header| header.0 != name).collect();
        assert_eq!(post(&without).status, status, "no {name}");
    }
    house.works("bad headers");
    house.close();
}

#[test]
fn a_stream_that_is_half_closed_or_cut_off_loses_nothing() {
    let house = House::open();
    let params = json!({ "name": "local__write_note", "arguments": { "text": "half closed" } });
    let body = modern(1, "tools/call", params);
    let head = |length: usize| {
        format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: local__write_note\r\nContent-Length: {length}\r\n\r\n",
            house.hub.address, house.key
        )
    };
    let half_close = |bytes: &str| {
        let mut socket = TcpStream::connect(house.hub.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(bytes.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    // Who closes her side has gone away: a whole request is answered if that is quick, and else ended and recorded so.
    let whole = || ("a whole request", format!("{}{body}", head(body.len())), [0, 200]);
    let partial = [
        ("nothing", String::new(), [0, 0]),
        ("half a head", head(10)[..40].to_owned(), [0, 0]),
        ("half a body", format!("{}{}", head(body.len()), &body[..20]), [0, 400]),
    ];
    for (what, bytes, expected) in partial.into_iter().chain((0..20).map(|_| whole())) {
        let answer = half_close(&bytes);
        assert!(expected.contains(&status(&answer)), "{what}: {answer}");
        house.works(what);
    }
    house.close();
}

#[test]
fn what_comes_at_once_is_answered_in_its_order() {
    let house = House::open();
    let mut socket = TcpStream::connect(house.hub.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = |id: u64, more: &str| {
        let body = modern(id, "tools/list", json!({}));
        format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: tools/list\r\n{more}Content-Length: {}\r\n\r\n{body}",
            house.hub.address,
            house.key,
            body.len()
        )
    };
    let all: String =
        (1..=50).map(|id| request(id, if id == 50 { "Connection: close\r\n" } else { "" })).collect();
    socket.write_all(all.as_bytes()).unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).unwrap();
    let ids: Vec<u64> = answers
        .match_indices("{\"jsonrpc\":\"2.0\",\"id\":")
        .map(|(at, start)| answers[at + start.len()..].split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids, (1..=50).collect::<Vec<u64>>());
    house.works("pipelining");
    house.close();
}
