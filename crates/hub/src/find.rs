//! Finding a server by what people call it.

use mcphub_domain::{Server, ServerId, UserId};
use mcphub_policy::{Administration, Endpoint, decide};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;

/// How much of a name that means nothing is repeated.
const SHOWN: usize = 64;

impl Hub {
    /// Finds a server.
    pub async fn find_server(&self, caller: &Caller, id: ServerId) -> Result<Server, HubError> {
        self.administrate(caller, Administration::ReadDirectory, "servers.show").await?;
        let server = self.server(id)?;
        self.record_read(caller, "servers.show", Some(server.name.as_str()), 1).await;
        Ok(server)
    }

    /// Finds the server whose slots a person asks about, by its id or its name. One that she neither
    /// reaches nor has a value for looks like one that doesn't exist.
    pub async fn find_slots_of(
        &self,
        caller: &Caller,
        owner: UserId,
        server: &str,
    ) -> Result<ServerId, HubError> {
        self.administrate(caller, Administration::Credentials(owner), "credentials.find").await?;
        let (world, now) = (self.snapshot.fresh()?, self.clock.now());
        let entry = match server.parse::<ServerId>() {
            Ok(id) => world.server(id),
            Err(_) => world.server_named(server),
        };
        let unknown = || HubError::NotFound {
            what: format!("server {}", server.chars().take(SHOWN).collect::<String>()),
        };
        let id = entry.ok_or_else(unknown)?.server().id;
        let sees = |action| decide::administration(&world, caller.principal, action, now).is_ok();
        let known = decide::still_open(&world, caller.principal, Endpoint::Server(id), now).is_ok()
            || sees(Administration::ReadDirectory)
            || !self.store.credentials(owner, id).await?.is_empty();
        if known { Ok(id) } else { Err(unknown()) }
    }
}
