//! Sending a person to her authorization server.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::{SecretText, Slot, UserId};
use sha2::{Digest, Sha256};
use url::Url;

use super::Connecting;
use super::account::Account;
use super::discovery::{Found, Site};
use super::metadata::Authority;
use super::scopes::{Choice, OFFLINE};
use super::ways::{Way, Ways, digest};
use crate::caller::Caller;
use crate::credentials::find;
use crate::error::HubError;
use crate::hub::Hub;
use crate::values::open_value;

/// Is who connects an account, and whose it will be.
#[derive(Clone, Copy)]
pub(super) struct Person<'a> {
    pub(super) caller: &'a Caller,
    pub(super) owner: UserId,
}

impl Hub {
    /// Finds out where a person has to go, becomes known there, and sends her away.
    pub(super) async fn go(&self, person: Person<'_>, site: &Site<'_>) -> Result<Connecting, HubError> {
        let owner = person.owner;
        let before = self.find_account(owner, site).await?;
        let challenge = match self.accounts.wanted((owner, site.server.id)) {
            Some(challenge) => Some(challenge),
            None => self.challenge_of(site).await,
        };
        let found = self.find_authority(site, challenge.as_ref()).await?;
        site.check(&found.authority.authorization_endpoint)?;
        site.check(&found.authority.token_endpoint)?;
        let client = self.be_known(site, &found.authority, owner, before.as_ref()).await?;
        let own = &site.oauth.scopes;
        let (challenge, before) = (challenge.as_ref(), before.as_ref());
        let scopes = Choice { own, challenge, found: &found, client: &client, before }.scopes();
        let Found { resource, authority, .. } = found;
        let account = Account::begin(&authority, resource, client, scopes);
        self.send_away(person, site, &authority, account)
    }

    /// Finds the account that a person has connected, if she has. One that can't be read is about to be replaced.
    async fn find_account(&self, owner: UserId, site: &Site<'_>) -> Result<Option<Account>, HubError> {
        let rows = self.store.credentials(owner, site.server.id).await?;
        let vault = &self.seal.open()?.vault;
        let value = find(&rows, Slot::account().name()).map(|row| open_value(vault, &row)).transpose()?;
        Ok(value.and_then(|value| Account::read(&value).ok()))
    }

    fn send_away(
        &self,
        person: Person<'_>,
        site: &Site<'_>,
        authority: &Authority,
        account: Account,
    ) -> Result<Connecting, HubError> {
        let (state, browser, verifier) = (self.secret_word(), self.secret_word(), self.secret_word());
        let url = authorization(&authority.authorization_endpoint, &account, (&state, &verifier));
        let now = self.clock.now();
        let way = Way {
            caller: person.caller.clone(),
            owner: person.owner,
            server: site.server.clone(),
            browser: digest(&browser),
            verifier: SecretText::new(verifier),
            sender: authority.sender(),
            account,
            until: Ways::until(now),
        };
        match self.accounts.ways.let_go(&state, way, now) {
            true => Ok(Connecting { url: url.into(), state, browser }),
            false => Err(HubError::Conflict(
                "too many accounts are being connected: try again in ten minutes".to_owned(),
            )),
        }
    }

    fn secret_word(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.entropy.bytes::<32>())
    }
}

/// Writes where a person goes, and what is asked for there.
fn authorization(endpoint: &Url, account: &Account, (state, verifier): (&str, &str)) -> Url {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let scope = account.scopes.join(" ");
    let is_offline = account.scopes.iter().any(|scope| scope == OFFLINE);
    let mut url = endpoint.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &account.client.id)
        .append_pair("redirect_uri", &account.client.redirect)
        .append_pair("state", state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .append_pair("resource", &account.resource)
        .extend_pairs((!scope.is_empty()).then_some(("scope", scope.as_str())))
        .extend_pairs(is_offline.then_some(("prompt", "consent")));
    url
}
