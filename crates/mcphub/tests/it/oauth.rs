//! Accounts that people connect at a server of the official SDK, which lets them in by OAuth 2.1.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::client::{Answer, call, send};
use crate::harness::peer::{Peer, oauth, oauth_of_2025_03_26};
use crate::harness::{Installation, Serving, eventually, on_both};
use crate::rounds::grant;

mod renewal;

const HOUR: u32 = 3600;

/// Is a person at her browser.
struct Person<'a> {
    hub: &'a Serving,
    key: String,
}

/// Is where her server has sent her back to, and what her browser has kept.
struct Way {
    path: String,
    cookie: String,
}

impl Person<'_> {
    fn api(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, "")
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        send(self.hub.address, method, &format!("/api/v1/users/me/servers/notes{path}"), &headers, body)
    }

    /// Goes to the authorization server and is sent back, without having arrived yet.
    fn go(&self) -> Way {
        let begun = self.api("POST", "/account");
        assert_eq!(begun.status, 200, "{begun:?}");
        let cookie = begun.header("set-cookie").unwrap();
        assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let (address, path) = split(begun.json()["url"].as_str().unwrap());
        for parameter in
            ["code_challenge_method=S256", "resource=http", "scope=notes", "state=", "response_type=code"]
        {
            assert!(path.contains(parameter), "{parameter} is not in {path}");
        }
        let sent_back = send(address, "GET", &path, &[], "");
        assert_eq!(sent_back.status, 302, "{sent_back:?}");
        let (address, path) = split(sent_back.header("location").unwrap());
        assert_eq!(address, self.hub.address);
        Way { path, cookie }
    }

    fn arrive(&self, way: &Way) -> u16 {
        let answer = send(self.hub.address, "GET", &way.path, &[("Cookie", &way.cookie)], "");
        assert!(!answer.body.contains("<script"), "{answer:?}");
        answer.status
    }

    fn connect(&self) {
        assert_eq!(self.arrive(&self.go()), 200);
    }

    /// Calls a tool and reads the text of its result.
    fn call(&self, tool: &str, arguments: Value) -> String {
        let answer = call(self.hub.address, "/mcp/notes", &self.key, tool, arguments).json();
        let text = answer["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Reads what the server says that it gave.
    fn given(&self) -> Value {
        serde_json::from_str(&self.call("given", json!({}))).unwrap()
    }

    /// Reads what it says that it met: `asked` for tokens, `refused` tokens.
    fn met(&self, what: &str) -> Value {
        serde_json::from_str::<Value>(&self.call("met", json!({}))).unwrap()[what].clone()
    }

    fn account(&self) -> Value {
        self.api("GET", "/credentials").json()[0].clone()
    }
}

on_both! {
    fn a_person_calls_with_the_account_that_she_has_connected(installation) {
        let (server, hub) = begin(&installation, HOUR);
        let alice = Person { hub: &hub, key: installation.key("alice") };
        let page = format!("{}/credentials/notes", hub.url(""));
        assert!(alice.call("whoami", json!({})).contains(&page), "she is sent to the page");
        assert_eq!((&alice.account()["kind"], &alice.account()["state"]), (&json!("account"), &json!("missing")));
        alice.connect();
        let carol = alice.call("whoami", json!({}));
        assert!(carol.starts_with("carol "), "{carol}");
        assert_eq!(alice.account()["state"], "ready");
        assert_eq!(alice.account().as_object().unwrap().len(), 6, "nothing of the account is shown: {}", alice.account());
        let log = installation.ok("audit list --limit 500 --json");
        for event in ["account.begun", "credential.set"] {
            assert!(log.contains(event), "{event}");
        }
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        let bob = Person { hub: &hub, key: installation.key("bob") };
        eventually("bob may call, with an account of his own", || bob.call("whoami", json!({})).contains(&page).then_some(()));
        let revision = alice.account()["revision"].clone();
        assert_eq!(alice.api("DELETE", &format!("/credentials/OAUTH?revision={revision}")).status, 204);
        assert!(alice.call("whoami", json!({})).contains(&page), "what she removed is gone");
        let destination = alice.account()["destination"].clone();
        let seen = json!({ "destination": destination, "revision": 0 });
        let typed = json!({ "value": "typed", "destination": destination, "revision": 0 });
        for (method, path, body) in [("PUT", "", typed), ("POST", "/confirm", seen)] {
            let refused = alice.send(method, &format!("/credentials/OAUTH{path}"), &body.to_string());
            assert_eq!(refused.status, 422, "{refused:?}");
            let words = refused.json()["detail"].as_str().unwrap().to_owned();
            assert!(words.contains("connected on the hub's page, not typed in"), "{words}");
        }
        let log = installation.ok("audit list --limit 500 --json");
        for text in [&log, &installation.logged(), &alice.account().to_string(), &carol] {
            assert!(!text.contains("canary"), "a token stands in the open: {text}");
        }
        drop(server);
    }

    fn nobody_comes_back_for_another_or_twice(installation) {
        let (_server, hub) = begin(&installation, HOUR);
        let alice = Person { hub: &hub, key: installation.key("alice") };
        let foreign = |way: Way| Way { cookie: alice.go().cookie, ..way };
        let none = |way: Way| Way { cookie: String::new(), ..way };
        let other = |way: Way| Way { path: format!("{}&iss=https%3A%2F%2Fevil.example", way.path), ..way };
        let denied = |way: Way| Way { path: format!("{}&error=access_denied", way.path), ..way };
        let twice = |way: Way| Way { path: format!("{}&state=x", way.path), ..way };
        for spoil in [&foreign as &dyn Fn(Way) -> Way, &none, &other, &denied, &twice] {
            let way = alice.go();
            let whole = Way { path: way.path.clone(), cookie: way.cookie.clone() };
            let spoiled = spoil(way);
            assert_eq!(alice.arrive(&spoiled), 400, "{}", spoiled.path);
            // What was wrong once is of no use any more.
            if !spoiled.path.ends_with("state=x") {
                assert_eq!(alice.arrive(&whole), 400, "after {}", spoiled.path);
            }
            assert_eq!(alice.account()["state"], "missing");
        }
        let way = alice.go();
        assert_eq!(alice.arrive(&way), 200);
        let asked = alice.met("asked");
        assert_eq!(alice.arrive(&way), 400);
        assert_eq!((alice.met("asked"), &alice.given()["code"]), (asked, &json!(1)), "nobody was asked for anything more");
        assert_eq!(recorded(&installation, "account.failed"), 4, "who was awaited, but not like this");
        let log = installation.ok("audit list --limit 500 --json");
        for reason in ["another browser", "not from the authorization server", "let nobody in"] {
            assert!(log.contains(reason), "{reason}");
        }
        assert!(recorded(&installation, "refused.folded") > 0, "nobody was awaited with the rest: {log}");
    }

    fn a_server_of_2025_03_26_lets_people_in_itself(installation) {
        let server = oauth_of_2025_03_26();
        grant(&installation, "notes", &json!({ "type": "http", "url": server.url, "oauth": { "scopes": ["notes"] } }));
        let hub = installation.serve();
        let alice = Person { hub: &hub, key: installation.key("alice") };
        let way = alice.go();
        assert!(way.path.starts_with("/oauth/callback/"), "it doesn't say who it is: {}", way.path);
        let elsewhere = way.path.replacen(way.path.split('?').next().unwrap(), "/oauth/callback", 1);
        assert_eq!(alice.arrive(&Way { path: elsewhere, cookie: way.cookie }), 400);
        alice.connect();
        assert!(alice.call("whoami", json!({})).starts_with("carol "));
        assert_eq!(alice.given()["code"], 1, "a code that came elsewhere is not redeemed");
    }

    fn a_server_that_wants_accounts_says_so(installation) {
        let server = oauth(HOUR, &outage(&installation));
        grant(&installation, "notes", &json!({ "type": "http", "url": server.url }));
        let hub = installation.serve();
        let alice = Person { hub: &hub, key: installation.key("alice") };
        let answer = call(hub.address, "/mcp/notes", &alice.key, "whoami", json!({})).json();
        assert!(answer["error"]["message"].as_str().unwrap().contains("give its definition `oauth`"), "{answer}");
        let begun = alice.api("POST", "/account");
        assert_eq!(begun.status, 422, "{begun:?}");
    }
}

/// Names the file that keeps the authorization server from giving tokens.
fn outage(installation: &Installation) -> PathBuf {
    installation.folder().join("outage")
}

fn begin(installation: &Installation, lifetime: u32) -> (Peer, Serving) {
    let server = oauth(lifetime, &outage(installation));
    grant(installation, "notes", &json!({ "type": "http", "url": server.url, "oauth": {} }));
    (server, installation.serve())
}

/// Counts the records of a kind.
fn recorded(installation: &Installation, kind: &str) -> usize {
    installation.ok("audit list --limit 500 --json").matches(&format!(r#""type":"{kind}""#)).count()
}

/// Splits a URL without a name into where it leads and what is asked for there.
fn split(url: &str) -> (SocketAddr, String) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url}"));
    let (address, path) = rest.split_once('/').unwrap();
    (address.parse().unwrap(), format!("/{path}"))
}
