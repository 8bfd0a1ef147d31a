//! Finding out who lets people in at a server, and becoming known there.

use mcphub_domain::oauth::OAuth;
use mcphub_domain::{SecretText, Server, Slot, Transport};
use mcphub_upstream::{Challenge, Content, Errand, Fetched, Vicinity};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::account::{Account, Origin, Proof, Registered};
use super::metadata::{Authority, Resource, authority_places, resource_places};
use crate::error::HubError;
use crate::hub::Hub;

/// The request that shows what a server wants of whoever asks it something; nothing has to be opened before it.
const PROBE: [(&str, &str); 2] = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];

/// Is a server at which accounts are connected.
pub(super) struct Site<'a> {
    pub(super) server: &'a Server,
    pub(super) oauth: &'a OAuth,
    pub(super) vicinity: Vicinity,
}

/// Is what was found out.
pub(super) struct Found {
    pub(super) resource: String,
    pub(super) scopes_supported: Vec<String>,
    pub(super) authority: Authority,
}

/// Is what an authorization server answers to a registration.
#[derive(Deserialize)]
struct Registration {
    client_id: String,
    client_secret: Option<String>,
    token_endpoint_auth_method: Option<Proof>,
}

impl<'a> Site<'a> {
    pub(super) fn of(server: &'a Server) -> Result<Self, HubError> {
        let none = || HubError::Invalid(format!("nobody connects an account at {}", server.name));
        let (Some(oauth), Transport::Http(target)) =
            (server.definition.oauth(), &server.definition.transport)
        else {
            return Err(none());
        };
        let url = target.base().map_err(|_| none())?;
        let vicinity = Vicinity { server: url, networks: server.definition.networks.clone() };
        Ok(Self { server, oauth, vicinity })
    }

    pub(super) fn fails(&self, reason: impl Into<String>) -> HubError {
        HubError::Account { server: self.server.name.clone(), reason: reason.into() }
    }

    /// Refuses an address that may not be asked, before anything is sent there.
    pub(super) fn check(&self, url: &Url) -> Result<(), HubError> {
        self.vicinity.check(url).map_err(|reason| {
            self.fails(format!("{} may not be asked: {reason}", url.origin().ascii_serialization()))
        })
    }
}

impl Hub {
    pub(super) async fn run(&self, site: &Site<'_>, errand: Errand) -> Result<Fetched, HubError> {
        self.upstreams.run(errand, &site.vicinity).await.map_err(|error| site.fails(error.to_string()))
    }

    /// Asks the server something without a token, for what it wants of those who do.
    pub(super) async fn challenge_of(&self, site: &Site<'_>) -> Result<Option<Challenge>, HubError> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "mcphub", "version": env!("CARGO_PKG_VERSION") },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
        let url = site.vicinity.server.clone();
        let errand =
            Errand { content: Content::Json(body.to_string()), headers: PROBE.to_vec(), ..Errand::get(url) };
        Ok(self.run(site, errand).await?.challenge)
    }

    /// Finds out who lets people in.
    pub(super) async fn find_authority(
        &self,
        site: &Site<'_>,
        challenge: Option<&Challenge>,
    ) -> Result<Found, HubError> {
        let server = &site.vicinity.server;
        let Some(resource) = self.find_resource(site, challenge).await? else {
            // A server of 2025-03-26 lets people in itself.
            let origin = server.origin().ascii_serialization();
            let found = self.read_authority(site, &origin).await?;
            let authority = found.or_else(|| Authority::assumed(server));
            let authority = authority.ok_or_else(|| site.fails("nobody says who lets people in"))?;
            return Ok(Found { resource: server.to_string(), scopes_supported: Vec::new(), authority });
        };
        if !resource.covers(server) {
            return Err(site.fails("what describes it describes another server"));
        }
        let issuer = self.choose(site, &resource)?;
        let authority = self.read_authority(site, issuer).await?;
        let authority = authority.ok_or_else(|| site.fails(format!("{issuer} does not describe itself")))?;
        if !authority.proves_keys() {
            return Err(site.fails(format!("{issuer} does not say that it knows PKCE with S256")));
        }
        let Resource { resource, scopes_supported, .. } = resource;
        Ok(Found { resource, scopes_supported, authority })
    }

