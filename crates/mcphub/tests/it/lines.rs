//! `mcphub connect --stdio`, line by line: what it refuses, what it says when the hub doesn't, and how it ends.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::connect::with_credentials;
use crate::harness::client::{list, modern};
use crate::harness::database::Session;
use crate::harness::lines::Lines;
use crate::harness::peer::asking;
use crate::harness::{Database, Installation, eventually};

#[test]
fn a_line_that_is_no_message_is_answered_and_the_next_one_works() {
    let (installation, key) = set_up();
    let hub = installation.serve();
    let mut bridge = Lines::bridge(&hub, Some("local"), &key);
    let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "x".repeat(5 << 20));
    for (line, id, code) in [
        ("garbage", Value::Null, -32700),
        ("{\"jsonrpc\":\"2.0\",\"id\":5}", json!(5), -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":6,\"id\":7,\"method\":\"ping\"}", Value::Null, -32600),
        ("[{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"ping\"}]", Value::Null, -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}", json!(9), -32600),
        (&long, Value::Null, -32600),
    ] {
        bridge.write(line);
        let refused = bridge.read();
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&id, &json!(code)), "{refused}");
        bridge.write("");
        let listed = bridge.ask(&parse(&modern(1, "tools/list", json!({}))));
        assert!(listed["result"]["tools"].is_array(), "{listed}");
    }
}

