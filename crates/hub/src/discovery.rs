//! Discovery: what tools a server has, and which of them wait for an approval.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::server::Approval;
use mcphub_domain::{Effect, Event, Principal, RequestId, Server, Slot, Tool, ToolName, ToolState, UserId};
use mcphub_policy::{Administration, decide};
use mcphub_store::servers::StoredTool;
use mcphub_upstream::{Client as AboutClient, ToolDefinition, UpstreamError};
use mcphub_wire::Abilities;

use crate::caller::Caller;
use crate::error::{HubError, again_if_renewed};
use crate::hub::Hub;
use crate::values::SealedValues;

/// How long a person's first use of a server waits for its list.
pub(crate) const FIRST_LIST: Duration = Duration::from_secs(10);

/// Counts what a list changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Listed {
    /// Tools that can be called.
    pub approved: u64,
    /// Tools that wait for an approval.
    pub pending: u64,
    /// Tools that are gone.
    pub removed: u64,
}

/// Says how a server answered when it was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tried {
    /// It listed its tools, which are taken up.
    Listed(Listed),
    /// It answers. Its tools are taken up when the first person who has filled these in uses it.
    Answers {
        /// What each person has to fill in.
        needs: Vec<Slot>,
    },
}

impl Hub {
    /// Tries whether a server answers, with the shared values alone. The tools of a server that each
    /// person has own values for are not taken up: without these it may show others, or none.
    pub async fn test_server(&self, caller: &Caller, server: &Server) -> Result<Tried, HubError> {
        self.administrate(caller, Administration::ManageServers, "servers.test").await?;
        let unreachable = || {
            HubError::Invalid(format!(
                "the address or the arguments of {} name the person who calls, so it can't be tried without her",
                server.name
            ))
        };
        let definition = server.definition.impersonal().ok_or_else(unreachable)?;
        let impersonal = Server { definition, ..server.clone() };
        let shared = self.find_shared_values(&impersonal).await?;
        let needs: Vec<Slot> = server.definition.personal_slots().into_iter().collect();
        match self.look_at(&impersonal, None, shared).await {
            Ok(found) if needs.is_empty() => self.observe(server, found).await.map(Tried::Listed),
            Ok(_) => Ok(Tried::Answers { needs }),
            Err(HubError::Upstream(UpstreamError::Unauthorized { .. })) if !needs.is_empty() => {
                Ok(Tried::Answers { needs })
            }
            Err(error) => Err(error),
        }
    }

    /// Lists a server with the shared values alone.
    pub(crate) async fn discover_shared(&self, server: &Server) -> Result<Listed, HubError> {
        let values = self.find_shared_values(server).await?;
        self.discover(server, None, values).await
    }

    /// Lists a server as a person, with her values.
    pub(crate) async fn discover_as(&self, user: UserId, server: &Server) -> Result<Listed, HubError> {
        let discovered = || async {
            let values = self.find_values(user, server, &server.definition.needs()).await?;
            self.discover(server, Some(user), values).await
        };
        again_if_renewed(discovered).await
    }

    async fn discover(
        &self,
        server: &Server,
        user: Option<UserId>,
        sealed: SealedValues,
    ) -> Result<Listed, HubError> {
        let found = self.look_at(server, user, sealed).await?;
        self.observe(server, found).await
    }

    /// Asks a server for its tools, in the same order as a call: decide, record, unseal, send.
    async fn look_at(
        &self,
        server: &Server,
        user: Option<UserId>,
        sealed: SealedValues,
    ) -> Result<Vec<ToolDefinition>, HubError> {
        let world = self.snapshot.fresh()?;
        let permit = decide::look(&world, Principal::Hub, server.id, user, self.clock.now())?;
        let recorded = self.audit.open_look(permit, RequestId::random(&self.entropy)).await?;
        // Some servers show tools only to clients that can do what these need.
        let client = AboutClient::able(Abilities::ALL);
        let used = sealed.account().map(|row| row.revision);
        let access = self.access(server, user, &client, sealed)?;
        match self.upstreams.list_tools(recorded, &Arc::new(server.clone()), access).await {
            Ok(tools) => Ok(tools),
            Err(error) => match user {
                Some(user) => Err(self.explain_refusal(user, server, (used, error)).await),
                None => Err(error.into()),
            },
        }
    }

