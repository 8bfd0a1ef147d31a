//! The queue of the log: what happens is recorded here, and becomes durable together with all that waits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Actor, Clock, Event, Principal, RequestId, Timestamp, UserId};
use mcphub_policy::{AskPermit, LookPermit, Permit, Recorded, Recorder};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::writer::{Inbox, Tells, Writer};
use crate::db::Db;
use crate::error::StoreError;

/// How many records may wait; who comes then waits for a place.
const WAITING: usize = 16_384;
/// How long one write may take before the log counts as unavailable.
pub(super) const DEADLINE: Duration = Duration::from_millis(1_500);
/// How long one waits for a record: for the write under way and her own. Only behind a disk that hangs does it take longer.
const PATIENCE: Duration = Duration::from_millis(3_200);

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
    awaited: mpsc::Sender<Waiting>,
    /// Apart, so that the writer isn't woken for each.
    unawaited: mpsc::Sender<Entry>,
    health: watch::Sender<Health>,
    dropped: Arc<AtomicU64>,
    clock: Clock,
    /// How many records came in, and how many of them the writer has dealt with.
    taken: AtomicU64,
    dealt: watch::Receiver<u64>,
    recorder: Recorder,
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

/// Is a record that somebody waits for, and where she does.
pub(super) struct Waiting {
    pub(super) entry: Entry,
    pub(super) done: oneshot::Sender<Result<(), String>>,
    pub(super) runtime: Handle,
}

impl AuditQueue {
    /// Starts the queue; `run` must be driven until the queue is dropped.
    pub(crate) fn new(
        db: Db,
        ledger: Arc<Ledger>,
        recorder: Recorder,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Self, Writer) {
        let (awaited, waiting) = mpsc::channel(WAITING);
        let (unawaited, others) = mpsc::channel(WAITING);
        let health = watch::Sender::new(Health::Writable);
        let (deal, dealt) = watch::channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let tells = Tells { health: health.clone(), dealt: deal, dropped: Arc::clone(&dropped) };
        let inbox = Inbox { crowd: 0, awaited: waiting, unawaited: others, stop };
        let writer = Writer::new(db, ledger, inbox, tells, clock.clone());
        let taken = AtomicU64::new(0);
        (Self { awaited, unawaited, health, dropped, clock, taken, dealt, recorder }, writer)
    }

    /// Records the intent of a permitted call and returns the evidence that it is durable.
    pub async fn open(&self, permit: Permit, intent: Intent) -> Result<Recorded, StoreError> {
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
        self.vouch(permit, intent.request, Entry { personal: intent.personal, ..entry(at, who, event) }).await
    }

    /// Records the intent of a permitted look at a server and returns the evidence that it is durable.
    pub async fn open_look(
        &self,
        permit: LookPermit,
        request: RequestId,
    ) -> Result<Recorded<LookPermit>, StoreError> {
        let event = Event::LookIntent {
            server: permit.server(),
            revision: permit.server_revision(),
            user: permit.user(),
            world: permit.world(),
        };
        let (at, who) = (permit.decided_at(), permit.principal());
        self.vouch(permit, request, entry(at, who, event)).await
    }

    /// Records a permitted question to a server and returns the evidence that it is durable.
    pub async fn open_ask(
        &self,
        permit: AskPermit,
        question: Question,
        intent: Intent,
    ) -> Result<Recorded<AskPermit>, StoreError> {
        let event = Event::AskIntent {
            endpoint: intent.endpoint,
            server: permit.server(),
            method: question.method.into_owned(),
            target: question.target,
            arguments: intent.arguments,
            world: permit.world(),
        };
        let (at, who) = (permit.decided_at(), permit.principal());
        self.vouch(permit, intent.request, Entry { personal: intent.personal, ..entry(at, who, event) }).await
    }

    /// Makes the record of a permit durable under the request's name, and vouches for it.
    async fn vouch<P>(&self, permit: P, request: RequestId, entry: Entry) -> Result<Recorded<P>, StoreError> {
        self.durable(Entry { request: Some(request), ..entry }).await?;
        Ok(self.recorder.vouch(permit, request))
    }

