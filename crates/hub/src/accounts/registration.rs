//! As whom the hub is known to authorization servers: by the definition, by its own document, or by registering itself.

use mcphub_domain::{SecretText, Timestamp, UserId};
use mcphub_upstream::{Content, Errand};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::account::{Account, Origin, Proof, Registered};
use super::bounded::CLIENT;
use super::discovery::{Site, read};
use super::metadata::Authority;
use super::{CALLBACK, CLIENT_DOCUMENT};
use crate::credentials::SlotState;
use crate::error::HubError;
use crate::hub::Hub;

/// Is what an authorization server answers to a registration.
#[derive(Deserialize)]
struct Registration {
    client_id: String,
    client_secret: Option<String>,
    /// When the secret ends, in seconds since 1970; 0 is never.
    client_secret_expires_at: Option<u64>,
    token_endpoint_auth_method: Option<Proof>,
}

impl Hub {
    /// Becomes known to an authorization server: as the definition says, by the hub's own document, as before, or anew.
    pub(super) async fn be_known(
        &self,
        site: &Site<'_>,
        authority: &Authority,
        owner: UserId,
        before: Option<&Account>,
    ) -> Result<Registered, HubError> {
        let supported = authority.token_endpoint_auth_methods_supported.as_deref();
        let unfit = || site.fails("the hub can't prove who it is as its authorization server wants it");
        if let Some(id) = site.oauth.client_id.clone() {
            let proof = match site.oauth.client_secret {
                Some(_) => {
                    Proof::choose(supported).filter(|proof| *proof != Proof::None).ok_or_else(unfit)?
                }
                None => Proof::None,
            };
            // Who registers the hub by hand registers the one address, and vouches for the issuer.
            let (origin, redirect) = (Origin::Definition, self.own_page(CALLBACK));
            return Ok(Registered { id, secret: None, proof, origin, redirect, ends_at: None });
        }
        let redirect = self.callback(authority);
        if authority.client_id_metadata_document_supported
            && let Some(id) = self.client_document(issuer_name(authority).as_deref())
        {
            let (proof, origin) = (Proof::None, Origin::Document);
            return Ok(Registered { id, secret: None, proof, origin, redirect, ends_at: None });
        }
        if let Some(known) = self.known_client(site, authority, owner, before) {
            return Ok(known);
        }
        let Some(place) = authority.registration_endpoint.clone() else {
            return Err(
                site.fails("its authorization server registers nobody: its definition needs a `clientId`")
            );
        };
        self.register(site, place, Proof::choose(supported).ok_or_else(unfit)?, redirect).await
    }

    /// Finds a registration that is still good: what was registered for a way of hers that isn't over, else that of her account.
    /// One from her account with which she is on her way already is taken for dead: she came back to begin again.
    fn known_client(
        &self,
        site: &Site<'_>,
        authority: &Authority,
        owner: UserId,
        before: Option<&Account>,
    ) -> Option<Registered> {
        let (now, redirect, issuer) = (self.clock.now(), self.callback(authority), authority.issuer.as_str());
        let stored = before.filter(|before| before.issuer == issuer).map(|before| &before.client);
        let stored = stored.filter(|known| known.origin == Origin::Registration);
        let is_stored = |client: &Registered| stored.is_some_and(|stored| stored.id == client.id);
        let ways = self.accounts.ways.clients((owner, site.server.id), issuer, now);
        let stored = stored.filter(|_| !ways.iter().any(&is_stored)).cloned();
        let anew =
            ways.into_iter().filter(|client| client.origin == Origin::Registration && !is_stored(client));
        let is_good = |client: &Registered| {
            client.redirect == redirect
                && client.ends_at.is_none_or(|end| now < end)
                && !self.accounts.ways.is_given_up(issuer, &client.id)
        };
        anew.chain(stored).find(is_good)
    }

