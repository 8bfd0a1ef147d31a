//! Who waits for the log: those whose records are being written, and those behind them.
//!
//! A disk that hangs holds the log's thread, so that no timeout there ends. Somebody else looks after it, from another
//! runtime: whoever waits for a write that takes too long is told so, and the log counts as failing until one succeeds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::Clock;
use mcphub_domain::audit::Entry;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::queue::{DEADLINE, Health};
use super::writer::Tells;

/// How often one looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long after its deadline a write hangs: before, its own timeout ends it.
const GRACE: Duration = Duration::from_millis(100);

/// Is a record that somebody waits for, and where she does.
pub(super) struct Waiting {
    pub(super) entry: Entry,
    pub(super) waiter: Waiter,
}

/// Is where somebody waits for a record.
pub(super) struct Waiter {
    pub(super) done: oneshot::Sender<Result<(), String>>,
    pub(super) runtime: Handle,
}

/// Holds all who wait.
pub(super) struct Underway {
    /// Who comes next; the writer has it while it waits for them.
    pub(super) awaited: tokio::sync::Mutex<mpsc::Receiver<Waiting>>,
    write: Mutex<Write>,
}

/// Says how the last write stands.
enum Write {
    Over,
    Begun {
        at: Instant,
        waiters: Vec<Waiter>,
    },
    /// It goes on, but all who waited for it are told that it failed, and all who come meanwhile are.
    GivenUp,
}

impl Underway {
    pub(super) fn new(awaited: mpsc::Receiver<Waiting>) -> Self {
        Self { awaited: tokio::sync::Mutex::new(awaited), write: Mutex::new(Write::Over) }
    }

    /// Begins a write that these wait for.
    pub(super) fn begin(&self, waiters: Vec<Waiter>) {
        *self.write.lock() = Write::Begun { at: Instant::now(), waiters };
    }

    /// Ends a write and returns who waits for it; nothing if it was given up.
    pub(super) fn end(&self) -> Option<Vec<Waiter>> {
        match std::mem::replace(&mut *self.write.lock(), Write::Over) {
            Write::Begun { waiters, .. } => Some(waiters),
            Write::Over | Write::GivenUp => None,
        }
    }

    /// Takes those out who wait behind a write; the writer has them itself while it waits for more.
    pub(super) fn behind(&self) -> Vec<Waiter> {
        let Ok(mut awaited) = self.awaited.try_lock() else { return Vec::new() };
        std::iter::from_fn(|| awaited.try_recv().ok()).map(|waiting| waiting.waiter).collect()
    }
}

/// Looks after the writer.
pub(crate) struct Watch {
    underway: Arc<Underway>,
    tells: Tells,
    clock: Clock,
}

impl Watch {
    pub(super) const fn new(underway: Arc<Underway>, tells: Tells, clock: Clock) -> Self {
        Self { underway, tells, clock }
    }

    /// Looks after it until it is over.
    pub(crate) async fn run(self, over: CancellationToken) {
        let mut looks = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                () = over.cancelled() => return,
                _ = looks.tick() => self.look(),
            }
        }
    }

    fn look(&self) {
        let mut write = self.underway.write.lock();
        let mut waiters = match &mut *write {
            Write::Begun { at, waiters } if at.elapsed() >= DEADLINE + GRACE => std::mem::take(waiters),
            Write::GivenUp => Vec::new(),
            Write::Over | Write::Begun { .. } => return,
        };
        let reason = too_long();
        if !matches!(*write, Write::GivenUp) {
            *write = Write::GivenUp;
            tracing::error!(reason, "the disk hangs; nothing is done until the audit log can be written");
            // Before the writer can say that it succeeded.
            Health::fail(&self.tells.health, self.clock.now(), &reason);
        }
        let behind = self.underway.behind();
        drop(write);
        let count = behind.len() as u64;
        waiters.extend(behind);
        tell(waiters, &Err(reason));
        self.tells.dealt.send_modify(|dealt| *dealt += count);
    }
}

pub(super) fn too_long() -> String {
    format!("a write took longer than {DEADLINE:?}")
}

/// Tells those who wait, each in her own runtime: all of one runtime cost one wake-up from here, which is
/// a system call.
pub(super) fn tell(waiters: Vec<Waiter>, written: &Result<(), String>) {
    let mut runtimes: HashMap<Id, (Handle, Vec<_>)> = HashMap::new();
    for Waiter { runtime, done } in waiters {
        runtimes.entry(runtime.id()).or_insert_with(|| (runtime, Vec::new())).1.push(done);
    }
    for (runtime, waiters) in runtimes.into_values() {
        let written = written.clone();
        runtime.spawn(async move {
            for done in waiters {
                if done.send(written.clone()).is_err() {
                    tracing::debug!("a caller left before its record was durable");
                }
            }
        });
    }
}
