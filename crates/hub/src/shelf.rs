//! Lists that servers gave, kept as long as they let them: so that a list doesn't wait for them, nor they for it.
//!
//! What is kept was listed over a connection, and is given only to who would use the same: the same person's values, or
//! everybody's where the server says so. A change that a server tells of takes its lists off the shelf.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use mcphub_domain::ServerId;
use mcphub_upstream::{ConnectionKey, List, Scope};
use mcphub_wire::answer::{Cache, CacheScope};
use mcphub_wire::list::{Item, ListKind};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How many lists are kept.
pub(crate) const KEPT: usize = 4_096;
/// How many bytes of items all kept lists may have.
pub(crate) const KEPT_BYTES: usize = 64 << 20;
/// How long the list of a server is kept that doesn't say how long it may be.
pub(crate) const UNSAID: Duration = Duration::from_secs(60);
/// How long a list is kept at most, whatever its server says.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

type Place = (ConnectionKey, ListKind);

/// Keeps lists.
pub(crate) struct Shelf(Mutex<Lists>);

struct Lists {
    kept: LruCache<Place, Kept>,
    bytes: usize,
    /// Counts the changes of each server, so that what was asked for before one is never kept after it.
    changes: HashMap<ServerId, u64>,
}

/// Says how many changes were known when a list was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked(u64);

struct Kept {
    items: Arc<[Item]>,
    bytes: usize,
    until: Instant,
}

/// Is a list, and for how long it is good.
#[derive(Clone, Debug)]
pub(crate) struct Shelved {
    pub(crate) items: Arc<[Item]>,
    pub(crate) fresh: Duration,
}

impl Default for Shelf {
    fn default() -> Self {
        let kept = LruCache::new(NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN));
        Self(Mutex::new(Lists { kept, bytes: 0, changes: HashMap::new() }))
    }
}

impl Shelf {
    /// Finds a list that is still good; else says what to bring along with a new one.
    pub(crate) fn find(&self, place: Place, now: Instant) -> Result<Shelved, Asked> {
        let mut lists = self.0.lock();
        for place in [place, public(place)] {
            if let Some(kept) = lists.kept.get(&place).filter(|kept| kept.until > now) {
                return Ok(Shelved { items: Arc::clone(&kept.items), fresh: kept.until - now });
            }
        }
        Err(lists.asked(place.0.server))
    }

    /// Keeps a list, unless something has changed since it was asked for.
    pub(crate) fn keep(&self, place: Place, list: List, (asked, now): (Asked, Instant)) -> Shelved {
        let said = list.cache.map(|Cache { ttl_ms, .. }| Duration::from_millis(ttl_ms));
        let fresh = said.unwrap_or(UNSAID).min(LONGEST);
        let is_public = list.cache.is_some_and(|cache| cache.scope == CacheScope::Public);
        let server = place.0.server;
        let place = if is_public { public(place) } else { place };
        let bytes = list.items.iter().map(|item| item.raw().len()).sum();
        let items: Arc<[Item]> = list.items.into();
        let mut lists = self.0.lock();
        if fresh.is_zero() || lists.asked(server) != asked || bytes > KEPT_BYTES / 8 {
            return Shelved { items, fresh: Duration::ZERO };
        }
        let kept = Kept { items: Arc::clone(&items), bytes, until: now + fresh };
        lists.bytes += bytes;
        if let Some((_, before)) = lists.kept.push(place, kept) {
            lists.bytes -= before.bytes;
        }
        while lists.bytes > KEPT_BYTES {
            let Some((_, oldest)) = lists.kept.pop_lru() else { break };
            lists.bytes -= oldest.bytes;
        }
        Shelved { items, fresh }
    }

    /// Takes off what has changed. Who says that the resources have, says it of their templates as well.
    pub(crate) fn take_off(&self, server: ServerId, kind: ListKind) {
        self.0.lock().drop_of(server, |kept| kept.changed() == kind.changed());
    }

