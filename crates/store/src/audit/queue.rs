//! The group commit: all waiting records become one segment, one insert and one sync.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Actor, Clock, Event, RequestId, Timestamp, UserId};
use mcphub_policy::{LookPermit, Permit, Recorded, Recorder};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::tree::Hash;
use crate::db::Db;
use crate::error::StoreError;

/// How many records may wait; who comes then waits for a place.
const WAITING: usize = 16_384;
/// How many records become one segment at most.
const BATCH: usize = 2_048;
/// How many records nobody waits for are kept while the log can't be written.
const CARRIED: usize = 65_536;
/// How long one write may take before the log counts as unavailable.
const DEADLINE: Duration = Duration::from_millis(1_500);
/// How long records that nobody waits for wait for company.
const LINGER: Duration = Duration::from_millis(10);
/// How long after a failure the log is tried again, if nobody asks before.
const RETRY: Duration = Duration::from_millis(500);

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

/// Takes records from everybody and makes them durable, in the order in which they come.
pub struct AuditQueue {
    sender: mpsc::Sender<Waiting>,
    health: watch::Receiver<Health>,
    dropped: Arc<AtomicU64>,
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

struct Waiting {
    entry: Entry,
    done: Option<oneshot::Sender<Result<(), String>>>,
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
        let (sender, receiver) = mpsc::channel(WAITING);
        let (report, health) = watch::channel(Health::Writable);
        let dropped = Arc::new(AtomicU64::new(0));
        let (deal, dealt) = watch::channel(0);
        let writer = Writer {
            db,
            ledger,
            receiver,
            report,
            carried: Vec::new(),
            tried: None,
            dropped: Arc::clone(&dropped),
            deal,
            clock,
            stop,
        };
        (Self { sender, health, dropped, taken: AtomicU64::new(0), dealt, recorder }, writer)
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
        self.durable(Entry {
            at: permit.decided_at(),
            actor: Actor::from(permit.principal()),
            event,
            request: Some(intent.request),
            personal: intent.personal,
        })
        .await?;
        Ok(self.recorder.vouch(permit, intent.request))
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
        let (at, actor) = (permit.decided_at(), Actor::from(permit.principal()));
        self.durable(Entry { at, actor, event, request: Some(request), personal: BTreeMap::new() }).await?;
        Ok(self.recorder.vouch(permit, request))
    }

    /// Records something and waits until it is durable.
    pub async fn durable(&self, entry: Entry) -> Result<(), StoreError> {
        let (done, durable) = oneshot::channel();
        self.push(Waiting { entry, done: Some(done) }).await?;
        match durable.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StoreError::AuditUnavailable { reason }),
            Err(_) => Err(stopped()),
        }
    }

    /// Records something that nobody waits for; it waits only for a place in the queue.
    pub async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        self.push(Waiting { entry, done: None }).await
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

    /// Counts the records that nobody waited for and that were lost while the log could not be
    /// written for too long. Intents are never among them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    async fn push(&self, waiting: Waiting) -> Result<(), StoreError> {
        let place = tokio::time::timeout(DEADLINE, self.sender.reserve()).await;
        match place {
            Ok(Ok(place)) => {
                self.taken.fetch_add(1, Ordering::AcqRel);
                place.send(waiting);
                Ok(())
            }
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(StoreError::AuditUnavailable { reason: "too many records are waiting".to_owned() }),
        }
    }
}

fn stopped() -> StoreError {
    StoreError::AuditUnavailable { reason: "the hub is stopping".to_owned() }
}

/// Is the other end of the queue: the task that writes.
pub struct Writer {
    db: Db,
    ledger: Arc<Ledger>,
    receiver: mpsc::Receiver<Waiting>,
    report: watch::Sender<Health>,
    /// What failed to be written and nobody waits for.
    carried: Vec<Entry>,
    /// The segment of the last commit that failed for all we know.
    tried: Option<Tried>,
    dropped: Arc<AtomicU64>,
    deal: watch::Sender<u64>,
    clock: Clock,
    stop: CancellationToken,
}

/// Is a segment that may be in the log after all.
struct Tried {
    hash: Hash,
    /// How many of the carried records, from the first on, are in it.
    carried: usize,
}

