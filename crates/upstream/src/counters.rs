//! Numbers for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mcphub_domain::ServerId;

use crate::breaker::BreakerState;

/// Counts since the start of the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Processes that were started.
    pub starts: u64,
    /// Processes that were started again after they had ended unasked.
    pub restarts: u64,
    /// Notifications that somebody read too slowly for.
    pub dropped_notifications: u64,
}

/// Shows how a server is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamState {
    /// The server.
    pub server: ServerId,
    /// The worst of its breakers.
    pub breaker: BreakerState,
    /// Its connections, processes included.
    pub connections: usize,
    /// Its processes.
    pub processes: usize,
}

/// Counts the notifications that are lost because somebody reads too slowly, wherever that is.
#[derive(Clone, Default)]
pub struct Drops(Arc<AtomicU64>);

impl Drops {
    /// Counts so many more.
    pub fn count(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    starts: AtomicU64,
    restarts: AtomicU64,
    drops: Drops,
}

impl Counters {
    pub(crate) fn count_start(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn drops(&self) -> Drops {
        self.drops.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            starts: self.starts.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            dropped_notifications: self.drops.0.load(Ordering::Relaxed),
        }
    }
}
