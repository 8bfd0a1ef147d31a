//! What is known of accounts while the hub runs: enough to decide on most calls without unsealing anything.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use mcphub_domain::Timestamp;
use mcphub_upstream::Challenge;
use parking_lot::Mutex;

use super::account::Known;
use super::pending::{Accounts, Whose};
use super::renewal::NotRenewed;

/// Of how many accounts something is known.
const KEPT: usize = 16_384;

/// Knows how accounts stand.
pub(super) struct Standings(Mutex<LruCache<Whose, Looked>>);

/// Is an account as it was last looked at.
struct Looked {
    revision: i64,
    known: Arc<Known>,
    standing: Standing,
}

/// Says how an account stands.
#[derive(Clone)]
enum Standing {
    /// Nothing is wrong with it, as far as one knows.
    Good,
    /// It could not be renewed a moment ago, and isn't tried again before a time.
    Waits(NotRenewed),
    /// Only the person can help: the server, or who lets people in there, refuses it. A server may have said what it wants.
    Refused(Option<Challenge>),
}

impl Standings {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN))))
    }

    fn look<T>(&self, whose: Whose, revision: i64, look: impl FnOnce(&mut Looked) -> T) -> Option<T> {
        self.0.lock().get_mut(&whose).filter(|looked| looked.revision == revision).map(look)
    }

    fn change(&self, whose: Whose, revision: i64, standing: Standing) {
        self.look(whose, revision, |looked| looked.standing = standing);
    }
}

impl Standing {
    fn wanted(&self) -> Option<Challenge> {
        match self {
            Self::Refused(challenge) => challenge.clone(),
            Self::Good | Self::Waits(_) => None,
        }
    }
}

impl Accounts {
    /// Says whether this revision was refused, so that only the person can help.
    pub(super) fn is_refused(&self, whose: Whose, revision: i64) -> bool {
        let refused = |looked: &mut Looked| matches!(looked.standing, Standing::Refused(_));
        self.standings.look(whose, revision, refused).unwrap_or(false)
    }

    /// Says what is known of an account in this revision, if it is.
    pub(super) fn known(&self, whose: Whose, revision: i64) -> Option<Arc<Known>> {
        self.standings.look(whose, revision, |looked| Arc::clone(&looked.known))
    }

    /// Notes what is known of an account. How this revision stands already is not forgotten for it.
    pub(super) fn note(&self, whose: Whose, revision: i64, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        let standing = self.standings.look(whose, revision, |looked| looked.standing.clone());
        let standing = standing.unwrap_or(Standing::Good);
        self.standings.0.lock().put(whose, Looked { revision, known: Arc::clone(&known), standing });
        known
    }

    /// Notes that only the person can help, and what the server wanted: at last, if it said so more than once.
    pub(super) fn refuse(&self, whose: Whose, revision: i64, challenge: Option<Challenge>) {
        let wanted = challenge.or_else(|| self.wanted_in(whose, revision));
        self.standings.change(whose, revision, Standing::Refused(wanted));
    }

    fn wanted_in(&self, whose: Whose, revision: i64) -> Option<Challenge> {
        self.standings.look(whose, revision, |looked| looked.standing.wanted()).flatten()
    }

    /// Notes that this revision could not be renewed.
    pub(super) fn put_off(&self, whose: Whose, revision: i64, why: NotRenewed) {
        self.standings.change(whose, revision, Standing::Waits(why));
    }

    /// Says why this revision isn't renewed, if it couldn't be a moment ago.
    pub(super) fn waits(&self, whose: Whose, revision: i64, now: Timestamp) -> Option<NotRenewed> {
        let waits = |looked: &mut Looked| match &looked.standing {
            Standing::Waits(why) if why.until > now => Some(why.clone()),
            _ => None,
        };
        self.standings.look(whose, revision, waits).flatten()
    }

    /// Returns what the server wanted when it refused the token, if it did.
    pub(super) fn wanted(&self, whose: Whose) -> Option<Challenge> {
        self.standings.0.lock().get(&whose)?.standing.wanted()
    }
}

#[cfg(test)]
mod tests {
    use mcphub_domain::{ServerId, UserId};

    use super::{Accounts, KEPT};
    use crate::accounts::account::{Account, Registered};
    use crate::accounts::metadata::Authority;

    #[test]
    fn of_so_many_accounts_it_is_known_how_they_stand_and_then_the_longest_unused_is_forgotten() {
        let (accounts, server) = (Accounts::new(), ServerId::from_bytes([1; 16]));
        let authority = Authority::assumed(&"https://a.example".parse().unwrap()).unwrap();
        let account = Account::begin(&authority, String::new(), Registered::known("1"), Vec::new());
        let whose = |number: usize| (UserId::from_bytes((number as u128).to_be_bytes()), server);
        let note = |number| drop(accounts.note(whose(number), 1, account.known()));
        let is_known = |number| accounts.known(whose(number), 1).is_some();
        (0..KEPT).for_each(note);
        assert!(is_known(0));
        note(KEPT);
        assert_eq!([0, 1, KEPT].map(is_known), [true, false, true]);
    }
}
