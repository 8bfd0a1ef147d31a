//! How many streams of changes a person may have, and how many servers one of them listens to.

use std::time::Duration;

use mcphub_domain::Event;
use mcphub_store::audit::Search;
use serde_json::json;

use super::House;
use crate::watches::{PER_PERSON, SERVERS};
use crate::{Caller, Client, Endpoint, Entrance, HubError, LastHead, Watch, Wish};

async fn watch(house: &House, caller: &Caller) -> Result<Watch, HubError> {
    let wish = Wish { tools: true, ..Wish::default() };
    let entrance = Entrance { endpoint: Endpoint::All, path: "/mcp", client: &Client::default() };
    house.hub.watch(caller, entrance, &wish).await
}

#[tokio::test]
async fn a_person_has_so_many_streams_and_the_next_one_is_refused() {
    let house = House::open().await;
    let ((_, alice), (_, bob)) = (house.person("alice").await, house.person("bob").await);
    let mut open = Vec::new();
    for _ in 0..PER_PERSON {
        open.push(watch(&house, &alice).await.unwrap());
    }
    assert!(matches!(watch(&house, &alice).await, Err(HubError::Invalid(_))));
    assert!(watch(&house, &bob).await.is_ok(), "hers are not his");
    open.pop();
    assert!(watch(&house, &alice).await.is_ok(), "a place is given back");
    drop(open);
    house.hub.close(Duration::from_secs(1), LastHead::Left).await.unwrap();
}

#[tokio::test]
async fn a_stream_listens_to_so_many_servers_and_leaves_the_others_out() {
    let house = House::open().await;
    let (_, alice) = house.person("alice").await;
    let mut listened = Vec::new();
    for number in 1..=SERVERS + 1 {
        house
            .add(&format!("s{number}"), json!({ "type": "streamable-http", "url": "http://127.0.0.1:9/" }))
            .await;
        if number >= SERVERS {
            let before = asked(&house).await;
            drop(watch(&house, &alice).await.unwrap());
            listened.push(asked(&house).await - before);
        }
    }
    assert_eq!(listened, [SERVERS, SERVERS]);
    house.hub.close(Duration::from_secs(1), LastHead::Left).await.unwrap();
}

/// Counts the questions to servers in the log.
async fn asked(house: &House) -> usize {
    let search = Search { limit: 10_000, ..Search::default() };
    let records = house.hub.search_audit(&house.hub.operator(), &search).await.unwrap();
    records.iter().filter(|record| matches!(record.record.entry.event, Event::AskIntent { .. })).count()
}
