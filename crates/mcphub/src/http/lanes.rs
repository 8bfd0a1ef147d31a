//! The runtimes of the call path: one thread for each core, each with its own connections to clients
//! and to servers, so that a call stays on one core from its first byte to its last.
//!
//! What isn't a call runs elsewhere, in the runtime that the program starts in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::memory::give_back_at_rest;

/// Holds the runtimes. Dropped, they end, and what still runs in them.
pub(crate) struct Lanes {
    first: Lane,
    others: Vec<Lane>,
    ended: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Lane {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// Is a connection's place in a runtime, given back when dropped.
pub(super) struct Ride(Lane);

impl Lanes {
    /// Starts a runtime for each core.
    pub(crate) fn start() -> io::Result<Self> {
        let ended = CancellationToken::new();
        let (first, thread) = Lane::start(0, ended.clone())?;
        let mut lanes = Self { first, others: Vec::new(), ended, threads: vec![thread] };
        for number in 1..thread::available_parallelism()?.get() {
            let (lane, thread) = Lane::start(number, lanes.ended.clone())?;
            lanes.others.push(lane);
            lanes.threads.push(thread);
        }
        Ok(lanes)
    }

    /// Names the runtimes.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        std::iter::once(&self.first).chain(&self.others).map(|lane| &lane.handle)
    }

    /// Takes a place where the fewest connections are.
    pub(super) fn ride(&self) -> Ride {
        let connections = |lane: &&Lane| lane.connections.load(Ordering::Relaxed);
        let least = self.others.iter().fold(&self.first, |least, lane| {
            if connections(&lane) < connections(&least) { lane } else { least }
        });
        least.connections.fetch_add(1, Ordering::Relaxed);
        Ride(least.clone())
    }
}

impl Lane {
    fn start(number: usize, ended: CancellationToken) -> io::Result<(Self, JoinHandle<()>)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let lane = Self { handle: runtime.handle().clone(), connections: Arc::default() };
        let thread = thread::Builder::new().name(format!("lane-{number}"));
        let metrics = runtime.metrics();
        let run = async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = give_back_at_rest(metrics) => {}
            }
        };
        Ok((lane, thread.spawn(move || runtime.block_on(run))?))
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.ended.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the call path ended in a panic");
            }
        }
    }
}

impl Ride {
    /// Names the runtime.
    pub(super) fn runtime(&self) -> &Handle {
        &self.0.handle
    }
}

impl Drop for Ride {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
