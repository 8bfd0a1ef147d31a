//! Finding out who lets people in at a server. What can't be read is an error: only a server that has nothing there is taken for
//! one of 2025-03-26, and one whose issuer an admin has named never is.

use mcphub_domain::oauth::OAuth;
use mcphub_domain::{Server, Transport};
use mcphub_upstream::{Challenge, Errand, ErrandError, Fetched, Vicinity};
use serde::Deserialize;
use url::Url;

use super::bounded::shown;
use super::metadata::{Authority, Resource, authority_places, own_name, resource_places};
use crate::error::HubError;
use crate::hub::Hub;

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
        HubError::Account { server: self.server.name.clone(), reason: reason.into(), aside: None }
    }

    /// Fails with something beside that only the record tells.
    fn fails_aside(&self, reason: String, aside: String) -> HubError {
        HubError::Account { server: self.server.name.clone(), reason, aside: Some(aside) }
    }

    /// Refuses an address that may not be asked, before anything is sent there.
    pub(super) fn check(&self, url: &Url) -> Result<(), HubError> {
        self.vicinity.check(url).map_err(|reason| {
            let place = url.origin().ascii_serialization();
            self.fails(format!("{} may not be asked: {reason}", shown(&place)))
        })
    }
}

impl Hub {
    /// Runs an errand. Where a name leads is told to nobody: whoever chose it could look around with that.
    pub(super) async fn run(&self, site: &Site<'_>, errand: Errand) -> Result<Fetched, HubError> {
        self.upstreams.run(errand, &site.vicinity).await.map_err(|error| match error {
            ErrandError::Refused(place, why) => {
                site.fails_aside(format!("{} may not be asked", shown(&place)), why)
            }
            ErrandError::Failed(place, why) => {
                site.fails_aside(format!("{} can't be asked", shown(&place)), why)
            }
        })
    }

    /// Asks the server something without a token, for what it wants of those who do. Whoever lets people in is found without it, too.
    pub(super) async fn challenge_of(&self, site: &Site<'_>) -> Option<Challenge> {
        match self.upstreams.probe(&site.vicinity).await {
            Ok(challenge) => challenge,
            Err(error) => {
                tracing::debug!(server = %site.server.name, %error, "a server doesn't say what it wants");
                None
            }
        }
    }

    /// Finds out who lets people in.
    pub(super) async fn find_authority(
        &self,
        site: &Site<'_>,
        challenge: Option<&Challenge>,
    ) -> Result<Found, HubError> {
        let server = &site.vicinity.server;
        let resource = match (self.find_resource(site, challenge).await?, &site.oauth.issuer) {
            (Some(resource), _) if !resource.covers(server) => {
                return Err(site.fails("what describes it describes another server"));
            }
            (Some(resource), _) => resource,
            (None, Some(issuer)) => Resource::of(own_name(server), vec![issuer.clone()]),
            (None, None) => return self.find_own_authority(site).await,
        };
        let issuer = choose(site, &resource)?;
        let authority = self.read_authority(site, issuer, |named| named == issuer).await?;
        let authority =
            authority.ok_or_else(|| site.fails(format!("{} does not describe itself", shown(issuer))))?;
        let Resource { resource, scopes_supported, .. } = resource;
        Ok(Found { resource, scopes_supported, authority })
    }

    /// Finds out how a server of 2025-03-26 lets people in itself.
    async fn find_own_authority(&self, site: &Site<'_>) -> Result<Found, HubError> {
        let server = &site.vicinity.server;
        let origin = server.origin().ascii_serialization();
        // Many write the address of a whole server with a slash.
        let is_itself = |named: &str| named.strip_suffix('/').unwrap_or(named) == origin;
        let found = self.read_authority(site, &origin, is_itself).await?;
        let authority = found.or_else(|| Authority::assumed(server));
        let authority = authority.ok_or_else(|| site.fails("nobody says who lets people in"))?;
        Ok(Found { resource: own_name(server), scopes_supported: Vec::new(), authority })
    }

    async fn find_resource(
        &self,
        site: &Site<'_>,
        challenge: Option<&Challenge>,
    ) -> Result<Option<Resource>, HubError> {
        let named = challenge.and_then(|challenge| challenge.resource_metadata.as_deref());
        let named = named.and_then(|place| Url::parse(place).ok());
        for place in named.into_iter().chain(resource_places(&site.vicinity.server)) {
            if let Some(resource) = self.describe(site, place).await? {
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    /// Reads how an authorization server describes itself. A description of another one is not used, wherever it stands, nor one
    /// that doesn't know PKCE.
    async fn read_authority(
        &self,
        site: &Site<'_>,
        issuer: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<Option<Authority>, HubError> {
        let place = Url::parse(issuer).map_err(|_| site.fails("its authorization server has no address"))?;
        for place in authority_places(&place) {
            let Some(authority) = self.describe::<Authority>(site, place).await? else { continue };
            if !is_it(&authority.issuer) {
                return Err(site.fails("the description of its authorization server is another one's"));
            }
            if !authority.proves_keys() {
                let reason = format!("{} does not say that it knows PKCE with S256", shown(issuer));
                return Err(site.fails(reason));
            }
            return Ok(Some(authority));
        }
        Ok(None)
    }

    /// Reads a description; nothing if nothing is there. Whatever else is there, an outage included, is no answer.
    async fn describe<T: for<'de> Deserialize<'de>>(
        &self,
        site: &Site<'_>,
        place: Url,
    ) -> Result<Option<T>, HubError> {
        let origin = place.origin().ascii_serialization();
        let fetched = self.run(site, Errand::describe(place)).await?;
        match (fetched.status, read(&fetched)) {
            (_, Some(description)) => Ok(Some(description)),
            (400 | 401 | 403 | 404 | 405 | 406 | 410, _) => Ok(None),
            (status, None) => {
                let reason =
                    format!("{} describes itself in no way that can be read (HTTP {status})", shown(&origin));
                Err(site.fails(reason))
            }
        }
    }
}

/// Chooses who is asked to let people in: whom the definition names, else the first.
fn choose<'r>(site: &Site<'_>, resource: &'r Resource) -> Result<&'r str, HubError> {
    let mut issuers = resource.authorization_servers.iter();
    let issuer = match &site.oauth.issuer {
        Some(wanted) => issuers.find(|issuer| *issuer == wanted),
        None => issuers.next(),
    };
    issuer.map(String::as_str).ok_or_else(|| site.fails("it names no authorization server that is wanted"))
}

/// Reads an answer that is a success and what it should be.
pub(super) fn read<'f, T: Deserialize<'f>>(fetched: &'f Fetched) -> Option<T> {
    if !(200..300).contains(&fetched.status) {
        return None;
    }
    serde_json::from_slice(&fetched.body).ok()
}