    async fn register(
        &self,
        site: &Site<'_>,
        place: Url,
        proof: Proof,
        redirect: String,
    ) -> Result<Registered, HubError> {
        let text = self.client_metadata(proof, &redirect).to_string();
        let fetched =
            self.run(site, Errand { content: Content::Json(text.into()), ..Errand::get(place) }).await?;
        let is_short = |registration: &Registration| {
            let secret = registration.client_secret.as_ref().map_or(0, String::len);
            registration.client_id.len() <= CLIENT && secret <= CLIENT
        };
        let Some(registration) = read::<Registration>(&fetched).filter(is_short) else {
            let status = fetched.status;
            return Err(
                site.fails(format!("its authorization server refuses to register the hub (HTTP {status})"))
            );
        };
        let proof = match (&registration.client_secret, registration.token_endpoint_auth_method) {
            (None, _) => Proof::None,
            (Some(_), named) => named.unwrap_or(proof),
        };
        let ends_at = registration.client_secret_expires_at.filter(|end| *end > 0).and_then(at_second);
        let (id, secret, origin) = (registration.client_id, registration.client_secret, Origin::Registration);
        Ok(Registered { id, secret, proof, origin, redirect, ends_at })
    }

    /// Describes the hub to authorization servers that know clients by the address of such a document: the one for those that
    /// name themselves where they send people back, or the one for another.
    pub fn client_description(&self, issuer: Option<&str>) -> Option<serde_json::Value> {
        let is_name = |name: &str| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !issuer.is_none_or(is_name) {
            return None;
        }
        let id = self.client_document(issuer)?;
        let mut description = self.client_metadata(Proof::None, &self.own_page(&under(CALLBACK, issuer)));
        if let Some(members) = description.as_object_mut() {
            members.insert("client_id".to_owned(), id.into());
        }
        Some(description)
    }

    fn client_metadata(&self, proof: Proof, redirect: &str) -> serde_json::Value {
        json!({
            "client_name": "MCPHub",
            "client_uri": self.public_url.as_str(),
            "redirect_uris": [redirect],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": proof.as_str(),
            // Nobody but this machine reaches a hub without TLS.
            "application_type": if self.public_url.scheme() == "https" { "web" } else { "native" },
        })
    }

    /// Unseals the secret with which the hub proves who it is, if it has one.
    pub(super) async fn client_secret(
        &self,
        site: &Site<'_>,
        client: &Registered,
    ) -> Result<Option<SecretText>, HubError> {
        let (Origin::Definition, Some(slot)) = (client.origin, site.oauth.secret_slot()) else {
            return Ok(client.secret.clone().map(SecretText::new));
        };
        let values = self.find_shared_values(site.server).await?;
        let (name, destination) = (slot.name().clone(), site.server.definition.destination_of(&slot));
        match values.state(&slot, &destination) {
            SlotState::Missing => Err(self.lacks(site.server, vec![name], Vec::new())),
            SlotState::Suspended => Err(self.lacks(site.server, Vec::new(), vec![name])),
            SlotState::Ready => Ok(values.unseal(&self.seal.open()?.vault)?.remove(&slot)),
        }
    }

    /// Names where people come back to from an authorization server. Whoever doesn't say who sends them back is told from the
    /// others by an address of its own (RFC 9700 4.4.2).
    fn callback(&self, authority: &Authority) -> String {
        self.own_page(&under(CALLBACK, issuer_name(authority).as_deref()))
    }

    /// Names the document that describes the hub, if others can read it.
    fn client_document(&self, issuer: Option<&str>) -> Option<String> {
        let path = match issuer {
            None => CLIENT_DOCUMENT.to_owned(),
            Some(_) => under(CLIENT_DOCUMENT.trim_end_matches(".json"), issuer),
        };
        (self.public_url.scheme() == "https").then(|| self.own_page(&path))
    }

    fn own_page(&self, path: &str) -> String {
        let mut url = self.public_url.clone();
        url.set_path(path);
        url.into()
    }
}

fn under(path: &str, issuer: Option<&str>) -> String {
    issuer.map_or_else(|| path.to_owned(), |issuer| format!("{path}/{issuer}"))
}

/// Names an authorization server that doesn't say who sends people back.
fn issuer_name(authority: &Authority) -> Option<String> {
    let digest = Sha256::digest(authority.issuer.as_bytes());
    (!authority.names_itself).then(|| hex::encode(digest.iter().take(16).copied().collect::<Vec<u8>>()))
}

fn at_second(second: u64) -> Option<Timestamp> {
    i64::try_from(second).ok()?.checked_mul(1_000_000).map(Timestamp::from_micros)
}