    /// Records something and waits until it is durable. Who gives up can't know whether it will be; if it is an intent, it
    /// ends with the process, as unknown.
    pub async fn durable(&self, entry: Entry) -> Result<(), StoreError> {
        let (done, durable) = oneshot::channel();
        let waiting = Waiting { entry, done, runtime: Handle::current() };
        self.push(&self.awaited, waiting).await?;
        match timeout(PATIENCE, durable).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(reason))) => Err(StoreError::AuditUnavailable { reason }),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => {
                let reason = "the disk does not answer".to_owned();
                Health::fail(&self.health, self.clock.now(), &reason);
                Err(StoreError::AuditUnavailable { reason })
            }
        }
    }

    /// Records something that nobody waits for; it waits only for a place in the queue.
    pub async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        self.push(&self.unawaited, entry).await
    }

    /// Records something that nobody waits for, if there is a place for it; else it is given back.
    pub fn append_now(&self, entry: Entry) -> Result<(), Box<Entry>> {
        match self.unawaited.try_reserve() {
            Ok(place) => {
                self.put(place, entry);
                Ok(())
            }
            Err(_) => Err(Box::new(entry)),
        }
    }

    /// Waits until what was recorded so far is written, for whoever wants to find it; not longer than a
    /// write may take.
    pub async fn settle(&self) {
        let (taken, mut dealt) = (self.taken.load(Ordering::Acquire), self.dealt.clone());
        let settled = timeout(DEADLINE, dealt.wait_for(|dealt| *dealt >= taken)).await;
        if !matches!(settled, Ok(Ok(_))) {
            tracing::debug!("the newest records are not written yet");
        }
    }

    /// Says whether the log can be written, and lets one wait for a change.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Counts the records that nobody waited for and that were lost while the log could not be
    /// written for too long. Intents are never among them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    async fn push<T>(&self, sender: &mpsc::Sender<T>, record: T) -> Result<(), StoreError> {
        match timeout(DEADLINE, sender.reserve()).await {
            Ok(Ok(place)) => {
                self.put(place, record);
                Ok(())
            }
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(StoreError::AuditUnavailable { reason: "too many records are waiting".to_owned() }),
        }
    }

    fn put<T>(&self, place: mpsc::Permit<'_, T>, record: T) {
        self.taken.fetch_add(1, Ordering::AcqRel);
        place.send(record);
    }
}

/// Begins the record of what somebody was permitted to do.
fn entry(at: Timestamp, who: Principal, event: Event) -> Entry {
    Entry { at, actor: Actor::from(who), event, request: None, personal: BTreeMap::new() }
}

fn stopped() -> StoreError {
    StoreError::AuditUnavailable { reason: "the hub is stopping".to_owned() }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, TransactionBehavior};
    use tokio::time::{Instant, pause, resume};

    use super::*;
    use crate::Process;
    use crate::audit::Search;
    use crate::testing::TestDatabase;

    /// A queue of its own beside the store's, and its writer, which nobody drives yet.
    #[expect(clippy::disallowed_methods, reason = "a test is the wiring of its queue")]
    async fn queue(database: &TestDatabase) -> (crate::Store, AuditQueue, Writer) {
        let store = database.open(Process::Serve).await;
        let (db, clock) = (store.app().clone(), database.clock().clock());
        let chain = mcphub_domain::ChainId::from_bytes([7; 16]);
        let ledger = Arc::new(Ledger::new(db.clone(), chain, "serve", clock.clone()));
        let (queue, writer) = AuditQueue::new(db, ledger, Recorder::new(), clock, CancellationToken::new());
        (store, queue, writer)
    }

    fn note() -> Entry {
        let event = Event::Read { method: "note".to_owned(), target: None, items: 1 };
        Entry {
            at: Timestamp::from_micros(1),
            actor: Actor::Hub,
            event,
            request: None,
            personal: BTreeMap::new(),
        }
    }

    fn is_failing(queue: &AuditQueue) -> bool {
        *queue.health().borrow() != Health::Writable
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_for_a_thread_that_hangs() {
        let database = TestDatabase::sqlite();
        let (_store, queue, _writer) = queue(&database).await;
        pause();
        let began = Instant::now();
        let refused = timeout(Duration::from_secs(60), queue.durable(note())).await;
        assert!(matches!(refused, Ok(Err(StoreError::AuditUnavailable { .. }))), "{refused:?}");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(is_failing(&queue));
        resume();
    }

    #[tokio::test]
    async fn that_somebody_gave_up_during_a_write_stands_in_the_log_before_it_counts_as_well_again() {
        let database = TestDatabase::sqlite();
        let (store, queue, writer) = queue(&database).await;
        let mut other = Connection::open(database.place().data_dir.join("mcphub.db")).unwrap();
        let held = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let gives_up = async {
            // Until the writer has taken the record; then it meets the other's lock.
            while queue.taken.load(Ordering::Acquire) == 0 || queue.awaited.capacity() < WAITING {
                tokio::task::yield_now().await;
            }
            Health::fail(&queue.health, Timestamp::from_micros(1), "the disk does not answer");
            held.commit().unwrap();
        };
        let check = async {
            let (written, ()) = tokio::join!(queue.durable(note()), gives_up);
            written.unwrap();
            queue.health().wait_for(|health| *health == Health::Writable).await.unwrap();
        };
        tokio::select! {
            () = writer.run() => panic!("it runs for ever"),
            () = check => {}
        }
        let log = store.search(&Search { limit: 100, ..Search::default() }).await.unwrap();
        let resumed = |event: &Event| matches!(event, Event::AuditResumed { .. });
        assert_eq!(log.iter().filter(|record| resumed(&record.entry.event)).count(), 1, "{log:?}");
    }
}
