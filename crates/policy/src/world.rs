//! The world that decisions are made on: an immutable snapshot that shares what didn't change.

use std::sync::Arc;

use imbl::{HashMap, OrdMap};
use mcphub_domain::server::Needs;
use mcphub_domain::tool::shared_name;
use mcphub_domain::{
    Grant, GrantId, Group, GroupId, HubKey, KeyId, Membership, Server, ServerId, Timestamp, Tool, ToolName,
    User, UserId, UserName,
};

use crate::action::Endpoint;

/// Holds everything that decisions need. Cloning is cheap; a change copies only its own path.
#[derive(Clone, Default)]
pub struct World {
    revision: i64,
    users: HashMap<UserId, Arc<User>>,
    user_names: HashMap<UserName, UserId>,
    groups: HashMap<GroupId, Arc<Group>>,
    memberships: HashMap<UserId, OrdMap<GroupId, Membership>>,
    grants: HashMap<GroupId, OrdMap<GrantId, Arc<Grant>>>,
    servers: HashMap<ServerId, ServerEntry>,
    paths: HashMap<String, Endpoint>,
    keys: HashMap<KeyId, Arc<HubKey>>,
}

/// Holds a server with its tools, by the names that its server and shared endpoints give them.
#[derive(Clone)]
pub struct ServerEntry {
    server: Arc<Server>,
    needs: Arc<Needs>,
    tools: OrdMap<ToolName, Arc<Tool>>,
    shared: OrdMap<String, ToolName>,
}

impl ServerEntry {
    /// Shows the server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Shares the server.
    pub fn share(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    /// Says what a call to it needs.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Lists its tools in the order of their names.
    pub fn tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values().map(AsRef::as_ref)
    }

    /// Finds a tool by the name that its server gives it.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name).map(AsRef::as_ref)
    }

    /// Finds a tool by its name on shared endpoints.
    pub fn shared_tool(&self, name: &str) -> Option<&Tool> {
        self.shared.get(name).and_then(|name| self.tool(name.as_str()))
    }

    fn rename_tools(&mut self) {
        self.shared = self
            .tools
            .keys()
            .map(|tool| (shared_name(&self.server.name, tool.as_str()), tool.clone()))
            .collect();
    }
}

impl World {
    /// Names the state of the database that this is.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Says which state of the database this has become.
    pub const fn set_revision(&mut self, revision: i64) {
        self.revision = revision;
    }

    /// Finds a person.
    pub fn user(&self, id: UserId) -> Option<&User> {
        self.users.get(&id).map(AsRef::as_ref)
    }

    /// Finds a person by name.
    pub fn user_named(&self, name: &str) -> Option<&User> {
        self.user_names.get(name).and_then(|id| self.user(*id))
    }

