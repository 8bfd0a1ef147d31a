//! Sealed values, kept in memory so that a warm call reads no table. Bounded, and forgotten as soon
//! as the database tells of a change.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use mcphub_domain::{CredentialId, ServerId, UserId};
use mcphub_store::Store;
use mcphub_store::credentials::SealedValue;
use mcphub_store::snapshot::Delta;
use parking_lot::Mutex;

use crate::error::HubError;

/// How many (person, server) pairs, and how many servers, are kept.
const KEPT: usize = 16_384;

/// How often values are read that change meanwhile; those of the last time are not kept, and so don't
/// hold.
const TRIES: usize = 3;

/// Keeps sealed values by whom and what they are for.
pub(crate) struct Cache {
    personal: Mutex<LruCache<(UserId, ServerId), Vec<SealedValue>>>,
    shared: Mutex<LruCache<ServerId, Vec<SealedValue>>>,
    /// Grows with every change, so that what was loaded before one is never kept after it.
    generation: AtomicU64,
}

/// Names a stored value in one of its versions.
pub(crate) type Mark = (CredentialId, i64);

/// Returns a value's mark.
pub(crate) const fn mark(value: &SealedValue) -> Mark {
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
    ) -> Result<Vec<SealedValue>, HubError> {
        if let Some(values) = self.personal.lock().get(&(owner, server)) {
            return Ok(values.clone());
        }
        let mut values = Vec::new();
        for _ in 0..TRIES {
            let generation = self.generation.load(Ordering::Acquire);
            values = store.credentials(owner, server).await?;
            let mut kept = self.personal.lock();
            if generation == self.generation.load(Ordering::Acquire) {
                kept.put((owner, server), values.clone());
                break;
            }
        }
        Ok(values)
    }

    /// Returns the shared values of a server.
    pub(crate) async fn shared(&self, store: &Store, server: ServerId) -> Result<Vec<SealedValue>, HubError> {
        if let Some(values) = self.shared.lock().get(&server) {
            return Ok(values.clone());
        }
        let mut values = Vec::new();
        for _ in 0..TRIES {
            let generation = self.generation.load(Ordering::Acquire);
            values = store.shared_values(server).await?;
            let mut kept = self.shared.lock();
            if generation == self.generation.load(Ordering::Acquire) {
                kept.put(server, values.clone());
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
        (shared, personal): (&[Mark], &[Mark]),
    ) -> bool {
        let same = |kept: Option<&Vec<SealedValue>>, marks: &[Mark]| {
            marks.is_empty() || kept.is_some_and(|kept| kept.iter().map(mark).eq(marks.iter().copied()))
        };
        same(self.shared.lock().peek(&server), shared)
            && owner.is_none_or(|owner| same(self.personal.lock().peek(&(owner, server)), personal))
    }

    /// Forgets what a change made stale.
    pub(crate) fn forget(&self, delta: &Delta) {
        if !delta.whole && delta.credentials.is_empty() && delta.shared_values.is_empty() {
            return;
        }
        let (mut personal, mut shared) = (self.personal.lock(), self.shared.lock());
        self.generation.fetch_add(1, Ordering::AcqRel);
        if delta.whole {
            personal.clear();
            shared.clear();
        }
        for key in &delta.credentials {
            personal.pop(key);
        }
        for server in &delta.shared_values {
            shared.pop(server);
        }
    }
}
