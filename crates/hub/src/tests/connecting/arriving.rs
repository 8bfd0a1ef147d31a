//! What is looked at when somebody comes back.

use serde_json::json;

use super::super::call;
use super::{CANARY, Scene, TOKEN, asked};
use crate::Callback;
use crate::credentials::SlotState;
use crate::error::HubError;
use crate::servers::UpdateServer;

impl Scene {
    /// Changes the server's definition.
    async fn change(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let (hub, operator) = (&self.house.hub, self.house.hub.operator());
        let server = hub.server(self.server.id).unwrap();
        let mut definition = serde_json::to_value(&server.definition).unwrap();
        change(&mut definition);
        let definition = Some(serde_json::from_value(definition).unwrap());
        let update = UpdateServer { revision: server.revision, definition, state: None };
        hub.update_server(&operator, server.id, update).await.unwrap();
    }
}

#[tokio::test]
async fn who_connects_again_is_not_in_the_way_of_a_renewal() {
    let scene = Scene::set().await;
    let (first, second) = (scene.gone().await, scene.gone().await);
    scene.arrive(&second).await.unwrap();
    // What she has now is newer than what she had when she went the first time.
    scene.arrive(&first).await.unwrap();
    assert_eq!((scene.state().await, scene.realm.sent(TOKEN).len()), (SlotState::Ready, 2));
}

#[tokio::test]
async fn her_right_to_it_is_decided_anew() {
    let scene = Scene::set().await;
    let (way, hub, operator) = (scene.gone().await, &scene.house.hub, scene.house.hub.operator());
    let key = hub.list_keys(&operator, scene.alice.id).await.unwrap().remove(0);
    hub.revoke_key(&operator, key.id, key.revision).await.unwrap();
    assert!(scene.arrive(&way).await.is_err());
    assert_eq!((scene.state().await, scene.realm.sent(TOKEN).len()), (SlotState::Missing, 0));
    assert_eq!(scene.failures().await.len(), 1);
}

#[tokio::test]
async fn a_server_that_has_moved_or_changed_gets_no_account_and_spends_no_code() {
    for change in ["path", "origin", "networks", "issuer", "nothing", "removed"] {
        let scene = Scene::set().await;
        let way = scene.gone().await;
        match change {
            "path" => {
                scene
                    .change(|definition| {
                        definition["url"] = json!(format!("{}/other/mcp", scene.realm.origin()))
                    })
                    .await
            }
            "origin" => scene.change(|definition| definition["url"] = json!("https://b.example/mcp")).await,
            "networks" => scene.change(|definition| definition["networks"] = json!(["127.0.0.0/9"])).await,
            "issuer" => {
                scene.change(|definition| definition["oauth"]["issuer"] = json!("https://b.example")).await
            }
            "removed" => {
                scene.house.hub.remove_server(&scene.house.hub.operator(), scene.server.id, 1).await.unwrap()
            }
            _ => scene.change(|definition| definition["timeoutMs"] = json!(30_000)).await,
        }
        let arrived = scene.arrive(&way).await;
        let is_in = change == "nothing";
        assert_eq!((arrived.is_ok(), scene.realm.sent(TOKEN).len()), (is_in, usize::from(is_in)), "{change}");
        assert_eq!(scene.failures().await.len(), usize::from(!is_in), "{change}");
    }
}

#[tokio::test]
async fn an_account_does_not_follow_its_server_to_another_path() {
    let scene = Scene::set().await;
    scene.connect().await;
    assert_eq!(scene.state().await, SlotState::Ready);
    scene.change(|definition| definition["url"] = json!(format!("{}/jira/mcp", scene.realm.origin()))).await;
    assert_eq!(scene.state().await, SlotState::Missing);
    let server = scene.house.hub.server(scene.server.id).unwrap();
    let called = scene.house.hub.call_tool(&scene.caller, call(&server)).await.err();
    assert!(called.is_some());
    assert!(scene.realm.web.seen().iter().all(|seen| !seen.head.contains(CANARY)), "no token went there");
    scene.connect().await;
    assert_eq!(scene.state().await, SlotState::Ready);
}

