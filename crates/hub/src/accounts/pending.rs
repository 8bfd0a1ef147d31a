//! What is known of accounts while the hub runs.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use lru::LruCache;
use mcphub_domain::{ServerId, UserId};
use mcphub_upstream::Challenge;
use parking_lot::Mutex;

use super::account::Known;
use super::ways::Ways;

/// Of how many accounts something is known.
const KEPT: usize = 16_384;
/// How many accounts may be renewed at once.
const TURNS: usize = 64;

/// Names an account: whose, and where.
pub(crate) type Whose = (UserId, ServerId);

/// Knows what of accounts is not stored.
pub(crate) struct Accounts {
    pub(super) ways: Ways,
    standings: Mutex<LruCache<Whose, Standing>>,
    turns: Vec<tokio::sync::Mutex<()>>,
    /// Whose token is being replaced by a new one for the same person: her calls go on.
    renewing: Mutex<HashSet<Whose>>,
}

/// Says how an account stood when it was last looked at.
struct Standing {
    revision: i64,
    known: Known,
    /// What the server wanted when it refused the token.
    refused: Option<Option<Challenge>>,
    /// It was renewed because the server refused the token before.
    renewed: bool,
}

/// Marks that a token is being replaced.
pub(super) struct Renewing<'a> {
    accounts: &'a Accounts,
    whose: Whose,
}

impl Drop for Renewing<'_> {
    fn drop(&mut self) {
        self.accounts.renewing.lock().remove(&self.whose);
    }
}

impl Accounts {
    pub(crate) fn new() -> Self {
        let kept = NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN);
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self {
            ways: Ways::new(),
            standings: Mutex::new(LruCache::new(kept)),
            turns,
            renewing: Mutex::default(),
        }
    }

    /// Says whether the server refused the token in this revision, so that only the person can help.
    pub(crate) fn is_refused(&self, whose: Whose, revision: i64) -> bool {
        let mut standings = self.standings.lock();
        standings.get(&whose).is_some_and(|known| known.revision == revision && known.refused.is_some())
    }

    /// Says what is known of an account in this revision, if it is.
    pub(super) fn known(&self, whose: Whose, revision: i64) -> Option<Known> {
        let mut standings = self.standings.lock();
        standings.get(&whose).filter(|known| known.revision == revision).map(|known| known.known.clone())
    }

    /// Notes what is known of an account.
    pub(super) fn note(&self, whose: Whose, revision: i64, (known, renewed): (Known, bool)) {
        self.standings.lock().put(whose, Standing { revision, known, refused: None, renewed });
    }

    /// Notes that the server refused the token.
    pub(super) fn refuse(&self, whose: Whose, revision: i64, challenge: Option<Challenge>) {
        let mut standings = self.standings.lock();
        if let Some(standing) = standings.get_mut(&whose).filter(|standing| standing.revision == revision) {
            standing.refused = Some(challenge);
        }
    }

    /// Says whether the token was renewed because the one before was refused.
    pub(super) fn was_renewed(&self, whose: Whose, revision: i64) -> bool {
        let mut standings = self.standings.lock();
        standings.get(&whose).is_some_and(|known| known.revision == revision && known.renewed)
    }

    /// Returns what the server wanted when it refused the token, if it did.
    pub(super) fn wanted(&self, whose: Whose) -> Option<Challenge> {
        self.standings.lock().get(&whose)?.refused.clone().flatten()
    }

    /// Says whether what changes is that a token is replaced by a new one, which ends no call.
    pub(crate) fn is_renewing(&self, whose: Whose) -> bool {
        self.renewing.lock().contains(&whose)
    }

    /// Notes that a token is being replaced, until the mark is dropped.
    pub(super) fn begin_renewing(&self, whose: Whose) -> Renewing<'_> {
        self.renewing.lock().insert(whose);
        Renewing { accounts: self, whose }
    }

    /// Returns what those take turns with who renew an account.
    pub(super) fn turn(&self, (user, _): Whose) -> Option<&tokio::sync::Mutex<()>> {
        let place = user
            .as_bytes()
            .iter()
            .fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        self.turns.get(place % TURNS)
    }
}
