//! How much of requests' bodies is held while they come in.
//!
//! A body may be large and come slowly, and a connection costs its sender nothing. So a large one waits
//! for its turn: among its sender's own, then among everybody's.

use std::collections::HashMap;
use std::sync::Arc;

use mcphub_domain::UserId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may be, in bytes, that needs no turn.
pub(crate) const SMALL: u64 = 16 << 10;
/// How many large bodies of one person may come in at the same time.
pub(crate) const LARGE_PER_PERSON: usize = 8;
/// How many large bodies may come in at the same time.
pub(crate) const LARGE: usize = 64;

/// Gives large bodies their turns.
pub(crate) struct Bodies {
    all: Arc<Semaphore>,
    people: Mutex<HashMap<UserId, Arc<Semaphore>>>,
}

/// Is the turn of a large body, or a small one's, which needs none.
pub(crate) struct Turn {
    _turns: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(LARGE)), people: Mutex::default() }
    }
}

impl Bodies {
    /// Waits until a person's body may come in. One that doesn't say how long it is counts as large.
    pub(crate) async fn turn(&self, person: Option<UserId>, length: Option<u64>) -> Turn {
        let (Some(person), true) = (person, length.is_none_or(|length| length > SMALL)) else {
            return Turn { _turns: None };
        };
        let own = self.own(person);
        let own = own.acquire_owned().await;
        let all = Arc::clone(&self.all).acquire_owned().await;
        Turn { _turns: own.ok().zip(all.ok()) }
    }

    /// Finds a person's own turns, and forgets those of people who need none now.
    fn own(&self, person: UserId) -> Arc<Semaphore> {
        let mut people = self.people.lock();
        people.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(people.entry(person).or_insert_with(|| Arc::new(Semaphore::new(LARGE_PER_PERSON))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{Bodies, LARGE, LARGE_PER_PERSON, SMALL, Turn, UserId};

    fn turn(bodies: &Bodies, person: u8, length: Option<u64>) -> Option<Turn> {
        bodies.turn(Some(UserId::from_bytes([person; 16])), length).now_or_never()
    }

    #[test]
    fn a_small_body_needs_no_turn() {
        let bodies = Bodies::default();
        let taken: Vec<Turn> =
            (0..LARGE_PER_PERSON).map(|_| turn(&bodies, 1, Some(SMALL + 1)).unwrap()).collect();
        assert!(turn(&bodies, 1, Some(SMALL + 1)).is_none());
        assert!(turn(&bodies, 1, None).is_none(), "one of unknown length counts as large");
        assert!(turn(&bodies, 1, Some(SMALL)).is_some());
        assert!(turn(&bodies, 2, Some(SMALL + 1)).is_some(), "somebody else's comes in");
        drop(taken);
        assert!(turn(&bodies, 1, Some(SMALL + 1)).is_some());
        assert_eq!(bodies.people.lock().len(), 1, "who needs no turn is forgotten");
    }

    #[test]
    fn so_many_come_in_at_the_same_time() {
        let bodies = Bodies::default();
        let person = |number: usize| u8::try_from(number / LARGE_PER_PERSON).unwrap();
        let taken: Vec<Turn> =
            (0..LARGE).map(|number| turn(&bodies, person(number), Some(SMALL + 1)).unwrap()).collect();
        assert!(turn(&bodies, 200, Some(SMALL + 1)).is_none());
        drop(taken);
        assert!(turn(&bodies, 200, Some(SMALL + 1)).is_some());
    }
}
