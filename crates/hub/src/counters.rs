//! What the hub counts of itself, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Refusal};
use parking_lot::Mutex;

/// The upper bounds of the latency buckets, in microseconds.
pub const BUCKETS: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// Counts calls, refusals and latencies since the start.
#[derive(Debug, Default)]
pub struct Counters {
    calls: Mutex<BTreeMap<CallStatus, u64>>,
    refusals: Mutex<BTreeMap<Refusal, u64>>,
    latencies: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// Is what was counted.
#[derive(Debug)]
pub struct Counts {
    /// Ended calls, by how they ended.
    pub calls: BTreeMap<CallStatus, u64>,
    /// Refusals, by reason.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Ended calls by the bucket of `BUCKETS` that their duration falls into; the last is the rest.
    pub latencies: Vec<u64>,
    /// The sum of all durations, in microseconds.
    pub micros: u64,
}

impl Counters {
    pub(crate) fn ended(&self, status: CallStatus, took: Duration) {
        *self.calls.lock().entry(status).or_default() += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len());
        if let Some(count) = self.latencies.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        *self.refusals.lock().entry(reason).or_default() += 1;
    }

    pub(crate) fn read(&self) -> Counts {
        Counts {
            calls: self.calls.lock().clone(),
            refusals: self.refusals.lock().clone(),
            latencies: self.latencies.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            micros: self.micros.load(Ordering::Relaxed),
        }
    }
}
