//! Keeping an account good: its token is renewed before it ends, and when the server refuses it. What only the person can do,
//! she is asked for, as for any other value that is missing.

use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::{Server, Slot, Timestamp, UserId};
use mcphub_store::credentials::SealedValue;
use mcphub_upstream::{Challenge, UpstreamError};
use tokio::time::timeout;

use super::account::{Account, Known};
use super::pending::Whose;
use crate::error::HubError;
use crate::hub::Hub;
use crate::values::{SealedValues, open_value};

/// How long a call waits for a new token, whoever renews it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a token that could not be renewed is left alone.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// Says why a token is renewed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Ends,
    Refused,
}

/// Says what came of a renewal that nothing kept from being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewal {
    /// There is another token now, or another account, or none.
    Done,
    /// Only the person can help.
    NeedsHer,
}

/// Says that a token could not be renewed, and when that is tried again.
#[derive(Clone)]
pub(super) struct NotRenewed {
    pub(super) until: Timestamp,
    pub(super) reason: String,
}

impl NotRenewed {
    /// Says it of an account at a server.
    pub(super) fn of(self, server: &Server) -> HubError {
        HubError::NotRenewed { server: server.name.clone(), reason: self.reason, until: self.until }
    }
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
        let (whose, now) = ((owner, server.id), self.clock.now());
        let known = self.known_account(whose, row)?;
        if known.due.is_none_or(|due| now < due) {
            return Ok(values);
        }
        match self.renew(owner, server, (row.revision, Why::Ends)).await {
            Ok(Renewal::Done) => {}
            Ok(Renewal::NeedsHer) => return Err(self.ask_again(server, whose, (row.revision, None))),
            // It works a little longer.
            Err(HubError::NotRenewed { .. }) if !known.has_ended(now) => return Ok(values),
            Err(error) => return Err(error),
        }
        let values = self.stored_values(owner, server.id, &server.definition.needs()).await?;
        if values.account().is_none() { Err(self.lacks_account(server)) } else { Ok(values) }
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
        let ask_again = || self.ask_again(server, whose, (revision, challenge.clone()));
        let known = self.accounts.known(whose, revision);
        match (status, challenge) {
            (403, Some(challenge)) if steps_up(known.as_deref(), challenge) => ask_again(),
            (403, _) => error.into(),
            _ if known.is_some_and(|known| known.is_new(self.clock.now())) => ask_again(),
            _ => match self.renew(owner, server, (revision, Why::Refused)).await {
                Ok(Renewal::Done) => HubError::Renewed { server: server.name.clone() },
                Ok(Renewal::NeedsHer) => ask_again(),
                Err(error) => error,
            },
        }
    }

    /// Says whether an account is there for nothing: refused, or connected elsewhere than the definition says now.
    pub(crate) fn is_of_no_use(&self, owner: UserId, server: &Server, row: &SealedValue) -> bool {
        let whose = (owner, server.id);
        let is_elsewhere = || {
            let known = self.known_account(whose, row).ok().zip(server.definition.oauth());
            // What can't be read now shows when it is used.
            known.is_some_and(|(known, oauth)| !known.fits(oauth))
        };
        self.accounts.is_refused(whose, row.revision) || is_elsewhere()
    }

    fn ask_again(
        &self,
        server: &Server,
        whose: Whose,
        (revision, challenge): (i64, Option<Challenge>),
    ) -> HubError {
        self.accounts.refuse(whose, revision, challenge);
        self.lacks_account(server)
    }

    pub(super) fn lacks_account(&self, server: &Server) -> HubError {
        self.lacks(server, vec![Slot::account().name().clone()], Vec::new())
    }

    /// Says what is known of an account, unsealing it if nothing is.
    fn known_account(&self, whose: Whose, row: &SealedValue) -> Result<Arc<Known>, HubError> {
        if let Some(known) = self.accounts.known(whose, row.revision) {
            return Ok(known);
        }
        let account = Account::read(&open_value(&self.seal.open()?.vault, row)?)?;
        Ok(self.accounts.note(whose, row.revision, account.known()))
    }

    /// Renews the token that a person has in this revision, unless somebody else just did, or it could not be done a moment
    /// ago. Once begun, it goes on whether the caller waits or not: what was given for a token that is good once is kept.
    async fn renew(
        &self,
        owner: UserId,
        server: &Server,
        (revision, why): (i64, Why),
    ) -> Result<Renewal, HubError> {
        let whose = (owner, server.id);
        let renewed = async {
            let turn = self.accounts.turns.take(whose).await;
            let hub = self.handle().upgrade();
            let hub =
                hub.ok_or_else(|| HubError::Unavailable { reason: "the hub is stopping".to_owned() })?;
            let task = self.tasks.spawn(async move {
                let renewed = hub.renew_in_turn(whose, (revision, why)).await;
                drop(turn);
                renewed
            });
            task.await.map_err(|error| HubError::Internal(error.to_string()))?
        };
        timeout(PATIENCE, renewed).await.unwrap_or_else(|_| {
            let late = NotRenewed { until: self.clock.now().plus(PAUSE), reason: "it takes long".to_owned() };
            self.accounts.put_off(whose, revision, late.clone());
            Err(late.of(server))
        })
    }
}

/// Says whether the server wants something that was never asked for. What was asked for and not given isn't asked for again.
fn steps_up(known: Option<&Known>, challenge: &Challenge) -> bool {
    let has = |scope: &str| known.is_none_or(|known| known.scopes.iter().any(|asked| asked == scope));
    challenge.wants_more() && challenge.scopes().any(|scope| !has(scope))
}
