//! Memory that a thread keeps at hand goes back to the system when the thread rests.
//!
//! The allocator has a heap for each thread, and looks for what nobody uses any more only while that thread
//! allocates: one that rests after a load would keep for good what it needed at the load's height, and what
//! others have freed of it since.

use std::cell::Cell;
use std::time::Duration;

use tokio::runtime::RuntimeMetrics;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often a thread gives back at most. It takes a tenth of a millisecond, or a few after a load.
const LOOK: Duration = Duration::from_secs(10);
/// A thread rests that works for less than so much of the time between two looks.
const REST: Duration = Duration::from_secs(1);

#[expect(unsafe_code, reason = "mimalloc's own: it takes no pointer, and any thread may call it at any time")]
unsafe extern "C" {
    /// Gives back the memory of the calling thread that nobody uses.
    safe fn mi_collect(force: bool);
}

/// Looks from time to time whether the one thread of this runtime rests, and lets it give back then. Never ends.
pub(crate) async fn give_back_at_rest(runtime: RuntimeMetrics) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut worked = Duration::ZERO;
    loop {
        looks.tick().await;
        let before = std::mem::replace(&mut worked, runtime.worker_total_busy_duration(0));
        if worked.saturating_sub(before) < REST {
            mi_collect(true);
        }
    }
}

/// Lets a thread that has nothing to do at the moment give back, unless it did so a moment ago.
pub(crate) fn give_back_when_parked() {
    thread_local!(static LAST: Cell<Option<Instant>> = const { Cell::new(None) });
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now.duration_since(last) >= LOOK) {
        LAST.set(Some(now));
        mi_collect(true);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::{LOOK, give_back_at_rest, give_back_when_parked};

    const SIZE: usize = 64 << 20;

    /// Says whether the memory of the process shrinks while a thread does something whose blocks another one has freed. Other
    /// tests, which run beside this, may hide it, but not always.
    fn shrinks(act: fn()) -> bool {
        let once = move || {
            let blocks: Vec<Box<[u8; 1024]>> = (0..SIZE / 1024).map(|_| Box::new([1; 1024])).collect();
            thread::spawn(move || drop(blocks)).join().unwrap();
            let before = resident();
            act();
            before.saturating_sub(resident()) > SIZE / 2
        };
        (0..10).any(|_| thread::spawn(once).join().unwrap())
    }

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    fn what_others_have_freed_goes_back_once_a_thread_rests() {
        let a_lane_rests = || {
            let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let metrics = runtime.metrics();
            let ended = runtime.block_on(async { timeout(LOOK / 2, give_back_at_rest(metrics)).await });
            assert!(ended.is_err(), "it looks again and again");
        };
        assert!(shrinks(a_lane_rests), "a lane");
        assert!(shrinks(give_back_when_parked), "a worker");
    }
}
