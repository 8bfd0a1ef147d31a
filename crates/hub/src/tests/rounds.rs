//! What a client brings back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mcphub_domain::{Clock, Timestamp};
use mcphub_upstream::ANSWER;
use mcphub_wire::Raw;
use serde_json::json;

use super::{House, START};
use crate::rounds::LONGEST_STATE;
use crate::{Bound, HubError, State};

#[tokio::test]
async fn a_state_opens_for_its_person_and_request_alone_and_in_time() {
    let time = Arc::new(AtomicI64::new(START));
    let shown = Arc::clone(&time);
    let clock = Clock::new(move || Timestamp::from_micros(shown.load(Ordering::Relaxed)));
    let house = House::open_at(clock, 7).await;
    let ((_, alice), (_, bob)) = (house.person("alice").await, house.person("bob").await);
    let (arguments, same, other) = (json!({ "a": 1, "b": 2 }), json!({ "b": 2, "a": 1 }), json!({ "a": 2 }));
    let [arguments, same, other] = [arguments, same, other].map(|value| Raw::json(&value).unwrap());
    let bound = Bound { path: "/mcp/s", method: "tools/call", target: "do", arguments: Some(&arguments) };
    let state = State::Server("what the server gave".into());
    let sealed = house.hub.seal_state(&alice, bound, &state).unwrap();
    let refused = |opened| assert!(matches!(opened, Err(HubError::Invalid(_))), "{opened:?}");

    assert_eq!(house.hub.open_state(&alice, bound, &sealed).unwrap(), state);
    let spaced = Bound { arguments: Some(&same), ..bound };
    assert_eq!(house.hub.open_state(&alice, spaced, &sealed).unwrap(), state, "only the order differs");
    for elsewhere in [
        Bound { path: "/mcp", ..bound },
        Bound { method: "prompts/get", ..bound },
        Bound { target: "undo", ..bound },
        Bound { arguments: Some(&other), ..bound },
        Bound { arguments: None, ..bound },
    ] {
        refused(house.hub.open_state(&alice, elsewhere, &sealed));
    }
    refused(house.hub.open_state(&bob, bound, &sealed));
    for forged in ["", "no base64!", &sealed[1..], &format!("{sealed}AAAA")] {
        refused(house.hub.open_state(&alice, bound, forged));
    }
    let long = |bytes: usize| State::Server("x".repeat(bytes).into());
    let sealed_long = house.hub.seal_state(&alice, bound, &long(LONGEST_STATE)).unwrap();
    assert_eq!(house.hub.open_state(&alice, bound, &sealed_long).unwrap(), long(LONGEST_STATE));
    let longer = house.hub.seal_state(&alice, bound, &long(LONGEST_STATE + 1));
    assert!(matches!(longer, Err(HubError::Invalid(_))), "{longer:?}");

    time.fetch_add(i64::try_from(ANSWER.as_micros()).unwrap(), Ordering::Relaxed);
    assert_eq!(house.hub.open_state(&alice, bound, &sealed).unwrap(), state, "the last moment is one");
    time.fetch_add(1, Ordering::Relaxed);
    refused(house.hub.open_state(&alice, bound, &sealed));
    house.hub.close(Duration::from_secs(1), crate::LastHead::Left).await.unwrap();
}
