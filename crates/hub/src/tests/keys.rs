//! How many keys a person may have.

use std::time::Duration;

use super::House;
use crate::HubError;
use crate::keys::{KEYS_PER_PERSON, NewKey};

#[tokio::test]
async fn a_person_has_so_many_living_keys_and_no_more() {
    let house = House::open().await;
    let (user, caller) = house.person("alice").await;
    let make = async || {
        let life = Duration::from_secs(3600);
        house.hub.create_key(&caller, NewKey { owner: user.id, name: "x".parse().unwrap(), life }).await
    };
    // She has the one that she calls with.
    let mut last = None;
    for _ in 1..KEYS_PER_PERSON {
        last = Some(make().await.unwrap().key);
    }
    let refused = make().await.err();
    assert!(matches!(&refused, Some(HubError::Invalid(text)) if text.contains("100")), "{refused:?}");
    house.hub.revoke_key(&caller, last.unwrap().id, 1).await.unwrap();
    assert!(make().await.is_ok(), "a revoked key takes no place");
    house.hub.close(Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
}
