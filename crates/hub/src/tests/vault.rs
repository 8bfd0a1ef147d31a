//! What a rotation writes down, and how much of everything it holds up at a time.

use mcphub_domain::Event;
use mcphub_store::audit::Search;

use super::web::Web;
use super::{House, answer};
use crate::HubError;
use crate::vault::KeyState;

/// More than one batch holds, and less than two.
const PEOPLE: u64 = 130;

async fn events(house: &House) -> Vec<Event> {
    let search = Search { limit: 10_000, ..Search::default() };
    let records = house.hub.search_audit(&house.hub.operator(), &search).await.unwrap();
    records.into_iter().rev().map(|read| read.record.entry.event).collect()
}

#[tokio::test]
async fn a_rotation_moves_everything_in_batches_and_records_each() {
    let house = House::open().await;
    let web = Web::start(answer).await;
    let server = house.server("github", &web).await;
    for number in 0..PEOPLE {
        let (person, _) = house.person(&format!("person-{number}")).await;
        house.set_token(&person, &server, "a token").await;
    }
    let (hub, operator) = (&house.hub, house.hub.operator());
    let rotated = hub.rotate_vault(&operator).await.unwrap();
    // The pepper and the signer, each person's key and token.
    assert_eq!((rotated.moved, rotated.left, rotated.resumed), (2 + 2 * PEOPLE, 0, false));
    let events = events(&house).await;
    let batches: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::VaultRewrapped { key, count } if *key == rotated.key => Some(*count),
            _ => None,
        })
        .collect();
    assert_eq!(batches, [2, 100, 30, 100, 30]);
    let place = |wanted: &Event| events.iter().position(|event| event == wanted).unwrap();
    let (key, count) = (rotated.key, rotated.moved);
    let story = [
        place(&Event::VaultKeyAdded { key }),
        place(&Event::VaultKeyCurrent { key }),
        place(&Event::VaultRewrapped { key, count: 2 }),
        place(&Event::VaultRotated { key, count }),
    ];
    assert!(story.is_sorted(), "{story:?}");
    let status = hub.vault_status(&operator).await.unwrap();
    let states: Vec<_> = status.keys.iter().map(|key| (key.state, key.values)).collect();
    assert!(
        states.contains(&(KeyState::Current, count)) && states.contains(&(KeyState::Old, 0)),
        "{states:?}"
    );
    assert!(!status.unfinished);
}

#[tokio::test]
async fn only_the_operator_keeps_the_keys() {
    let house = House::open().await;
    let (_, alice) = house.person("alice").await;
    let hub = &house.hub;
    let denied = [
        hub.rotate_vault(&alice).await.map(|_| ()),
        hub.retire_keys(&alice).await.map(|_| ()),
        hub.abandon_rotation(&alice).await.map(|_| ()),
        hub.vault_status(&alice).await.map(|_| ()),
    ];
    assert!(denied.iter().all(|done| matches!(done, Err(HubError::Denied(_)))), "{denied:?}");
    assert_eq!(hub.vault_status(&hub.operator()).await.unwrap().keys.len(), 1);
}
