//! The queue of the log: what happens is recorded here, and becomes durable together with all that waits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::Either;
use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::{Actor, Clock, Event, Principal, RequestId, Timestamp, UserId};
use mcphub_policy::{AskPermit, LookPermit, Permit, Recorded, Recorder};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ledger::Ledger;
use super::patience::Patience;
use super::recover::end;
use super::underway::{Underway, Waiter, Waiting, Watch};
use super::writer::{Inbox, Tells, Writer};
use crate::db::Db;
use crate::error::StoreError;

/// How many records may wait; who comes then waits for a place.
const WAITING: usize = 16_384;
/// How long one write may take before the log counts as unavailable.
pub(super) const DEADLINE: Duration = Duration::from_millis(1_500);

/// Says what a call means to do, beside what its permit says.
#[derive(Debug)]
pub struct Intent {
    /// Names the request.
    pub request: RequestId,
    /// The endpoint's path, as the caller wrote it.
    pub endpoint: String,
    /// SHA-256 of the arguments' bytes, in hexadecimal.
    pub arguments: String,
    /// The encrypted personal fields, by person.
    pub personal: BTreeMap<UserId, String>,
}

/// Says what a server is asked for, beside what the permit says.
#[derive(Debug)]
pub struct Question {
    /// The method.
    pub method: Cow<'static, str>,
    /// The prompt or the resource; a list has none.
    pub target: Option<String>,
}

/// Takes records from everybody and makes them durable, in the order in which they come.
pub struct AuditQueue {
    awaited: Way<Waiting>,
    /// Apart, so that the writer isn't woken for each.
    unawaited: Way<Entry>,
    health: watch::Receiver<Health>,
    dropped: Arc<AtomicU64>,
    /// How many records came in, and how many of them the writer has dealt with.
    taken: Arc<AtomicU64>,
    dealt: watch::Receiver<u64>,
    /// Those who left before their intent was durable.
    leavers: TaskTracker,
    recorder: Recorder,
}

/// Is a way to the writer.
pub(super) struct Way<T> {
    sender: mpsc::Sender<T>,
    taken: Arc<AtomicU64>,
}

/// Says whether the log can be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// The last write succeeded.
    Writable,
    /// It failed.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Why, the last time.
        reason: String,
    },
}

impl Health {
    /// Says that the log can't be written; it counts since the first time.
    pub(super) fn fail(health: &watch::Sender<Self>, now: Timestamp, reason: &str) {
        health.send_modify(|health| {
            let since = if let Self::Failing { since, .. } = health { *since } else { now };
            *health = Self::Failing { since, reason: reason.to_owned() };
        });
    }
}

impl AuditQueue {
    /// Starts the queue; the writer must be driven until the queue is dropped, and the watch by another runtime.
    pub(crate) fn new(
        db: Db,
        ledger: Arc<Ledger>,
        recorder: Recorder,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Self, Writer, Watch) {
        let taken = Arc::new(AtomicU64::new(0));
        let (awaited, waiting) = Way::new(&taken);
        let (unawaited, others) = Way::new(&taken);
        let (report, health) = watch::channel(Health::Writable);
        let (deal, dealt) = watch::channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let tells = Tells { health: report, dealt: deal, dropped: Arc::clone(&dropped) };
        let underway = Arc::new(Underway::new(waiting));
        let watch = Watch::new(Arc::clone(&underway), tells.clone(), clock.clone());
        let leavers = TaskTracker::new();
        let inbox = Inbox { crowd: 0, underway, unawaited: others, leavers: leavers.clone(), stop };
        let writer = Writer::new(db, ledger, inbox, tells, clock);
        (Self { awaited, unawaited, health, dropped, taken, dealt, leavers, recorder }, writer, watch)
    }

    /// Records the intent of a permitted call and returns the evidence that it is durable. It is in the queue as soon as this
    /// is called, as with all that follow; what is returned waits.
    pub fn open(&self, permit: Permit, intent: Intent) -> impl Future<Output = Result<Recorded, StoreError>> {
        let route = permit.route();
        let event = Event::CallIntent {
            endpoint: intent.endpoint,
            server: route.server,
            tool: route.tool.clone(),
            effect: route.effect,
            definition: route.digest,
            arguments: intent.arguments,
            world: permit.world(),
        };
        let (at, who) = (permit.decided_at(), permit.principal());
        self.vouch(permit, intent.request, Entry { personal: intent.personal, ..entry(at, who, event) })
    }

    /// Records the intent of a permitted look at a server and returns the evidence that it is durable.
    pub fn open_look(
        &self,
        permit: LookPermit,
        request: RequestId,
    ) -> impl Future<Output = Result<Recorded<LookPermit>, StoreError>> {
        let event = Event::LookIntent {
            server: permit.server(),
            revision: permit.server_revision(),
            user: permit.user(),
            world: permit.world(),
        };
        let (at, who) = (permit.decided_at(), permit.principal());
        self.vouch(permit, request, entry(at, who, event))
    }

    /// Records a permitted question to a server and returns the evidence that it is durable.
    pub fn open_ask(
        &self,
        permit: AskPermit,
        question: Question,
        intent: Intent,
    ) -> impl Future<Output = Result<Recorded<AskPermit>, StoreError>> {
        let event = Event::AskIntent {
            endpoint: intent.endpoint,
            server: permit.server(),
            method: question.method.into_owned(),
            target: question.target,
            arguments: intent.arguments,
            world: permit.world(),
        };
        let (at, who) = (permit.decided_at(), permit.principal());
        self.vouch(permit, intent.request, Entry { personal: intent.personal, ..entry(at, who, event) })
    }

