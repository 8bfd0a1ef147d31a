//! A clock that is set while the hub runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mcphub_domain::{Clock, Timestamp};

use super::web::Web;
use super::{House, START, answer, call};
use crate::heads::Extent;
use crate::running::Said;

#[tokio::test]
async fn a_clock_that_steps_by_an_hour_stops_nobody() {
    let time = Arc::new(AtomicI64::new(START));
    let shown = Arc::clone(&time);
    let clock = Clock::new(move || Timestamp::from_micros(shown.fetch_add(1, Ordering::Relaxed)));
    let (house, web) = (House::open_at(clock, 7).await, Web::modern(answer).await);
    let server = house.server("s", &web).await;
    let (user, alice) = house.person("alice").await;
    house.set_token(&user, &server, "token").await;
    let hour = i64::try_from(Duration::from_hours(1).as_micros()).unwrap();
    for step in [0, -hour, hour, hour, -hour, -hour, hour] {
        time.fetch_add(step, Ordering::Relaxed);
        for _ in 0..3 {
            let mut running = house.hub.call_tool(&alice, call(&server)).await.unwrap();
            assert!(matches!(running.next().await, Some(Said::Answer(_))), "{step}");
        }
    }
    house.hub.sign_head(Extent::All).await.unwrap();
    let report = house.hub.verify_audit(&house.hub.operator(), &[]).await.unwrap();
    assert_eq!(report.report.findings, []);
}
