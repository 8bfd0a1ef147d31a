//! How many sessions a person may have, and that one that ended is over.

use super::House;
use crate::sessions::SESSIONS_PER_PERSON;
use crate::{Caller, HubError, NewSession};

async fn open(house: &House, caller: &Caller) -> String {
    let new = NewSession {
        endpoint: "/mcp".to_owned(),
        version: "2025-06-18".to_owned(),
        capabilities: "{}".to_owned(),
    };
    house.hub.open_session(caller, new).await.unwrap().id
}

#[tokio::test]
async fn a_person_has_so_many_sessions_and_the_next_one_ends_another() {
    let house = House::open().await;
    let ((_, alice), (_, bob)) = (house.person("alice").await, house.person("bob").await);
    let of_bob = open(&house, &bob).await;
    let mut ids = Vec::new();
    for _ in 0..SESSIONS_PER_PERSON {
        ids.push(open(&house, &alice).await);
    }
    let alive = async |ids: &[String]| {
        let mut alive = 0;
        for id in ids {
            match house.hub.find_session(&alice, "/mcp", id).await {
                Ok(_) => alive += 1,
                Err(HubError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        alive
    };
    assert_eq!(alive(&ids).await, SESSIONS_PER_PERSON);
    ids.push(open(&house, &alice).await);
    assert_eq!(alive(&ids).await, SESSIONS_PER_PERSON);
    assert_eq!(alive(&ids[SESSIONS_PER_PERSON..]).await, 1, "the new one is not the one that ends");
    assert!(house.hub.find_session(&bob, "/mcp", &of_bob).await.is_ok(), "nobody else's ends");
    house.hub.close(std::time::Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
}

#[tokio::test]
async fn a_session_that_ended_is_over_for_who_read_it_before() {
    let house = House::open().await;
    let (_, alice) = house.person("alice").await;
    let id = open(&house, &alice).await;
    let session = house.hub.find_session(&alice, "/mcp", &id).await.unwrap();
    house.hub.close_session(&alice, &session).await.unwrap();
    let key = (session.owner, session.id_hash);
    assert!(house.hub.sessions.get_or_put(key, session).ended_at.is_some(), "it comes too late");
    let found = house.hub.find_session(&alice, "/mcp", &id).await;
    assert!(matches!(found, Err(HubError::NotFound { .. })), "{found:?}");
    house.hub.close(std::time::Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
}
