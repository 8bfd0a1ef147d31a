//! Who renews an account: one at a time, and the others wait for her alone.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::pending::Whose;

/// Gives turns, for each account on its own. A turn that nobody has or waits for is forgotten.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Whose, Weak<tokio::sync::Mutex<()>>>>);

/// Is a turn, as long as it is held.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits for the turn to renew an account.
    pub(super) async fn take(&self, whose: Whose) -> Turn {
        let turn = self.find(whose);
        turn.lock_owned().await
    }

    fn find(&self, whose: Whose) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock();
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(&whose).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        all.insert(whose, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
impl super::Accounts {
    /// Counts the accounts that are being renewed.
    pub(crate) fn in_renewal(&self) -> usize {
        self.turns.0.lock().values().filter(|turn| turn.strong_count() > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcphub_domain::{ServerId, UserId};
    use tokio::time::timeout;

    use super::Turns;

    #[tokio::test(start_paused = true)]
    async fn an_account_waits_for_nobody_elses() {
        let (turns, server) = (Turns::default(), ServerId::from_bytes([1; 16]));
        // So many that some would meet wherever there are fewer places than people.
        let people: Vec<_> = (0..=255).map(|byte| (UserId::from_bytes([byte; 16]), server)).collect();
        let mut held = Vec::new();
        for whose in &people {
            held.push(timeout(Duration::from_secs(1), turns.take(*whose)).await.unwrap());
        }
        assert!(timeout(Duration::from_secs(1), turns.take(people[7])).await.is_err(), "its own is taken");
        drop(held);
        drop(turns.take(people[7]).await);
        assert_eq!(turns.0.lock().len(), 1, "the others are forgotten");
    }
}