    /// Lists all people, in no order.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(AsRef::as_ref)
    }

    /// Finds a group.
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id).map(AsRef::as_ref)
    }

    /// Lists all groups, in no order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(AsRef::as_ref)
    }

    /// Lists what a person is in, ended memberships included.
    pub fn memberships(&self, user: UserId) -> impl Iterator<Item = &Membership> {
        self.memberships.get(&user).into_iter().flat_map(OrdMap::values)
    }

    /// Finds a person's membership of a group, if it holds.
    pub fn membership(&self, user: UserId, group: GroupId, now: Timestamp) -> Option<&Membership> {
        self.memberships.get(&user)?.get(&group).filter(|membership| membership.is_live(now))
    }

    /// Lists who is in a group, ended memberships included.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = &Membership> {
        self.memberships.values().filter_map(move |of| of.get(&group))
    }

    /// Lists what a group grants, ended grants included.
    pub fn grants(&self, group: GroupId) -> impl Iterator<Item = &Grant> {
        self.grants.get(&group).into_iter().flat_map(OrdMap::values).map(AsRef::as_ref)
    }

    /// Finds a grant.
    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.values().find_map(|of| of.get(&id)).map(AsRef::as_ref)
    }

    /// Finds a server with its tools.
    pub fn server(&self, id: ServerId) -> Option<&ServerEntry> {
        self.servers.get(&id)
    }

    /// Lists all servers, in no order.
    pub fn servers(&self) -> impl Iterator<Item = &ServerEntry> {
        self.servers.values()
    }

    /// Finds what a path under `/mcp/` names, whoever asks.
    pub fn path(&self, name: &str) -> Option<Endpoint> {
        self.paths.get(name).copied()
    }

    /// Finds a server by name.
    pub fn server_named(&self, name: &str) -> Option<&ServerEntry> {
        match self.path(name)? {
            Endpoint::Server(id) => self.server(id),
            Endpoint::All | Endpoint::Group(_) => None,
        }
    }

    /// Finds a group by name.
    pub fn group_named(&self, name: &str) -> Option<&Group> {
        match self.path(name)? {
            Endpoint::Group(id) => self.group(id),
            Endpoint::All | Endpoint::Server(_) => None,
        }
    }

    /// Finds a hub key.
    pub fn key(&self, id: KeyId) -> Option<&HubKey> {
        self.keys.get(&id).map(AsRef::as_ref)
    }

    /// Lists a person's hub keys, in no order.
    pub fn keys_of(&self, owner: UserId) -> impl Iterator<Item = &HubKey> {
        self.keys.values().map(AsRef::as_ref).filter(move |key| key.owner == owner)
    }

    /// Adds or replaces a person.
    pub fn put_user(&mut self, user: User) {
        if let Some(before) = self.users.get(&user.id)
            && self.user_names.get(&before.name) == Some(&user.id)
        {
            self.user_names.remove(&before.name);
        }
        self.user_names.insert(user.name.clone(), user.id);
        self.users.insert(user.id, Arc::new(user));
    }

    /// Adds or replaces a group.
    pub fn put_group(&mut self, group: Group) {
        if let Some(before) = self.groups.get(&group.id).cloned() {
            self.release(before.name.as_str(), Endpoint::Group(group.id));
        }
        self.paths.insert(group.name.to_string(), Endpoint::Group(group.id));
        self.groups.insert(group.id, Arc::new(group));
    }

    /// Takes a group away, with what it grants.
    pub fn remove_group(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            self.release(group.name.as_str(), Endpoint::Group(id));
        }
        self.grants.remove(&id);
        self.put_members(id, Vec::new());
    }

    /// Replaces who is in a group.
    pub fn put_members(&mut self, group: GroupId, members: Vec<Membership>) {
        let before: Vec<UserId> = self.members(group).map(|membership| membership.user).collect();
        for user in before {
            if let Some(of) = self.memberships.get_mut(&user) {
                of.remove(&group);
            }
        }
        for membership in members {
            self.memberships.entry(membership.user).or_default().insert(group, membership);
        }
    }

    /// Replaces what a group grants.
    pub fn put_grants(&mut self, group: GroupId, grants: Vec<Grant>) {
        self.grants.insert(group, grants.into_iter().map(|grant| (grant.id, Arc::new(grant))).collect());
    }

    /// Adds or replaces a server; its tools stay.
    pub fn put_server(&mut self, server: Server) {
        let tools = match self.servers.get(&server.id).cloned() {
            Some(before) => {
                self.release(before.server.name.as_str(), Endpoint::Server(server.id));
                before.tools
            }
            None => OrdMap::new(),
        };
        self.paths.insert(server.name.to_string(), Endpoint::Server(server.id));
        let id = server.id;
        let needs = Arc::new(server.definition.needs());
        let mut entry = ServerEntry { server: Arc::new(server), needs, tools, shared: OrdMap::new() };
        entry.rename_tools();
        self.servers.insert(id, entry);
    }

    /// Takes a server away.
    pub fn remove_server(&mut self, id: ServerId) {
        if let Some(entry) = self.servers.remove(&id) {
            self.release(entry.server.name.as_str(), Endpoint::Server(id));
        }
    }

    /// Replaces the tools of a server.
    pub fn put_tools(&mut self, server: ServerId, tools: Vec<Tool>) {
        if let Some(entry) = self.servers.get_mut(&server) {
            entry.tools = tools.into_iter().map(|tool| (tool.name.clone(), Arc::new(tool))).collect();
            entry.rename_tools();
        }
    }

    /// Adds or replaces a hub key.
    pub fn put_key(&mut self, key: HubKey) {
        self.keys.insert(key.id, Arc::new(key));
    }

    /// Frees a name, unless somebody else has it by now: the name of a thing that goes may already be
    /// that of a thing that came with the same change.
    fn release(&mut self, name: &str, holder: Endpoint) {
        if self.paths.get(name) == Some(&holder) {
            self.paths.remove(name);
        }
    }
}
