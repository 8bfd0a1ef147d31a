//! Taking in a person who comes back, and storing the account that she has connected.

use mcphub_domain::{Event, Server, Slot, UserId};
use mcphub_policy::Administration;
use url::Url;

use super::Callback;
use super::account::Account;
use super::discovery::Site;
use super::ways::Way;
use crate::caller::Caller;
use crate::credentials::{SeenSlot, find};
use crate::error::HubError;
use crate::hub::Hub;

impl Hub {
    /// Finishes what a person began: everything is decided anew, and the code is spent only if its token can be kept.
    pub(super) async fn finish(&self, way: Way, callback: Callback) -> Result<(), HubError> {
        let Way { caller, owner, server: begun, verifier, sender, account, .. } = way;
        let action = Administration::Credentials(owner);
        drop(self.administrate(&caller, action, "accounts.finish").await?);
        let server = self.server(begun.id).map_err(|error| gone(&begun, error))?;
        let site = Site::of(&server)?;
        // First who speaks: of somebody else nothing is believed, not even an error.
        if !is_at(&account.client.redirect, &callback.path) || !sender.is(callback.iss.as_deref()) {
            return Err(site.fails("the answer is not from the authorization server that was asked"));
        }
        let (None, Some(code)) = (&callback.error, callback.code) else {
            return Err(site.fails("its authorization server let nobody in"));
        };
        if !is_same(&begun, &server) {
            return Err(site.fails("it was changed meanwhile: begin again"));
        }
        let (redirect, resource) = (account.client.redirect.clone(), account.resource.clone());
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", redirect.as_str()),
            ("code_verifier", verifier.expose()),
            ("resource", resource.as_str()),
        ];
        let account =
            self.ask_for_token(&site, account, &fields).await.map_err(|none| none.explain(&site))?;
        match self.store_account(&caller, owner, &begun, &account).await {
            // Her old token may just have been renewed.
            Err(HubError::Stale(_)) => self.store_account(&caller, owner, &begun, &account).await,
            kept => kept,
        }
    }

    /// Seals an account in place of whatever she has there now, if the server is where it was.
    async fn store_account(
        &self,
        caller: &Caller,
        owner: UserId,
        server: &Server,
        account: &Account,
    ) -> Result<(), HubError> {
        let action = Administration::Credentials(owner);
        let permit = self.administrate(caller, action, "accounts.finish").await?;
        let slot = Slot::account();
        let before = find(&self.store.credentials(owner, server.id).await?, slot.name());
        let revision = before.as_ref().map_or(0, |before| before.revision);
        let (name, destination) = (slot.name().clone(), server.definition.destination_of(&slot));
        let seen = SeenSlot { server: server.id, slot: name.clone(), revision, destination };
        self.check_place(&seen, &slot)?;
        let row = self.next(Some(owner), &seen, before.as_ref());
        let (credential, revision) = (row.id, row.revision);
        let event = Event::CredentialSet { credential, owner, server: server.id, slot: name };
        self.put_value(permit, row, &account.write()?, event).await?;
        self.accounts.note((owner, server.id), revision, account.known());
        Ok(())
    }
}

/// Says what it means that the server isn't found any more: she was awaited, only not there.
fn gone(begun: &Server, error: HubError) -> HubError {
    match error {
        HubError::NotFound { what } => {
            HubError::Account { server: begun.name.clone(), reason: format!("{what} is gone"), aside: None }
        }
        error => error,
    }
}

/// Says whether she came back to the page that she was to come back to.
fn is_at(redirect: &str, path: &str) -> bool {
    Url::parse(redirect).is_ok_and(|url| url.path() == path)
}

/// Says whether everything that decides who lets people in, and who gets the token, is as it was.
fn is_same(begun: &Server, now: &Server) -> bool {
    let (begun, now) = (&begun.definition, &now.definition);
    let account = Slot::account();
    begun.oauth() == now.oauth()
        && begun.networks == now.networks
        && begun.destination_of(&account) == now.destination_of(&account)
}
