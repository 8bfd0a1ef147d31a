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
        if since.elapsed() < self.holds {
            return Some(value.clone());
        }
        entries.pop(key);
        None
    }

    /// Keeps an entry from now on; the one that was used longest ago may make room.
    pub(crate) fn put(&self, key: K, value: V) {
        self.entries.lock().put(key, (Instant::now(), value));
    }

    /// Keeps an entry from now on, unless there is one that still holds, which is newer than what was read meanwhile.
    pub(crate) fn get_or_put(&self, key: K, value: V) -> V {
        let mut entries = self.entries.lock();
        match entries.get(&key) {
            Some((since, held)) if since.elapsed() < self.holds => held.clone(),
            _ => {
                entries.put(key, (Instant::now(), value.clone()));
                value
            }
        }
    }

    /// Changes an entry, if it is there; it holds no longer for that.
    pub(crate) fn change(&self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some((_, value)) = self.entries.lock().get_mut(key) {
            change(value);
        }
    }

    /// Forgets an entry.
    pub(crate) fn remove(&self, key: &K) {
        self.entries.lock().pop(key);
    }

    /// Lets go of the entries that nobody has used for as long as they hold. It is for once in a while.
    pub(crate) fn forget_unused(&self) {
        let mut entries = self.entries.lock();
        // Whoever was used later than one that holds will be looked at when its turn comes.
        while entries.peek_lru().is_some_and(|(_, (since, _))| since.elapsed() >= self.holds) {
            entries.pop_lru();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::hash::Hash;
    use std::time::Duration;

    use tokio::time::advance;

    use super::Recent;

    const HOLDS: Duration = Duration::from_secs(10);

    fn known(recent: &Recent<usize, usize>) -> usize {
        recent.entries.lock().len()
    }

    /// Checks that a cache keeps so many, and that one more makes the one go that was used longest ago.
    pub(crate) fn assert_kept<K: Hash + Eq, V: Clone>(
        recent: &Recent<K, V>,
        kept: usize,
        entry: impl Fn(usize) -> (K, V),
    ) {
        let put = |number| {
            let (key, value) = entry(number);
            recent.put(key, value);
        };
        let is_known = |number| recent.get(&entry(number).0).is_some();
        (0..kept).for_each(put);
        assert!(is_known(0), "{kept} are kept");
        put(kept);
        assert_eq!([0, 1, 2, kept].map(is_known), [true, false, true, true], "and one more makes one go");
    }

    #[test]
    fn so_many_are_kept_and_one_more_makes_the_one_go_that_was_used_longest_ago() {
        assert_kept(&Recent::new(3, HOLDS), 3, |number| (number, number));
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
    async fn what_was_read_meanwhile_replaces_nothing_that_holds() {
        let recent = Recent::new(2, HOLDS);
        assert_eq!(recent.get_or_put(1, 1), 1);
        advance(HOLDS / 2).await;
        recent.change(&1, |value| *value = 2);
        assert_eq!(recent.get_or_put(1, 3), 2);
        advance(HOLDS / 2).await;
        assert_eq!(recent.get_or_put(1, 4), 4, "a change makes it hold no longer");
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
