//! HTTP as 2024-11-05 has it, on both sides: one stream for all that is said, messages posted elsewhere.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::client::{Answer, Stream, call, list, open, send};
use crate::harness::peer::{asking, asking_on_events};
use crate::harness::relay::{Relay, Wire};
use crate::harness::witness::Witness;
use crate::harness::{Serving, eventually, on_both};
use crate::rounds::{CLIENTS, compare, grant};

/// The clients: both SDKs still speak it.
const OLDEST: [(&str, &str); 2] = [("MCPHUB_TEST_PYTHON_2", "events"), ("MCPHUB_TEST_PYTHON_1", "events")];

on_both! {
    fn the_oldest_clients_reach_every_server_and_every_client_the_oldest_servers(installation) {
        let (modern, legacy) = (asking("MCPHUB_TEST_PYTHON_2"), asking("MCPHUB_TEST_PYTHON_1"));
        let oldest = asking_on_events();
        for (name, server) in [("modern", &modern), ("legacy", &legacy), ("oldest", &oldest)] {
            grant(&installation, name, &described(&server.url));
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        for name in ["modern", "legacy", "oldest"] {
            compare(&OLDEST, &hub.url(&format!("/sse/{name}")), "", &key);
        }
        compare(&OLDEST[1..], &hub.url("/sse"), "oldest__", &key);
        compare(&CLIENTS, &hub.url("/mcp/oldest"), "", &key);
    }

    fn a_stream_is_its_persons_and_its_endpoints_alone(installation) {
        let server = asking_on_events();
        grant(&installation, "oldest", &described(&server.url));
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        let (alice, bob) = (installation.key("alice"), installation.key("bob"));
        let hub = installation.serve();
        let mut client = Client::connect(&hub, &alice, "/sse/oldest");
        assert_eq!(client.post(&request(7, "tools/list", json!({}))).status, 400, "`initialize` comes first");
        client.initialize();
        assert_eq!(client.ask(request(2, "ping", json!({})))["result"], json!({}));
        assert_eq!(client.ask(request(3, "vendor/own", json!({})))["id"], 3, "the server says something to it");
        assert_eq!(client.post("{").status, 400);
        let ping = request(4, "ping", json!({}));
        let elsewhere = client.messages.replace("/oldest", "");
        let other = format!("/messages/oldest?sessionId={}", "0".repeat(64));
        for (who, path) in
            [(&bob, client.messages.as_str()), (&alice, elsewhere.as_str()), (&alice, other.as_str()), (&alice, "/messages/oldest")]
        {
            assert_eq!(post(hub.address, who, path, &ping).status, 404, "{path}");
        }
        assert_eq!(client.ask(request(5, "ping", json!({})))["id"], 5, "nothing of it came to her");
        // A client that goes away ends her session.
        let Client { stream, messages, .. } = client;
        drop(stream);
        eventually("the stream is forgotten", || {
            (post(hub.address, &alice, &messages, &ping).status == 404).then_some(())
        });
        eventually("the session is recorded as closed", || {
            installation.json("audit list --limit 50").to_string().contains("session.closed").then_some(())
        });
    }

    fn changes_come_on_the_stream_and_it_ends_with_the_right_to_it(installation) {
        let server = asking_on_events();
        grant(&installation, "oldest", &described(&server.url));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let mut client = Client::connect(&hub, &key, "/sse/oldest");
        client.initialize();
        assert_eq!(client.ask(request(2, "resources/subscribe", json!({ "uri": "notes://a" })))["result"], json!({}));
        assert_eq!(client.post(&request(3, "tools/call", json!({ "name": "touch" }))).status, 202);
        let mut heard = [false; 2];
        while heard != [true; 2] {
            let message = client.next().unwrap();
            heard[0] |= message["method"] == "notifications/resources/updated";
            heard[1] |= message["id"] == 3;
        }
        installation.ok("group leave devs alice");
        while client.next().is_some() {}
        assert_eq!(client.post(&request(4, "ping", json!({}))).status, 404);
    }

    fn a_server_whose_stream_breaks_is_connected_anew(installation) {
        let server = asking_on_events();
        let relay = Relay::to(server.address());
        grant(&installation, "oldest", &described(&format!("http://{}/sse", relay.address())));
        let (key, hub) = (installation.key("alice"), installation.serve());
        list(hub.address, "/mcp/oldest", &key);
        let logged = || call(hub.address, "/mcp/oldest", &key, "log_some", json!({})).json();
        assert_eq!(logged()["result"]["content"][0]["text"], "logged");
        relay.make(Wire::Cut);
        assert!(logged().get("error").is_some(), "there is no way to the server");
        relay.make(Wire::Whole);
        eventually("the next call after the break has an answer", || {
            (logged()["result"]["content"][0]["text"] == "logged").then_some(())
        });
    }
}

/// Describes a server that knows whom it serves, so that it may ask her.
fn described(url: &str) -> Value {
    json!({ "type": "sse", "url": url, "headers": { "x-whose": "${HUB_USER_ID}" } })
}

fn request(id: u64, method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

fn post(address: SocketAddr, key: &str, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    send(address, "POST", path, &[("Authorization", &bearer), ("Content-Type", "application/json")], body)
}

/// Is a client that sends what it likes.
struct Client {
    address: SocketAddr,
    key: String,
    stream: Stream,
    /// Where the stream said that messages go.
    messages: String,
    witness: Witness,
}

impl Client {
    fn connect(hub: &Serving, key: &str, path: &str) -> Self {
        let bearer = format!("Bearer {key}");
        let headers = [("Authorization", bearer.as_str()), ("Accept", "text/event-stream")];
        let mut stream = open(hub.address, "GET", path, &headers, "");
        assert_eq!(stream.head.status, 200);
        let messages = event(&mut stream, "endpoint").unwrap();
        let witness = Witness::of_talk();
        Self { address: hub.address, key: key.to_owned(), stream, messages, witness }
    }

    fn initialize(&mut self) {
        let hello = json!({
            "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        let opened = self.ask(request(1, "initialize", hello));
        assert_eq!(opened["result"]["protocolVersion"], "2024-11-05", "{opened}");
        let done = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
        assert_eq!(self.post(&done).status, 202);
    }

    fn post(&mut self, body: &str) -> Answer {
        self.witness.sends(&[], body);
        post(self.address, &self.key, &self.messages, body)
    }

    fn ask(&mut self, body: String) -> Value {
        let posted = self.post(&body);
        assert_eq!((posted.status, posted.body.as_str()), (202, ""), "{body}");
        self.next().unwrap()
    }

    /// Waits for the next message; nothing when the stream has ended.
    fn next(&mut self) -> Option<Value> {
        let data = event(&mut self.stream, "message")?;
        self.witness.message(&data);
        Some(serde_json::from_str(&data).unwrap())
    }
}

/// Waits for the data of the next event, which is to be of this kind.
fn event(stream: &mut Stream, kind: &str) -> Option<String> {
    for _ in 0..100 {
        let line = stream.line()?;
        if let Some(found) = line.strip_prefix("event: ") {
            assert_eq!(found, kind);
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some(data.to_owned());
        }
    }
    panic!("the stream holds no event");
}
