//! A cache whose entries hold for a while only, and leave the memory when nobody asks for them any longer.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Keeps so many entries, those that were used last, each for so long.
pub(crate) struct Recent<K, V> {
    entries: Mutex<LruCache<K, (Instant, V)>>,
    holds: Duration,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    pub(crate) fn new(kept: usize, holds: Duration) -> Self {
        let kept = NonZeroUsize::new(kept).unwrap_or(NonZeroUsize::MIN);
        Self { entries: Mutex::new(LruCache::new(kept)), holds }
    }

    /// Finds an entry that still holds.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut entries = self.entries.lock();
        let (since, value) = entries.get(key)?;
        (since.elapsed() < self.holds).then(|| value.clone())
    }

    /// Keeps an entry from now on; the one that was used longest ago may make room.
    pub(crate) fn put(&self, key: K, value: V) {
        self.entries.lock().put(key, (Instant::now(), value));
    }

    pub(crate) fn remove(&self, key: &K) {
        self.entries.lock().pop(key);
    }

    /// Lets go of the entries that nobody has asked for since they ceased to hold, or for longer than they would have.
    pub(crate) fn forget_unused(&self) {
        let mut entries = self.entries.lock();
        while entries.peek_lru().is_some_and(|(_, (since, _))| since.elapsed() >= self.holds) {
            entries.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::Recent;
    use crate::{personal, sessions};

    const HOLDS: Duration = Duration::from_secs(10);

    fn known(recent: &Recent<usize, usize>) -> usize {
        recent.entries.lock().len()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_kept_and_one_more_makes_the_one_go_that_was_used_longest_ago() {
        for kept in [sessions::KEPT, personal::KEPT] {
            let recent = Recent::new(kept, HOLDS);
            (0..kept).for_each(|key| recent.put(key, key));
            assert_eq!((known(&recent), recent.get(&0)), (kept, Some(0)));
            recent.put(kept, kept);
            assert_eq!((known(&recent), recent.get(&0), recent.get(&1)), (kept, Some(0), None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_holds_from_when_it_was_put_however_much_it_is_used() {
        let recent = Recent::new(2, HOLDS);
        recent.put(1, 1);
        advance(HOLDS - Duration::from_millis(1)).await;
        assert_eq!(recent.get(&1), Some(1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(recent.get(&1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_leaves_the_memory() {
        let recent = Recent::new(8, HOLDS);
        recent.put(1, 1);
        recent.put(2, 2);
        advance(HOLDS / 2).await;
        recent.put(3, 3);
        advance(HOLDS / 2).await;
        recent.forget_unused();
        assert_eq!((known(&recent), recent.get(&3)), (1, Some(3)));
        advance(HOLDS / 2).await;
        recent.forget_unused();
        assert_eq!(known(&recent), 0);
    }
}
