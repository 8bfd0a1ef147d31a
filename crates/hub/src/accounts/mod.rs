//! Accounts: people connect their own at servers which let them in by OAuth 2.1, and the hub sends their tokens with their calls.
//!
//! A person is sent to her authorization server from the hub's own page, with her hub key; what she comes back with counts in
//! the same browser only, once, and for ten minutes. Nobody else's browser can finish what she began, nor she what another did.

mod account;
mod discovery;
mod grant;
mod metadata;
mod pending;
mod renewal;
mod renewing;
mod standing;
mod turns;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::{Event, SecretText, Server, ServerId, ServerName, Slot, UserId};
use mcphub_policy::Administration;
use mcphub_upstream::Challenge;
use sha2::{Digest, Sha256};
use url::Url;

use crate::caller::Caller;
use crate::credentials::{SeenSlot, open_value};
use crate::error::HubError;
use crate::hub::Hub;
use account::Proof;
use discovery::{Found, Site};
use metadata::Authority;
use pending::{Pending, digest};

pub(crate) use account::Account;
pub(crate) use pending::Accounts;

/// Where people come back to.
pub const CALLBACK: &str = "/oauth/callback";
/// Where the hub describes itself to authorization servers; the address is its id there.
pub const CLIENT_DOCUMENT: &str = "/client-metadata.json";
/// Names the scope that lets a token be renewed without the person (OpenID Connect Core 11).
const OFFLINE: &str = "offline_access";

/// Is where a person has to go now.
pub struct Connecting {
    /// Her authorization server's page.
    pub url: String,
    /// What her browser keeps until she is back.
    pub browser: String,
}

/// Is what a person comes back with.
#[derive(Debug, Default)]
pub struct Callback {
    /// What she was sent with.
    pub state: Option<String>,
    /// What the tokens are had for.
    pub code: Option<String>,
    /// Who sends her back.
    pub iss: Option<String>,
    /// Why nothing came of it.
    pub error: Option<String>,
}

impl Hub {
    /// Begins to connect an account of one's own at a server: says where to go.
    pub async fn connect_account(
        &self,
        caller: &Caller,
        owner: UserId,
        server: ServerId,
    ) -> Result<Connecting, HubError> {
        self.administrate(caller, Administration::Credentials(owner), "accounts.connect").await?;
        let server = self.server(server)?;
        let site = Site::of(&server)?;
        self.record_durable(caller, Event::AccountBegun { owner, server: server.id }).await?; // before anything leaves the hub
        let (seen, before) = self.see_account(owner, &server).await?;
        let challenge = match self.accounts.wanted((owner, server.id)) {
            Some(challenge) => Some(challenge),
            None => self.challenge_of(&site).await?,
        };
        let found = self.find_authority(&site, challenge.as_ref()).await?;
        let client = self.be_known(&site, &found.authority, before.as_ref()).await?;
        let scopes = scopes(&site.oauth.scopes, challenge.as_ref(), &found, before.as_ref());
        let Found { resource, authority, .. } = found;
        let ends = (authority.issuer.as_str(), authority.token_endpoint.as_str());
        let account = Account::begin(ends, resource, client, scopes);
        self.send_away((caller, owner), &site, seen, (authority, account))
    }

    /// Takes in a person who comes back, and seals the tokens that she brings.
    pub async fn finish_account(
        &self,
        callback: Callback,
        browser: Option<&str>,
    ) -> Result<ServerName, HubError> {
        let unknown =
            || HubError::Invalid("nobody is awaited with that: begin again on the hub's page".to_owned());
        let (state, now) = (callback.state.as_deref().ok_or_else(unknown)?, self.clock.now());
        let pending = self.accounts.take_in(state, browser, now).ok_or_else(unknown)?;
        let (caller, owner, server) = (pending.caller.clone(), pending.owner, pending.server.clone());
        match self.finish(pending, callback).await {
            Ok(()) => Ok(server.name),
            Err(error) => {
                let reason = error.to_string();
                self.record(&caller, Event::AccountFailed { owner, server: server.id, reason }).await;
                Err(error)
            }
        }
    }

