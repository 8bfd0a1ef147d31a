//! What became of every request: nothing is asked that isn't accounted for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many of the requests that went wrong are told in full.
const TOLD: usize = 10;

/// Says what must become of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// A result.
    Result,
    /// A result, or an error that says why there is none.
    Either,
    /// An error.
    Refusal,
}

/// Says what became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It has its result, after so long.
    Answered(Duration),
    /// The server behind the hub failed, and the error says so.
    Failed(String),
    /// The hub refused, and said so.
    Refused(String),
    /// The hub could not record it just now, and so did nothing and said so.
    Unavailable,
    /// Who asked went away.
    Cancelled,
    /// There was no answer, or more than one, or none that can be read.
    Lost(String),
}

/// Counts the ends of requests.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those that were answered.
    pub(super) answered: u64,
    /// Those whose server failed.
    pub(super) failed: u64,
    /// Those that were refused.
    pub(super) refused: u64,
    /// Those that could not be recorded just then.
    pub(super) unavailable: u64,
    /// Those whose asker went away.
    pub(super) cancelled: u64,
    /// Those without an answer.
    pub(super) lost: u64,
}

/// Keeps account of all requests.
#[derive(Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    stormy: AtomicBool,
}

#[derive(Default)]
struct Books {
    kinds: BTreeMap<&'static str, Tally>,
    latencies: Vec<Duration>,
    unavailable: u64,
    wrong: u64,
    told: Vec<String>,
}

/// Is what was answered since it was last asked.
#[derive(Clone, Copy, Default)]
pub(super) struct Lately {
    /// How many requests were answered.
    pub(super) answered: usize,
    /// The median latency of those.
    pub(super) p50: Duration,
    /// The latency that one in a hundred of those exceeds.
    pub(super) p99: Duration,
}

impl Ledger {
    /// Says whether the hub's database is away: then everything may be refused, and still nothing lost.
    pub(super) fn storm(&self, stormy: bool) {
        self.stormy.store(stormy, Ordering::Relaxed);
    }

    /// Notes what became of a request of a kind, and whether that is what had to.
    pub(super) fn note(&self, kind: &'static str, due: Due, end: End) {
        let mut books = self.books();
        let tally = books.kinds.entry(kind).or_default();
        let count = match &end {
            End::Answered(_) => &mut tally.answered,
            End::Failed(_) => &mut tally.failed,
            End::Refused(_) => &mut tally.refused,
            End::Unavailable => &mut tally.unavailable,
            End::Cancelled => &mut tally.cancelled,
            End::Lost(_) => &mut tally.lost,
        };
        *count += 1;
        books.unavailable += u64::from(end == End::Unavailable && !self.stormy.load(Ordering::Relaxed));
        if let End::Answered(took) = end {
            books.latencies.push(took);
        }
        let due = if self.stormy.load(Ordering::Relaxed) { Due::Either } else { due };
        if !due.allows(&end) {
            books.wrong += 1;
            if books.told.len() < TOLD {
                books.told.push(format!("{kind}: {end:?}, but {due:?} was due"));
            }
        }
    }

    /// Returns the tally of each kind.
    pub(super) fn kinds(&self) -> BTreeMap<&'static str, Tally> {
        self.books().kinds.clone()
    }

    /// Returns how many requests ended otherwise than they had to, and tells of the first ones.
    pub(super) fn wrong(&self) -> (u64, Vec<String>) {
        let books = self.books();
        (books.wrong, books.told.clone())
    }

    /// Returns how many requests could not be recorded while the database was there.
    pub(super) fn unavailable(&self) -> u64 {
        self.books().unavailable
    }

    /// Returns what was answered since it was last asked.
    pub(super) fn lately(&self) -> Lately {
        let mut latencies = std::mem::take(&mut self.books().latencies);
        latencies.sort_unstable();
        let at = |hundredths: usize| {
            latencies
                .get(latencies.len() * hundredths / 100)
                .or(latencies.last())
                .copied()
                .unwrap_or_default()
        };
        Lately { answered: latencies.len(), p50: at(50), p99: at(99) }
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Due {
    const fn allows(self, end: &End) -> bool {
        match end {
            End::Answered(_) => matches!(self, Self::Result | Self::Either),
            End::Failed(_) => matches!(self, Self::Either),
            End::Refused(_) => matches!(self, Self::Either | Self::Refusal),
            End::Unavailable | End::Cancelled => true,
            End::Lost(_) => false,
        }
    }
}

impl Tally {
    /// Adds all of another one.
    pub(super) const fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.cancelled += other.cancelled;
        self.lost += other.lost;
    }
}

#[cfg(test)]
mod tests {
    use super::{Due, Duration, End, Ledger, Tally};

    #[test]
    fn what_is_lost_or_not_as_it_must_be_is_wrong() {
        let ledger = Ledger::default();
        let millis = Duration::from_millis;
        ledger.note("a", Due::Result, End::Answered(millis(1)));
        ledger.note("a", Due::Either, End::Refused("busy".to_owned()));
        assert_eq!(ledger.wrong(), (0, Vec::new()));
        for (due, end) in [
            (Due::Either, End::Lost("silence".to_owned())),
            (Due::Result, End::Failed("gone".to_owned())),
            (Due::Refusal, End::Answered(millis(3))),
        ] {
            ledger.note("b", due, end);
        }
        ledger.storm(true);
        ledger.note("c", Due::Result, End::Refused("the database is away".to_owned()));
        let (wrong, told) = ledger.wrong();
        assert_eq!((wrong, told.len()), (3, 3));
        ledger.note("c", Due::Result, End::Lost("silence".to_owned()));
        ledger.note("d", Due::Result, End::Unavailable);
        assert_eq!((ledger.wrong().0, ledger.unavailable()), (4, 0));
        ledger.storm(false);
        ledger.note("d", Due::Result, End::Unavailable);
        assert_eq!((ledger.wrong().0, ledger.unavailable()), (4, 1));
        assert_eq!(ledger.kinds()["a"], Tally { answered: 1, refused: 1, ..Tally::default() });
        let lately = ledger.lately();
        assert_eq!((lately.answered, lately.p50), (2, millis(3)));
        assert_eq!(ledger.lately().answered, 0);
    }
}
