//! Listing: exactly the tools that the caller may call, and what is missing beside them.

use mcphub_domain::{Server, ServerName, UserId};
use mcphub_policy::{Endpoint, World, decide};
use mcphub_upstream::UpstreamError;
use mcphub_wire::list::{Item, ListKind};
use mcphub_wire::shared::share_tool;
use mcphub_wire::{Fault, Limits, Raw};

use crate::caller::Caller;
use crate::discovery::FIRST_LIST;
use crate::error::{HubError, MissingCredential};
use crate::hub::Hub;

/// Is a tool as an endpoint shows it.
#[derive(Debug)]
pub struct ListedTool {
    /// Its name there.
    pub name: String,
    /// Whose it is.
    pub server: ServerName,
    /// Its definition, as its server sent it.
    pub definition: bytes::Bytes,
}

/// Says why a server's tools are not in a list.
#[derive(Debug)]
pub struct Absence {
    /// The server.
    pub server: ServerName,
    /// Why.
    pub reason: String,
    /// The page that fixes it, where one does.
    pub url: Option<String>,
}

/// Is a list of tools, whole and in a fixed order.
#[derive(Debug, Default)]
pub struct Listing {
    /// The tools.
    pub tools: Vec<ListedTool>,
    /// The servers whose tools are not there.
    pub absent: Vec<Absence>,
}

impl Hub {
    /// Connects a caller to the endpoint that a path names.
    pub async fn endpoint(&self, caller: &Caller, name: Option<&str>) -> Result<Endpoint, HubError> {
        self.seal.open()?;
        self.take_in(caller, "connect").await?;
        let world = self.snapshot.fresh()?;
        match decide::endpoint(&world, caller.principal, name, self.clock.now()) {
            Ok(endpoint) => Ok(endpoint),
            Err(denial) => {
                Box::pin(self.record(caller, denial.clone().into_event("connect"))).await;
                Err(denial.into())
            }
        }
    }

    /// Takes in one more message of a request that came with several.
    pub async fn take_in_message(&self, caller: &Caller) -> Result<(), HubError> {
        self.take_in(caller, "message").await
    }

    /// Lists the tools that the caller may call on an endpoint.
    ///
    /// A server that nobody has listed yet is listed now, for at most ten seconds; all such servers
    /// at the same time, so that a slow one delays nobody else's answer beyond its own deadline.
    pub async fn list_tools(&self, caller: &Caller, endpoint: Endpoint) -> Result<Listing, HubError> {
        self.seal.open()?;
        let absent = self.take_up_unlisted(caller, endpoint).await?;
        let world = self.snapshot.fresh()?;
        let visible = decide::visible(&world, caller.principal, endpoint, self.clock.now());
        let tools: Vec<ListedTool> = visible
            .into_iter()
            .filter_map(|(name, route)| {
                let definition = self.catalog.get(route.server, &route.tool, &route.digest)?;
                Some(ListedTool { name, server: route.server_name, definition })
            })
            .collect();
        self.look_again_at(caller, endpoint, &world);
        let target = endpoint_name(&world, endpoint);
        self.record_read(caller, "tools/list", target.as_deref(), tools.len()).await;
        Ok(Listing { tools, absent })
    }

    /// Names what a list would show, for noticing that it changed. Nothing is recorded.
    pub fn visible_names(&self, caller: &Caller, endpoint: Endpoint) -> Vec<String> {
        let visible = decide::visible(&self.snapshot.newest(), caller.principal, endpoint, self.clock.now());
        visible.into_iter().map(|(name, route)| format!("{name} {}", route.digest)).collect()
    }

    /// Lists, now, the server that a tool's name points to, if nobody has listed it yet and the caller
    /// may use it. Says whether it was listed.
    pub(crate) async fn take_up_first(
        &self,
        caller: &Caller,
        endpoint: Endpoint,
        tool: &str,
    ) -> Result<bool, HubError> {
        let world = self.snapshot.newest();
        let Some(user) = caller.principal.user() else { return Ok(false) };
        let entry = match endpoint {
            Endpoint::Server(id) => world.server(id),
            Endpoint::All | Endpoint::Group(_) => {
                tool.split_once("__").and_then(|(server, _)| world.server_named(server))
            }
        };
        let Some(entry) = entry.filter(|entry| entry.tools().next().is_none()) else { return Ok(false) };
        if !decide::reachable(&world, caller.principal, endpoint, self.clock.now())
            .contains(&entry.server().id)
        {
            return Ok(false);
        }
        self.first_look(user, entry.server()).await.map(|()| true)
    }

