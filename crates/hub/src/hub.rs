//! The wiring: everything that the use cases need, made once, in the order that makes it safe.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Clock, Entropy, InstallId, Principal, Quota, RequestId, UserId};
use mcphub_policy::{Recorder, World};
use mcphub_store::audit::AuditQueue;
use mcphub_store::servers::StoredTool;
use mcphub_store::sessions::Session;
use mcphub_store::snapshot::Delta;
use mcphub_store::{Ended, Place, Process, Store, StoreError};
use mcphub_upstream::{Catalog, ToolDefinition, Upstreams};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::accounts::Accounts;
use crate::cache::Cache;
use crate::caller::Caller;
use crate::changes::Lists;
use crate::counters::Counters;
use crate::error::HubError;
use crate::floods::Floods;
use crate::heads::{Extent, Heads};
use crate::hearing::Hearings;
use crate::lease::Leases;
use crate::limits::Limits;
use crate::lookout::Lookout;
use crate::personal::Personal;
use crate::recent::Recent;
use crate::rounds::Kept;
use crate::seal::{KeySource, Seal};
use crate::sessions;
use crate::shelf::Shelf;
use crate::snapshot::Snapshot;
use crate::watches::Watches;

/// Says how the hub is to be.
pub struct Settings {
    /// Where everything is kept.
    pub place: Place,
    /// Which process this is.
    pub process: Process,
    /// Where the key-encryption key comes from.
    pub key: KeySource,
    /// The folder of the signed heads, outside the data directory.
    pub heads: PathBuf,
    /// How much one person may do.
    pub quota: Quota,
    /// The address under which people reach the hub.
    pub public_url: Url,
    /// How upstream servers are reached.
    pub upstream: mcphub_upstream::Settings,
}

/// Is the hub: one public method for each thing that a person can do.
pub struct Hub {
    pub(crate) store: Arc<Store>,
    pub(crate) audit: Arc<AuditQueue>,
    pub(crate) seal: Seal,
    pub(crate) snapshot: Snapshot,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) catalog: Catalog,
    pub(crate) cache: Cache,
    pub(crate) limits: Limits,
    pub(crate) leases: Leases,
    pub(crate) personal: Personal,
    pub(crate) floods: Floods,
    pub(crate) heads: Heads,
    pub(crate) lookout: Lookout,
    pub(crate) counters: Counters,
    /// Why this process could not tell that it lives, the last time: where nobody calls, nothing else is written.
    pub(crate) pulse: Mutex<Option<String>>,
    pub(crate) kept: Kept,
    pub(crate) watches: Watches,
    pub(crate) shelf: Shelf,
    pub(crate) hearings: Hearings,
    pub(crate) lists: Lists,
    pub(crate) accounts: Accounts,
    pub(crate) sessions: Recent<(UserId, [u8; 32]), Session>,
    /// When a stranger's key last made the hub ask the database.
    pub(crate) asked: tokio::sync::Mutex<Option<tokio::time::Instant>>,
    pub(crate) public_url: Url,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) tasks: TaskTracker,
    /// Names this run of the process: its numbers mean nothing to another, or to the next.
    pub(crate) run: String,
    changed: watch::Sender<i64>,
    pub(crate) stop: CancellationToken,
    /// Cancelled before: nobody is waited for any more.
    closing: CancellationToken,
    process: Process,
    me: Weak<Self>,
}

/// How often the database is asked what changed.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// How long a refresh may take before the streams are looked at again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says whether the hub can serve, and why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It has no key.
    Sealed,
    /// The log can't be written, or the database doesn't answer.
    Unavailable(String),
}

/// Says whether the end of the log is signed when the hub closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastHead {
    /// It is.
    Signed,
    /// It isn't: somebody has just checked the log, and nothing may cover what she found.
    Left,
}

