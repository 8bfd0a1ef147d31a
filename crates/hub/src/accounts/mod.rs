//! Accounts: people connect their own at servers which let them in by OAuth 2.1, and the hub sends their tokens with their calls.
//!
//! A person is sent to her authorization server from the hub's own page, with her hub key; what she comes back with counts in
//! the same browser only, once, and for ten minutes. Nobody else's browser can finish what she began, nor she what another did.

mod account;
mod arriving;
pub(crate) mod bounded;
mod discovery;
mod going;
mod grant;
mod metadata;
mod pending;
mod registration;
mod renewal;
mod renewing;
mod scopes;
mod standing;
mod turns;
mod ways;

use mcphub_domain::{Event, ServerId, ServerName, UserId};
use mcphub_policy::Administration;
use url::Url;

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use discovery::Site;
use going::Person;
use ways::Stray;

pub(crate) use account::Account;
pub(crate) use pending::Accounts;

/// Where people come back to; from authorization servers that don't say who they are, to a place under it.
pub const CALLBACK: &str = "/oauth/callback";
/// Where the hub describes itself to authorization servers; the address is its id there.
pub const CLIENT_DOCUMENT: &str = "/client-metadata.json";
/// How much of what went wrong is recorded.
const RECORDED: usize = 200;

/// Is where a person has to go now.
pub struct Connecting {
    /// Her authorization server's page.
    pub url: String,
    /// What she comes back with.
    pub state: String,
    /// What her browser keeps until she is back.
    pub browser: String,
}

/// Is what a person comes back with.
#[derive(Default)]
pub struct Callback {
    /// The path of the hub's page that she comes back to.
    pub path: String,
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
        let charged = self.limits.charge(owner, self.clock.now());
        let _place = charged.map_err(|after| HubError::RateLimited { after })?;
        self.record_durable(caller, Event::AccountBegun { owner, server: server.id }).await?; // before anything leaves the hub
        match self.go(Person { caller, owner }, &site).await {
            Ok(connecting) => Ok(connecting),
            Err(error) => Err(self.note_failure(caller, (owner, server.id), error).await),
        }
    }

    /// Takes in a person who comes back, and seals the tokens that she brings.
    pub async fn finish_account(
        &self,
        callback: Callback,
        browser: Option<&str>,
    ) -> Result<ServerName, HubError> {
        let unknown = || HubError::NotFound { what: "anybody who would come back with that".to_owned() };
        let state = callback.state.as_deref().ok_or_else(unknown)?;
        let (way, spoiled) = match self.accounts.ways.take_in(state, browser, self.clock.now()) {
            Ok(way) => (way, None),
            Err(Stray::Spoiled(way, reason)) => (*way, Some(reason)),
            Err(Stray::Unknown) => return Err(unknown()),
        };
        let (caller, whose, name) = (way.caller.clone(), (way.owner, way.server.id), way.server.name.clone());
        let finished = match spoiled {
            None => self.finish(way, callback).await,
            Some(reason) => Site::of(&way.server).and_then(|site| Err(site.fails(reason))),
        };
        match finished {
            Ok(()) => Ok(name),
            Err(error) => Err(self.note_failure(&caller, whose, error).await),
        }
    }

    /// Is the address under which people reach the hub.
    pub const fn public_url(&self) -> &Url {
        &self.public_url
    }

    /// Records why no account was connected.
    async fn note_failure(
        &self,
        caller: &Caller,
        (owner, server): (UserId, ServerId),
        error: HubError,
    ) -> HubError {
        let reason = recorded(&error);
        self.record(caller, Event::AccountFailed { owner, server, reason }).await;
        error
    }
}

/// Words an error for the log, with what the person is not told.
fn recorded(error: &HubError) -> String {
    let aside = match error {
        HubError::Account { aside: Some(aside), .. } => format!(": {aside}"),
        _ => String::new(),
    };
    format!("{error}{aside}").chars().take(RECORDED).collect()
}

#[cfg(test)]
mod tests {
    use super::{RECORDED, recorded};
    use crate::error::HubError;

    #[test]
    fn a_record_says_more_than_the_person_is_told_but_not_without_end() {
        let error = |aside: &str| HubError::Account {
            server: "notes".parse().unwrap(),
            reason: "r".to_owned(),
            aside: Some(aside.to_owned()),
        };
        assert_eq!(recorded(&error("10.0.0.1")), "no account can be connected at notes: r: 10.0.0.1");
        assert!(!error("10.0.0.1").to_string().contains("10.0.0.1"));
        assert_eq!(recorded(&error(&"ü".repeat(RECORDED))).chars().count(), RECORDED);
    }
}