    /// Makes the record of a permit durable under the request's name, and vouches for it. From then on whoever has the evidence
    /// sees to the end; before, if it isn't waited for, that is done here.
    fn vouch<P>(
        &self,
        permit: P,
        request: RequestId,
        entry: Entry,
    ) -> impl Future<Output = Result<Recorded<P>, StoreError>> {
        let entry = Entry { request: Some(request), ..entry };
        // Boxed: else it would make the state of each call larger.
        let end = end(&entry, CallStatus::Cancelled, entry.at).map(Box::new);
        let durable = self.hand_over(entry, end);
        async move {
            durable.await?;
            Ok(self.recorder.vouch(permit, request))
        }
    }

    /// Records something and waits until it is durable.
    pub fn durable(&self, entry: Entry) -> impl Future<Output = Result<(), StoreError>> {
        self.hand_over(entry, None)
    }

    /// Hands a record over at once; what is returned waits until it is durable. So the record isn't carried from future to
    /// future, which would make the state of each call several times as large.
    fn hand_over(
        &self,
        entry: Entry,
        end: Option<Box<Entry>>,
    ) -> impl Future<Output = Result<(), StoreError>> {
        let (done, durable) = oneshot::channel();
        let waiting = Waiting { entry, waiter: Waiter { done, runtime: Handle::current() } };
        let patience = move || Patience::new(durable, end, (&self.unawaited, &self.leavers));
        match self.awaited.push_now(waiting) {
            Ok(()) => Either::Left(patience().wait()),
            // Who leaves before she has a place has nothing in the log that would need an end.
            Err(waiting) => Either::Right(Box::pin(async move {
                self.awaited.push(waiting).await?;
                patience().wait().await
            })),
        }
    }

    /// Records something that nobody waits for; it waits only for a place in the queue.
    pub async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        self.unawaited.push(entry).await
    }

    /// Records something that nobody waits for, if there is a place for it; else it is given back.
    pub fn append_now(&self, entry: Entry) -> Result<(), Box<Entry>> {
        self.unawaited.push_now(entry).map_err(Box::new)
    }

    /// Waits until what was recorded so far is written, for whoever wants to find it; not longer than a
    /// write may take.
    pub async fn settle(&self) {
        let (taken, mut dealt) = (self.taken.load(Ordering::Acquire), self.dealt.clone());
        let settled = tokio::time::timeout(DEADLINE, dealt.wait_for(|dealt| *dealt >= taken)).await;
        if !matches!(settled, Ok(Ok(_))) {
            tracing::debug!("the newest records are not written yet");
        }
    }

    /// Says whether the log can be written, and lets one wait for a change.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Refuses if what was recorded last could not be written.
    pub(crate) fn check_written(&self) -> Result<(), StoreError> {
        match &*self.health.borrow() {
            Health::Writable => Ok(()),
            Health::Failing { reason, .. } => Err(StoreError::AuditUnavailable { reason: reason.clone() }),
        }
    }

    /// Counts the records that nobody waited for and that were lost while the log could not be
    /// written for too long. Intents are never among them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl<T> Way<T> {
    /// Makes a way with places for so many as may wait.
    fn new(taken: &Arc<AtomicU64>) -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, taken: Arc::clone(taken) }, receiver)
    }

    /// Waits for a place and takes it, not longer than a write may take.
    pub(super) async fn push(&self, record: T) -> Result<(), StoreError> {
        match tokio::time::timeout(DEADLINE, self.sender.reserve()).await {
            Ok(Ok(place)) => {
                self.put(place, record);
                Ok(())
            }
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(StoreError::AuditUnavailable { reason: "too many records are waiting".to_owned() }),
        }
    }

    /// Takes a place if there is one; else the record is given back.
    fn push_now(&self, record: T) -> Result<(), T> {
        match self.sender.try_reserve() {
            Ok(place) => {
                self.put(place, record);
                Ok(())
            }
            Err(_) => Err(record),
        }
    }

    fn put(&self, place: mpsc::Permit<'_, T>, record: T) {
        self.taken.fetch_add(1, Ordering::AcqRel);
        place.send(record);
    }
}

impl<T> Clone for Way<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), taken: Arc::clone(&self.taken) }
    }
}

/// Begins the record of what somebody was permitted to do.
fn entry(at: Timestamp, who: Principal, event: Event) -> Entry {
    Entry { at, actor: Actor::from(who), event, request: None, personal: BTreeMap::new() }
}

pub(super) fn stopped() -> StoreError {
    StoreError::AuditUnavailable { reason: "the hub is stopping".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Arc, AtomicU64, Ordering, StoreError, WAITING, Way};

    #[tokio::test(start_paused = true)]
    async fn so_many_records_wait_and_the_next_one_is_refused_in_time() {
        let taken = Arc::new(AtomicU64::new(0));
        let (way, mut waiting) = Way::new(&taken);
        for number in 0..WAITING {
            way.push_now(number).unwrap();
        }
        assert_eq!(way.push_now(WAITING), Err(WAITING));
        let refused = way.push(WAITING).await;
        assert!(matches!(refused, Err(StoreError::AuditUnavailable { .. })), "{refused:?}");
        assert_eq!(taken.load(Ordering::Relaxed), WAITING as u64);
        assert_eq!(waiting.recv().await, Some(0));
        way.push(WAITING).await.unwrap();
    }
}
