//! Who is asked to let people in, and who isn't.

use serde_json::{Value, json};

use super::{AUTHORITY, REGISTER, RESOURCE, Realm, Scene, TOKEN, asked};
use crate::error::HubError;

#[tokio::test]
async fn an_issuer_that_is_named_is_asked_and_no_other() {
    let pinned = Realm::start().await;
    let origin = pinned.origin();
    let oauth = json!({ "issuer": origin, "clientId": "hub-id" });
    let scene = Scene::set_with(|_| oauth).await;
    // The server names itself, or nobody: neither is whom the admin means.
    assert!(scene.refused().await.contains("no authorization server that is wanted"));
    scene.realm.says(RESOURCE, 404, Value::Null);
    let way = scene.gone().await;
    assert!(way.url.starts_with(&format!("{origin}/authorize?")), "{}", way.url);
    assert_eq!(asked(&way, "client_id"), "hub-id");
    scene
        .house
        .hub
        .finish_account(
            crate::Callback { iss: Some(origin.clone()), ..scene.callback(&way) },
            Some(&way.browser),
        )
        .await
        .unwrap();
    assert_eq!((pinned.sent(TOKEN).len(), scene.realm.sent(TOKEN).len()), (1, 0));
    let all = scene.realm.web.seen();
    assert!(all.iter().all(|seen| !format!("{}{}", seen.head, seen.text).contains("hub-id")), "{all:?}");
    // Nor is the server asked when the one that is named says nothing.
    pinned.says(AUTHORITY, 404, Value::Null);
    assert!(scene.refused().await.contains("does not describe itself"));
    assert_eq!(scene.realm.sent(AUTHORITY).len(), 0);
}

#[tokio::test]
async fn an_outage_is_no_sign_that_nothing_is_there() {
    let scene = Scene::set().await;
    for (place, status, body) in [
        (RESOURCE, 503, Value::Null),
        (RESOURCE, 200, json!("no description")),
        (RESOURCE, 302, Value::Null),
        (RESOURCE, 429, Value::Null),
        (AUTHORITY, 500, Value::Null),
        (AUTHORITY, 200, json!([])),
    ] {
        scene.realm.says(place, status, body);
        let reason = scene.refused().await;
        assert!(reason.contains(&format!("HTTP {status}")), "{place} {status}: {reason}");
        scene.realm.answers.lock().clear();
    }
    assert_eq!(scene.realm.sent(REGISTER).len(), 0);
    scene.realm.says(RESOURCE, 404, Value::Null);
    assert!(scene.go().await.is_ok(), "a server of 2025-03-26 lets people in itself");
}

#[tokio::test]
async fn nobody_is_sent_to_where_a_stolen_code_is_good() {
    for is_described in [true, false] {
        let scene = Scene::set().await;
        if !is_described {
            scene.realm.says(RESOURCE, 404, Value::Null);
        }
        for methods in [json!([]), json!(["plain"])] {
            scene.realm.describes_itself("code_challenge_methods_supported", methods);
            assert!(scene.refused().await.contains("PKCE"));
        }
        assert_eq!(scene.realm.sent(REGISTER).len(), 0);
    }
}

#[tokio::test]
async fn a_server_of_2025_03_26_may_write_its_address_with_a_slash() {
    let scene = Scene::set().await;
    scene.realm.says(RESOURCE, 404, Value::Null);
    let origin = scene.realm.origin();
    for (issuer, good) in
        [(format!("{origin}/"), true), (format!("{origin}//"), false), (format!("{origin}/x"), false)]
    {
        scene.realm.describes_itself("issuer", json!(issuer));
        match scene.go().await {
            Ok(way) => {
                assert!(good, "{issuer}");
                let callback = crate::Callback { iss: Some(issuer), ..scene.callback(&way) };
                scene.house.hub.finish_account(callback, Some(&way.browser)).await.unwrap();
            }
            Err(error) => assert!(!good, "{issuer}: {error}"),
        }
    }
    let asked = scene.realm.sent(AUTHORITY);
    assert!(asked.iter().all(|seen| seen.header("mcp-protocol-version") == Some("2026-07-28")), "{asked:?}");
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_no_admin_has_allowed() {
    let scene = Scene::set().await;
    for (member, place) in [
        ("authorization_endpoint", "https://10.0.0.1/authorize"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("token_endpoint", "https://169.254.169.254/token"),
        ("token_endpoint", "http://b.example/token"),
    ] {
        scene.realm.describes_itself(member, json!(place));
        assert!(scene.refused().await.contains("may not be asked"), "{place}");
    }
    assert_eq!(scene.realm.sent(REGISTER).len(), 0, "nobody is registered for nothing");
}

#[tokio::test]
async fn what_an_address_answers_stands_in_the_record_and_is_told_to_nobody() {
    let scene = Scene::set().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let issuer = format!("http://{closed}");
    scene.realm.says(
        RESOURCE,
        200,
        json!({ "resource": scene.realm.web.url(), "authorization_servers": [issuer] }),
    );
    let told = scene.refused().await;
    assert!(told.ends_with(&format!("{issuer} can't be asked")), "{told}");
    let recorded = &scene.failures().await[0];
    assert!(recorded.len() > told.len() && recorded.to_lowercase().contains("connect"), "{recorded}");
    let long = format!("https://a.example/{}", "x".repeat(2000));
    scene.realm.says(RESOURCE, 200, json!({ "resource": scene.realm.web.url(), "authorization_servers": [format!("{}/{long}", scene.realm.origin())] }));
    assert!(scene.refused().await.len() < 300);
}

#[tokio::test]
async fn who_has_no_more_calls_left_connects_nothing() {
    let scene = Scene::set().await;
    let (limits, now) = (&scene.house.hub.limits, scene.house.hub.clock.now());
    let places: Vec<_> = (0..256).map_while(|_| limits.charge(scene.alice.id, now).ok()).collect();
    assert_eq!(places.len(), 256);
    assert!(matches!(scene.go().await.err(), Some(HubError::RateLimited { .. })));
    assert_eq!(scene.realm.web.seen().len(), 0);
    drop(places);
    assert!(scene.go().await.is_ok());
}

#[tokio::test]
async fn a_server_that_does_not_say_what_it_wants_is_connected_all_the_same() {
    let scene = Scene::set().await;
    scene.realm.says("/mcp", 200, json!("x".repeat(300 * 1024)));
    scene.connect().await;
}
