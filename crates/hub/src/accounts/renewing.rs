//! One renewal, from the claim that keeps all others away to the new token in its place. Nobody who waits for it can cut it off.

use std::time::Duration;

use mcphub_domain::{Event, SecretText, Server, Slot, Timestamp};
use mcphub_policy::Administration;
use mcphub_store::credentials::SealedValue;
use tokio::time::{Instant, sleep};

use super::account::Account;
use super::discovery::Site;
use super::pending::Whose;
use super::renewal::{NotRenewed, PAUSE, Renewal, Why};
use crate::credentials::{SeenSlot, find};
use crate::error::HubError;
use crate::hub::Hub;
use crate::values::open_value;

/// How long a claim lasts if whoever made it is gone: longer than a renewal takes at most.
const CLAIM: Duration = Duration::from_secs(60);
/// How long another node's renewal is waited for, and how often it is looked after.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(250);
/// How often it is tried to store a new token, and how long after the first failure again; each pause is twice as long.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Is an account whose renewal is this process's alone, until a time.
struct Claimed {
    row: SealedValue,
    until: Timestamp,
}

impl Hub {
    /// Renews a token, unless that has been done, or could not be done a moment ago.
    pub(super) async fn renew_in_turn(
        &self,
        whose: Whose,
        (revision, why): (i64, Why),
    ) -> Result<Renewal, HubError> {
        // The newest definition: the one that the caller began with may have changed since.
        let server = &self.server(whose.1)?;
        if let Some(waits) = self.accounts.waits(whose, revision, self.clock.now()) {
            return Err(waits.of(server));
        }
        if self.accounts.is_refused(whose, revision) {
            return Ok(Renewal::NeedsHer);
        }
        let Some(claimed) = self.claim(whose, server, revision).await? else {
            return self.take_up_renewal().await;
        };
        let renewed = self.renew_claimed(whose, server, &claimed, why).await;
        if matches!(renewed, Ok(Renewal::NeedsHer)) {
            self.accounts.refuse(whose, revision, None);
        }
        if !matches!(renewed, Ok(Renewal::Done))
            && let Err(error) = self.store.release_renewal(whose.0, &claimed.row, claimed.until).await
        {
            tracing::warn!(%error, "the claim to renew an account ends by itself");
        }
        renewed
    }