#[test]
fn a_key_is_wanted_and_a_wrong_one_is_told_with_every_answer() {
    let (mut installation, key) = set_up();
    let hub = installation.serve();
    let fails = |installation: &Installation, words: &[&str]| {
        let output = installation.run(&[&["connect"], words].concat(), "");
        assert!(output.stdout.is_empty(), "{words:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let url = hub.url("");
    let (code, text) = fails(&installation, &["--stdio", "--url", &url]);
    assert!(
        code == Some(1) && text.starts_with("error: MCPHUB_KEY is not set: put a hub key there"),
        "{text}"
    );
    installation.set("MCPHUB_KEY", &key);
    for (words, expected) in [
        (&["--url", &url][..], 2),
        (&["--stdio", "--url", "http://192.0.2.1:3000"][..], 1),
        (&["--stdio", "--url", "https://u:p@example.org"][..], 2),
        (&["--stdio", "--name", "My Server"][..], 2),
    ] {
        let (code, text) = fails(&installation, words);
        assert_eq!(code, Some(expected), "{words:?}: {text}");
    }
    let (_, text) = fails(&installation, &["--stdio", "--url", "http://192.0.2.1:3000"]);
    assert!(text.contains("without TLS") && !text.contains(&key), "{text}");

    let broken = key.replace("mcphub_", "mcphub_0");
    let mut bridge = Lines::bridge(&hub, None, &broken);
    for id in 1..=2 {
        let refused = bridge.ask(&parse(&modern(id, "tools/list", json!({}))));
        assert_eq!(refused["error"]["code"], -31001, "{refused}");
        assert_eq!(refused["error"]["data"]["status"], 401, "the hub's own words are there, too: {refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("set MCPHUB_KEY"), "{refused}");
    }
    let opened = bridge.initialize("2025-06-18");
    assert_eq!(opened["error"]["code"], -31001, "{opened}");
}

#[test]
fn without_an_address_the_configured_one_is_meant() {
    let (mut installation, key) = set_up();
    let hub = installation.serve();
    installation.set("MCPHUB_LISTEN", &hub.address.to_string());
    installation.set("MCPHUB_KEY", &key);
    assert!(installation.ok("user list").contains("alice"), "the key is no setting");
    let mut bridge = Lines::start(installation.command().args(["connect", "--stdio"]));
    let listed = bridge.ask(&parse(&modern(1, "tools/list", json!({}))));
    assert!(listed["result"]["tools"].is_array(), "{listed}");
}

#[test]
fn the_end_of_the_client_ends_its_session_and_its_calls() {
    for (leave, reason) in [(Leave::Close, "its input ends"), (Leave::Terminate, "it is told to end")] {
        let (installation, key) = set_up();
        let hub = installation.serve();
        let mut bridge = Lines::bridge(&hub, Some("local"), &key);
        bridge.initialize("2025-11-25");
        let count = || Session::of(&installation).run("SELECT count(*) FROM sessions WHERE ended_at IS NULL");
        assert_eq!(count(), ["1"]);
        let hang = json!({ "name": "hang", "arguments": {} });
        bridge
            .write(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": hang }).to_string());
        bridge.write(&modern(2, "tools/call", hang.clone()));
        let twice = bridge.ask(&parse(&modern(2, "tools/list", json!({}))));
        assert_eq!(twice["error"]["code"], -32600, "its id is in use: {twice}");
        eventually("both calls run", || (count_written(&installation, "hanging") == 2).then_some(()));
        match leave {
            Leave::Close => bridge.close(),
            Leave::Terminate => bridge.signal("-TERM"),
        }
        assert!(bridge.wait().success(), "{reason}");
        assert_eq!(count(), ["0"], "{reason}");
        eventually("both calls end", || (count_written(&installation, "cancelled") == 2).then_some(()));
    }
}

#[test]
fn a_stream_that_breaks_is_answered_once_and_news_come_again_after_a_restart() {
    let installation = Installation::new(Database::Sqlite);
    let server = asking("MCPHUB_TEST_PYTHON_2");
    let file = json!({ "mcpServers": { "notes": { "type": "streamable-http", "url": server.url } } });
    installation.grant_all("alice", "notes", &file);
    let (key, mut hub) = (installation.key("alice"), installation.serve());
    list(hub.address, "/mcp", &key);
    let mut bridge = Lines::bridge(&hub, Some("notes"), &key);
    bridge.initialize("2025-11-25");
    let note = json!({ "uri": "notes://a" });
    let subscribed =
        bridge.ask(&json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": note }));
    assert_eq!(subscribed["result"], json!({}), "{subscribed}");
    for round in 0..2 {
        hears(&mut bridge);
        let wish = json!({ "notifications": { "promptsListChanged": true } });
        let listen = parse(&modern(7, "subscriptions/listen", wish));
        bridge.until(&listen, |line| line["method"] == "notifications/subscriptions/acknowledged");
        if round == 1 {
            break;
        }
        let address = hub.address.to_string();
        hub.kill();
        let broken =
            eventually("the request is answered", || Some(bridge.read()).filter(|line| line["id"] == 7));
        assert_eq!(broken["error"]["code"], -31010, "{broken}");
        hub = installation.serve_at(&address);
    }
    hub.stop();
    let farewell =
        eventually("the request is answered", || Some(bridge.read()).filter(|line| line["id"] == 7));
    assert_eq!(farewell["result"]["resultType"], "complete", "{farewell}");
}

#[test]
fn the_messages_of_a_batch_are_answered_each_for_itself() {
    let (installation, key) = set_up();
    let hub = installation.serve();
    let mut bridge = Lines::bridge(&hub, None, &key);
    let opened = bridge.initialize("2025-03-26");
    assert_eq!(opened["result"]["protocolVersion"], "2025-03-26", "{opened}");
    let request = |id: &str, method: &str| json!({ "jsonrpc": "2.0", "id": id, "method": method });
    bridge.write(&json!([request("a", "ping"), request("b", "tools/list")]).to_string());
    // Lists that change are told in between.
    let answers = std::iter::repeat_with(|| bridge.read()).filter(|line| line.get("id").is_some()).take(2);
    let mut ids: Vec<String> = answers
        .map(|answer| {
            assert!(answer["result"].is_object(), "{answer}");
            answer["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn what_is_no_answer_of_a_hub_is_told_once_and_the_next_request_is_sent() {
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = somebody.local_addr().unwrap();
    let page = "<html>Bad Gateway</html>";
    let table = [
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html", page, -31010, "HTTP 502"),
        ("HTTP/1.1 302 Found\r\nlocation: https://example.org/", "", -31010, "somewhere else"),
        ("HTTP/1.1 429 Too Many Requests", "", -31029, "wait a while"),
        ("HTTP/1.1 200 OK\r\ncontent-type: text/html", page, -31010, "no hub"),
        ("HTTP/1.1 200 OK\r\ncontent-type: application/json", "{\"a\":1}", -31010, "no hub"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream",
            ": lives\n\ndata: {\"jso",
            -31010,
            "broke off",
        ),
        ("", "", -31010, "can't be reached"),
    ];
    let answers = table.map(|(head, body, ..)| match head {
        "" => String::new(),
        head => format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()),
    });
    std::thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = somebody.accept().unwrap();
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).unwrap() > 0, "a request comes");
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    let mut bridge = Lines::bridge_to(&format!("http://{address}"), None, "mcphub_key");
    for (id, (_, _, code, words)) in (1..).zip(table) {
        let answer = bridge.ask(&parse(&modern(id, "tools/list", json!({}))));
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{words}: {answer}");
        assert_eq!(bridge.read_within(Duration::from_millis(50)), None, "that is all");
    }
}

/// Says how a client goes away.
enum Leave {
    Close,
    Terminate,
}

/// Lets the server tell that its note has changed until the bridge says so: nobody knows when a stream is open.
fn hears(bridge: &mut Lines) {
    eventually("the change is heard", || {
        let touch =
            json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "touch" } });
        let touched = bridge
            .until(&touch, |line| line["id"] == 2 || line["method"] == "notifications/resources/updated");
        if touched["id"] != 2 {
            bridge.read();
            return Some(());
        }
        assert_eq!(touched["result"]["content"][0]["text"], "touched", "{touched}");
        // Lists that change are told in between.
        let news = bridge.read_within(Duration::from_millis(300));
        let update = news.filter(|news| news["method"] == "notifications/resources/updated");
        update.map(|update| assert_eq!(update["params"]["uri"], "notes://a"))
    });
}

fn count_written(installation: &Installation, word: &str) -> usize {
    installation.ok("server logs local").matches(word).count()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Sets up alice with everything granted on a server that wants a credential of hers.
fn set_up() -> (Installation, String) {
    let installation = with_credentials();
    let key = installation.key("alice");
    (installation, key)
}
