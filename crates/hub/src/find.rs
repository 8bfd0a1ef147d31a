//! Finding things by what people call them.

use std::sync::Arc;

use mcphub_domain::{
    Grant, GrantId, Group, GroupId, GroupName, HubKey, KeyId, Membership, Server, ServerId, ServerName, User,
    UserId, UserName,
};
use mcphub_policy::{Administration, Endpoint, World, decide};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;

/// How much of a name that means nothing is repeated.
const SHOWN: usize = 64;

impl Hub {
    /// Finds a person by name, for something that has a record of its own.
    pub fn user_by_name(&self, caller: &Caller, name: &UserName) -> Result<Option<User>, HubError> {
        Ok(self.directory(caller)?.user_named(name.as_str()).cloned())
    }

    /// Finds a group by name, for something that has a record of its own.
    pub fn group_by_name(&self, caller: &Caller, name: &GroupName) -> Result<Option<Group>, HubError> {
        Ok(self.directory(caller)?.group_named(name.as_str()).cloned())
    }

    /// Finds a server by name, for something that has a record of its own.
    pub fn server_by_name(&self, caller: &Caller, name: &ServerName) -> Result<Option<Server>, HubError> {
        Ok(self.directory(caller)?.server_named(name.as_str()).map(|entry| entry.server().clone()))
    }

    /// Finds how a person is in a group, ended memberships included, for something that has a record
    /// of its own.
    pub fn membership(
        &self,
        caller: &Caller,
        group: GroupId,
        user: UserId,
    ) -> Result<Option<Membership>, HubError> {
        Ok(self.directory(caller)?.members(group).find(|membership| membership.user == user).cloned())
    }

    /// Finds a grant, for something that has a record of its own.
    pub fn grant(&self, caller: &Caller, id: GrantId) -> Result<Option<Grant>, HubError> {
        Ok(self.directory(caller)?.grant(id).cloned())
    }

    /// Finds a hub key, for something that has a record of its own.
    pub fn key(&self, caller: &Caller, id: KeyId) -> Result<Option<HubKey>, HubError> {
        let world = self.snapshot.fresh()?;
        let Some(key) = world.key(id).cloned() else { return Ok(None) };
        let action = Administration::RevokeKey(key.owner);
        decide::administration(&world, caller.principal, action, self.clock.now())?;
        Ok(Some(key))
    }

    /// Looks at the world, for whoever may read the directory.
    pub(crate) fn directory(&self, caller: &Caller) -> Result<Arc<World>, HubError> {
        let world = self.snapshot.fresh()?;
        decide::administration(&world, caller.principal, Administration::ReadDirectory, self.clock.now())?;
        Ok(world)
    }

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