impl Hub {
    /// Opens everything. A missing key leaves the hub sealed; it unseals by itself.
    pub async fn open(settings: Settings, clock: Clock, entropy: Entropy) -> Result<Arc<Self>, HubError> {
        #[expect(clippy::disallowed_methods, reason = "the wiring makes the only recorder")]
        let recorder = Recorder::new();
        let store = Store::open(&settings.place, settings.process, recorder, clock.clone(), &entropy).await?;
        let store = Arc::new(store);
        let install = store.install(InstallId::random(&entropy)).await?;
        let seal = Seal::new(&store, install, settings.key, &entropy).await?;
        let whole = store.load().await?;
        let upstreams = Upstreams::new(settings.upstream, clock.clone())
            .map_err(|error| HubError::Internal(error.to_string()))?;
        let heads = Heads::new(&settings.heads, install, &settings.place)?;
        let hub = Arc::new_cyclic(|me| Self {
            audit: store.audit(),
            seal,
            snapshot: Snapshot::new(whole.world.clone().unwrap_or_default()),
            upstreams,
            catalog: Catalog::default(),
            cache: Cache::new(),
            limits: Limits::new(settings.quota),
            leases: Leases::default(),
            personal: Personal::new(Arc::clone(&store), entropy.clone()),
            floods: Floods::default(),
            heads,
            lookout: Lookout::default(),
            counters: Counters::default(),
            pulse: Mutex::default(),
            kept: Kept::default(),
            watches: Watches::default(),
            shelf: Shelf::default(),
            hearings: Hearings::default(),
            lists: Lists::default(),
            accounts: Accounts::new(),
            sessions: sessions::known(),
            asked: tokio::sync::Mutex::default(),
            public_url: settings.public_url,
            clock,
            run: hex::encode(entropy.bytes::<8>()),
            entropy,
            tasks: TaskTracker::new(),
            changed: watch::Sender::new(0),
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
            process: settings.process,
            me: Weak::clone(me),
            store,
        });
        hub.take_up(&whole);
        hub.try_unseal().await;
        if settings.process == Process::Serve {
            hub.look_at_new(&hub.snapshot.newest());
            hub.keep_running();
        } else {
            hub.stay_fresh();
        }
        Ok(hub)
    }

    /// Says whether the hub can serve.
    pub fn readiness(&self) -> Readiness {
        use mcphub_store::audit::queue::Health;
        if self.seal.open().is_err() {
            return Readiness::Sealed;
        }
        if !self.snapshot.is_fresh() {
            return Readiness::Unavailable("the database does not answer".to_owned());
        }
        if let Some(reason) = &*self.pulse.lock() {
            return Readiness::Unavailable(reason.clone());
        }
        match &*self.audit.health().borrow() {
            Health::Writable => Readiness::Ready,
            Health::Failing { reason, .. } => Readiness::Unavailable(reason.clone()),
        }
    }

    /// Stops: lets running calls end until `deadline`, ends children, writes what waits, signs the end
    /// of the log unless that is to be left as it is, closes.
    pub async fn close(&self, deadline: Duration, last: LastHead) -> Result<(), HubError> {
        let ended = self.end(deadline).await?;
        let signed = match last {
            LastHead::Signed => self.sign_head(Extent::All).await,
            LastHead::Left => Ok(()),
        };
        ended.close().await;
        signed
    }

    /// Ends everything that runs, and this process's chain; the database can still be read.
    pub(crate) async fn end(&self, deadline: Duration) -> Result<Ended, HubError> {
        self.stop.cancel();
        self.tasks.close();
        if self.process == Process::Serve {
            // Till then it lives, and nobody else is to close what it is about to end.
            tokio::select! {
                () = self.end_work(deadline) => {}
                () = self.beat_on() => {}
            }
            self.floods.flush_all(self).await;
        } else {
            self.end_work(deadline).await;
        }
        Ok(self.store.end().await?)
    }