    /// Lists a server that nobody has listed yet, or says at once why that failed a moment ago.
    async fn first_look(&self, user: UserId, server: &Server) -> Result<(), HubError> {
        self.lately_failed(user, server)?;
        let look = tokio::time::timeout(FIRST_LIST, self.look_in_turn(user, server)).await;
        let look = look.unwrap_or_else(|_| Err(slow(server)));
        match &look {
            // The values changed meanwhile, so this says nothing about those that are there now.
            Err(HubError::Upstream(UpstreamError::Closed { .. })) => {}
            Err(HubError::Upstream(error)) => self.lookout.note_failure(user, server, error.clone()),
            _ => {}
        }
        look
    }

    /// Whoever comes while somebody lists the server waits for the same list.
    async fn look_in_turn(&self, user: UserId, server: &Server) -> Result<(), HubError> {
        let turn = self.lookout.turn(server.id);
        let _turn = turn.lock().await;
        if self.is_listed(server.id) {
            return Ok(());
        }
        self.lately_failed(user, server)?;
        self.find_values(user, server, &server.definition.needs()).await?;
        if self.lookout.try_first(user, server) {
            self.discover_as(user, server).await?;
        }
        if !self.is_listed(server.id) {
            // Another process has listed it meanwhile, of which this one hasn't heard yet.
            self.refresh().await?;
        }
        Ok(())
    }

    fn lately_failed(&self, user: UserId, server: &Server) -> Result<(), HubError> {
        self.lookout.failure(user, server).map_or(Ok(()), |error| Err(error.into()))
    }

    fn look_again_at(&self, caller: &Caller, endpoint: Endpoint, world: &World) {
        let Some(user) = caller.principal.user() else { return };
        for id in decide::reachable(world, caller.principal, endpoint, self.clock.now()) {
            if let Some(entry) = world.server(id) {
                self.look_again(user, entry.server());
            }
        }
    }

    async fn take_up_unlisted(&self, caller: &Caller, endpoint: Endpoint) -> Result<Vec<Absence>, HubError> {
        let world = self.snapshot.fresh()?;
        let Some(user) = caller.principal.user() else { return Ok(Vec::new()) };
        let looks = decide::reachable(&world, caller.principal, endpoint, self.clock.now())
            .into_iter()
            .filter_map(|id| world.server(id))
            .filter(|entry| entry.tools().next().is_none())
            .map(|entry| async {
                let error = self.first_look(user, entry.server()).await.err()?;
                Some(absence(entry.server().name.clone(), error))
            });
        Ok(futures_util::future::join_all(looks).await.into_iter().flatten().collect())
    }
}

impl Absence {
    /// Writes the absence for a list's `_meta`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "server": self.server, "reason": self.reason, "url": self.url })
    }
}

impl ListedTool {
    /// Returns the definition as its server sent it.
    pub fn original(&self) -> Result<Raw, Fault> {
        Raw::parse(self.definition.clone(), &Limits::RESPONSE)
    }

    /// Returns the definition under the name that a shared endpoint gives the tool.
    pub fn renamed(&self) -> Result<Raw, Fault> {
        let renamed = Item::parse(ListKind::Tools, &self.original()?)?.renamed(&self.name);
        share_tool(&renamed, self.server.as_str())
    }
}

fn slow(server: &Server) -> HubError {
    HubError::Upstream(UpstreamError::TimedOut { server: server.name.clone(), after: FIRST_LIST })
}

pub(crate) fn absence(server: ServerName, error: HubError) -> Absence {
    let url = match &error {
        HubError::MissingCredential(MissingCredential { url, .. }) => Some(url.clone()),
        _ => None,
    };
    Absence { server, reason: error.to_string(), url }
}

pub(crate) fn endpoint_name(world: &World, endpoint: Endpoint) -> Option<String> {
    match endpoint {
        Endpoint::All => None,
        Endpoint::Group(id) => world.group(id).map(|group| group.name.to_string()),
        Endpoint::Server(id) => world.server(id).map(|entry| entry.server().name.to_string()),
    }
}
