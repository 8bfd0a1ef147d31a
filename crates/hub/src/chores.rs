//! What the serving process does beside calls: tell that it lives, sign the log, recover what killed
//! processes left open, keep the index, tidy up. Nothing here is waited for by a call.

use std::sync::Arc;
use std::time::Duration;

use mcphub_upstream::leftovers::{Existing, remove_leftovers};
use mcphub_upstream::rehearse;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::error::HubError;
use crate::heads::Extent;
use crate::hub::{Hub, POLL};

/// How often the rest is looked after: leases that end by time, folded refusals, what memory nobody uses, the
/// keys, the heartbeat, a head if the log has moved, and recovery, which costs a read where nobody died.
const TICK: Duration = Duration::from_secs(1);
/// How often the index of the log catches up; a search reads what it lacks.
const INDEX: Duration = Duration::from_secs(2);
/// How often it is looked whether something can be removed.
const TIDY: Duration = Duration::from_mins(1);

impl Hub {
    /// Starts all chores; they end when the hub stops.
    pub(crate) fn start_chores(self: &Arc<Self>) {
        let hub = Arc::clone(self);
        self.tasks.spawn(async move { hub.sign_heads().await });
        let hub = Arc::clone(self);
        self.tasks.spawn(async move { hub.rehearse().await });
        self.start(TICK, |hub| async move { hub.look_after().await });
        self.start(TICK, |hub| async move { hub.look_at_keys().await });
        self.start(TICK, |hub| async move { hub.recover().await });
        self.start(INDEX, |hub| async move { hub.index().await });
        self.start(TIDY, |hub| async move { hub.tidy().await });
    }

    /// Takes up changes while a command takes long: else its world would soon be too old to trust.
    pub(crate) fn stay_fresh(self: &Arc<Self>) {
        self.start(POLL, |hub| async move { warn("to take up what changed", hub.refresh().await) });
    }

    fn start<F>(self: &Arc<Self>, period: Duration, chore: fn(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hub = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut ticks = ticks(period);
            while hub.unless_stopped(ticks.tick()).await.is_some() {
                chore(Arc::clone(&hub)).await;
            }
        });
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Finds out once what the sandbox of servers' processes lacks on this machine, and says so.
    async fn rehearse(&self) {
        match self.unless_stopped(rehearse(self.upstreams.settings())).await {
            Some(Ok(lacking)) => {
                lacking.iter().for_each(|line| tracing::warn!("{line} (see docs/sandbox.md)"))
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "servers' processes can't be confined, so none will start")
            }
            None => {}
        }
    }

    async fn look_after(&self) {
        self.beat().await;
        self.leases.review(&self.snapshot.newest(), self.clock.now());
        self.floods.flush(self).await;
        self.sessions.forget_unused();
        self.personal.forget_unused();
    }

    async fn beat(&self) {
        let told = self.store.beat().await;
        *self.pulse.lock() = told.as_ref().err().map(ToString::to_string);
        warn("to tell that this process lives", told);
    }

    /// Tells on that it lives, while what runs comes to its end.
    pub(crate) async fn beat_on(&self) {
        let mut ticks = ticks(TICK);
        loop {
            ticks.tick().await;
            self.beat().await;
        }
    }

    async fn recover(&self) {
        if let Some(done) = self.unless_stopped(self.store.recover()).await {
            warn("to close the calls of dead processes", done);
        }
    }

    async fn index(&self) {
        if let Some(done) = self.unless_stopped(self.store.index_audit()).await {
            warn("to index the log", done);
        }
    }

    async fn tidy(&self) {
        warn("to remove old rows", self.store.tidy().await);
        warn("to thin out the signed heads", self.heads.thin_out(self.clock.now()).await);
        warn("to remove what servers left", self.tidy_folders().await);
    }

    /// Signs a head each second if the log has moved, and whenever it has grown by a thousand records.
    async fn sign_heads(&self) {
        let (mut ticks, mut grown) = (ticks(TICK), self.store.grown());
        loop {
            let due = async {
                tokio::select! {
                    biased;
                    _ = ticks.tick() => Extent::All,
                    _ = grown.changed() => Extent::Own,
                }
            };
            let Some(extent) = self.unless_stopped(due).await else { return };
            warn("to sign a head of the log", self.sign_head(extent).await);
        }
    }

    /// Removes the logs and homes of servers that were removed.
    async fn tidy_folders(&self) -> Result<(), HubError> {
        let (hub, upstreams) = (self.handle(), Arc::clone(&self.upstreams));
        let existing = move || {
            let world = hub.upgrade().map(|hub| hub.snapshot.newest()).unwrap_or_default();
            let servers = || world.servers().map(|entry| entry.server());
            Existing {
                ids: servers().map(|server| server.id).collect(),
                names: servers().map(|server| server.name.clone()).collect(),
            }
        };
        let removed = tokio::task::spawn_blocking(move || remove_leftovers(upstreams.settings(), existing));
        let removed = removed.await.map_err(|error| HubError::Internal(error.to_string()))?;
        removed.map(|_| ()).map_err(|error| HubError::Internal(error.to_string()))
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn warn<T, E: Into<HubError>>(what: &str, done: Result<T, E>) {
    if let Err(error) = done.map_err(Into::into) {
        tracing::warn!(%error, "failed {what}");
    }
}
