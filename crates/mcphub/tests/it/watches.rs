//! What clients hear of by itself: a server's changed resources and lists, in both eras on both sides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::{Session, Stream, call, list, modern, modern_headers, open};
use crate::harness::peer::asking;
use crate::harness::{Installation, Serving, on_both};

/// The servers: SDK 2.3 tells on a stream that is asked for and knows no sessions, SDK 1.30 tells its session.
const SERVERS: [(&str, &str); 2] = [("modern", "MCPHUB_TEST_PYTHON_2"), ("legacy", "MCPHUB_TEST_PYTHON_1")];
/// The only resource that changes, on the server's own endpoint.
const NOTE: &str = "notes://a";

on_both! {
    fn changes_of_every_server_reach_every_client(installation) {
        let servers = SERVERS.map(|(name, python)| (name, asking(python)));
        for (name, server) in &servers {
            grant(&installation, name, &server.url);
        }
        let (key, hub) = (installation.key("alice"), installation.serve());
        for (name, _) in &servers {
            let own = (format!("/mcp/{name}"), NOTE.to_owned(), "touch".to_owned());
            let shared = ("/mcp".to_owned(), format!("{name}+{NOTE}"), format!("{name}__touch"));
            for (path, uri, touch) in [own, shared] {
                list(hub.address, &path, &key);
                hears_as_modern(&hub, &key, &path, (&uri, &touch));
                hears_as_legacy(&hub, &key, &path, (&uri, &touch));
            }
        }
    }

    fn who_may_not_read_hears_nothing_and_a_right_that_ends_ends_the_stream(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_2");
        grant(&installation, "modern", &server.url);
        installation.ok("user add bob --role user");
        installation.ok("group add others");
        installation.ok("group join others bob");
        installation.ok("grant add others modern --rights execute");
        let (alice, bob) = (installation.key("alice"), installation.key("bob"));
        let hub = installation.serve();
        list(hub.address, "/mcp", &alice);
        let wish = json!({ "notifications": { "resourceSubscriptions": [NOTE] } });
        let refused = listen(&hub, &bob, "/mcp/modern", &wish).rest().json();
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        let elsewhere = json!({ "notifications": { "resourceSubscriptions": ["nowhere+notes://a"] } });
        let unknown = listen(&hub, &alice, "/mcp", &elsewhere).rest().json();
        assert_eq!(unknown["error"]["message"], refused["error"]["message"], "forbidden is as unknown as unknown");

        let mut stream = listen(&hub, &alice, "/mcp/modern", &wish);
        assert_eq!(stream.message()["method"], "notifications/subscriptions/acknowledged");
        installation.ok("group leave devs alice");
        let left = Instant::now();
        while let Some(line) = stream.line() {
            assert!(!line.starts_with("data:"), "{line}");
        }
        assert!(left.elapsed() < Duration::from_secs(20), "the stream ends before the test's patience");
    }

    fn a_list_is_asked_for_once_until_it_changes(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_1");
        grant(&installation, "legacy", &server.url);
        let (key, hub) = (installation.key("alice"), installation.serve());
        let session = Session::open(hub.address, "/mcp/legacy", &key, ("2025-06-18", json!({})));
        let mut stream = session.listen();
        let lists = || {
            assert!(session.ask("resources/list", &json!({}))["result"]["resources"].is_array());
            assert!(session.ask("prompts/list", &json!({}))["result"]["prompts"].is_array());
            let log = installation.ok("audit list --limit 1000 --json");
            ["prompts/list", "resources/list"].map(|method| {
                log.matches(&format!("\"method\":\"{method}\",\"server\"")).count()
            })
        };
        let asked = lists();
        assert!(asked.iter().all(|count| *count > 0), "the log says so: {asked:?}");
        assert_eq!(lists(), asked, "nobody asks again");
        while_touched(
            || session.ask("tools/call", &json!({ "name": "touch" })),
            || while stream.message()["method"] != "notifications/prompts/list_changed" {},
        );
        let [prompts, resources] = lists();
        assert!(prompts > asked[0], "the prompts have changed");
        assert_eq!(resources, asked[1], "the resources haven't");
        let bearer = format!("Bearer {key}");
        let headers = modern_headers(&bearer, "prompts/list");
        let list = || open(hub.address, "POST", "/mcp/legacy", &headers, &modern(1, "prompts/list", json!({}))).rest().json();
        for _ in 0..2 {
            let result = list()["result"].clone();
            let ttl = result["ttlMs"].as_u64().unwrap();
            assert!((1..=60_000).contains(&ttl) && result["cacheScope"] == "private", "{result}");
        }
    }

    fn a_stop_says_farewell_to_who_listens(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_2");
        grant(&installation, "modern", &server.url);
        let (key, hub) = (installation.key("alice"), installation.serve());
        list(hub.address, "/mcp", &key);
        let mut stream = listen(&hub, &key, "/mcp", &json!({ "notifications": { "toolsListChanged": true } }));
        let first = stream.message();
        assert_eq!(first["params"]["notifications"], json!({ "toolsListChanged": true }));
        installation.ok("server disable modern");
        let changed = stream.message();
        assert_eq!(changed["method"], "notifications/tools/list_changed", "{changed}");
        hub.stop();
        let last = stream.message();
        assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(1), &json!("complete")), "{last}");
        assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    }
}

