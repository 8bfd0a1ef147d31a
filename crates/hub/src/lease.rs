//! Leases: what keeps a stream or a running call open, for as long as its permit would still be given.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mcphub_domain::{Principal, ServerId, Timestamp, ToolDigest};
use mcphub_policy::{AskPermit, Endpoint, Extent, Permit, World, decide};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Holds every open lease, to decide it anew whenever the world changes.
#[derive(Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<u64, Held>>>,
    next: AtomicU64,
}

struct Held {
    principal: Principal,
    endpoint: Endpoint,
    leased: Leased,
    revoked: CancellationToken,
}

/// Is what was allowed.
enum Leased {
    /// To listen at the endpoint.
    Endpoint,
    /// To call this tool, by the name that the caller used.
    Call { name: String, server: ServerId, server_revision: i64, digest: ToolDigest },
    /// To ask this server anything.
    Anything { server: ServerId, server_revision: i64 },
    /// To read what this server offers beside tools.
    Ask { server: ServerId, server_revision: i64 },
    /// To ask how a task of this tool stands.
    Task { name: Box<str>, server: ServerId, server_revision: i64 },
}

/// Keeps something open. Dropped, it is forgotten.
pub struct Lease {
    id: u64,
    revoked: CancellationToken,
    held: Arc<Mutex<HashMap<u64, Held>>>,
}

impl Lease {
    /// Waits until the right has ended.
    pub async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Says whether the right has ended.
    pub fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.held.lock().remove(&self.id);
    }
}

impl Leases {
    /// Leases an endpoint, for a stream.
    pub(crate) fn endpoint(&self, principal: Principal, endpoint: Endpoint) -> Lease {
        self.hold(Held { principal, endpoint, leased: Leased::Endpoint, revoked: CancellationToken::new() })
    }

    /// Leases a call by the name that the caller used.
    pub(crate) fn call(&self, permit: &Permit, name: &str) -> Lease {
        let route = permit.route();
        self.hold(Held {
            principal: permit.principal(),
            endpoint: permit.endpoint(),
            leased: Leased::Call {
                name: name.to_owned(),
                server: route.server,
                server_revision: route.server_revision,
                digest: route.digest,
            },
            revoked: CancellationToken::new(),
        })
    }

    /// Leases a question to a server.
    pub(crate) fn ask(&self, permit: &AskPermit) -> Lease {
        self.hold(Held {
            principal: permit.principal(),
            endpoint: permit.endpoint(),
            leased: {
                let (server, server_revision) = (permit.server(), permit.server_revision());
                match permit.extent() {
                    Extent::Task(name) => Leased::Task { name: name.clone(), server, server_revision },
                    Extent::Reading => Leased::Ask { server, server_revision },
                    Extent::Everything => Leased::Anything { server, server_revision },
                }
            },
            revoked: CancellationToken::new(),
        })
    }

    /// Decides every lease anew and ends those that are denied.
    pub(crate) fn review(&self, world: &World, now: Timestamp) {
        for held in self.held.lock().values() {
            if !held.stands(world, now) {
                held.revoked.cancel();
            }
        }
    }

    /// Decides one lease anew.
    pub(crate) fn review_one(&self, lease: &Lease, world: &World, now: Timestamp) {
        if let Some(held) = self.held.lock().get(&lease.id)
            && !held.stands(world, now)
        {
            held.revoked.cancel();
        }
    }

    /// Ends every lease: the node can't tell any more who may do what.
    pub(crate) fn revoke_all(&self) {
        self.held.lock().values().for_each(|held| held.revoked.cancel());
    }

    /// Counts what is open.
    pub(crate) fn count(&self) -> usize {
        self.held.lock().len()
    }

    fn hold(&self, held: Held) -> Lease {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let revoked = held.revoked.clone();
        self.held.lock().insert(id, held);
        Lease { id, revoked, held: Arc::clone(&self.held) }
    }
}

impl Held {
    fn stands(&self, world: &World, now: Timestamp) -> bool {
        let (principal, endpoint) = (self.principal, self.endpoint);
        match &self.leased {
            Leased::Endpoint => decide::still_open(world, principal, endpoint, now).is_ok(),
            Leased::Call { name, server, server_revision, digest } => {
                decide::call(world, principal, endpoint, name, now).is_ok_and(|permit| {
                    let route = permit.route();
                    route.server == *server
                        && route.server_revision == *server_revision
                        && route.digest == *digest
                })
            }
            Leased::Task { name, server, server_revision } => {
                decide::task(world, principal, endpoint, name, now).is_ok_and(|permit| {
                    permit.server() == *server && permit.server_revision() == *server_revision
                })
            }
            Leased::Anything { server, server_revision } => {
                decide::ask_anything(world, principal, *server, now)
                    .is_ok_and(|permit| permit.server_revision() == *server_revision)
            }
            Leased::Ask { server, server_revision } => decide::ask(world, principal, endpoint, *server, now)
                .is_ok_and(|permit| permit.server_revision() == *server_revision),
        }
    }
}