    /// Takes off all lists of a server.
    pub(crate) fn forget(&self, server: ServerId) {
        self.0.lock().drop_of(server, |_| true);
    }
}

impl Lists {
    fn asked(&self, server: ServerId) -> Asked {
        Asked(self.changes.get(&server).copied().unwrap_or_default())
    }

    fn drop_of(&mut self, server: ServerId, which: impl Fn(ListKind) -> bool) {
        *self.changes.entry(server).or_default() += 1;
        let of_it = |(key, kind): &Place| key.server == server && which(*kind);
        let gone: Vec<Place> = self.kept.iter().map(|(place, _)| *place).filter(of_it).collect();
        for place in gone {
            if let Some(kept) = self.kept.pop(&place) {
                self.bytes -= kept.bytes;
            }
        }
    }
}

/// Is where a list stands that everybody may have.
const fn public((key, kind): Place) -> Place {
    (ConnectionKey { scope: Scope::Shared, personal_revision: 0, ..key }, kind)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcphub_domain::{ServerId, UserId};
    use mcphub_upstream::{ConnectionKey, List, Prefers, Scope};
    use mcphub_wire::answer::{Cache, CacheScope};
    use mcphub_wire::list::{Item, ListKind};
    use mcphub_wire::{Abilities, Limits, Raw};

    use tokio::time::Instant;

    use super::{KEPT, KEPT_BYTES, LONGEST, Shelf, UNSAID};

    const SERVER: ServerId = ServerId::from_bytes([1; 16]);
    /// The bytes of an item around its name.
    const AROUND: usize = r#"{"name":""}"#.len();

    fn key(person: u32) -> ConnectionKey {
        ConnectionKey {
            server: SERVER,
            revision: 1,
            shared_revision: 1,
            personal_revision: i64::from(person),
            scope: Scope::Person(UserId::from_bytes(u128::from(person).to_be_bytes())),
            abilities: Abilities::NONE,
            prefers: Prefers::Modern,
        }
    }

    fn list(size: usize, cache: Option<Cache>) -> List {
        let raw = format!(r#"{{"name":"{}"}}"#, "x".repeat(size));
        let large = Limits { body: KEPT_BYTES, string: KEPT_BYTES, ..Limits::RESPONSE };
        let raw = Raw::parse(raw.into_bytes().into(), &large).unwrap();
        List { items: vec![Item::parse(ListKind::Prompts, &raw).unwrap()], cache }
    }

    /// Puts a list there that was listed a while ago.
    fn put_ago(shelf: &Shelf, (person, kind): (u32, ListKind), list: List, ago: Duration) {
        let now = Instant::now();
        let asked = shelf.find((key(person), kind), now).unwrap_err();
        shelf.keep((key(person), kind), list, (asked, now - ago));
    }

    fn put(shelf: &Shelf, person: u32, kind: ListKind, list: List) {
        put_ago(shelf, (person, kind), list, Duration::ZERO);
    }

    fn has(shelf: &Shelf, person: u32, kind: ListKind) -> bool {
        shelf.find((key(person), kind), Instant::now()).is_ok()
    }

    #[test]
    fn a_list_is_kept_as_long_as_its_server_says() {
        let second = Duration::from_secs(1);
        for (cache, kept) in [
            (None, UNSAID),
            (Some(Cache { ttl_ms: 2_000, scope: CacheScope::Private }), 2 * second),
            (Some(Cache { ttl_ms: u64::MAX, scope: CacheScope::Private }), LONGEST),
        ] {
            let shelf = Shelf::default();
            put_ago(&shelf, (1, ListKind::Prompts), list(1, cache), kept - second);
            put_ago(&shelf, (1, ListKind::Resources), list(1, cache), kept);
            assert!(has(&shelf, 1, ListKind::Prompts) && !has(&shelf, 1, ListKind::Resources));
            assert!(!has(&shelf, 1, ListKind::Templates), "it is another list");
        }
        let shelf = Shelf::default();
        put(&shelf, 1, ListKind::Prompts, list(1, Some(Cache::NONE)));
        assert!(!has(&shelf, 1, ListKind::Prompts));
    }

    #[test]
    fn a_list_is_its_persons_unless_its_server_says_that_it_is_everybodys() {
        let shelf = Shelf::default();
        let cache = |scope| Some(Cache { ttl_ms: 1_000, scope });
        put(&shelf, 1, ListKind::Prompts, list(1, cache(CacheScope::Private)));
        put(&shelf, 1, ListKind::Resources, list(1, cache(CacheScope::Public)));
        assert!(!has(&shelf, 2, ListKind::Prompts));
        assert!(has(&shelf, 2, ListKind::Resources));
    }

    #[test]
    fn a_change_takes_lists_off_and_keeps_those_away_that_were_asked_for_before() {
        let shelf = Shelf::default();
        for kind in [ListKind::Prompts, ListKind::Resources, ListKind::Templates] {
            put(&shelf, 1, kind, list(1, None));
        }
        let asked = shelf.find((key(2), ListKind::Prompts), Instant::now()).unwrap_err();
        shelf.take_off(SERVER, ListKind::Resources);
        let left = [ListKind::Prompts, ListKind::Resources, ListKind::Templates];
        assert_eq!(left.map(|kind| has(&shelf, 1, kind)), [true, false, false]);
        let late = shelf.keep((key(2), ListKind::Prompts), list(1, None), (asked, Instant::now()));
        assert!(late.fresh.is_zero() && !has(&shelf, 2, ListKind::Prompts));
        let asked = shelf.find((key(2), ListKind::Prompts), Instant::now()).unwrap_err();
        shelf.forget(ServerId::from_bytes([2; 16]));
        let other = shelf.find((key(2), ListKind::Prompts), Instant::now()).unwrap_err();
        assert_eq!(asked, other, "another server's changes are its own");
        assert!(has(&shelf, 1, ListKind::Prompts));
        shelf.forget(SERVER);
        assert!(!has(&shelf, 1, ListKind::Prompts));
        assert_eq!(shelf.0.lock().bytes, 0);
    }

    #[test]
    fn the_shelf_holds_so_many_bytes_and_one_list_an_eighth_and_no_more() {
        let (shelf, eighth) = (Shelf::default(), KEPT_BYTES / 8 - AROUND);
        put(&shelf, 1, ListKind::Prompts, list(eighth + 1, None));
        assert!(!has(&shelf, 1, ListKind::Prompts), "one list isn't all");
        for person in 1..=8 {
            put(&shelf, person, ListKind::Prompts, list(eighth, None));
        }
        assert_eq!(shelf.0.lock().bytes, KEPT_BYTES);
        assert!((1..=8).all(|person| has(&shelf, person, ListKind::Prompts)), "all of them have room");
        put(&shelf, 9, ListKind::Prompts, list(1, None));
        assert_eq!([1, 2, 9].map(|person| has(&shelf, person, ListKind::Prompts)), [false, true, true]);
        assert_eq!(shelf.0.lock().bytes, KEPT_BYTES / 8 * 7 + AROUND + 1);
    }

    #[test]
    fn the_shelf_holds_so_many_lists_and_then_the_longest_unused_goes() {
        let (shelf, most) = (Shelf::default(), KEPT as u32);
        for person in 0..most {
            put(&shelf, person, ListKind::Prompts, list(1, None));
        }
        assert!(has(&shelf, 0, ListKind::Prompts));
        put(&shelf, most, ListKind::Prompts, list(1, None));
        assert_eq!([0, 1, most].map(|person| has(&shelf, person, ListKind::Prompts)), [true, false, true]);
        assert_eq!(shelf.0.lock().bytes, KEPT * (AROUND + 1), "what went takes no room");
    }
}
