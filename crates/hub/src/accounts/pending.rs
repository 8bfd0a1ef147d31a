//! People who are on their way to an authorization server.

use std::collections::HashMap;
use std::time::Duration;

use mcphub_domain::{SecretText, Server, ServerId, Timestamp, UserId};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::account::Account;
use super::metadata::Authority;
use super::standing::Standings;
use super::turns::Turns;
use crate::caller::Caller;
use crate::credentials::SeenSlot;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// How many people may be on their way at once, and how often one of them; then her oldest way is given up.
const MOST: usize = 4096;
const MOST_OF_ONE: usize = 64;

/// Names an account: whose, and where.
pub(crate) type Whose = (UserId, ServerId);

/// Knows what of accounts is not stored.
pub(crate) struct Accounts {
    pending: Mutex<HashMap<[u8; 32], Pending>>,
    pub(super) standings: Standings,
    pub(super) turns: Turns,
}

/// Is a person on her way, and what she may come back with.
pub(super) struct Pending {
    /// She, as she began.
    pub(super) caller: Caller,
    pub(super) server: Server,
    pub(super) seen: SeenSlot,
    pub(super) owner: UserId,
    /// The digest of what her browser keeps.
    pub(super) browser: [u8; 32],
    pub(super) verifier: SecretText,
    pub(super) authority: Authority,
    /// The account that it becomes.
    pub(super) account: Account,
    pub(super) until: Timestamp,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        Self { pending: Mutex::default(), standings: Standings::new(), turns: Turns::default() }
    }

    /// Lets a person go who will come back with `state`. Says no if too many are on their way.
    pub(super) fn let_go(&self, state: &str, pending: Pending, now: Timestamp) -> bool {
        let mut all = self.pending.lock();
        all.retain(|_, other| other.until > now);
        let own = |(_, other): &(&[u8; 32], &Pending)| other.owner == pending.owner;
        if all.iter().filter(own).count() >= MOST_OF_ONE {
            let oldest = all.iter().filter(own).min_by_key(|(_, other)| other.until).map(|(key, _)| *key);
            oldest.and_then(|key| all.remove(&key));
        }
        if all.len() >= MOST {
            return false;
        }
        all.insert(digest(state), pending);
        true
    }

    /// Takes in who comes back with `state`, once and in time, in the browser that she went with.
    pub(super) fn take_in(&self, state: &str, browser: Option<&str>, now: Timestamp) -> Option<Pending> {
        let pending = self.pending.lock().remove(&digest(state))?;
        let is_same = browser.is_some_and(|browser| digest(browser) == pending.browser);
        (is_same && pending.until > now).then_some(pending)
    }

    /// Says until when a person may take.
    pub(super) fn until(now: Timestamp) -> Timestamp {
        now.plus(PATIENCE)
    }
}

/// Digests what is compared: nothing is kept that somebody could come back with.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