    /// Takes up a list: what is known stays as it is, what is new or changed waits for an approval,
    /// except in a server's first list.
    pub(crate) async fn observe(
        &self,
        server: &Server,
        found: Vec<ToolDefinition>,
    ) -> Result<Listed, HubError> {
        if self.store.listed_at(server.id).await?.is_some() {
            let known = by_name(self.store.tools(server.id).await?);
            let tools = merge(server, &known, found.clone(), false);
            if same(&known, &tools) {
                return Ok(count(&known, &tools));
            }
        }
        let now = self.clock.now();
        let caller = self.myself();
        let world = self.snapshot.fresh()?;
        let permit = decide::administration(&world, caller.principal(), Administration::ManageServers, now)?;
        let permit = self.granted(permit, &caller).await?;
        let mut tx = self.store.write().await?;
        // What was known may have changed since, here or on another node; so may the server, and then
        // this list says nothing of it.
        let first = tx.lock_server(server).await?.is_none();
        let known = by_name(tx.tools(server.id).await?);
        let tools = merge(server, &known, found, first && server.definition.approval == Approval::Changes);
        let listed = count(&known, &tools);
        if !first && same(&known, &tools) {
            return Ok(listed);
        }
        tx.put_tools(server.id, &tools).await?;
        let Listed { approved, pending, removed } = listed;
        let event = Event::ToolsListed { server: server.id, approved, pending, removed };
        self.commit(tx, permit, event).await?;
        Ok(listed)
    }
}

fn by_name(tools: Vec<StoredTool>) -> BTreeMap<ToolName, StoredTool> {
    tools.into_iter().map(|stored| (stored.tool.name.clone(), stored)).collect()
}

/// Puts what is known and what was found together.
fn merge(
    server: &Server,
    known: &BTreeMap<ToolName, StoredTool>,
    found: Vec<ToolDefinition>,
    approve: bool,
) -> Vec<StoredTool> {
    let mut tools: BTreeMap<ToolName, StoredTool> = (0..)
        .zip(found)
        .map(|(position, definition)| {
            let mut stored = match known.get(&definition.name) {
                Some(stored) if stands(server, stored, &definition) => stored.clone(),
                before => fresh(server, definition, before, approve),
            };
            stored.tool.position = position;
            (stored.tool.name.clone(), stored)
        })
        .collect();
    if server.definition.is_personal() {
        // Another person may well see tools that this one doesn't.
        for (name, stored) in known {
            tools.entry(name.clone()).or_insert_with(|| stored.clone());
        }
    }
    tools.into_values().collect()
}

/// Says whether what is known of a tool stands against what was found. Where people may see different
/// definitions, one that waits for its approval is not replaced by the next person's, which would go
/// back and forth with each look; when it is approved, the next look compares again.
fn stands(server: &Server, known: &StoredTool, found: &ToolDefinition) -> bool {
    let waits = known.tool.state != ToolState::Approved;
    known.tool.digest == found.digest || (waits && server.definition.is_personal())
}

/// Describes a tool that is new, or isn't any more what it was `before`.
fn fresh(
    server: &Server,
    definition: ToolDefinition,
    before: Option<&StoredTool>,
    approve: bool,
) -> StoredTool {
    let was_approved = before.is_some_and(|before| before.tool.state != ToolState::Pending);
    let tool = Tool {
        server: server.id,
        effect: if before.is_none() { definition.annotations.proposed_effect() } else { Effect::Execute },
        state: match (approve, was_approved) {
            (true, _) => ToolState::Approved,
            (false, true) => ToolState::Changed,
            (false, false) => ToolState::Pending,
        },
        digest: definition.digest,
        position: 0,
        revision: before.map_or(1, |before| before.tool.revision + 1),
        name: definition.name,
    };
    StoredTool { tool, definition: definition.definition.to_vec() }
}

fn count(known: &BTreeMap<ToolName, StoredTool>, tools: &[StoredTool]) -> Listed {
    let in_state = |state| tools.iter().filter(|stored| stored.tool.state == state).count() as u64;
    let gone = known.keys().filter(|name| !tools.iter().any(|stored| stored.tool.name == **name)).count();
    Listed {
        approved: in_state(ToolState::Approved),
        pending: in_state(ToolState::Pending) + in_state(ToolState::Changed),
        removed: gone as u64,
    }
}

fn same(known: &BTreeMap<ToolName, StoredTool>, tools: &[StoredTool]) -> bool {
    known.len() == tools.len()
        && tools
            .iter()
            .all(|stored| known.get(&stored.tool.name).is_some_and(|old| alike(&old.tool, &stored.tool)))
}

/// Says whether two descriptions differ at most in the place where the server lists the tool: a new
/// order alone is not worth a record.
fn alike(one: &Tool, other: &Tool) -> bool {
    *one == Tool { position: one.position, ..other.clone() }
}
