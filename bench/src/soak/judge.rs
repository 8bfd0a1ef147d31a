//! Says what grew. "Flat" means: at rest after the load the hub holds what it held at rest before it, and
//! under the load its memory stays where it was.

use std::time::Duration;

use super::gauge::Held;

/// Names a count, reads it, and says how many more there may be in the end.
type Count = (&'static str, fn(&Held) -> u64, u64);

/// By how much more of something may be held in the end, for what is opened once when it is needed first.
const COUNTS: [Count; 9] = [
    ("descriptors", |held| held.descriptors, 8),
    ("threads", |held| held.threads, 4),
    ("tasks", |held| held.tasks, 8),
    ("processes", |held| held.processes, 0),
    ("zombies", |held| held.zombies, 0),
    ("connections", |held| held.connections, 0),
    ("leases", |held| held.leases, 0),
    ("connections to servers", |held| held.upstreams, 0),
    ("open sessions", |held| held.sessions, 0),
];
/// By what factor, and by how many bytes besides, memory may grow. At rest one moment is compared with another one,
/// and the allocator gives back late what isn't used any more.
const AT_REST: (f64, u64) = (1.2, 8 << 20);
const UNDER_LOAD: (f64, u64) = (1.1, 4 << 20);
/// A shorter load says nothing about memory at rest: everything is still being filled for the first time.
const FILLED: Duration = Duration::from_secs(100);
/// A shorter load says nothing about memory under it: what the allocator keeps at hand grows for ten minutes, and is
/// given back at rest.
const SETTLED: Duration = Duration::from_mins(30);

/// Is what was held in the course of a run.
pub(super) struct Course {
    /// At rest, after the warming up.
    pub(super) before: Held,
    /// Under the load, at regular times.
    pub(super) during: Vec<Held>,
    /// How long the load took.
    pub(super) took: Duration,
    /// At rest, after the load.
    pub(super) after: Held,
}

impl Course {
    /// Names everything that grew.
    pub(super) fn grown(&self) -> Vec<String> {
        let counts = COUNTS.iter().filter_map(|(name, read, slack)| {
            let (before, after) = (read(&self.before), read(&self.after));
            (after > before + slack)
                .then(|| format!("{name} grew from {before} to {after} at rest; {slack} more are allowed"))
        });
        counts.chain(self.grown_at_rest()).chain(self.grown_under_load()).collect()
    }

    fn grown_at_rest(&self) -> Option<String> {
        let grown =
            grown_memory(self.before.memory, self.after.memory, AT_REST).filter(|_| self.took >= FILLED);
        grown.map(|grown| format!("memory grew at rest {grown}"))
    }

    fn grown_under_load(&self) -> Option<String> {
        let [second, last] = [1, 3].map(|quarter| self.median(quarter, |held| held.memory));
        let grown = grown_memory(second, last, UNDER_LOAD).filter(|_| self.took >= SETTLED);
        grown.map(|grown| format!("memory grew from the load's second quarter to its last {grown}"))
    }

    /// Returns the median of a figure in one of the load's quarters, counted from 0.
    pub(super) fn median(&self, quarter: usize, read: impl Fn(&Held) -> u64) -> u64 {
        let (count, start) = (self.during.len(), self.during.len() * quarter / 4);
        let end = count * (quarter + 1) / 4;
        let mut values: Vec<u64> = self.during.iter().take(end).skip(start).map(read).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    }
}

/// Says from what to what memory grew, if that is too much.
fn grown_memory(before: u64, after: u64, (factor, more): (f64, u64)) -> Option<String> {
    let grown = after as f64 > before as f64 * factor + more as f64;
    grown.then(|| format!("from {} MB to {} MB", before / 1_000_000, after / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::{COUNTS, Course, Duration, Held};

    const STEADY: Held = Held {
        descriptors: 40,
        threads: 10,
        tasks: 30,
        processes: 0,
        zombies: 0,
        memory: 50_000_000,
        connections: 1,
        leases: 0,
        upstreams: 0,
        sessions: 0,
    };

    fn course(during: impl Iterator<Item = Held>, after: Held) -> Course {
        Course { before: STEADY, during: during.collect(), took: Duration::from_secs(3600), after }
    }

    fn steady() -> impl Iterator<Item = Held> {
        std::iter::repeat_n(STEADY, 100)
    }

    #[test]
    fn what_is_flat_is_not_named() {
        let wavering =
            (0..100).map(|number| Held { memory: STEADY.memory + number % 7 * 1_000_000, ..STEADY });
        assert_eq!(course(wavering, Held { descriptors: 48, ..STEADY }).grown(), Vec::<String>::new());
    }

    #[test]
    fn each_count_that_grew_is_named() {
        let more = |held: u64| held + 9;
        let after = Held {
            descriptors: more(STEADY.descriptors),
            threads: more(STEADY.threads),
            tasks: more(STEADY.tasks),
            processes: 1,
            zombies: 1,
            connections: 2,
            leases: 1,
            upstreams: 1,
            sessions: 1,
            memory: STEADY.memory,
        };
        let grown = course(steady(), after).grown();
        assert_eq!(grown.len(), COUNTS.len());
        assert!(grown.iter().any(|line| line.starts_with("descriptors grew from 40 to 49")), "{grown:?}");
        assert!(grown.iter().any(|line| line.starts_with("zombies grew from 0 to 1")), "{grown:?}");
    }

    #[test]
    fn memory_that_grows_is_named_if_the_load_was_long_enough() {
        let growing = (0..100).map(|number| Held { memory: STEADY.memory + number * 500_000, ..STEADY });
        let mut course = course(growing, Held { memory: 70_000_000, ..STEADY });
        assert_eq!(course.median(1, |held| held.memory), 68_500_000);
        let at_rest = "memory grew at rest from 50 MB to 70 MB";
        let under_load = "memory grew from the load's second quarter to its last from 68 MB to 93 MB";
        assert_eq!(course.grown(), [at_rest, under_load]);
        course.took = Duration::from_mins(5);
        assert_eq!(course.grown(), [at_rest]);
        course.took = Duration::from_secs(20);
        assert_eq!(course.grown(), Vec::<String>::new());
    }
}