fn hears_as_modern(hub: &Serving, key: &str, path: &str, (uri, touch): (&str, &str)) {
    let wish = json!({ "notifications": { "resourceSubscriptions": [uri], "promptsListChanged": true } });
    let mut stream = listen(hub, key, path, &wish);
    let first = stream.message();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{path}: {first}");
    assert_eq!(first["params"]["notifications"], wish["notifications"], "{path}");
    let mut heard = std::collections::BTreeSet::new();
    while_touched(
        || call(hub.address, path, key, touch, json!({})).json(),
        || {
            while heard.len() < 2 {
                let news = stream.message();
                assert_eq!(
                    news["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1,
                    "{path}: {news}"
                );
                if news["method"] == "notifications/resources/updated" {
                    assert_eq!(news["params"]["uri"], uri, "{path}");
                } else {
                    assert_eq!(news["method"], "notifications/prompts/list_changed", "{path}: {news}");
                }
                heard.insert(news["method"].to_string());
            }
        },
    );
}

fn hears_as_legacy(hub: &Serving, key: &str, path: &str, (uri, touch): (&str, &str)) {
    let session = Session::open(hub.address, path, key, ("2025-06-18", json!({})));
    let mut stream = session.listen();
    if path == "/mcp" {
        let refused = session.ask("resources/subscribe", &json!({ "uri": "nobodys+notes://a" }));
        assert_eq!(refused["error"]["code"], -32002);
    }
    assert_eq!(session.ask("resources/subscribe", &json!({ "uri": uri }))["result"], json!({}), "{path}");
    // SDK 1.30 tells nobody but the session that calls.
    let mut heard = [false; 2];
    while_touched(
        || session.ask("tools/call", &json!({ "name": touch })),
        || {
            while heard != [true; 2] {
                let news = stream.message();
                if news["method"] == "notifications/resources/updated" {
                    assert_eq!(news["params"]["uri"], uri, "{path}");
                    heard[0] = true;
                } else {
                    assert_eq!(news["method"], "notifications/prompts/list_changed", "{path}: {news}");
                    heard[1] = true;
                }
            }
        },
    );
    assert_eq!(session.ask("resources/unsubscribe", &json!({ "uri": uri }))["result"], json!({}), "{path}");
    session.end();
}

/// Lets the server tell of changes, over and over, while something is awaited: nobody knows when a stream is open.
fn while_touched(touch: impl Fn() -> Value + Sync, wait: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let touched = touch();
                assert_eq!(touched["result"]["content"][0]["text"], "touched", "{touched}");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let _done = Done(&done);
        wait();
    });
}

/// Says at its end that something is done, also when that failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn listen(hub: &Serving, key: &str, path: &str, wish: &Value) -> Stream {
    let bearer = format!("Bearer {key}");
    let headers = modern_headers(&bearer, "subscriptions/listen");
    open(hub.address, "POST", path, &headers, &modern(1, "subscriptions/listen", wish.clone()))
}

fn grant(installation: &Installation, name: &str, url: &str) {
    let file = json!({ "mcpServers": { name: { "type": "streamable-http", "url": url } } });
    installation.grant_all("alice", name, &file);
}
