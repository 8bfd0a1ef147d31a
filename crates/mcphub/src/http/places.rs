//! Who may stay connected when no place is left.
//!
//! A new connection always gets a place. When none is free, the stranger who came first loses hers;
//! when there are no strangers, whoever holds most connections loses her oldest. So nobody keeps
//! known people out, neither by connecting and saying nothing nor with one key.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mcphub_domain::UserId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::http::peer::HangUp;

/// Are the places of a listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    next: AtomicU64,
    taken: Mutex<Taken>,
    /// Ends all connections.
    over: CancellationToken,
}

/// Holds what ends each connection, the oldest first.
#[derive(Default)]
struct Taken {
    strangers: Connections,
    people: HashMap<UserId, Connections>,
    holders: HashMap<u64, UserId>,
}

type Connections = BTreeMap<u64, CancellationToken>;

/// Is a connection's place, given back when dropped.
pub(super) struct Place {
    seat: Seat,
    left: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// Names a connection's place to the requests that come on it.
#[derive(Clone)]
pub(crate) struct Seat {
    number: u64,
    places: Arc<Places>,
    /// Spares all requests but the first the lock.
    known: Arc<AtomicBool>,
}

impl Places {
    /// Makes so many places.
    pub(super) fn new(count: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count));
        let over = CancellationToken::new();
        Arc::new(Self { free, next: AtomicU64::new(0), taken: Mutex::default(), over })
    }

    /// Takes a place; nothing once there are none any more.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.make_room();
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        let (number, left) = (self.next.fetch_add(1, Ordering::Relaxed), self.over.child_token());
        self.taken.lock().strangers.insert(number, left.clone());
        let seat = Seat { number, places: Arc::clone(self), known: Arc::default() };
        Some(Place { seat, left, _permit: permit })
    }

    /// Ends all connections, those that come after it as well.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Counts the connections.
    pub(super) fn taken(&self) -> usize {
        let taken = self.taken.lock();
        taken.strangers.len() + taken.holders.len()
    }

    /// Ends the connection that is missed least.
    fn make_room(&self) {
        let mut taken = self.taken.lock();
        let least = match taken.strangers.pop_first() {
            Some((_, stranger)) => Some(stranger),
            None => {
                let most = taken.people.values_mut().max_by_key(|connections| connections.len());
                most.and_then(BTreeMap::pop_first).map(|(_, oldest)| oldest)
            }
        };
        if let Some(connection) = least {
            tracing::debug!("all connections are taken: one ends for another");
            connection.cancel();
        }
    }
}

impl Place {
    /// Names the place to requests.
    pub(super) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// Is what closes the connection from within a request.
    pub(super) fn hang_up(&self) -> HangUp {
        HangUp::new(self.left.clone())
    }

    /// Waits until the connection has to end: for somebody else, for a request that hung up, or for all are over.
    pub(super) async fn lost(&self) {
        self.left.cancelled().await;
    }
}

impl Seat {
    /// Notes that a known person uses the connection. She who was first on it stays its holder.
    pub(super) fn belongs_to(&self, person: UserId) {
        if self.known.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut taken = self.places.taken.lock();
        if let Some(connection) = taken.strangers.remove(&self.number) {
            taken.people.entry(person).or_default().insert(self.number, connection);
            taken.holders.insert(self.number, person);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seat.places.taken.lock().forget(self.seat.number);
    }
}

impl Taken {
    fn forget(&mut self, number: u64) {
        self.strangers.remove(&number);
        let Some(holder) = self.holders.remove(&number) else { return };
        if let Entry::Occupied(mut hers) = self.people.entry(holder) {
            hers.get_mut().remove(&number);
            if hers.get().is_empty() {
                hers.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::{Place, Places, UserId};

    const ALICE: UserId = UserId::from_bytes([1; 16]);
    const BOB: UserId = UserId::from_bytes([2; 16]);

    async fn take(places: &Arc<Places>, person: Option<UserId>) -> Place {
        let place = places.take().await.unwrap();
        if let Some(person) = person {
            place.seat().belongs_to(person);
        }
        place
    }

    fn lost(places: &[Place]) -> Vec<bool> {
        places.iter().map(|place| place.lost().now_or_never().is_some()).collect()
    }

    #[tokio::test]
    async fn with_a_free_place_nobody_loses_hers() {
        let places = Places::new(3);
        let taken = [take(&places, None).await, take(&places, Some(ALICE)).await, take(&places, None).await];
        assert_eq!((lost(&taken), places.taken()), (vec![false; 3], 3));
    }

    #[tokio::test]
    async fn the_stranger_who_came_first_makes_room() {
        let places = Places::new(3);
        let taken = [take(&places, Some(ALICE)).await, take(&places, None).await, take(&places, None).await];
        assert!(places.take().now_or_never().is_none(), "it waits until the stranger has left");
        assert_eq!(lost(&taken), [false, true, false]);
        let [alice, first, second] = taken;
        drop(first);
        let next = places.take().now_or_never().flatten().expect("there is room");
        assert_eq!(lost(&[alice, second, next]), [false; 3]);
    }

    #[tokio::test]
    async fn among_known_people_who_holds_most_makes_room() {
        let places = Places::new(3);
        let taken = [
            take(&places, Some(BOB)).await,
            take(&places, Some(ALICE)).await,
            take(&places, Some(ALICE)).await,
        ];
        assert!(places.take().now_or_never().is_none());
        assert_eq!(lost(&taken), [false, true, false]);
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_hang_up_and_all_end_together() {
        let places = Places::new(3);
        let taken = [take(&places, None).await, take(&places, Some(ALICE)).await, take(&places, None).await];
        taken[1].hang_up().now();
        assert_eq!(lost(&taken), [false, true, false]);
        places.end();
        assert_eq!(lost(&taken), [true; 3]);
    }

    #[tokio::test]
    async fn nothing_is_remembered_of_who_left() {
        let places = Places::new(3);
        drop([take(&places, Some(ALICE)).await, take(&places, None).await]);
        assert_eq!(places.taken(), 0);
        let taken = places.taken.lock();
        assert!(taken.strangers.is_empty() && taken.people.is_empty() && taken.holders.is_empty());
    }
}