    /// Describes the hub to authorization servers that know clients by the address of such a document.
    pub fn client_description(&self) -> Option<serde_json::Value> {
        let id = self.client_document()?;
        let mut description = self.client_metadata(Proof::None);
        if let Some(members) = description.as_object_mut() {
            members.insert("client_id".to_owned(), id.into());
        }
        Some(description)
    }

    async fn finish(&self, pending: Pending, callback: Callback) -> Result<(), HubError> {
        let Pending { caller, server, seen, owner, verifier, authority, account, .. } = pending;
        let action = Administration::Credentials(owner);
        let permit = self.administrate(&caller, action, "accounts.finish").await?;
        let site = Site::of(&server)?;
        // First who speaks: of somebody else nothing is believed, not even an error.
        if !authority.is_sender(callback.iss.as_deref()) {
            return Err(site.fails("the answer is not from the authorization server that was asked"));
        }
        let (None, Some(code)) = (&callback.error, callback.code) else {
            return Err(site.fails("its authorization server let nobody in"));
        };
        self.check_place(&seen, &Slot::account())?;
        let (callback, resource) = (self.callback(), account.resource.clone());
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", callback.as_str()),
            ("code_verifier", verifier.expose()),
            ("resource", resource.as_str()),
        ];
        let account =
            self.ask_for_token(&site, account, &fields).await.map_err(|none| none.explain(&site))?;
        let before = seen.value(&self.store.credentials(owner, server.id).await?)?;
        let row = self.next(Some(owner), &seen, before.as_ref());
        let (credential, slot, revision) = (row.id, seen.slot.clone(), row.revision);
        let event = Event::CredentialSet { credential, owner, server: server.id, slot };
        self.put_value(permit, row, &account.write()?, event).await?;
        self.accounts.note((owner, server.id), revision, account.known());
        Ok(())
    }

    /// Looks at the account that a person has connected, if she has.
    async fn see_account(
        &self,
        owner: UserId,
        server: &Server,
    ) -> Result<(SeenSlot, Option<Account>), HubError> {
        let slot = Slot::account();
        let rows = self.store.credentials(owner, server.id).await?;
        let row = rows.iter().find(|row| row.slot == *slot.name());
        let vault = &self.seal.open()?.vault;
        let account = row.map(|row| Account::read(&open_value(vault, row)?)).transpose()?;
        let (revision, destination) = (row.map_or(0, |row| row.revision), server.definition.destination());
        Ok((SeenSlot { server: server.id, slot: slot.name().clone(), revision, destination }, account))
    }

    fn send_away(
        &self,
        (caller, owner): (&Caller, UserId),
        site: &Site<'_>,
        seen: SeenSlot,
        (authority, account): (Authority, Account),
    ) -> Result<Connecting, HubError> {
        site.check(&authority.authorization_endpoint)?;
        site.check(&authority.token_endpoint)?;
        let (state, browser, verifier) = (self.secret_word(), self.secret_word(), self.secret_word());
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let mut url = authority.authorization_endpoint.clone();
        let scope = account.scopes.join(" ");
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &account.client.id)
            .append_pair("redirect_uri", &self.callback())
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("resource", &account.resource)
            .extend_pairs((!scope.is_empty()).then_some(("scope", scope.as_str())))
            .extend_pairs(
                account.scopes.iter().any(|scope| scope == OFFLINE).then_some(("prompt", "consent")),
            );
        let now = self.clock.now();
        let pending = Pending {
            caller: caller.clone(),
            server: site.server.clone(),
            seen,
            owner,
            browser: digest(&browser),
            verifier: SecretText::new(verifier),
            authority,
            account,
            until: Accounts::until(now),
        };
        if !self.accounts.let_go(&state, pending, now) {
            return Err(HubError::Conflict(
                "too many accounts are being connected: try again in ten minutes".to_owned(),
            ));
        }
        Ok(Connecting { url: url.into(), browser })
    }

    /// Is the address under which people reach the hub.
    pub const fn public_url(&self) -> &Url {
        &self.public_url
    }

    fn secret_word(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.entropy.bytes::<32>())
    }

    fn callback(&self) -> String {
        self.own_page(CALLBACK)
    }

    /// Names the document that describes the hub, if others can read it.
    fn client_document(&self) -> Option<String> {
        (self.public_url.scheme() == "https").then(|| self.own_page(CLIENT_DOCUMENT))
    }

    fn own_page(&self, path: &str) -> String {
        let mut url = self.public_url.clone();
        url.set_path(path);
        url.into()
    }
}

