//! The world in memory: swapped whole, refreshed change by change, and too old to trust after 2 s.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mcphub_policy::World;
use mcphub_store::Store;
use mcphub_store::snapshot::Delta;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::HubError;

/// A world that the database has not confirmed for so long can't be trusted any more.
const TRUSTED: Duration = Duration::from_secs(2);

/// Holds the newest known world.
pub(crate) struct Snapshot {
    world: ArcSwap<World>,
    confirmed: Mutex<Instant>,
    refreshing: tokio::sync::Mutex<()>,
}

impl Snapshot {
    /// Holds a world that was loaded right now.
    pub(crate) fn new(world: World) -> Self {
        Self {
            world: ArcSwap::from_pointee(world),
            confirmed: Mutex::new(Instant::now()),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the world, or refuses: too old to trust means no.
    ///
    /// Freshness is measured with a clock that can't be set.
    pub(crate) fn fresh(&self) -> Result<Arc<World>, HubError> {
        if self.confirmed.lock().elapsed() > TRUSTED {
            let reason = "the database has not answered for 2 seconds".to_owned();
            return Err(HubError::Unavailable { reason });
        }
        Ok(self.world.load_full())
    }

    /// Returns the newest known world, for what decides nothing.
    pub(crate) fn newest(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Says whether the world can be trusted.
    pub(crate) fn is_fresh(&self) -> bool {
        self.confirmed.lock().elapsed() <= TRUSTED
    }

    /// Takes up what changed; `apply` sees the change before anybody can decide on it.
    pub(crate) async fn refresh(&self, store: &Store, apply: impl Fn(&Delta)) -> Result<(), HubError> {
        let _turn = self.refreshing.lock().await;
        let asked = Instant::now();
        let mut delta = store.refresh(&self.world.load()).await?;
        apply(&delta);
        if let Some(world) = delta.world.take() {
            self.world.store(Arc::new(world));
        }
        *self.confirmed.lock() = asked;
        Ok(())
    }
}