#[tokio::test]
async fn somebody_elses_browser_is_recorded_and_a_stranger_is_not_known() {
    let scene = Scene::set().await;
    let hub = &scene.house.hub;
    for browser in [None, Some("other")] {
        let way = scene.gone().await;
        assert!(hub.finish_account(scene.callback(&way), browser).await.is_err());
        assert!(scene.failures().await[0].contains("another browser"));
        let again = scene.arrive(&way).await;
        assert!(matches!(again, Err(HubError::NotFound { .. })), "{again:?}");
    }
    let nobody = Callback { state: Some("made up".into()), ..Callback::default() };
    for unknown in [nobody, Callback::default()] {
        let error = hub.finish_account(unknown, None).await.err();
        assert!(matches!(error, Some(HubError::NotFound { .. })), "{error:?}");
    }
    assert_eq!(scene.failures().await.len(), 2);
    assert_eq!(scene.realm.sent(TOKEN).len(), 0);
}

#[tokio::test]
async fn who_does_not_send_iss_has_a_callback_of_its_own() {
    let scene = Scene::set().await;
    assert_eq!(scene.callback(&scene.gone().await).path, "/oauth/callback");
    scene.realm.describes_itself("authorization_response_iss_parameter_supported", json!(false));
    let way = scene.gone().await;
    let callback = scene.callback(&way);
    assert!(callback.path.starts_with("/oauth/callback/"), "{}", callback.path);
    let registered = scene.realm.sent("/register").pop().unwrap().body;
    assert_eq!(registered["redirect_uris"], json!([asked(&way, "redirect_uri")]));
    for path in ["/oauth/callback", "/oauth/callback/00000000000000000000000000000000"] {
        let way = scene.gone().await;
        let mixed_up = Callback { path: path.into(), iss: None, ..scene.callback(&way) };
        let error = scene.house.hub.finish_account(mixed_up, Some(&way.browser)).await.err().unwrap();
        assert!(error.to_string().contains("not from the authorization server"), "{error}");
    }
    assert_eq!(scene.realm.sent(TOKEN).len(), 0);
    let callback = Callback { iss: None, ..callback };
    scene.house.hub.finish_account(callback, Some(&way.browser)).await.unwrap();
    assert!(
        scene.realm.sent(TOKEN)[0]
            .text
            .contains("redirect_uri=http%3A%2F%2F127.0.0.1%3A3000%2Foauth%2Fcallback%2F")
    );
}

#[tokio::test]
async fn tokens_stand_nowhere_in_the_open() {
    let scene = Scene::set().await;
    scene.connect().await;
    let server = scene.house.hub.server(scene.server.id).unwrap();
    let mut running = scene.house.hub.call_tool(&scene.caller, call(&server)).await.unwrap();
    while running.next().await.is_some() {}
    let sent = scene.realm.web.seen().iter().any(|seen| seen.head.contains(&format!("Bearer {CANARY}-")));
    assert!(sent, "the server gets it");
    scene.realm.says(TOKEN, 400, json!({ "error": "invalid_grant", "error_description": CANARY }));
    let way = scene.gone().await;
    let error = scene.arrive(&way).await.unwrap_err().to_string();
    assert!(error.contains("invalid_grant") && !error.contains(CANARY), "{error}");
    scene.house.hub.search_audit(&scene.house.hub.operator(), &Default::default()).await.unwrap();
    let (mut folders, mut files) = (vec![scene.house.folder.path().to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    files += 1;
                    let bytes = std::fs::read(&path).unwrap();
                    assert!(!bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()), "{path:?}");
                }
            }
        }
    }
    assert!(files > 1, "only {files} files");
}
