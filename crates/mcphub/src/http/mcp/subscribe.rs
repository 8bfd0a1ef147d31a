//! `resources/subscribe`: what a legacy session hears of resources, on its stream.

use std::pin::pin;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::{Stream, StreamExt as _, stream};
use mcphub_hub::{Client, Drops, Entrance, Heard, Session, Watch, Wish};
use mcphub_wire::{Edit, Params, Raw, Request, error, message, method};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::answer::{Last, Refused, Words};
use super::listen::unwatchable;
use super::live::{Live, Subscription};
use super::post::{note_malformed, refuse_method};
use super::visit::Visit;

/// How often it is looked whether the session still has a stream.
const LOOK: Duration = Duration::from_secs(60);
/// After how many looks without one its subscriptions end.
const PATIENCE: u32 = 5;

/// Begins to tell a session when a resource changes, or ends it.
pub(super) async fn subscribe(
    visit: &Visit,
    (live, stopping): (&Live, &CancellationToken),
    session: &Session,
    request: &Request,
    client: &Client,
) -> Last {
    let refuse =
        |text| Refused::new(StatusCode::OK, error::INVALID_PARAMS, text).of(Some(request.id.clone()));
    let Some(uri) = request.params.as_ref().and_then(Params::uri) else {
        return note_malformed(visit, refuse("params.uri must be a string")).await;
    };
    let done = || Last::ok(message::result(&request.id, &Raw::empty_object()));
    if &*request.method == method::RESOURCES_UNSUBSCRIBE {
        visit.hub.record_read(&visit.caller, method::RESOURCES_UNSUBSCRIBE, Some(&visit.path), 0).await;
        live.unsubscribe(&session.id_hash, uri);
        return done();
    }
    let wish = Wish { uris: vec![uri.to_owned()], ..Wish::default() };
    let entrance = Entrance { endpoint: visit.endpoint, path: &visit.path, client };
    let watch = match visit.hub.watch(&visit.caller, entrance, &wish).await {
        Ok(watch) => watch,
        Err(failure) => {
            let failure = unwatchable(failure, &wish.uris);
            return refuse_method(visit, failure, &request.id, Words::Legacy).await;
        }
    };
    match live.subscribe(session.id_hash, uri) {
        Some(subscription) => {
            visit.hub.spawn(tell(watch, subscription, visit.hub.drops(), stopping.clone()));
            done()
        }
        None => refuse("at most 100 resources can be subscribed to in a session").into(),
    }
}

/// Hands on what is heard, as long as the session has a stream to hear it.
async fn tell(watch: Watch, subscription: Subscription, drops: Drops, stopping: CancellationToken) {
    let news = stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) });
    let tell = |heard: Heard| subscription.tell(heard.to_bytes(&Edit::new()), &drops);
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = subscription.ended() => {}
        () = hand_on(news, tell, || subscription.is_heard()) => {}
    }
}

/// Hands on news until there is none, or nobody has heard it for too long, however much there is.
async fn hand_on<T>(news: impl Stream<Item = T>, tell: impl Fn(T), is_heard: impl Fn() -> bool) {
    let (mut news, mut silence) = (pin!(news), Silence::new());
    loop {
        tokio::select! {
            biased;
            () = silence.lasts(&is_heard) => return,
            heard = news.next() => match heard {
                Some(heard) => tell(heard),
                None => return,
            },
        }
    }
}

/// Looks whether anybody hears a subscription, however much is told meanwhile.
struct Silence {
    looks: Interval,
    unheard: u32,
}

impl Silence {
    fn new() -> Self {
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { looks, unheard: 0 }
    }

    /// Waits until nobody has heard it for too long. Dropping the future loses nothing.
    async fn lasts(&mut self, is_heard: impl Fn() -> bool) {
        while self.unheard < PATIENCE {
            self.looks.tick().await;
            self.unheard = if is_heard() { 0 } else { self.unheard + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use tokio::time::{Instant, sleep, timeout};

    use super::{LOOK, PATIENCE, hand_on};

    /// Hands on something each second until it is given up; says how long that took.
    async fn given_up_after(heard_until: Duration) -> Duration {
        let start = Instant::now();
        let news = stream::unfold((), |()| async { Some((sleep(Duration::from_secs(1)).await, ())) });
        let handed_on = hand_on(news, |()| {}, || start.elapsed() < heard_until);
        timeout(Duration::from_secs(3_600), handed_on).await.unwrap();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_hears_ends_though_much_is_told() {
        assert_eq!(given_up_after(Duration::ZERO).await, LOOK * PATIENCE);
        assert_eq!(given_up_after(LOOK * 10 + Duration::from_secs(1)).await, LOOK * (10 + PATIENCE));
    }
}
