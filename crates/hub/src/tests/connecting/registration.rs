//! As whom the hub is known, and for how long.

use mcphub_domain::{Clock, SecretText, Timestamp};
use serde_json::json;

use super::super::{House, START};
use super::{REGISTER, Realm, Scene, TOKEN, asked};
use crate::accounts::bounded::CLIENT;
use crate::credentials::SeenSlot;
use crate::error::HubError;

#[tokio::test]
async fn the_hub_registers_once_for_ways_that_are_not_over() {
    let scene = Scene::set().await;
    let (first, second) = (scene.gone().await, scene.gone().await);
    assert_eq!(asked(&first, "client_id"), asked(&second, "client_id"));
    scene.arrive(&second).await.unwrap();
    scene.arrive(&first).await.unwrap();
    scene.connect().await;
    assert_eq!(scene.realm.sent(REGISTER).len(), 1);
}

#[tokio::test]
async fn who_comes_back_to_begin_again_is_sent_as_somebody_new() {
    let scene = Scene::set().await;
    let old = asked(&scene.connect().await, "client_id");
    // Her authorization server shows her an error: the id isn't known there any more.
    assert_eq!(asked(&scene.gone().await, "client_id"), old);
    let new = asked(&scene.gone().await, "client_id");
    assert_ne!(new, old);
    assert_eq!(asked(&scene.gone().await, "client_id"), new);
    assert_eq!(scene.realm.sent(REGISTER).len(), 2);
}

#[tokio::test]
async fn an_id_that_is_refused_is_given_up() {
    for code in ["invalid_client", "unauthorized_client", "invalid_grant"] {
        let scene = Scene::set().await;
        scene.connect().await;
        scene.realm.says(TOKEN, 401, json!({ "error": code }));
        let way = scene.gone().await;
        assert!(scene.arrive(&way).await.is_err());
        scene.realm.answers.lock().clear();
        scene.connect().await;
        let registered = if code == "invalid_grant" { 1 } else { 2 };
        assert_eq!(scene.realm.sent(REGISTER).len(), registered, "{code}");
    }
}

#[tokio::test]
async fn an_id_is_good_until_its_secret_ends() {
    let now = START as u64 / 1_000_000;
    for (ends, registered) in [(0, 1), (now + 3600, 1), (now, 2)] {
        let scene = Scene::set().await;
        let client = json!({ "client_id": "c", "client_secret": "s", "client_secret_expires_at": ends });
        scene.realm.says(REGISTER, 201, client);
        scene.connect().await;
        scene.connect().await;
        assert_eq!(scene.realm.sent(REGISTER).len(), registered, "{ends}");
    }
}

#[tokio::test]
async fn an_id_is_good_for_the_callback_that_was_registered() {
    let scene = Scene::set().await;
    scene.connect().await;
    scene.realm.describes_itself("authorization_response_iss_parameter_supported", json!(false));
    scene.gone().await;
    assert_eq!(scene.realm.sent(REGISTER).len(), 2);
}

#[tokio::test]
async fn an_id_and_its_secret_may_be_as_long_as_the_limit_and_no_longer() {
    for (id, secret, fits) in [(CLIENT, CLIENT, true), (CLIENT + 1, 1, false), (1, CLIENT + 1, false)] {
        let (scene, id) = (Scene::set().await, "c".repeat(id));
        let client = json!({ "client_id": id, "client_secret": "s".repeat(secret) });
        scene.realm.says(REGISTER, 201, client);
        match fits {
            true => assert_eq!(asked(&scene.connect().await, "client_id"), id),
            false => assert!(scene.refused().await.contains("refuses to register")),
        }
    }
}

#[tokio::test]
async fn a_secret_goes_to_the_issuer_that_it_was_given_for() {
    let other = Realm::start().await;
    let oauth = |realm: &Realm| json!({ "issuer": realm.origin(), "clientId": "c", "clientSecret": "${SHARED_SECRET}" });
    let scene = Scene::set_with(oauth).await;
    let (hub, operator) = (&scene.house.hub, scene.house.hub.operator());
    let way = scene.gone().await;
    assert!(matches!(scene.arrive(&way).await, Err(HubError::MissingCredential(_))));
    let seen: SeenSlot =
        hub.see_shared_slot(&operator, &scene.server, "SECRET".parse().unwrap()).await.unwrap();
    hub.set_shared_value(&operator, &seen, &SecretText::new("canary".into())).await.unwrap();
    scene.connect().await;
    assert!(scene.realm.sent(TOKEN)[0].header("authorization").is_some(), "it proves who it is");
    // The server moves its people to another issuer, and so does the definition: nobody has given the secret for that.
    let definition = json!({
        "type": "streamable-http", "url": scene.realm.web.url(), "networks": ["127.0.0.0/8"],
        "oauth": { "issuer": other.origin(), "clientId": "c", "clientSecret": "${SHARED_SECRET}" },
    });
    let update = crate::servers::UpdateServer {
        revision: 1,
        definition: Some(serde_json::from_value(definition).unwrap()),
        state: None,
    };
    hub.update_server(&operator, scene.server.id, update).await.unwrap();
    let issuers = json!({ "resource": scene.realm.web.url(), "authorization_servers": [other.origin()] });
    scene.realm.says(super::RESOURCE, 200, issuers);
    let way = scene.gone().await;
    let callback = crate::Callback { iss: Some(other.origin()), ..scene.callback(&way) };
    let error = hub.finish_account(callback, Some(&way.browser)).await.err();
    assert!(matches!(error, Some(HubError::MissingCredential(_))), "{error:?}");
    assert_eq!(other.sent(TOKEN).len(), 0);
}

#[tokio::test]
async fn a_hub_that_others_can_reach_is_known_by_its_document() {
    let clock = Clock::new(|| Timestamp::from_micros(START));
    let house = House::open_on("https://hub.example", clock, 7).await;
    let scene = Scene::set_in(house, |_| json!({})).await;
    let mut documents = Vec::new();
    for names_itself in [true, false] {
        scene.realm.describes_itself("client_id_metadata_document_supported", json!(true));
        let mut described = scene.realm.answers.lock().get(super::AUTHORITY).unwrap().1.clone();
        described["authorization_response_iss_parameter_supported"] = json!(names_itself);
        scene.realm.says(super::AUTHORITY, 200, described);
        let way = scene.gone().await;
        let (id, redirect) = (asked(&way, "client_id"), asked(&way, "redirect_uri"));
        let issuer = id.strip_prefix("https://hub.example/client-metadata/");
        assert_eq!(issuer.is_none(), names_itself, "{id}");
        let document = scene.house.hub.client_description(issuer).unwrap();
        assert_eq!((&document["client_id"], &document["redirect_uris"]), (&json!(id), &json!([redirect])));
        documents.push(document);
    }
    assert_ne!(documents[0]["redirect_uris"], documents[1]["redirect_uris"]);
    assert_eq!(scene.realm.sent(REGISTER).len(), 0);
    for made_up in ["", "..", "x", &"g".repeat(32), &"0".repeat(31)] {
        assert!(scene.house.hub.client_description(Some(made_up)).is_none(), "{made_up}");
    }
    assert!(Scene::set().await.house.hub.client_description(None).is_none(), "others can't reach it");
}
