//! The group commit: all waiting records become one segment, one insert and one sync.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Actor, Clock, Event};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ledger::Ledger;
use super::queue::{DEADLINE, Health};
use super::recover::unknown;
use super::tree::Hash;
use super::underway::{Underway, Waiter, Waiting, tell, too_long};
use crate::db::Db;
use crate::error::StoreError;
use crate::single::Single;

/// How many records of each kind become one segment at most.
const BATCH: usize = 2_048;
/// How many records nobody waits for are kept while the log can't be written.
const CARRIED: usize = 65_536;
/// How long records that nobody waits for wait for company.
const LINGER: Duration = Duration::from_millis(10);
/// How many must have waited for the last segment for the next one to wait for more.
const CROWD: usize = 8;
/// How long it waits.
const MOMENT: Duration = Duration::from_micros(200);
/// How long after a failure the log is tried again, if nobody asks before.
const RETRY: Duration = Duration::from_millis(500);

/// Is the other end of the queue: the task that writes.
pub(crate) struct Writer {
    single: Single,
    ledger: Arc<Ledger>,
    inbox: Inbox,
    tells: Tells,
    /// What failed to be written and nobody waits for.
    carried: Vec<Entry>,
    /// The segment of the last commit that failed for all we know.
    tried: Option<Tried>,
    clock: Clock,
}

/// Is where records arrive.
pub(super) struct Inbox {
    /// How many waited for the last segment.
    pub(super) crowd: usize,
    /// Who waits.
    pub(super) underway: Arc<Underway>,
    pub(super) unawaited: mpsc::Receiver<Entry>,
    /// Those who left before their intent was durable.
    pub(super) leavers: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Is what the writer tells of itself.
#[derive(Clone)]
pub(super) struct Tells {
    /// Whether the log can be written.
    pub(super) health: watch::Sender<Health>,
    /// How many records it has dealt with.
    pub(super) dealt: watch::Sender<u64>,
    /// How many records were lost that nobody waited for.
    pub(super) dropped: Arc<AtomicU64>,
}

/// Is what becomes one segment.
#[derive(Default)]
struct Batch {
    unawaited: Vec<Entry>,
    awaited: Vec<Waiting>,
}

/// Is a segment that may be in the log after all.
struct Tried {
    hash: Hash,
    /// How many of the carried records, from the first on, are in it.
    carried: usize,
    /// The records in it whose callers were told that they could not be written.
    refused: Vec<Entry>,
}

impl Inbox {
    /// Waits for records, or, while the log can't be written, for the time to try again. Records that
    /// nobody waits for stay a moment, for the next that somebody waits for to take them along; those
    /// that come meanwhile wake nobody.
    async fn next(&mut self, failing: bool) -> Option<Batch> {
        let underway = Arc::clone(&self.underway);
        let mut awaited = underway.awaited.lock().await;
        let mut batch = Batch::default();
        let mut until = pin!(sleep(RETRY));
        let mut lingers = false;
        loop {
            tokio::select! {
                biased;
                count = awaited.recv_many(&mut batch.awaited, BATCH) => {
                    return if count == 0 { self.rest(batch).await } else { Some(self.gather(&mut awaited, batch)) };
                }
                count = self.unawaited.recv_many(&mut batch.unawaited, BATCH), if !lingers => {
                    if failing || count == 0 {
                        return (count > 0).then_some(batch);
                    }
                    lingers = true;
                    until.as_mut().reset(Instant::now() + LINGER);
                }
                () = &mut until, if failing || lingers => return Some(self.with_company(batch)),
                () = self.stop.cancelled(), if !awaited.is_closed() => {
                    awaited.close();
                    return Some(batch);
                }
            }
        }
    }

