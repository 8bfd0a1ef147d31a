//! The first list of a server, and who waits for it.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mcphub_domain::ToolState;
use mcphub_upstream::UpstreamError;
use serde_json::json;

use super::web::{End, Plan, Web, result, status};
use super::{House, answer, call};
use crate::running::Said;
use crate::servers::UpdateTool;
use crate::{Endpoint, Listing};

fn absent(listing: &Listing) -> Vec<&str> {
    listing.absent.iter().map(|absence| absence.server.as_str()).collect()
}

fn lists(web: &Web) -> usize {
    web.methods().iter().filter(|method| *method == "tools/list").count()
}

pub(super) async fn until(what: &str, happened: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this did not happen within 10 s: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_waits_for_the_first_list_that_is_under_way() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let web = Web::modern(move |seen| {
        if seen.method() == "tools/list" {
            // Goes on when the other end is dropped.
            assert!(tokio::task::block_in_place(|| held.lock().unwrap().recv()).is_err());
        }
        answer(seen)
    })
    .await;
    let house = House::open().await;
    let server = house.server("s", &web).await;
    let people = [house.person("alice").await, house.person("bob").await];
    for (user, _) in &people {
        house.set_token(user, &server, "token").await;
    }
    let (hub, alice) = (Arc::clone(&house.hub), people[0].1.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { hub.list_tools(&alice, Endpoint::All).await.unwrap().tools.len() });
    until("the list is under way", || lists(&web) == 1).await;
    let calls = people.iter().map(|(_, caller)| house.hub.call_tool(caller, call(&server)));
    let calls = futures_util::future::join_all(calls);
    let released = async {
        until("both calls wait", || house.hub.lookout.waiting(server.id) == 3).await;
        drop(release);
    };
    let (answered, ()) = tokio::join!(calls, released);
    for running in answered {
        assert!(matches!(running.unwrap().next().await, Some(Said::Answer(_))));
    }
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_knows_what_another_process_has_listed_at_the_same_time() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(Some(held));
    let web = Web::modern(move |seen| {
        // The first list waits, the second doesn't.
        let held = if seen.method() == "tools/list" { held.lock().unwrap().take() } else { None };
        if let Some(held) = held {
            assert!(tokio::task::block_in_place(|| held.recv()).is_err());
        }
        answer(seen)
    })
    .await;
    let house = House::open().await;
    let (server, (user, alice)) = (house.server("s", &web).await, house.person("alice").await);
    house.set_token(&user, &server, "token").await;
    let calling = house.hub.call_tool(&alice, call(&server));
    let listing = async {
        until("the list is under way", || lists(&web) == 1).await;
        let other = house.beside().await;
        other.discover_as(user.id, &server).await.unwrap();
        drop(release);
        other.close(Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
    };
    let (called, ()) = tokio::join!(calling, listing);
    assert!(matches!(called.unwrap().next().await, Some(Said::Answer(_))));
}

#[tokio::test]
async fn a_server_whose_first_list_failed_is_named_at_once_and_delays_nobody() {
    let slow = |seen: &super::web::Seen| match seen.method() {
        "tools/list" => Plan { pieces: Vec::new(), end: End::Hang },
        _ => status(500),
    };
    let (fine, slow) = (Web::modern(answer).await, Web::modern(slow).await);
    let broken = Web::modern(|_| status(500)).await;
    let house = House::open().await;
    let (user, caller) = house.person("alice").await;
    let mut servers = Vec::new();
    for (name, web) in [("fine", &fine), ("slow", &slow), ("broken", &broken)] {
        let server = house.server_within(name, web, 1_000).await;
        house.set_token(&user, &server, "token").await;
        servers.push(server);
    }
    let (slow_server, broken_server) = (&servers[1], &servers[2]);
    for _ in 0..2 {
        let listing = house.hub.list_tools(&caller, Endpoint::All).await.unwrap();
        assert_eq!(absent(&listing), ["broken", "slow"]);
        let names: Vec<&str> = listing.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["fine__do"]);
        assert_eq!((lists(&slow), lists(&broken)), (1, 1), "they are not asked again");
        let timed_out =
            UpstreamError::TimedOut { server: slow_server.name.clone(), after: Duration::from_secs(1) };
        assert_eq!(listing.absent[1].reason, timed_out.to_string());
    }
    house.set_token(&user, broken_server, "another").await;
    house.hub.list_tools(&caller, Endpoint::All).await.unwrap();
    assert_eq!((lists(&slow), lists(&broken)), (1, 2), "with another token it may work");
}

#[tokio::test]
async fn a_missing_credential_is_not_held_against_a_server() {
    let (house, web) = (House::open().await, Web::modern(answer).await);
    let server = house.server("s", &web).await;
    let (user, caller) = house.person("alice").await;
    let listing = house.hub.list_tools(&caller, Endpoint::All).await.unwrap();
    assert!(listing.absent[0].url.as_deref().is_some_and(|url| url.ends_with("/credentials/s")));
    assert!(web.seen().is_empty());
    house.set_token(&user, &server, "token").await;
    assert_eq!(house.hub.list_tools(&caller, Endpoint::All).await.unwrap().tools.len(), 1);
}

#[tokio::test]
async fn two_people_who_see_different_definitions_change_nothing_back_and_forth() {
    let web = Web::modern(|seen| {
        let tool = json!({ "name": "do", "description": seen.header("authorization") });
        result(seen, &json!({ "tools": [tool] }))
    })
    .await;
    let house = House::open().await;
    let server = house.server("s", &web).await;
    let people = [house.person("alice").await.0, house.person("bob").await.0];
    for user in &people {
        house.set_token(user, &server, user.name.as_str()).await;
    }
    let state = || house.hub.snapshot.newest().server(server.id)?.tool("do").cloned();
    let mut seen = Vec::new();
    for user in [&people[0], &people[1], &people[0], &people[1]] {
        house.hub.discover_as(user.id, &server).await.unwrap();
        seen.push(state().unwrap());
    }
    assert_eq!((seen[0].state, seen[1].state), (ToolState::Approved, ToolState::Changed));
    assert_ne!(seen[0].digest, seen[1].digest);
    assert_eq!((&seen[1], &seen[1]), (&seen[2], &seen[3]), "bob's waits");
    let approval = UpdateTool {
        revision: seen[3].revision,
        digest: seen[3].digest,
        effect: None,
        state: Some(ToolState::Approved),
    };
    let (operator, name) = (house.hub.operator(), "do".parse().unwrap());
    house.hub.update_tool(&operator, server.id, &name, approval).await.unwrap();
    house.hub.discover_as(people[1].id, &server).await.unwrap();
    assert_eq!(state().unwrap().state, ToolState::Approved);
    house.hub.discover_as(people[0].id, &server).await.unwrap();
    assert_eq!(state().unwrap().state, ToolState::Changed, "alice's is not what was approved");
}

#[tokio::test]
async fn nothing_is_remembered_of_a_server_that_is_gone() {
    let (house, web) = (House::open().await, Web::modern(answer).await);
    let server = house.server("s", &web).await;
    let (user, caller) = house.person("alice").await;
    house.set_token(&user, &server, "token").await;
    let listing = house.hub.list_tools(&caller, Endpoint::All).await.unwrap();
    assert_eq!((listing.tools.len(), house.hub.lookout.remembered()), (1, 2));
    let operator = house.hub.operator();
    house.hub.remove_server(&operator, server.id, server.revision).await.unwrap();
    assert_eq!(house.hub.lookout.remembered(), 0);
}