impl Writer {
    /// Writes what comes until the queue is stopped and empty.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.next(&mut batch).await {
            self.write(std::mem::take(&mut batch)).await;
        }
    }

    /// Waits for records, or, while the log can't be written, for the time to try again. Records that
    /// nobody waits for stay a moment, for the next that somebody waits for to take them along.
    async fn next(&mut self, batch: &mut Vec<Waiting>) -> bool {
        let failing = *self.report.borrow() != Health::Writable;
        let mut until = pin!(tokio::time::sleep(RETRY));
        loop {
            let begins = batch.is_empty();
            tokio::select! {
                biased;
                count = self.receiver.recv_many(batch, BATCH) => {
                    let awaited = batch.iter().any(|waiting| waiting.done.is_some());
                    if awaited || failing || count == 0 || batch.len() >= BATCH {
                        return !batch.is_empty();
                    }
                    if begins {
                        until.as_mut().reset(tokio::time::Instant::now() + LINGER);
                    }
                }
                () = &mut until, if failing || !begins => return true,
                () = self.stop.cancelled(), if !self.receiver.is_closed() => {
                    self.receiver.close();
                    return true;
                }
            }
        }
    }

    async fn write(&mut self, batch: Vec<Waiting>) {
        let count = batch.len() as u64;
        let (entries, waiters): (Vec<Entry>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry, waiting.done)).unzip();
        if entries.is_empty() && *self.report.borrow() == Health::Writable {
            return;
        }
        let unawaited = waiters.iter().filter(|done| done.is_none()).count();
        let written = match tokio::time::timeout(DEADLINE, self.commit(&entries, unawaited)).await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(_) => Err(format!("a write took longer than {DEADLINE:?}")),
        };
        match &written {
            Ok(()) => {
                self.carried.clear();
                self.report.send_if_modified(|health| {
                    std::mem::replace(health, Health::Writable) != Health::Writable
                });
            }
            Err(reason) => {
                self.carry(
                    entries
                        .into_iter()
                        .zip(&waiters)
                        .filter(|(_, done)| done.is_none())
                        .map(|(entry, _)| entry),
                );
                tracing::error!(reason, "the audit log can't be written; nothing is done until it can");
                self.fail(reason.clone());
            }
        }
        for done in waiters.into_iter().flatten() {
            if done.send(written.clone()).is_err() {
                tracing::debug!("a caller left before its record was durable");
            }
        }
        self.deal.send_modify(|dealt| *dealt += count);
    }

    /// Writes what is carried, that the log can be written again if it couldn't, and the entries.
    async fn commit(&mut self, entries: &[Entry], unawaited: usize) -> Result<(), StoreError> {
        let mut chain = self.ledger.turn().await?;
        if let Some(tried) = self.tried.take_if(|tried| tried.hash == chain.last()) {
            self.carried.drain(..tried.carried.min(self.carried.len()));
        }
        let mut all = self.carried.clone();
        all.extend(self.resumption());
        all.extend_from_slice(entries);
        let carried = (self.carried.len() + unawaited).min(CARRIED);
        let next = if chain.is_settled() {
            let (segment, next) = chain.lay_out(all)?;
            self.tried = Some(Tried { hash: next.hash, carried });
            chain.expect(next.clone());
            segment.insert_alone(&self.db).await?;
            next
        } else {
            let mut tx = self.db.write().await?;
            let next = self.ledger.append(&chain, &mut tx, all).await?;
            self.tried = Some(Tried { hash: next.hash, carried });
            chain.expect(next.clone());
            tx.commit().await?;
            next
        };
        chain.adopt(next);
        self.tried = None;
        Ok(())
    }

    /// Writes down that the log can be written again, if it could not: the first write after a
    /// failure always has something to write, and so is the probe.
    fn resumption(&self) -> Option<Entry> {
        let Health::Failing { since, .. } = *self.report.borrow() else { return None };
        let event =
            Event::AuditResumed { failing_since: since, dropped: self.dropped.load(Ordering::Relaxed) };
        Some(Entry {
            at: self.clock.now(),
            actor: Actor::Hub,
            event,
            request: None,
            personal: BTreeMap::new(),
        })
    }

    fn fail(&self, reason: String) {
        let now = self.clock.now();
        self.report.send_modify(|health| {
            let since = if let Health::Failing { since, .. } = health { *since } else { now };
            *health = Health::Failing { since, reason };
        });
    }

    fn carry(&mut self, entries: impl Iterator<Item = Entry>) {
        for entry in entries {
            if self.carried.len() < CARRIED {
                self.carried.push(entry);
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
