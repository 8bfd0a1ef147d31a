//! Tokens that are renewed: in time, once, wherever that is noticed, and although something fails.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{HOUR, Person, begin, outage, recorded};
use crate::custody::digits;
use crate::harness::client::{call, send};
use crate::harness::relay::{Relay, Wire};
use crate::harness::{Database, Installation, eventually, eventually_within, on_both};

on_both! {
    fn a_token_that_is_refused_is_renewed_once_for_all_calls(installation) {
        let (_server, hub) = begin(&installation, HOUR);
        let alice = Person { hub: &hub, key: installation.key("alice") };
        alice.connect();
        let before = alice.call("whoami", json!({}));
        alice.call("forget", json!({}));
        thread::scope(|scope| {
            let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| alice.call("whoami", json!({})))).collect();
            for answer in calls.into_iter().map(|call| call.join().unwrap()) {
                assert!(answer.starts_with("carol ") && answer != before, "{answer}");
            }
        });
        assert_eq!(alice.given(), json!({ "client": 1, "code": 1, "refresh": 1 }));
        let renewed = || recorded(&installation, "account.renewed");
        assert_eq!(renewed(), 1);
        alice.call("forget", json!({ "everything": true }));
        let text = alice.call("whoami", json!({}));
        assert!(text.contains("/credentials/notes"), "only she can help: {text}");
        assert_eq!((alice.account()["state"].clone(), renewed()), (json!("missing"), 1));
        alice.connect();
        assert!(alice.call("whoami", json!({})).starts_with("carol "));
        assert_eq!(alice.given(), json!({ "client": 1, "code": 2, "refresh": 1 }), "the hub is known there already");
    }

    fn a_token_is_renewed_half_a_minute_before_its_end_and_no_call_is_refused(installation) {
        let (_server, hub) = begin(&installation, 33);
        let alice = Person { hub: &hub, key: installation.key("alice") };
        alice.connect();
        let before = alice.call("whoami", json!({}));
        assert_eq!((alice.given()["refresh"].clone(), &before[..6]), (Value::Null, "carol "), "it is good for a while");
        eventually("there is another token", || {
            let now = alice.call("whoami", json!({}));
            assert!(now.starts_with("carol "), "{now}");
            (now != before).then_some(())
        });
        assert_eq!((alice.given()["refresh"].clone(), alice.met("refused")), (json!(1), json!(0)));
        assert_eq!(recorded(&installation, "account.renewed"), 1);
    }

    fn an_outage_of_the_token_endpoint_disconnects_nobody(installation) {
        let (_server, hub) = begin(&installation, HOUR);
        let alice = Person { hub: &hub, key: installation.key("alice") };
        alice.connect();
        alice.call("forget", json!({}));
        std::fs::write(outage(&installation), "").unwrap();
        for _ in 0..3 {
            let answer = call(hub.address, "/mcp/notes", &alice.key, "whoami", json!({})).json();
            let text = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
            assert!(text.contains("can't be renewed, and is not tried again before") && text.contains("HTTP 503"), "{text}");
        }
        assert_eq!(alice.account()["state"], "ready", "there is nothing for her to do");
        std::fs::remove_file(outage(&installation)).unwrap();
        let again = || {
            let answer = call(hub.address, "/mcp/notes", &alice.key, "whoami", json!({})).json();
            answer["result"]["content"][0]["text"].as_str().filter(|text| text.starts_with("carol ")).map(drop)
        };
        eventually_within(Duration::from_secs(30), "she goes on", again);
        assert_eq!(alice.met("asked"), json!(3), "once to connect, once in vain, once again");
        assert_eq!(alice.given(), json!({ "client": 1, "code": 1, "refresh": 1 }));
    }

    fn what_runs_goes_on_over_a_renewal_and_ends_with_a_removal(installation) {
        let (_server, hub) = begin(&installation, 33);
        let alice = Person { hub: &hub, key: installation.key("alice") };
        alice.connect();
        alice.call("whoami", json!({}));
        runs_on(&installation, &alice, &alice);
    }
}