    fn choose<'r>(&self, site: &Site<'_>, resource: &'r Resource) -> Result<&'r str, HubError> {
        let mut issuers = resource.authorization_servers.iter();
        let issuer = match &site.oauth.issuer {
            Some(wanted) => issuers.find(|issuer| *issuer == wanted),
            None => issuers.next(),
        };
        issuer
            .map(String::as_str)
            .ok_or_else(|| site.fails("it names no authorization server that is wanted"))
    }

    async fn find_resource(
        &self,
        site: &Site<'_>,
        challenge: Option<&Challenge>,
    ) -> Result<Option<Resource>, HubError> {
        let named = challenge.and_then(|challenge| challenge.resource_metadata.as_deref());
        let named = named.and_then(|place| Url::parse(place).ok());
        let places = named.into_iter().chain(resource_places(&site.vicinity.server));
        for place in places {
            let fetched = self.run(site, Errand::get(place)).await?;
            if let Some(resource) = read::<Resource>(&fetched) {
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    /// Reads how an authorization server describes itself. A description of another one is not used, wherever it stands.
    async fn read_authority(&self, site: &Site<'_>, issuer: &str) -> Result<Option<Authority>, HubError> {
        let place = Url::parse(issuer).map_err(|_| site.fails("its authorization server has no address"))?;
        for place in authority_places(&place) {
            let fetched = self.run(site, Errand::get(place)).await?;
            let Some(authority) = read::<Authority>(&fetched) else { continue };
            if authority.issuer != issuer {
                return Err(site.fails("the description of its authorization server is another one's"));
            }
            return Ok(Some(authority));
        }
        Ok(None)
    }

    /// Becomes known to an authorization server: as the definition says, by the hub's own document, as before, or anew.
    pub(super) async fn be_known(
        &self,
        site: &Site<'_>,
        authority: &Authority,
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
            return Ok(Registered { id, secret: None, proof, origin: Origin::Definition });
        }
        if authority.client_id_metadata_document_supported
            && let Some(id) = self.client_document()
        {
            return Ok(Registered { id, secret: None, proof: Proof::None, origin: Origin::Document });
        }
        let known = before.filter(|before| before.issuer == authority.issuer).map(|before| &before.client);
        if let Some(known) = known.filter(|known| known.origin == Origin::Registration) {
            return Ok(known.clone());
        }
        let Some(place) = authority.registration_endpoint.clone() else {
            return Err(
                site.fails("its authorization server registers nobody: its definition needs a `clientId`")
            );
        };
        self.register(site, place, Proof::choose(supported).ok_or_else(unfit)?).await
    }

    async fn register(&self, site: &Site<'_>, place: Url, proof: Proof) -> Result<Registered, HubError> {
        let content = Content::Json(self.client_metadata(proof).to_string());
        let fetched = self.run(site, Errand { content, ..Errand::get(place) }).await?;
        let Some(Registration { client_id, client_secret, token_endpoint_auth_method }) = read(&fetched)
        else {
            return Err(site.fails(format!(
                "its authorization server refuses to register the hub (HTTP {})",
                fetched.status
            )));
        };
        let proof = match (&client_secret, token_endpoint_auth_method) {
            (None, _) => Proof::None,
            (Some(_), named) => named.unwrap_or(proof),
        };
        Ok(Registered { id: client_id, secret: client_secret, proof, origin: Origin::Registration })
    }

    /// Describes the hub to authorization servers.
    pub(super) fn client_metadata(&self, proof: Proof) -> serde_json::Value {
        json!({
            "client_name": "MCPHub",
            "client_uri": self.public_url.as_str(),
            "redirect_uris": [self.callback()],
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
        match (client.origin, site.oauth.secret_slot()) {
            (Origin::Definition, Some(slot)) => {
                let values = self.find_shared_values(site.server).await?.unseal(&self.seal.open()?.vault)?;
                let secret = values.into_iter().find(|(name, _)| *name == slot).map(|(_, value)| value);
                let missing = |slot: Slot| self.lacks(site.server, vec![slot.name().clone()], Vec::new());
                secret.map(Some).ok_or_else(|| missing(slot))
            }
            _ => Ok(client.secret.clone().map(SecretText::new)),
        }
    }
}

/// Reads an answer that is a success and what it should be.
pub(super) fn read<'f, T: Deserialize<'f>>(fetched: &'f Fetched) -> Option<T> {
    if !(200..300).contains(&fetched.status) {
        return None;
    }
    serde_json::from_slice(&fetched.body).ok()
}
