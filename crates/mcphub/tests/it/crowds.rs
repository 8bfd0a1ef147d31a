//! Clients that are many, slow or silent, and servers that never stop talking: everybody else is served
//! as if they weren't there, and what they cost is bounded.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::harness::client::{begin, call, call_headers, list, modern, send};
use crate::harness::{eventually, tool};
use crate::hostile::{House, status};

#[test]
fn who_sends_slowly_delays_only_herself() {
    let house = House::open();
    house.installation.ok("user add mallory --role user");
    let key = house.installation.key("mallory");
    assert_eq!(list(house.hub.address, "/mcp", &key).status, 200, "her key is known");
    let head =
        format!("POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n", house.hub.address);
    let slow_body = format!("{head}Content-Length: 4000000\r\n\r\n{}", " ".repeat(3_900_000));
    let slow = |bytes: &str| {
        let mut socket = TcpStream::connect(house.hub.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Of what the hub doesn't read the system takes a part.
        socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        drop(socket.write_all(bytes.as_bytes()));
        socket
    };
    let start = Instant::now();
    let mut heads: Vec<TcpStream> = (0..500).map(|_| slow(&head)).collect();
    let before = house.hub.memory();
    let mut bodies: Vec<TcpStream> = (0..40).map(|_| slow(&slow_body)).collect();
    for _ in 0..20 {
        house.works("slow heads and bodies");
        house.post(&modern(1, "tools/list", json!({ "x": "x".repeat(100_000) })));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let grown = house.hub.memory().saturating_sub(before);
    assert!(grown < 100 << 10, "eight of forty bodies are held, in {grown} KiB");
    let mut answer = String::new();
    for socket in &mut heads {
        answer.clear();
        socket.read_to_string(&mut answer).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(25), "heads end after ten seconds: {:?}", start.elapsed());
    for socket in &mut bodies {
        answer.clear();
        let read = socket.read_to_string(&mut answer);
        assert!(read.is_ok() && status(&answer) == 408, "{read:?} {answer}");
    }
    house.works("slow bodies");
    house.close();
}

#[test]
fn ten_thousand_who_say_nothing_cost_little_and_keep_nobody_out() {
    const MANY: usize = 10_000;
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    assert!(
        most.is_none_or(|most| most > MANY as u64 + 500),
        "this test needs {MANY} files: raise `ulimit -Hn`"
    );
    let house = House::open();
    let mut idle = Vec::new();
    let open = |socket: &mut Vec<TcpStream>| socket.push(TcpStream::connect(house.hub.address).unwrap());
    open(&mut idle);
    house.works("one connection");
    let before = house.hub.memory();
    (1..MANY).for_each(|_| open(&mut idle));
    house.works("ten thousand connections");
    let each = (house.hub.memory() - before) * 1024 / MANY as u64;
    println!("an idle connection costs {each} bytes");
    assert!(each < 16 << 10, "an idle connection costs {each} bytes");
    drop(idle);
    house.works("they left");
    house.close();
}

#[test]
fn strangers_make_room_and_known_people_stay() {
    let mut house = House::open();
    house.hub.stop();
    house.hub = house.installation.serve_with_files(300);
    let address = house.hub.address;
    let session = {
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        } });
        let bearer = format!("Bearer {}", house.key);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let opened = send(address, "POST", "/mcp", &headers, &body.to_string());
        opened.header("mcp-session-id").unwrap().to_owned()
    };
    let bearer = format!("Bearer {}", house.key);
    let headers =
        [("Authorization", bearer.as_str()), ("Mcp-Session-Id", &session), ("Accept", "text/event-stream")];
    let mut known = begin(address, "GET", "/mcp", &headers, "");
    assert!(known.line().unwrap().contains("200"));
    let start = Instant::now();
    // 150 connections may be open. Every stranger beyond that ends the one who came first.
    let mut strangers: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(address).unwrap()).collect();
    house.works("too many strangers");
    for first in strangers.drain(..200) {
        let mut first = first;
        first.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(!matches!(first.read(&mut [0; 1]), Ok(1..)), "it ends without a word");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "they were ended, not timed out");
    // The stream of the known person goes on: what changes is told on it.
    house.installation.ok("server disable local");
    while !known.line().expect("the stream is open").contains("list_changed") {}
    drop(strangers);
    house.installation.ok("server enable local");
    house.close();
}

/// A process with one tool, whose answer has a hundred mebibytes.
const ENDLESS: &str = r#"
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "tools/call":
        for _ in range(100): sys.stdout.write("x" * (1 << 20)); sys.stdout.flush()
    elif "id" in message:
        found = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "capabilities": {}}
        found |= {"supportedVersions": ["2026-07-28"], "tools": [{"name": "do", "inputSchema": {"type": "object"}}]}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": found}), flush=True)
"#;

#[test]
fn a_server_that_answers_without_end_costs_little() {
    let house = House::open();
    let file = json!({ "mcpServers": { "endless": {
        "command": tool("MCPHUB_TEST_PYTHON_2"), "args": ["-c", ENDLESS],
    } } });
    house.installation.grant_all("alice", "endless", &file);
    eventually("its tool is listed", || {
        list(house.hub.address, "/mcp", &house.key).body.contains("endless__do").then_some(())
    });
    let before = house.hub.memory();
    let answer = call(house.hub.address, "/mcp", &house.key, "endless__do", json!({}));
    let error = &answer.json()["error"];
    assert_eq!(error["code"], -31010, "{answer:?}");
    assert!(error["message"].as_str().unwrap().contains("longer than 8388608 bytes"), "{error}");
    let grown = house.hub.memory().saturating_sub(before);
    assert!(grown < 40 << 10, "eight of a hundred mebibytes are held, in {grown} KiB");
    house.works("an endless answer");
    house.close();
}

#[test]
fn a_client_that_does_not_read_costs_little() {
    let house = House::open();
    let before = house.hub.memory();
    let mut params = json!({ "name": "local__flood", "arguments": { "times": 200, "size": 1 << 20 } });
    params["_meta"]["progressToken"] = json!("p");
    let bearer = format!("Bearer {}", house.key);
    let running = begin(
        house.hub.address,
        "POST",
        "/mcp",
        &call_headers(&bearer, "local__flood"),
        &modern(1, "tools/call", params),
    );
    eventually("the server has sent everything", || {
        house.installation.ok("server logs local --lines 5").contains("flooded 200").then_some(())
    });
    let grown = house.hub.memory().saturating_sub(before);
    assert!(grown < 48 << 10, "a client that reads nothing costs {grown} KiB");
    drop(running);
    house.works("a flood");
    house.close();
}
