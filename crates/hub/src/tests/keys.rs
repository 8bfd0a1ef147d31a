//! How many keys a person may have, and how long one lives.

use std::time::Duration;

use mcphub_domain::Timestamp;

use super::{House, START};
use crate::HubError;
use crate::keys::{KEYS_PER_PERSON, LONGEST_LIFE, NewKey};

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

#[tokio::test]
async fn a_key_lives_so_long_and_no_longer() {
    let house = House::open().await;
    let (user, caller) = house.person("alice").await;
    let make = async |life| {
        let made = house.hub.create_key(&caller, NewKey { owner: user.id, name: "x".parse().unwrap(), life });
        made.await.map(|shown| shown.key.expires_at)
    };
    let last = Timestamp::from_micros(START).plus(LONGEST_LIFE);
    assert_eq!(make(LONGEST_LIFE).await.unwrap(), last);
    let refused = make(LONGEST_LIFE + Duration::from_micros(1)).await;
    assert!(matches!(&refused, Err(HubError::Invalid(text)) if text.contains("90 days")), "{refused:?}");
    house.hub.close(Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
}
