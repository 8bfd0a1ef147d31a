//! The hub's state in numbers.

use mcphub_domain::{Principal, ServerName};
use mcphub_policy::Endpoint;
use mcphub_upstream::{Counts as UpstreamCounts, Drops, UpstreamState};

use crate::caller::Caller;
use crate::counters::Counts;
use crate::hub::Hub;
use crate::lease::Lease;

/// Is the hub's state in numbers, at one moment.
#[derive(Debug)]
pub struct Metrics {
    /// What has been counted since the start.
    pub counts: Counts,
    /// Open streams and running calls.
    pub leases: usize,
    /// Records that were lost while the log could not be written. Intents are never among them.
    pub dropped_records: u64,
    /// The state of every server that has been used.
    pub servers: Vec<(ServerName, UpstreamState)>,
    /// Starts of upstream processes and what was dropped on the way.
    pub upstreams: UpstreamCounts,
    /// The revision of the world.
    pub world: i64,
}

impl Hub {
    /// Reads the hub's state in numbers.
    pub fn metrics(&self) -> Metrics {
        let world = self.snapshot.newest();
        let servers = self
            .upstreams
            .states()
            .into_iter()
            .filter_map(|state| Some((world.server(state.server)?.server().name.clone(), state)))
            .collect();
        Metrics {
            counts: self.counters.read(),
            leases: self.leases.count(),
            dropped_records: self.audit.dropped(),
            servers,
            upstreams: self.upstreams.counts(),
            world: world.revision(),
        }
    }

    /// Counts what is lost because a client reads too slowly.
    pub fn drops(&self) -> Drops {
        self.upstreams.drops()
    }

    /// Leases an endpoint for a stream: it ends when the caller's right does.
    pub fn lease_endpoint(&self, caller: &Caller, endpoint: Endpoint) -> Lease {
        let principal: Principal = caller.principal();
        let lease = self.leases.endpoint(principal, endpoint);
        self.leases.review_one(&lease, &self.snapshot.newest(), self.clock.now());
        lease
    }
}
