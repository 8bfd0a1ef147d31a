//! Keeping an account good: its token is renewed before it ends, and once when the server refuses it. What only the person can
//! do, she is asked for, as for any other value that is missing.

use mcphub_domain::{Event, Server, Slot, UserId};
use mcphub_policy::Administration;
use mcphub_store::credentials::SealedValue;
use mcphub_upstream::{Challenge, UpstreamError};

use super::account::{Account, Known};
use super::discovery::Site;
use super::pending::Whose;
use crate::credentials::{SealedValues, SeenSlot, find, open_value};
use crate::error::HubError;
use crate::hub::Hub;

/// Says why a token is renewed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Ends,
    Refused,
}

impl Hub {
    /// Sees to it that the token in a person's values doesn't end with the call.
    pub(crate) async fn with_fresh_token(
        &self,
        owner: UserId,
        server: &Server,
        values: SealedValues,
    ) -> Result<SealedValues, HubError> {
        let Some(row) = values.account() else { return Ok(values) };
        let whose = (owner, server.id);
        let known = match self.accounts.known(whose, row.revision) {
            Some(known) => known,
            None => self.learn(whose, row)?,
        };
        if known.due.is_none_or(|due| self.clock.now() < due) {
            return Ok(values);
        }
        self.renew(owner, server, (row.revision, Why::Ends)).await?;
        self.stored_values(owner, server.id, &server.definition.needs()).await
    }

    /// Says what a refusal means for a person who has connected an account.
    pub(crate) async fn explain_refusal(
        &self,
        owner: UserId,
        server: &Server,
        (revision, error): (Option<i64>, UpstreamError),
    ) -> HubError {
        let (Some(revision), UpstreamError::Unauthorized { status, challenge, .. }) = (revision, &error)
        else {
            return error.into();
        };
        let whose = (owner, server.id);
        match (status, challenge) {
            (403, Some(challenge)) if self.steps_up(whose, revision, challenge) => {
                self.ask_again(server, whose, (revision, Some(challenge.clone())))
            }
            (403, _) => error.into(),
            _ if self.accounts.was_renewed(whose, revision) => {
                self.ask_again(server, whose, (revision, challenge.clone()))
            }
            _ => match self.renew(owner, server, (revision, Why::Refused)).await {
                Ok(()) => HubError::Renewed { server: server.name.clone() },
                Err(HubError::MissingCredential(_)) => {
                    self.ask_again(server, whose, (revision, challenge.clone()))
                }
                Err(error) => error,
            },
        }
    }

    /// Says whether the server wants something that was never asked for. What was asked for and not given isn't asked for again.
    fn steps_up(&self, whose: Whose, revision: i64, challenge: &Challenge) -> bool {
        let known = self.accounts.known(whose, revision);
        let has =
            |scope: &str| known.as_ref().is_none_or(|known| known.scopes.iter().any(|asked| asked == scope));
        challenge.wants_more() && challenge.scopes().any(|scope| !has(scope))
    }

    fn ask_again(
        &self,
        server: &Server,
        whose: Whose,
        (revision, challenge): (i64, Option<Challenge>),
    ) -> HubError {
        self.accounts.refuse(whose, revision, challenge);
        self.lacks(server, vec![Slot::account().name().clone()], Vec::new())
    }

    fn learn(&self, whose: Whose, row: &SealedValue) -> Result<Known, HubError> {
        let known = Account::read(&open_value(&self.seal.open()?.vault, row)?)?.known();
        self.accounts.note(whose, row.revision, (known.clone(), false));
        Ok(known)
    }

    /// Renews the token that a person has in this revision, unless somebody else just did.
    async fn renew(
        &self,
        owner: UserId,
        server: &Server,
        (revision, why): (i64, Why),
    ) -> Result<(), HubError> {
        let whose = (owner, server.id);
        let _turn = match self.accounts.turn(whose) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let slot = Slot::account();
        let rows = self.store.credentials(owner, server.id).await?;
        let Some(row) = find(&rows, slot.name()).filter(|row| row.revision == revision) else {
            return Ok(());
        };
        let before = Account::read(&open_value(&self.seal.open()?.vault, &row)?)?;
        let (site, has_ended) = (Site::of(server)?, before.has_ended(self.clock.now()));
        let Some(refresh) = before.refresh_token().map(str::to_owned) else {
            return Err(self.lacks(server, vec![slot.name().clone()], Vec::new()));
        };
        let permit =
            self.administrate(&self.myself(), Administration::RenewAccount(owner), "accounts.renew").await?;
        let resource = before.resource.clone();
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("resource", resource.as_str()),
        ];
        let account = match self.redeem(&site, before, &fields).await {
            Ok(account) => account,
            // It may work a little longer.
            Err(_) if why == Why::Ends && !has_ended => return Ok(()),
            Err(error) => {
                tracing::info!(server = %server.name, %error, "a token could not be renewed");
                return Err(self.ask_again(server, whose, (revision, None)));
            }
        };
        let seen =
            SeenSlot { server: server.id, slot: row.slot.clone(), revision, destination: row.destination };
        let next = self.next(Some(owner), &seen, Some(&row));
        let (credential, now_at) = (next.id, next.revision);
        let event = Event::AccountRenewed { credential, owner, server: server.id };
        let _renewing = self.accounts.begin_renewing(whose);
        self.put_value(permit, next, &account.write()?, event).await?;
        self.accounts.note(whose, now_at, (account.known(), why == Why::Refused));
        Ok(())
    }
}