    async fn end_work(&self, deadline: Duration) {
        self.upstreams.drain(deadline).await;
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("some work did not end in time");
        }
    }

    /// Takes up what the database has that this process hasn't.
    pub async fn refresh(&self) -> Result<(), HubError> {
        let before = self.snapshot.newest();
        self.snapshot.refresh(&self.store, |delta| self.take_up(delta)).await?;
        let world = self.snapshot.newest();
        if world.revision() != before.revision() {
            self.settle(&before, &world);
        }
        Ok(())
    }

    /// Tells of every change of the world, by its revision.
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.changed.subscribe()
    }

    /// Begins to stop: what waits for a person ends, what runs goes on.
    pub fn wind_down(&self) {
        self.closing.cancel();
    }

    /// Waits until the hub is to stop.
    pub async fn winding_down(&self) {
        self.closing.cancelled().await;
    }

    /// Runs something that a stop waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Signs what the log is now, for `audit verify` to find later.
    pub(crate) async fn sign_head(&self, extent: Extent) -> Result<(), HubError> {
        let Ok(unsealed) = self.seal.open() else { return Ok(()) };
        let last = self.heads.last();
        let chains = match extent {
            Extent::Own if !last.is_empty() => self.store.audit_tips_since(&last),
            _ => self.store.audit_tips().await?,
        };
        self.heads.write(chains, unsealed, self.clock.now()).await
    }

    /// Acts as the hub itself.
    pub(crate) fn myself(&self) -> Caller {
        Caller::new(Principal::Hub, None, RequestId::random(&self.entropy))
    }

    pub(crate) fn handle(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    /// Records how a call ended, from where waiting isn't possible.
    pub(crate) fn append_soon(&self, entry: Entry) {
        let Err(entry) = self.audit.append_now(entry) else { return };
        let hub = self.handle();
        self.tasks.spawn(async move {
            if let Some(hub) = hub.upgrade() {
                hub.append(*entry).await;
            }
        });
    }

    /// Applies a change to what decisions and calls rest on, before anybody can decide on it.
    pub(crate) fn take_up(&self, delta: &Delta) {
        for (server, tools) in &delta.tools {
            let definitions: Vec<ToolDefinition> = tools.iter().map(definition).collect();
            self.catalog.put(*server, &definitions);
        }
        self.cache.forget(delta);
        if delta.whole {
            // Nobody knows which values changed on the way.
            self.upstreams.close(|_| true);
        }
        for (user, server) in &delta.credentials {
            self.lookout.renew(*server, Some(*user));
            self.upstreams.close(|key| key.server == *server && key.scope.user() == Some(*user));
        }
        // What runs with the token before goes on: it is the same person's, and nobody took it from her.
        for (user, server) in &delta.renewed {
            self.lookout.renew(*server, Some(*user));
        }
        for server in &delta.shared_values {
            self.lookout.renew(*server, None);
            self.upstreams.close(|key| key.server == *server);
        }
    }

    /// Ends what the new world doesn't allow any more. It is in place already, so what is begun from
    /// here on is decided on it, and what was begun before is found here.
    fn settle(&self, before: &World, world: &World) {
        for entry in before.servers() {
            let (id, revision) = (entry.server().id, entry.server().revision);
            match world.server(id) {
                Some(now) if now.server().revision == revision => {}
                Some(_) => {
                    self.upstreams.forget(id);
                    self.shelf.forget(id);
                }
                None => {
                    self.upstreams.forget(id);
                    self.shelf.forget(id);
                    self.catalog.remove(id);
                    self.lookout.forget(id);
                }
            }
        }
        self.leases.review(world, self.clock.now());
        self.changed.send_replace(world.revision());
        if self.process == Process::Serve {
            self.look_at_new(world);
        }
    }

    /// Takes up what changed about the keys; unseals when there are some.
    pub(crate) async fn look_at_keys(&self) {
        if self.seal.open().is_err() {
            return self.try_unseal().await;
        }
        let complaint =
            self.seal.follow(&self.store, &self.entropy).await.err().map(|error| error.to_string());
        if self.seal.is_new(complaint.clone()) {
            tracing::warn!(error = complaint, "the hub goes on with the keys that it has");
        }
    }

    async fn try_unseal(&self) {
        match self.seal.unseal(&self.store, &self.entropy).await {
            Ok(()) => {
                let entry = self.myself().entry(mcphub_domain::Event::VaultUnsealed, self.clock.now());
                if self.process == Process::Serve {
                    self.append(entry).await;
                    self.look_at_new(&self.snapshot.newest());
                }
            }
            Err(HubError::Sealed) => {}
            Err(error) => tracing::error!(%error, "the hub stays sealed"),
        }
    }

    fn keep_running(self: &Arc<Self>) {
        let hub = Arc::clone(self);
        self.tasks.spawn(async move { hub.follow_changes().await });
        let hub = Arc::clone(self);
        self.tasks.spawn(async move { hub.follow_lists().await });
        self.start_chores();
    }

    async fn follow_changes(&self) {
        let mut told = self.store.revisions().await.ok();
        let mut interval = tokio::time::interval(POLL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let heard = async {
                match &mut told {
                    Some(revisions) => revisions.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = interval.tick() => {}
                heard = heard => if heard.is_err() { told = None },
            }
            let refreshed = tokio::time::timeout(PATIENCE, self.refresh()).await;
            let refreshed = refreshed.unwrap_or_else(|_| Err(HubError::from(StoreError::TimedOut)));
            if let Err(error) = refreshed {
                tracing::warn!(%error, "the database does not tell what changed");
            } else if told.is_none() {
                told = self.store.revisions().await.ok();
            }
            if !self.snapshot.is_fresh() {
                self.leases.revoke_all();
            }
        }
    }
}

fn definition(stored: &StoredTool) -> ToolDefinition {
    ToolDefinition {
        name: stored.tool.name.clone(),
        definition: stored.definition.clone().into(),
        annotations: Default::default(),
        digest: stored.tool.digest,
    }
}
