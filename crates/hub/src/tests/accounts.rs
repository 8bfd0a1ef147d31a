//! Accounts that people have connected: what is sent where for a new token, and what comes of it if there is none.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::future::join_all;
use mcphub_domain::SecretText;
use mcphub_upstream::UpstreamError;
use serde_json::json;

use super::listing::until;
use super::town::{Mood, Town, site};
use crate::credentials::{SeenSlot, SlotState};
use crate::error::HubError;
use crate::servers::UpdateServer;

const HOUR: Duration = Duration::from_hours(1);
/// How long a token that could not be renewed is left alone.
const PAUSE: Duration = Duration::from_secs(10);

fn needs_her(called: Result<(), HubError>) {
    assert!(
        matches!(&called, Err(HubError::MissingCredential(missing)) if missing.missing[0].is_account()),
        "{called:?}"
    );
}

#[tokio::test]
async fn a_refresh_names_what_the_token_is_for_and_each_token_is_spent_once() {
    let town = Town::modern().await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.office.lock().lifetime = Some(HOUR.as_secs());
    town.connect(&alice, &server).await;
    town.call(&alice.1, &server).await.unwrap();
    assert_eq!(town.renewals(), [], "it is good for an hour");
    for round in 1..=2 {
        town.pass(HOUR - Duration::from_secs(29));
        join_all((0..8).map(|_| town.call(&alice.1, &server))).await.into_iter().for_each(Result::unwrap);
        let renewals = town.renewals();
        assert_eq!(renewals.len(), round);
        let last = &renewals[round - 1];
        let sent = ["client_id", "resource", "refresh_token"].map(|name| last[name].clone());
        assert_eq!(sent, ["registered".to_owned(), town.web.url(), format!("refresh-{round}")]);
        assert_eq!(last.len(), 4, "{last:?}");
    }
}

