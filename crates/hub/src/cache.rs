//! Sealed values, kept in memory so that a warm call reads no table. Bounded, and forgotten as soon
//! as the database tells of a change.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use mcphub_domain::{CredentialId, ServerId, UserId};
use mcphub_store::Store;
use mcphub_store::credentials::SealedValue;
use mcphub_store::snapshot::Delta;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::error::HubError;

/// How many (person, server) pairs, and how many servers, are kept.
const KEPT: usize = 16_384;

/// How often values are read that change meanwhile; those of the last time are not kept, and so don't
/// hold.
const TRIES: usize = 3;

/// Keeps sealed values by whom and what they are for.
pub(crate) struct Cache {
    personal: Mutex<LruCache<(UserId, ServerId), Arc<Stored>>>,
    shared: Mutex<LruCache<ServerId, Arc<Stored>>>,
    /// Grows with every change, so that what was loaded before one is never kept after it.
    generation: AtomicU64,
}

/// Are the values of one owner for one server, none of them unsealed.
#[derive(Default)]
pub(crate) struct Stored {
    values: Vec<SealedValue>,
    fingerprint: i64,
}

impl Stored {
    fn new(values: Vec<SealedValue>) -> Self {
        let mut rows: Vec<Mark> = values.iter().map(mark).collect();
        rows.sort_unstable();
        let mut hash = Sha256::new();
        for (id, revision) in rows {
            hash.update(id.as_bytes());
            hash.update(revision.to_be_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let fingerprint = digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        Self { values, fingerprint }
    }

    /// Lists the values.
    pub(crate) fn values(&self) -> &[SealedValue] {
        &self.values
    }

    /// Names the state of the values: any change of any of them changes this number.
    pub(crate) const fn fingerprint(&self) -> i64 {
        self.fingerprint
    }

    fn is_same(&self, other: &Self) -> bool {
        self.values.iter().map(mark).eq(other.values.iter().map(mark))
    }
}

/// Names a stored value in one of its versions.
type Mark = (CredentialId, i64);

const fn mark(value: &SealedValue) -> Mark {
    (value.id, value.revision)
}

impl Cache {
    pub(crate) fn new() -> Self {
        let kept = NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN);
        Self {
            personal: Mutex::new(LruCache::new(kept)),
            shared: Mutex::new(LruCache::new(kept)),
            generation: AtomicU64::new(0),
        }
    }

    /// Returns a person's values for a server.
    pub(crate) async fn personal(
        &self,
        store: &Store,
        owner: UserId,
        server: ServerId,
    ) -> Result<Arc<Stored>, HubError> {
        if let Some(values) = self.personal.lock().get(&(owner, server)) {
            return Ok(Arc::clone(values));
        }
        // Boxed, as whatever most calls don't do.
        Box::pin(self.read_personal(store, owner, server)).await
    }

    /// Returns the shared values of a server.
    pub(crate) async fn shared(&self, store: &Store, server: ServerId) -> Result<Arc<Stored>, HubError> {
        if let Some(values) = self.shared.lock().get(&server) {
            return Ok(Arc::clone(values));
        }
        Box::pin(self.read_shared(store, server)).await
    }

    async fn read_personal(
        &self,
        store: &Store,
        owner: UserId,
        server: ServerId,
    ) -> Result<Arc<Stored>, HubError> {
        let mut values = Arc::default();
        for _ in 0..TRIES {
            let generation = self.generation.load(Ordering::Acquire);
            values = Arc::new(Stored::new(store.credentials(owner, server).await?));
            let mut kept = self.personal.lock();
            if generation == self.generation.load(Ordering::Acquire) {
                kept.put((owner, server), Arc::clone(&values));
                break;
            }
        }
        Ok(values)
    }

    async fn read_shared(&self, store: &Store, server: ServerId) -> Result<Arc<Stored>, HubError> {
        let mut values = Arc::default();
        for _ in 0..TRIES {
            let generation = self.generation.load(Ordering::Acquire);
            values = Arc::new(Stored::new(store.shared_values(server).await?));
            let mut kept = self.shared.lock();
            if generation == self.generation.load(Ordering::Acquire) {
                kept.put(server, Arc::clone(&values));
                break;
            }
        }
        Ok(values)
    }

    /// Says whether values are still the ones that hold, as far as it is known here: what was changed
    /// or forgotten since is not.
    pub(crate) fn still_holds(
        &self,
        owner: Option<UserId>,
        server: ServerId,
        (shared, personal): (&Stored, &Stored),
    ) -> bool {
        let same = |kept: Option<&Arc<Stored>>, used: &Stored| {
            used.values.is_empty() || kept.is_some_and(|kept| kept.is_same(used))
        };
        same(self.shared.lock().peek(&server), shared)
            && owner.is_none_or(|owner| same(self.personal.lock().peek(&(owner, server)), personal))
    }

    /// Forgets what a change made stale.
    pub(crate) fn forget(&self, delta: &Delta) {
        let mut of_people = delta.credentials.iter().chain(&delta.renewed).peekable();
        if !delta.whole && of_people.peek().is_none() && delta.shared_values.is_empty() {
            return;
        }
        let (mut personal, mut shared) = (self.personal.lock(), self.shared.lock());
        self.generation.fetch_add(1, Ordering::AcqRel);
        if delta.whole {
            personal.clear();
            shared.clear();
        }
        for key in of_people {
            personal.pop(key);
        }
        for server in &delta.shared_values {
            shared.pop(server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, KEPT, ServerId, UserId};

    #[test]
    fn so_many_values_are_kept_and_then_the_longest_unused_goes() {
        let cache = Cache::new();
        let server = ServerId::from_bytes([0; 16]);
        let place = |number: usize| (UserId::from_bytes((number as u128).to_be_bytes()), server);
        let mut kept = cache.personal.lock();
        for number in 0..KEPT {
            kept.put(place(number), Default::default());
        }
        assert!(kept.get(&place(0)).is_some());
        kept.put(place(KEPT), Default::default());
        let is_kept = [0, 1, KEPT].map(|number| kept.contains(&place(number)));
        assert_eq!((kept.len(), is_kept), (KEPT, [true, false, true]));
        assert_eq!(cache.shared.lock().cap().get(), KEPT);
    }
}