/// Chooses what to ask for: what the definition says, else what the server wants, else what it knows, else nothing. Where a
/// token was good for too little, what it was good for is asked for, too.
fn scopes(
    own: &[String],
    challenge: Option<&Challenge>,
    found: &Found,
    before: Option<&Account>,
) -> Vec<String> {
    let wanted: Vec<String> =
        challenge.iter().flat_map(|challenge| challenge.scopes()).map(str::to_owned).collect();
    let steps_up = challenge.is_some_and(Challenge::wants_more);
    let mut chosen: Vec<String> = match (steps_up, before) {
        (true, Some(before)) => before.scopes.clone(),
        _ if !own.is_empty() => own.to_vec(),
        _ if wanted.is_empty() => found.scopes_supported.clone(),
        _ => Vec::new(),
    };
    if own.is_empty() || steps_up {
        chosen.extend(wanted);
    }
    if !chosen.is_empty() && found.authority.scopes_supported.iter().any(|scope| scope == OFFLINE) {
        chosen.push(OFFLINE.to_owned());
    }
    let mut known = std::collections::BTreeSet::new();
    chosen.retain(|scope| known.insert(scope.clone()));
    chosen
}

#[cfg(test)]
mod tests {
    use mcphub_upstream::Challenge;

    use super::account::{Account, Origin, Proof, Registered};
    use super::discovery::Found;
    use super::metadata::Authority;
    use super::scopes;

    #[test]
    fn what_is_asked_for_follows_the_server_and_only_grows() {
        let strings = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let choose = |own: &str, wanted: Option<(&str, &str)>, known: &str, offline: &str, before: &str| {
            let mut authority = Authority::assumed(&"https://a.example".parse().unwrap()).unwrap();
            authority.scopes_supported = strings(offline);
            let found = Found { resource: String::new(), scopes_supported: strings(known), authority };
            let challenge = wanted.map(|(error, scope)| Challenge {
                error: Some(error.to_owned()),
                scope: Some(scope.to_owned()),
                resource_metadata: None,
            });
            let client =
                Registered { id: "i".into(), secret: None, proof: Proof::None, origin: Origin::Registration };
            let before = Account::begin(("", ""), String::new(), client, strings(before));
            scopes(&strings(own), challenge.as_ref(), &found, Some(&before)).join(" ")
        };
        assert_eq!(choose("", None, "", "", "z"), "");
        assert_eq!(choose("", None, "a b", "", "z"), "a b");
        assert_eq!(choose("", Some(("invalid_token", "c")), "a b", "", "z"), "c");
        assert_eq!(choose("", Some(("insufficient_scope", "c")), "a b", "", "z c"), "z c");
        assert_eq!(choose("d", Some(("invalid_token", "c")), "a", "", "z"), "d");
        assert_eq!(choose("d", Some(("insufficient_scope", "c")), "a", "", "d"), "d c");
        assert_eq!(choose("", None, "a", "offline_access", ""), "a offline_access");
        assert_eq!(choose("", None, "", "offline_access", ""), "");
    }
}