    /// Waits a moment if many come, so that they share one sync. The thread is the log's own; while it sleeps, who
    /// comes wakes nobody.
    fn gather(&mut self, awaited: &mut mpsc::Receiver<Waiting>, mut batch: Batch) -> Batch {
        if self.crowd >= CROWD {
            thread::sleep(MOMENT);
            while batch.awaited.len() < BATCH
                && let Ok(waiting) = awaited.try_recv()
            {
                batch.awaited.push(waiting);
            }
        }
        self.crowd = batch.awaited.len();
        self.with_company(batch)
    }

    /// Takes along the records that nobody waits for.
    fn with_company(&mut self, mut batch: Batch) -> Batch {
        while batch.unawaited.len() < BATCH
            && let Ok(entry) = self.unawaited.try_recv()
        {
            batch.unawaited.push(entry);
        }
        batch
    }

    /// Takes what is left of the records that nobody waits for, when nobody waits for any more. Whoever left has an end to
    /// write, too, now that the fate of every intent is known.
    async fn rest(&mut self, batch: Batch) -> Option<Batch> {
        let mut batch = self.with_company(batch);
        if !batch.unawaited.is_empty() {
            return Some(batch);
        }
        self.leavers.close();
        if timeout(DEADLINE, self.leavers.wait()).await.is_err() {
            tracing::error!("the ends of calls whose callers left are not all in the log");
        }
        self.unawaited.close();
        self.unawaited.recv_many(&mut batch.unawaited, BATCH).await;
        (!batch.unawaited.is_empty()).then_some(batch)
    }
}

impl Writer {
    pub(super) fn new(db: Db, ledger: Arc<Ledger>, inbox: Inbox, tells: Tells, clock: Clock) -> Self {
        Self { single: Single::new(db), ledger, inbox, tells, carried: Vec::new(), tried: None, clock }
    }

