//! What a client calls a task.

use std::time::Duration;

use mcphub_domain::ServerId;
use mcphub_upstream::{Client as AboutClient, Prefers, TaskProgress, Wanted};
use mcphub_wire::{Raw, method};

use super::House;
use crate::tasks::{LONGEST_ID, LONGEST_TOKEN};
use crate::{Began, Client, Endpoint, Entrance, Hub, HubError};

#[tokio::test]
async fn a_task_has_its_name_for_one_person_at_one_endpoint_in_one_era() {
    let house = House::open().await;
    let ((_, alice), (_, bob)) = (house.person("alice").await, house.person("bob").await);
    let server = ServerId::from_bytes([9; 16]);
    let of = |prefers| Client { about: AboutClient { prefers, ..AboutClient::NOBODY }, headers: None };
    let (legacy, modern) = (of(Prefers::Legacy), of(Prefers::Modern));
    let here = Entrance { endpoint: Endpoint::Server(server), path: "/mcp/s", client: &legacy };
    let seal =
        |id: &str, progress| house.hub.seal_task(&alice, here, Began { server, tool: "do", progress }, id);
    let token = |length: usize| {
        // As JSON it has quotation marks.
        Some(TaskProgress { here: Raw::string(&"x".repeat(length - 2)), there: 7 })
    };

    let (id, kept) = ("x".repeat(LONGEST_ID), token(LONGEST_TOKEN));
    let name = seal(&id, kept.clone()).unwrap();
    let task = house.hub.open_task(&alice, here, &name).unwrap();
    assert_eq!((&*task.server, &*task.tool), (&*server.to_string(), "do"));
    let progress_of = |hub: &Hub, task| match hub.ask_about(task, method::TASKS_GET).unwrap() {
        Wanted::Task { id, progress, .. } => (id, progress),
        other => panic!("{other:?}"),
    };
    let (opened, progress) = progress_of(&house.hub, task);
    assert_eq!((&*opened, progress), (&*id, kept));
    let mut of_another_run = house.hub.open_task(&alice, here, &name).unwrap();
    of_another_run.progress.as_mut().unwrap().run = "another".to_owned();
    assert_eq!(progress_of(&house.hub, of_another_run), (id.into(), None));
    for (caller, entrance) in [
        (&bob, here),
        (&alice, Entrance { path: "/mcp", ..here }),
        (&alice, Entrance { client: &modern, ..here }),
    ] {
        assert!(house.hub.open_task(caller, entrance, &name).is_none());
    }

    let name = seal("id", token(LONGEST_TOKEN + 1)).unwrap();
    let task = house.hub.open_task(&alice, here, &name).unwrap();
    assert_eq!(progress_of(&house.hub, task), ("id".into(), None));
    assert!(matches!(seal(&"x".repeat(LONGEST_ID + 1), None), Err(HubError::Invalid(_))));
    house.hub.close(Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
}