    /// Claims the renewal, waiting for whoever has. Nothing is left to claim if the revision is another one by then.
    async fn claim(&self, whose: Whose, server: &Server, revision: i64) -> Result<Option<Claimed>, HubError> {
        let (begun, mut changes) = (Instant::now(), self.changes());
        loop {
            let Some(row) = self.account_row(whose, revision).await? else { return Ok(None) };
            let until = self.clock.now().plus(CLAIM);
            if self.store.claim_renewal(whose.0, &row, until).await? {
                return Ok(Some(Claimed { row, until }));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.put_off(whose, server, (revision, "another hub renews it".to_owned())));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep(POLL) => {}
            }
        }
    }

    async fn renew_claimed(
        &self,
        whose: Whose,
        server: &Server,
        Claimed { row, .. }: &Claimed,
        why: Why,
    ) -> Result<Renewal, HubError> {
        let before = Account::read(&open_value(&self.seal.open()?.vault, row)?)?;
        let (site, known, origin) = (Site::of(server)?, before.known(), before.client.origin);
        if row.destination != server.definition.destination_of(&Slot::account()) || !known.fits(site.oauth) {
            return Err(self.lacks_account(server));
        }
        let Some(refresh) = before.refresh_token() else { return Ok(Renewal::NeedsHer) };
        // Before anything is sent: what is given for it can be kept.
        self.administrate(&self.myself(), Administration::RenewAccount(whose.0), "accounts.renew").await?;
        let (refresh, resource) = (SecretText::new(refresh.to_owned()), before.resource.clone());
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.expose()),
            ("resource", resource.as_str()),
        ];
        let none = match self.ask_for_token(&site, before, &fields).await {
            Ok(account) => return self.keep_token(whose, row, &account).await,
            Err(none) => none,
        };
        tracing::info!(server = %server.name, reason = none.reason(), "a token could not be renewed");
        if self.account_row(whose, row.revision).await?.is_none() {
            // It was another's refresh token by then.
            return self.take_up_renewal().await;
        }
        let works = why == Why::Ends && !known.has_ended(self.clock.now());
        match none {
            none if none.is_final(origin) && !works => Ok(Renewal::NeedsHer),
            none => Err(self.put_off(whose, server, (row.revision, none.reason()))),
        }
    }

    /// Stores a new token. As it may be the only one that is good, a database that doesn't answer is asked again for a while.
    async fn keep_token(
        &self,
        whose: Whose,
        row: &SealedValue,
        account: &Account,
    ) -> Result<Renewal, HubError> {
        try_often(|| self.put_renewed(whose, row, account)).await
    }

    async fn put_renewed(
        &self,
        whose: Whose,
        row: &SealedValue,
        account: &Account,
    ) -> Result<Renewal, HubError> {
        let (owner, server) = whose;
        let action = Administration::RenewAccount(owner);
        let permit = self.administrate(&self.myself(), action, "accounts.renew").await?;
        let (revision, destination) = (row.revision, row.destination);
        let seen = SeenSlot { server, slot: row.slot.clone(), revision, destination };
        let next = self.seal_value(self.next(Some(owner), &seen, Some(row)), &account.write()?)?;
        let event = Event::AccountRenewed { credential: next.id, owner, server };
        let mut tx = self.write_for(owner).await?;
        let stored = match tx.renew_credential(owner, &next).await {
            Ok(()) => self.commit(tx, permit, event).await,
            Err(error) => Err(error.into()),
        };
        match stored {
            Ok(()) => {
                self.accounts.note(whose, next.revision, account.known());
                Ok(Renewal::Done)
            }
            // Somebody changed it meanwhile; or it was stored before, and only the answer was lost.
            Err(HubError::Stale(_)) => self.take_up_renewal().await,
            Err(error) => Err(error),
        }
    }

    /// Finds the account of a person in a revision, if that is still the one that is stored.
    async fn account_row(&self, whose: Whose, revision: i64) -> Result<Option<SealedValue>, HubError> {
        let rows = self.store.credentials(whose.0, whose.1).await?;
        Ok(find(&rows, Slot::account().name()).filter(|row| row.revision == revision))
    }

    /// Takes up what somebody else has done.
    async fn take_up_renewal(&self) -> Result<Renewal, HubError> {
        self.refresh().await?;
        Ok(Renewal::Done)
    }

    fn put_off(&self, whose: Whose, server: &Server, (revision, reason): (i64, String)) -> HubError {
        let why = NotRenewed { until: self.clock.now().plus(PAUSE), reason };
        self.accounts.put_off(whose, revision, why.clone());
        why.of(server)
    }
}

/// Tries to store a new token, again while the database doesn't answer, and each time after a longer pause.
async fn try_often<F>(store: impl Fn() -> F) -> Result<Renewal, HubError>
where
    F: Future<Output = Result<Renewal, HubError>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match store().await {
            Err(HubError::Unavailable { reason }) => {
                tracing::warn!(reason, "a renewed token could not be stored yet");
            }
            stored => return stored,
        }
        sleep(pause).await;
        pause *= 2;
    }
    store().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::{HubError, Renewal, TRIES, try_often};

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_so_often_to_store_a_new_token_and_then_it_is_lost() {
        for (failures, is_stored) in [(TRIES - 1, true), (TRIES, false)] {
            let tries = Cell::new(0);
            let store = || {
                tries.set(tries.get() + 1);
                let away = || HubError::Unavailable { reason: "it is away".to_owned() };
                ready(if tries.get() > failures { Ok(Renewal::Done) } else { Err(away()) })
            };
            let stored = try_often(store).await;
            assert_eq!((tries.get(), stored.is_ok()), (TRIES, is_stored), "after {failures} failures");
        }
    }
}
