//! Servers and their tools: add, change, remove, approve.

use mcphub_domain::server::ServerState;
use mcphub_domain::{
    Effect, Event, Server, ServerDefinition, ServerId, ServerName, Tool, ToolDigest, ToolName, ToolState,
};
use mcphub_policy::Administration;

use crate::caller::Caller;
use crate::error::{HubError, check_revision};
use crate::hub::Hub;
use crate::import::literal_secret;

/// Says what to change of a server, based on a revision that was read before.
#[derive(Debug)]
pub struct UpdateServer {
    /// The revision that the change is based on.
    pub revision: i64,
    /// A new definition.
    pub definition: Option<ServerDefinition>,
    /// Whether it is in use.
    pub state: Option<ServerState>,
}

/// Says what to change of a tool, based on what was looked at.
#[derive(Debug)]
pub struct UpdateTool {
    /// The revision that the change is based on.
    pub revision: i64,
    /// The definition that was looked at.
    pub digest: ToolDigest,
    /// A new effect.
    pub effect: Option<Effect>,
    /// A new state.
    pub state: Option<ToolState>,
}

impl Hub {
    /// Adds a server. A running hub lists its tools at once if shared values suffice.
    pub async fn add_server(
        &self,
        caller: &Caller,
        name: ServerName,
        definition: ServerDefinition,
    ) -> Result<Server, HubError> {
        let permit = self.administrate(caller, Administration::ManageServers, "servers.add").await?;
        check_definition(&definition)?;
        let server = Server {
            id: ServerId::random(&self.entropy),
            name,
            definition,
            state: ServerState::Enabled,
            revision: 1,
            created_at: self.clock.now(),
        };
        let mut tx = self.store.write().await?;
        tx.add_server(&server).await?;
        let event = Event::ServerAdded {
            server: server.id,
            name: server.name.clone(),
            definition: text(&server.definition)?,
        };
        self.commit(tx, permit, event).await?;
        Ok(server)
    }

    /// Changes a server. A new destination suspends every credential until its owner confirms it.
    pub async fn update_server(
        &self,
        caller: &Caller,
        id: ServerId,
        update: UpdateServer,
    ) -> Result<Server, HubError> {
        let permit = self.administrate(caller, Administration::ManageServers, "servers.update").await?;
        let before = self.server(id)?;
        check_revision(format_args!("server {}", before.name), before.revision, update.revision)?;
        update.definition.as_ref().map_or(Ok(()), check_definition)?;
        let server = Server {
            definition: update.definition.unwrap_or_else(|| before.definition.clone()),
            state: update.state.unwrap_or(before.state),
            revision: before.revision + 1,
            ..before
        };
        let mut tx = self.store.write().await?;
        tx.put_server(&server).await?;
        let event = Event::ServerUpdated {
            server: id,
            name: server.name.clone(),
            definition: text(&server.definition)?,
            state: server.state,
            destination: hex::encode(server.definition.destination().as_bytes()),
        };
        self.commit(tx, permit, event).await?;
        Ok(server)
    }

    /// Removes a server with everything that is about it: tools, grants, shared values, credentials.
    pub async fn remove_server(&self, caller: &Caller, id: ServerId, revision: i64) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::ManageServers, "servers.remove").await?;
        let server = Server { revision, ..self.server(id)? };
        let mut tx = self.store.write().await?;
        tx.remove_server(&server).await?;
        self.commit(tx, permit, Event::ServerRemoved { server: id, name: server.name }).await
    }

    /// Lists all servers, by name.
    pub async fn list_servers(&self, caller: &Caller) -> Result<Vec<Server>, HubError> {
        self.administrate(caller, Administration::ReadDirectory, "servers.list").await?;
        let mut servers: Vec<Server> =
            self.snapshot.fresh()?.servers().map(|entry| entry.server().clone()).collect();
        servers.sort_by(|one, other| one.name.cmp(&other.name));
        self.record_read(caller, "servers.list", None, servers.len()).await;
        Ok(servers)
    }

    /// Lists the tools of a server, pending ones included, by name.
    pub async fn list_server_tools(&self, caller: &Caller, id: ServerId) -> Result<Vec<Tool>, HubError> {
        self.administrate(caller, Administration::ReadDirectory, "tools.list").await?;
        let world = self.snapshot.fresh()?;
        let entry = world.server(id).ok_or_else(|| not_found(id))?;
        let tools: Vec<Tool> = entry.tools().cloned().collect();
        self.record_read(caller, "tools.list", Some(entry.server().name.as_str()), tools.len()).await;
        Ok(tools)
    }

    /// Approves a tool, takes the approval back, or says what it does to the world.
    pub async fn update_tool(
        &self,
        caller: &Caller,
        id: ServerId,
        name: &ToolName,
        update: UpdateTool,
    ) -> Result<Tool, HubError> {
        let permit = self.administrate(caller, Administration::ManageServers, "tools.update").await?;
        let world = self.snapshot.fresh()?;
        let entry = world.server(id).ok_or_else(|| not_found(id))?;
        let unknown =
            || HubError::NotFound { what: format!("tool {name} of server {}", entry.server().name) };
        let before = entry.tool(name.as_str()).ok_or_else(unknown)?;
        let tool = Tool {
            effect: update.effect.unwrap_or(before.effect),
            state: update.state.unwrap_or(before.state),
            digest: update.digest,
            revision: update.revision + 1,
            ..before.clone()
        };
        let mut tx = self.store.write().await?;
        tx.put_tool(&tool).await?;
        let event = Event::ToolUpdated {
            server: id,
            tool: tool.name.clone(),
            effect: tool.effect,
            state: tool.state,
            definition: tool.digest,
        };
        self.commit(tx, permit, event).await?;
        Ok(tool)
    }

    /// Finds a server in the newest world.
    pub(crate) fn server(&self, id: ServerId) -> Result<Server, HubError> {
        self.snapshot.fresh()?.server(id).map(|entry| entry.server().clone()).ok_or_else(|| not_found(id))
    }
}

/// Checks a definition before it goes into the database and, for ever, into the log.
fn check_definition(definition: &ServerDefinition) -> Result<(), HubError> {
    definition.check().map_err(|error| HubError::Invalid(error.to_string()))?;
    literal_secret(definition).map_or(Ok(()), |reason| Err(HubError::Invalid(reason)))
}

fn text(definition: &ServerDefinition) -> Result<String, HubError> {
    serde_json::to_string(definition).map_err(|error| HubError::Internal(error.to_string()))
}

fn not_found(id: ServerId) -> HubError {
    HubError::NotFound { what: format!("server {id}") }
}