#[test]
fn two_nodes_spend_a_refresh_token_once() {
    let mut installation = Installation::new(Database::Postgres);
    installation.set("MCPHUB_VAULT__PROVIDER", "env");
    installation.set("MCPHUB_VAULT__KEY", &digits(1));
    let (_server, here) = begin(&installation, 33);
    let node = installation.another_node();
    let there = node.serve();
    let alice = Person { hub: &here, key: installation.key("alice") };
    let elsewhere = Person { hub: &there, key: alice.key.clone() };
    alice.connect();
    assert!(alice.call("whoami", json!({})).starts_with("carol "));
    let knows =
        || call(there.address, "/mcp/notes", &alice.key, "whoami", json!({})).json().get("result").map(drop);
    eventually("the other node knows the tools", knows);
    // Each token is good for three seconds before it is renewed, and for half a minute more.
    eventually_within(Duration::from_secs(30), "both have renewed it in turn", || {
        thread::scope(|scope| {
            let calls: Vec<_> = [&alice, &elsewhere, &alice, &elsewhere]
                .into_iter()
                .map(|person| scope.spawn(|| person.call("whoami", json!({}))))
                .collect();
            for answer in calls.into_iter().map(|call| call.join().unwrap()) {
                assert!(answer.starts_with("carol "), "{answer}");
            }
        });
        (alice.given()["refresh"].as_u64() >= Some(3)).then_some(())
    });
    // One of them waits for an answer, which leaves the other all the time to ask, too.
    let outage = &outage(&installation);
    std::fs::write(outage, "late").unwrap();
    thread::scope(|scope| {
        for person in [&alice, &elsewhere] {
            scope.spawn(|| {
                while outage.exists() {
                    assert!(person.call("whoami", json!({})).starts_with("carol "));
                }
            });
        }
        let held = || std::fs::read_to_string(outage).is_ok_and(|text| text == "held");
        eventually("a refresh token is spent", || held().then_some(()));
        thread::sleep(Duration::from_secs(1));
        std::fs::remove_file(outage).unwrap();
    });
    let (given, asked) = eventually("nothing is renewed between two looks", || {
        let (before, asked, after) = (alice.given(), alice.met("asked"), alice.given());
        (before == after).then_some((before, asked))
    });
    assert_eq!(asked.as_u64(), Some(1 + given["refresh"].as_u64().unwrap()), "nobody asked in vain: {given}");
    assert_eq!(elsewhere.met("refused"), 0, "no call was refused on the way");
    let kept = alice.account()["revision"].as_u64().unwrap() - 1;
    assert!(kept >= given["refresh"].as_u64().unwrap(), "each new token was kept: {kept} of {given}");
    runs_on(&installation, &alice, &elsewhere);
}

#[test]
fn a_new_token_that_comes_while_the_database_is_away_is_kept() {
    let mut installation = Installation::new(Database::Postgres);
    let relay = Relay::before(&mut installation);
    let (_server, hub) = begin(&installation, 33);
    let alice = Person { hub: &hub, key: installation.key("alice") };
    alice.connect();
    assert!(alice.call("whoami", json!({})).starts_with("carol "));
    let (hub, alice, outage) = (&hub, &alice, &outage(&installation));
    std::fs::write(outage, "late").unwrap();
    let ready = || send(hub.address, "GET", "/readyz", &[], "").status;
    thread::scope(|scope| {
        let held = || std::fs::read_to_string(outage).is_ok_and(|text| text == "held");
        scope.spawn(|| {
            while std::fs::read_to_string(outage).is_ok_and(|text| text == "late") {
                call(hub.address, "/mcp/notes", &alice.key, "whoami", json!({}));
            }
        });
        eventually("a refresh token is spent", || held().then_some(()));
        relay.make(Wire::Cut);
        eventually("the database is away", || (ready() == 503).then_some(()));
        std::fs::remove_file(outage).unwrap();
        let tried =
            || installation.logged().contains("a renewed token could not be stored yet").then_some(());
        eventually("a new token can't be stored", tried);
        relay.make(Wire::Whole);
    });
    eventually("the database is back", || (ready() == 200).then_some(()));
    let stored = || (alice.account()["revision"] == 2).then_some(());
    eventually_within(Duration::from_secs(30), "the new token is stored", stored);
    assert!(alice.call("whoami", json!({})).starts_with("carol "));
    assert_eq!(alice.given()["refresh"], 1);
}

/// Renews an account here, and removes it, while it is used there.
fn runs_on(installation: &Installation, here: &Person<'_>, there: &Person<'_>) {
    let [started, go] = ["started", "go"].map(|name| installation.folder().join(name));
    let wait = || {
        let arguments = json!({ "started": started, "go": go });
        call(there.hub.address, "/mcp/notes", &there.key, "wait", arguments).json()
    };
    let begun = || {
        eventually("the call is in the middle", || started.exists().then_some(()));
        std::fs::remove_file(&started).unwrap();
    };
    thread::scope(|scope| {
        let waits = scope.spawn(wait);
        begun();
        let before = here.account()["revision"].clone();
        eventually("a token is renewed", || {
            assert!(here.call("whoami", json!({})).starts_with("carol "));
            (here.account()["revision"] != before).then_some(())
        });
        // Whoever hears of it late hears of it now.
        assert!(there.call("whoami", json!({})).starts_with("carol "));
        std::fs::write(&go, "").unwrap();
        let answer = waits.join().unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], "gone on", "{answer}");
        std::fs::remove_file(&go).unwrap();
        let waits = scope.spawn(wait);
        begun();
        let revision = here.account()["revision"].clone();
        assert_eq!(here.api("DELETE", &format!("/credentials/OAUTH?revision={revision}")).status, 204);
        let answer = waits.join().unwrap();
        assert!(
            answer["error"]["message"].as_str().is_some_and(|text| text.contains("was closed")),
            "{answer}"
        );
    });
}