    /// Writes what comes until the queue is stopped and empty.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = self.inbox.next(self.tells.is_failing()).await {
            self.write(batch).await;
        }
        // Nobody comes after this to try again. What is tried first may collide with a commit of unknown fate; the second
        // finds that.
        for _ in 0..2 {
            if self.tells.is_failing() {
                self.write(Batch::default()).await;
            }
        }
    }

    async fn write(&mut self, batch: Batch) {
        let Batch { unawaited: mut entries, awaited } = batch;
        let unawaited = entries.len();
        let mut waiters = Vec::with_capacity(awaited.len());
        for Waiting { entry, waiter } in awaited {
            entries.push(entry);
            waiters.push(waiter);
        }
        if entries.is_empty() && !self.tells.is_failing() {
            return;
        }
        self.inbox.underway.begin(waiters);
        let before = self.tried.as_ref().map(|tried| tried.hash);
        let written = match timeout(DEADLINE, self.commit(&entries, unawaited)).await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(_) => Err(too_long()),
        };
        let mut count = entries.len() as u64;
        match written {
            Ok(waiters) => {
                self.carried.clear();
                self.tells.health.send_if_modified(|health| {
                    std::mem::replace(health, Health::Writable) != Health::Writable
                });
                tell(waiters, &Ok(()));
            }
            Err(reason) => {
                let refused = entries.split_off(unawaited);
                if let Some(tried) = self.tried.as_mut().filter(|tried| Some(tried.hash) != before) {
                    tried.refused = refused;
                }
                self.carry(entries);
                // Who came meanwhile has waited as well, and is not to wait for another write that fails.
                let behind = self.inbox.underway.behind();
                count += behind.len() as u64;
                tracing::error!(reason, "the audit log can't be written; nothing is done until it can");
                Health::fail(&self.tells.health, self.clock.now(), &reason);
                let waiters = self.inbox.underway.end().unwrap_or_default().into_iter().chain(behind);
                tell(waiters.collect(), &Err(reason));
            }
        }
        self.tells.dealt.send_modify(|dealt| *dealt += count);
    }

    /// Writes what is carried, that the log can be written again if it couldn't, and the entries; returns who waits for
    /// them. If they have been told that it takes too long, it has failed, whatever became of it.
    async fn commit(&mut self, entries: &[Entry], unawaited: usize) -> Result<Vec<Waiter>, StoreError> {
        let mut chain = self.ledger.turn().await?;
        let found = chain.found();
        if let Some(tried) = self.tried.take_if(|tried| found.contains(&tried.hash)) {
            self.carried.drain(..tried.carried.min(self.carried.len()));
            // What was refused for it has not run: nobody else will say how it ended.
            let now = self.clock.now();
            self.carry(tried.refused.into_iter().filter_map(|intent| unknown(intent, now)).collect());
        }
        let all = self.with_carried(entries);
        let carried = (self.carried.len() + unawaited).min(CARRIED);
        let next = if chain.is_settled() {
            let (segment, next) = chain.lay_out(&all)?;
            self.tried = Some(Tried { hash: next.hash, carried, refused: Vec::new() });
            chain.expect(next.clone());
            segment.insert_alone(&mut self.single).await?;
            next
        } else {
            let mut tx = self.single.db().write().await?;
            let next = self.ledger.append(&chain, &mut tx, all.into_owned()).await?;
            self.tried = Some(Tried { hash: next.hash, carried, refused: Vec::new() });
            chain.expect(next.clone());
            tx.commit().await?;
            next
        };
        let given_up = || StoreError::AuditUnavailable { reason: too_long() };
        let waiters = self.inbox.underway.end().ok_or_else(given_up)?;
        chain.adopt(next);
        self.tried = None;
        Ok(waiters)
    }

    /// Puts what is carried before the entries; mostly that is nothing.
    fn with_carried<'a>(&self, entries: &'a [Entry]) -> Cow<'a, [Entry]> {
        let resumption = self.resumption();
        if self.carried.is_empty() && resumption.is_none() {
            return Cow::Borrowed(entries);
        }
        Cow::Owned(self.carried.iter().cloned().chain(resumption).chain(entries.iter().cloned()).collect())
    }

    /// Writes down that the log can be written again, if it could not: the first write after a
    /// failure always has something to write, and so is the probe.
    fn resumption(&self) -> Option<Entry> {
        let Health::Failing { since, .. } = *self.tells.health.borrow() else { return None };
        let event =
            Event::AuditResumed { failing_since: since, dropped: self.tells.dropped.load(Ordering::Relaxed) };
        Some(Entry {
            at: self.clock.now(),
            actor: Actor::Hub,
            event,
            request: None,
            personal: BTreeMap::new(),
        })
    }

    fn carry(&mut self, entries: Vec<Entry>) {
        let lost = keep(&mut self.carried, entries);
        self.tells.dropped.fetch_add(lost, Ordering::Relaxed);
    }
}

/// Keeps those for which there is room, and counts the others.
fn keep(carried: &mut Vec<Entry>, mut entries: Vec<Entry>) -> u64 {
    let (all, room) = (entries.len(), CARRIED.saturating_sub(carried.len()));
    entries.truncate(room);
    let lost = all - entries.len();
    carried.append(&mut entries);
    lost as u64
}

impl Tells {
    fn is_failing(&self) -> bool {
        *self.health.borrow() != Health::Writable
    }
}

#[cfg(test)]
mod tests {
    use mcphub_domain::Timestamp;

    use super::{Actor, BTreeMap, CARRIED, Entry, Event, keep};

    #[test]
    fn so_many_records_are_carried_and_the_others_counted() {
        let at = Timestamp::from_micros(0);
        let (actor, event) = (Actor::Hub, Event::ChainClosed);
        let entry = Entry { at, actor, event, request: None, personal: BTreeMap::new() };
        let mut carried = Vec::new();
        assert_eq!(keep(&mut carried, vec![entry.clone(); CARRIED - 1]), 0);
        assert_eq!(keep(&mut carried, vec![entry.clone(); 2]), 1);
        assert_eq!(keep(&mut carried, vec![entry]), 1);
        assert_eq!(carried.len(), CARRIED);
    }
}