#[tokio::test]
async fn an_outage_of_the_authorization_server_disconnects_nobody() {
    let town = Town::modern().await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.office.lock().lifetime = Some(HOUR.as_secs());
    town.connect(&alice, &server).await;
    for fault in [
        Mood::Says(503, r#"{"error":"invalid_grant"}"#),
        Mood::Says(500, "hush"),
        Mood::Says(400, r#"{"error":"temporarily_unavailable","error_description":"hush"}"#),
        Mood::Says(429, "hush"),
    ] {
        let before = town.renewals().len();
        town.office.lock().mood = fault;
        town.pass(HOUR - Duration::from_secs(29));
        town.call(&alice.1, &server).await.unwrap();
        assert_eq!(town.renewals().len(), before + 1, "the token is good for half a minute yet");
        town.pass(Duration::from_secs(30));
        let failed = join_all((0..8).map(|_| town.call(&alice.1, &server))).await;
        assert_eq!(town.renewals().len(), before + 2, "nobody asks again what was just refused");
        for failed in failed {
            let Err(HubError::NotRenewed { reason, .. }) = &failed else { panic!("{failed:?}") };
            assert!(!reason.contains("hush"), "{reason}");
        }
        assert_eq!(town.state(&alice, &server).await, SlotState::Ready, "she has nothing to do");
        town.office.lock().mood = Mood::Gives;
        town.pass(PAUSE);
        town.call(&alice.1, &server).await.unwrap();
        assert_eq!(town.renewals().len(), before + 3);
    }
}

#[tokio::test]
async fn who_lets_nobody_in_any_more_is_believed() {
    let town = Town::modern().await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    for code in ["invalid_grant", "invalid_client", "unauthorized_client"] {
        town.connect(&alice, &server).await;
        town.office.lock().forget_access();
        let said = format!(r#"{{"error":"{code}"}}"#).leak();
        town.office.lock().mood = Mood::Says(400, said);
        let before = town.renewals().len();
        for _ in 0..2 {
            needs_her(town.call(&alice.1, &server).await);
        }
        assert_eq!(town.renewals().len(), before + 1, "{code}");
        assert_eq!(town.state(&alice, &server).await, SlotState::Missing);
        town.office.lock().mood = Mood::Gives;
    }
}

#[tokio::test]
async fn a_token_without_an_end_is_renewed_each_time_it_is_refused_but_no_new_one() {
    let town = Town::modern().await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.connect(&alice, &server).await;
    for round in 1..=3 {
        town.pass(Duration::from_secs(61));
        town.office.lock().forget_access();
        assert!(matches!(town.call(&alice.1, &server).await, Err(HubError::Renewed { .. })));
        town.call(&alice.1, &server).await.unwrap();
        assert_eq!(town.renewals().len(), round);
    }
    town.pass(Duration::from_secs(59));
    town.office.lock().forget_access();
    needs_her(town.call(&alice.1, &server).await);
    assert_eq!(town.renewals().len(), 3, "another new one would be refused as well");
}

#[tokio::test]
async fn nothing_goes_to_another_authorization_server_than_the_account_is_from() {
    let town = Town::modern().await;
    let other = site(&Arc::default(), super::answer).await;
    let origin = |web: &super::web::Web| format!("http://{}", web.address);
    let oauth = |issuer: String, id: &str| json!({ "issuer": issuer, "clientId": id, "clientSecret": "${SHARED_CLIENT}", "scopes": ["notes"] });
    let (server, alice) =
        (town.server(oauth(origin(&town.web), "first")).await, town.house.person("alice").await);
    let (hub, operator) = (&town.house.hub, town.house.hub.operator());
    let set_secret = async |revision: i64, secret: &str| {
        let Some(slot) = hub.server(server.id).unwrap().definition.oauth().unwrap().secret_slot() else {
            panic!("no slot")
        };
        let destination = hub.server(server.id).unwrap().definition.destination_of(&slot);
        let seen = SeenSlot { server: server.id, slot: slot.name().clone(), revision, destination };
        hub.set_shared_value(&operator, &seen, &SecretText::new(secret.to_owned())).await.unwrap();
    };
    set_secret(0, "secret-of-the-first").await;
    town.office.lock().lifetime = Some(HOUR.as_secs());
    town.connect(&alice, &server).await;
    town.call(&alice.1, &server).await.unwrap();
    let change = async |oauth| {
        let revision = hub.server(server.id).unwrap().revision;
        let update = UpdateServer { revision, definition: Some(town.definition(oauth)), state: None };
        hub.update_server(&operator, server.id, update).await.unwrap();
    };
    change(oauth(origin(&other), "second")).await;
    set_secret(1, "secret-of-the-second").await;
    let used = town.asked_with("access-1");
    for _ in 0..2 {
        needs_her(town.call(&alice.1, &server).await);
        assert_eq!(town.state(&alice, &server).await, SlotState::Missing);
        town.pass(HOUR);
    }
    // Not even where a refusal came after the definition had changed.
    let row = town.row(&alice.0, &server).await;
    let (name, challenge) = (server.name.clone(), None);
    let refusal = UpstreamError::Unauthorized { server: name, status: 401, challenge };
    needs_her(Err(hub.explain_refusal(alice.0.id, &server, (Some(row.revision), refusal)).await));
    assert_eq!((town.asked_with("access-1"), town.renewals()), (used, vec![]));
    assert!(!town.web.seen().iter().any(|seen| seen.text.contains("secret-of-the-second")));
    // Where it was connected it is good still.
    change(oauth(origin(&town.web), "first")).await;
    set_secret(2, "secret-of-the-first").await;
    town.call(&alice.1, &server).await.unwrap();
    assert_eq!(town.renewals().last().unwrap()["client_secret"], "secret-of-the-first");
    change(oauth(origin(&town.web), "second")).await;
    needs_her(town.call(&alice.1, &server).await);
    assert_eq!(town.renewals().len(), 1);
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_is_given_up_leaves_the_new_token_behind() {
    let town = Town::modern().await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.office.lock().lifetime = Some(HOUR.as_secs());
    town.connect(&alice, &server).await;
    town.pass(HOUR);
    let (release, held) = mpsc::channel();
    town.office.lock().held = Some(held);
    tokio::select! {
        biased;
        () = until("the refresh token is spent", || town.renewals().len() == 1) => {}
        called = town.call(&alice.1, &server) => panic!("it was to be given up: {called:?}"),
    }
    drop(release);
    town.call(&alice.1, &server).await.unwrap();
    assert_eq!(town.renewals().len(), 1, "what was given for it is not lost");
}

#[tokio::test]
async fn what_runs_goes_on_over_a_renewal_and_ends_with_a_removal() {
    let town = Town::with(|seen| match (seen.method(), seen.text.contains("\"slow\"")) {
        ("server/discover", _) => super::web::discovery(seen),
        ("tools/call", true) => super::web::events(Vec::new(), super::web::End::Hang),
        _ => super::answer(seen),
    })
    .await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.office.lock().lifetime = Some(HOUR.as_secs());
    town.connect(&alice, &server).await;
    let slow = super::call_with(&server, &json!({ "how": "slow" }));
    let mut running = town.house.hub.call_tool(&alice.1, slow).await.unwrap();
    town.pass(HOUR);
    town.call(&alice.1, &server).await.unwrap();
    assert_eq!(town.renewals().len(), 1);
    let next = tokio::time::timeout(Duration::from_millis(500), running.next()).await;
    assert!(next.is_err(), "it runs with the token before: {next:?}");
    town.remove(&alice, &server).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), running.next()).await.unwrap();
    assert!(matches!(ended, Some(crate::running::Said::Failed(_))), "{ended:?}");
}

#[tokio::test]
async fn a_removal_during_a_renewal_is_one() {
    let town = Town::modern().await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.office.lock().lifetime = Some(HOUR.as_secs());
    town.connect(&alice, &server).await;
    town.pass(HOUR);
    // Another hub has just begun to renew it.
    let row = town.row(&alice.0, &server).await;
    let until_then = town.house.hub.clock.now().plus(HOUR);
    assert!(town.house.hub.store.claim_renewal(alice.0.id, &row, until_then).await.unwrap());
    let removed = async {
        until("she waits", || town.house.hub.accounts.in_renewal() == 1).await;
        town.remove(&alice, &server).await;
    };
    let (called, ()) = tokio::join!(town.call(&alice.1, &server), removed);
    needs_her(called);
    assert_eq!(town.renewals(), []);
    assert_eq!(town.state(&alice, &server).await, SlotState::Missing);
}
