//! The decisions. Everything that may happen passes through one of these functions.

use mcphub_domain::audit::Refusal;
use mcphub_domain::group::{Author, Standing};
use mcphub_domain::server::ServerState;
use mcphub_domain::tool::shared_name;
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{
    Grant, GroupId, Principal, Role, ServerId, Timestamp, Tool, ToolState, User, UserId, Verdict,
};

use crate::action::{Administration, Endpoint};
use crate::grant::{Finding, weigh, weigh_everything, weigh_reading};
use crate::permit::{AdminPermit, AskPermit, Denial, Extent, LookPermit, Permit, Route};
use crate::world::{ServerEntry, World};

/// Decides whether `principal` may act at all at `now`: the person is active and her key lives.
pub fn principal(world: &World, principal: Principal, now: Timestamp) -> Result<(), Denial> {
    match principal {
        Principal::Person { .. } => {
            person(world, principal, now).map(|_| ()).map_err(|reason| deny(principal, reason))
        }
        Principal::Operator | Principal::Hub => Ok(()),
    }
}

/// Decides whether `principal` may connect to the endpoint that a path under `/mcp/` names.
/// An unknown name and one that is none of the caller's business are denied alike.
pub fn endpoint(
    world: &World,
    principal: Principal,
    name: Option<&str>,
    now: Timestamp,
) -> Result<Endpoint, Denial> {
    let user = person(world, principal, now).map_err(|reason| deny(principal, reason))?;
    let Some(name) = name else { return Ok(Endpoint::All) };
    let unknown = || deny_target(principal, Refusal::UnknownEndpoint, name);
    let endpoint = world.path(name).ok_or_else(unknown)?;
    if (Reach { world, user: user.id, endpoint, now }).sees() { Ok(endpoint) } else { Err(unknown()) }
}

/// Decides whether an endpoint that was opened before still stands open.
pub fn still_open(
    world: &World,
    principal: Principal,
    endpoint: Endpoint,
    now: Timestamp,
) -> Result<(), Denial> {
    let user = person(world, principal, now).map_err(|reason| deny(principal, reason))?;
    if (Reach { world, user: user.id, endpoint, now }).sees() {
        Ok(())
    } else {
        Err(deny(principal, Refusal::UnknownEndpoint))
    }
}

/// Decides whether `principal` may call the tool that `name` stands for on `endpoint`.
pub fn call(
    world: &World,
    principal: Principal,
    endpoint: Endpoint,
    name: &str,
    now: Timestamp,
) -> Result<Permit, Denial> {
    let refuse = |reason| refuse_call(world, principal, endpoint, reason, name);
    let user = person(world, principal, now).map_err(refuse)?;
    if user.role == Role::Viewer {
        return Err(refuse(Refusal::Role));
    }
    let reach = Reach { world, user: user.id, endpoint, now };
    if !reach.sees() {
        return Err(refuse(Refusal::UnknownEndpoint));
    }
    let (entry, tool) = resolve(world, endpoint, name).ok_or_else(|| refuse(Refusal::UnknownTool))?;
    reach.may_call(entry, tool).map_err(refuse)?;
    Ok(Permit {
        principal,
        user: user.id,
        endpoint,
        route: route(entry, tool),
        decided_at: now,
        world: world.revision(),
    })
}

/// Lists every tool that `principal` may call on `endpoint`, with its name there, in the order of
/// the servers' names, and of each server's own list.
pub fn visible(
    world: &World,
    principal: Principal,
    endpoint: Endpoint,
    now: Timestamp,
) -> Vec<(String, Route)> {
    let Ok(user) = person(world, principal, now) else { return Vec::new() };
    let reach = Reach { world, user: user.id, endpoint, now };
    if user.role == Role::Viewer || !reach.sees() {
        return Vec::new();
    }
    let mut servers: Vec<&ServerEntry> = match endpoint {
        Endpoint::Server(id) => world.server(id).into_iter().collect(),
        Endpoint::All | Endpoint::Group(_) => world.servers().collect(),
    };
    servers.sort_by(|one, other| one.server().name.cmp(&other.server().name));
    let mut tools = Vec::new();
    for entry in servers {
        let mut listed: Vec<&Tool> = entry.tools().collect();
        listed.sort_by_key(|tool| tool.position);
        for tool in listed {
            let name = public_name(endpoint, entry, tool);
            let answers = resolve(world, endpoint, &name).is_some_and(|(_, found)| found.name == tool.name);
            if answers && reach.may_call(entry, tool).is_ok() {
                tools.push((name, route(entry, tool)));
            }
        }
    }
    tools
}

/// Lists the enabled servers on which any live grant of the caller's allows something, for deciding
/// whose lists matter to her; nobody's do to a viewer, who calls nothing. The order is that of their
/// names.
pub fn reachable(world: &World, principal: Principal, endpoint: Endpoint, now: Timestamp) -> Vec<ServerId> {
    let Ok(user) = person(world, principal, now) else { return Vec::new() };
    if user.role == Role::Viewer {
        return Vec::new();
    }
    let reach = Reach { world, user: user.id, endpoint, now };
    let mut servers: Vec<&ServerEntry> = world
        .servers()
        .filter(|entry| entry.server().state == ServerState::Enabled)
        .filter(|entry| !matches!(endpoint, Endpoint::Server(id) if id != entry.server().id))
        .filter(|entry| reach.has_any_grant(entry.server().id))
        .collect();
    servers.sort_by(|one, other| one.server().name.cmp(&other.server().name));
    servers.into_iter().map(|entry| entry.server().id).collect()
}

/// Lists the servers whose prompts and resources `principal` may read on `endpoint`, in the order of their
/// names.
pub fn readable(world: &World, principal: Principal, endpoint: Endpoint, now: Timestamp) -> Vec<ServerId> {
    let all = reachable(world, principal, endpoint, now);
    all.into_iter().filter(|id| ask(world, principal, endpoint, *id, now).is_ok()).collect()
}

/// Finds the server that a name or a URI of `endpoint` belongs to; `server` is what it says itself, which on
/// one server's endpoint is nothing.
pub fn owner(world: &World, endpoint: Endpoint, server: Option<&str>) -> Option<ServerId> {
    match endpoint {
        Endpoint::Server(id) => Some(id),
        Endpoint::All | Endpoint::Group(_) => Some(world.server_named(server?)?.server().id),
    }
}

/// Decides whether `principal` may ask how a task stands that a call of a tool began, or end it: whoever may call the
/// tool may.
pub fn task(
    world: &World,
    principal: Principal,
    endpoint: Endpoint,
    name: &str,
    now: Timestamp,
) -> Result<AskPermit, Denial> {
    let Permit { user, route, decided_at, world, .. } = call(world, principal, endpoint, name, now)?;
    let (server, server_revision, extent) = (route.server, route.server_revision, Extent::Task(name.into()));
    Ok(AskPermit { principal, user, endpoint, server, server_revision, extent, decided_at, world })
}

/// Decides whether `principal` may read the prompts and resources of a server on `endpoint`.
pub fn ask(
    world: &World,
    principal: Principal,
    endpoint: Endpoint,
    server: ServerId,
    now: Timestamp,
) -> Result<AskPermit, Denial> {
    asking(world, principal, (endpoint, server), Extent::Reading, now)
}

/// Decides whether `principal` may ask a server something that the hub doesn't know, on the server's own endpoint: only
/// who may do everything with it.
pub fn ask_anything(
    world: &World,
    principal: Principal,
    server: ServerId,
    now: Timestamp,
) -> Result<AskPermit, Denial> {
    asking(world, principal, (Endpoint::Server(server), server), Extent::Everything, now)
}

fn asking(
    world: &World,
    principal: Principal,
    (endpoint, server): (Endpoint, ServerId),
    extent: Extent,
    now: Timestamp,
) -> Result<AskPermit, Denial> {
    let refuse = |reason| deny(principal, reason);
    let user = person(world, principal, now).map_err(refuse)?;
    if user.role == Role::Viewer {
        return Err(refuse(Refusal::Role));
    }
    let reach = Reach { world, user: user.id, endpoint, now };
    let is_here = !matches!(endpoint, Endpoint::Server(id) if id != server);
    if !reach.sees() || !is_here {
        return Err(refuse(Refusal::UnknownEndpoint));
    }
    let entry = world.server(server).ok_or_else(|| refuse(Refusal::UnknownOffer))?;
    match extent {
        Extent::Everything => reach.may_all(entry),
        Extent::Reading | Extent::Task(_) => reach.may_read(entry),
    }
    .map_err(refuse)?;
    Ok(AskPermit {
        principal,
        user: user.id,
        endpoint,
        server,
        server_revision: entry.server().revision,
        extent,
        decided_at: now,
        world: world.revision(),
    })
}

/// Decides whether `principal` may list a server's tools: with the values of `user`, if a grant of hers
/// reaches the server; with the shared values alone, if `principal` may manage servers.
pub fn look(
    world: &World,
    principal: Principal,
    server: ServerId,
    user: Option<UserId>,
    now: Timestamp,
) -> Result<LookPermit, Denial> {
    let entry = world.server(server).ok_or_else(|| deny(principal, Refusal::NotFound))?;
    match user {
        None => {
            administration(world, principal, Administration::ManageServers, now)?;
        }
        Some(user) => {
            let may_call = |user: &User| user.state == UserState::Active && user.role != Role::Viewer;
            let is_caller = world.user(user).is_some_and(may_call);
            let is_enabled = entry.server().state == ServerState::Enabled;
            let reach = Reach { world, user, endpoint: Endpoint::Server(server), now };
            if !(is_caller && is_enabled && reach.sees()) {
                return Err(deny(principal, Refusal::NotGranted));
            }
        }
    }
    Ok(LookPermit {
        principal,
        user,
        server,
        server_revision: entry.server().revision,
        decided_at: now,
        world: world.revision(),
    })
}

/// Decides whether `principal` may do an administrative action.
pub fn administration(
    world: &World,
    principal: Principal,
    action: Administration,
    now: Timestamp,
) -> Result<AdminPermit, Denial> {
    let allowed = match principal {
        Principal::Operator => {
            !matches!(action, Administration::ConfirmCredentials(_) | Administration::RenewAccount(_))
        }
        Principal::Hub => matches!(action, Administration::ManageServers | Administration::RenewAccount(_)),
        Principal::Person { .. } => {
            let user = person(world, principal, now).map_err(|reason| deny(principal, reason))?;
            may_administrate(world, user, action, now)
        }
    };
    if allowed {
        Ok(AdminPermit { principal, action, decided_at: now })
    } else {
        Err(deny_target(principal, Refusal::Role, &format!("{action:?}")))
    }
}

/// Says as what `principal` makes the grants that she may make.
pub fn author(world: &World, principal: Principal) -> Author {
    match principal {
        Principal::Operator | Principal::Hub => Author::Admin,
        Principal::Person { user, .. } => match world.user(user).map(|user| user.role) {
            Some(Role::Admin) => Author::Admin,
            _ => Author::Manager,
        },
    }
}

/// Denies something for a reason that isn't a matter of rights, such as a limit or a malformed
/// message of a known caller.
pub fn refuse(principal: Principal, reason: Refusal, target: Option<&str>) -> Denial {
    Denial { principal, reason, target: target.map(str::to_owned), server: None, tool: None }
}

/// Denies the call of the tool that `name` stands for, and says for the log which one that is.
pub fn refuse_call(
    world: &World,
    principal: Principal,
    endpoint: Endpoint,
    reason: Refusal,
    name: &str,
) -> Denial {
    let meant = resolve(world, endpoint, name);
    let server = owner(world, endpoint, name.split_once("__").map(|(server, _)| server));
    let tool = meant.map(|(_, tool)| tool.name.clone());
    Denial { server, tool, ..deny_target(principal, reason, name) }
}

fn deny(principal: Principal, reason: Refusal) -> Denial {
    refuse(principal, reason, None)
}

fn deny_target(principal: Principal, reason: Refusal, target: &str) -> Denial {
    let short: String = target.chars().take(160).collect();
    refuse(principal, reason, Some(&short))
}

fn person(world: &World, principal: Principal, now: Timestamp) -> Result<&User, Refusal> {
    let Principal::Person { user, key } = principal else { return Err(Refusal::NotGranted) };
    let key = world.key(key).filter(|key| key.owner == user).ok_or(Refusal::UnknownKey)?;
    if key.revoked_at.is_some() {
        return Err(Refusal::RevokedKey);
    }
    if now >= key.expires_at {
        return Err(Refusal::ExpiredKey);
    }
    let user = world.user(user).ok_or(Refusal::UnknownKey)?;
    match user.state {
        UserState::Active => Ok(user),
        UserState::Disabled => Err(Refusal::DisabledUser),
    }
}

/// Is one person at one endpoint at one time: what her grants are weighed for.
struct Reach<'w> {
    world: &'w World,
    user: UserId,
    endpoint: Endpoint,
    now: Timestamp,
}

impl<'w> Reach<'w> {
    fn sees(&self) -> bool {
        match self.endpoint {
            Endpoint::All => true,
            Endpoint::Group(group) => self.world.membership(self.user, group, self.now).is_some(),
            Endpoint::Server(server) => self.has_any_grant(server),
        }
    }

    fn has_any_grant(&self, server: ServerId) -> bool {
        self.grants(server).any(|grant| grant.verdict == Verdict::Allow)
    }

    /// Lists the live grants on a server that count here: those of the person's groups. At a group's
    /// endpoint only that group gives rights, but what any other group takes away stays away.
    fn grants(&self, server: ServerId) -> impl Iterator<Item = &'w Grant> {
        let Self { world, user, endpoint, now } = *self;
        world
            .memberships(user)
            .filter(move |membership| membership.is_live(now))
            .flat_map(move |membership| world.grants(membership.group))
            .filter(move |grant| grant.server == server && grant.is_live(now))
            .filter(move |grant| counts(world, grant, now))
            .filter(move |grant| match endpoint {
                Endpoint::Group(group) => grant.group == group || grant.verdict == Verdict::Deny,
                Endpoint::All | Endpoint::Server(_) => true,
            })
    }

    /// The rule that both the list and the call ask.
    fn may_call(&self, entry: &ServerEntry, tool: &Tool) -> Result<(), Refusal> {
        if entry.server().state == ServerState::Disabled {
            return Err(Refusal::DisabledServer);
        }
        if entry.server().definition.disabled_tools.contains(&tool.name) {
            return Err(Refusal::DisabledTool);
        }
        permitted(weigh(self.grants(entry.server().id), tool))?;
        match tool.state {
            ToolState::Approved => Ok(()),
            ToolState::Pending => Err(Refusal::PendingTool),
            ToolState::Changed => Err(Refusal::ChangedTool),
        }
    }

    /// The rule of prompts and resources.
    fn may_read(&self, entry: &ServerEntry) -> Result<(), Refusal> {
        if entry.server().state == ServerState::Disabled {
            return Err(Refusal::DisabledServer);
        }
        permitted(weigh_reading(self.grants(entry.server().id)))
    }

    /// The rule of what the hub doesn't know.
    fn may_all(&self, entry: &ServerEntry) -> Result<(), Refusal> {
        self.may_read(entry)?;
        let grants: Vec<&Grant> = self.grants(entry.server().id).collect();
        permitted(weigh_everything(grants))
    }
}

const fn permitted(finding: Finding) -> Result<(), Refusal> {
    match finding {
        Finding::Allowed => Ok(()),
        Finding::Denied => Err(Refusal::Denied),
        Finding::Silent => Err(Refusal::NotGranted),
    }
}

fn resolve<'w>(world: &'w World, endpoint: Endpoint, name: &str) -> Option<(&'w ServerEntry, &'w Tool)> {
    match endpoint {
        Endpoint::Server(id) => {
            let entry = world.server(id)?;
            Some((entry, entry.tool(name)?))
        }
        Endpoint::All | Endpoint::Group(_) => {
            let (server, _) = name.split_once("__")?;
            let entry = world.server_named(server)?;
            Some((entry, entry.shared_tool(name)?))
        }
    }
}

fn may_administrate(world: &World, user: &User, action: Administration, now: Timestamp) -> bool {
    let admin = user.role == Role::Admin;
    match action {
        Administration::ReadDirectory => matches!(user.role, Role::Viewer | Role::Manager | Role::Admin),
        Administration::ReadAudit => user.auditor == Auditor::Yes,
        Administration::ManageUsers | Administration::ManageGroups | Administration::ManageServers => admin,
        Administration::RunGroup(group) => admin || runs(world, user, group, now),
        Administration::Grant(group, server) => {
            admin || (runs(world, user, group, now) && opened(world, group, server, now))
        }
        Administration::RemoveGrant(group, author) => {
            admin || (runs(world, user, group, now) && author == Author::Manager)
        }
        Administration::Credentials(owner)
        | Administration::ConfirmCredentials(owner)
        | Administration::CreateKey(owner) => owner == user.id,
        Administration::RevokeKey(owner) => owner == user.id || admin,
        // It takes the machine that holds the keys.
        Administration::KeepCustody | Administration::RenewAccount(_) => false,
    }
}

fn runs(world: &World, user: &User, group: GroupId, now: Timestamp) -> bool {
    user.role == Role::Manager
        && world
            .membership(user.id, group, now)
            .is_some_and(|membership| membership.standing == Standing::Manager)
}

/// Says whether an admin has opened a server to a group: a live grant of an admin's lets it do
/// anything there. On such a server a manager's grants count; when the last one of an admin's ends,
/// they end with it.
fn opened(world: &World, group: GroupId, server: ServerId, now: Timestamp) -> bool {
    let opens = |grant: &Grant| grant.author == Author::Admin && grant.verdict == Verdict::Allow;
    world.grants(group).any(|grant| grant.server == server && opens(grant) && grant.is_live(now))
}

fn counts(world: &World, grant: &Grant, now: Timestamp) -> bool {
    grant.author == Author::Admin
        || grant.verdict == Verdict::Deny
        || opened(world, grant.group, grant.server, now)
}

fn public_name(endpoint: Endpoint, entry: &ServerEntry, tool: &Tool) -> String {
    match endpoint {
        Endpoint::Server(_) => tool.name.to_string(),
        Endpoint::All | Endpoint::Group(_) => shared_name(&entry.server().name, tool.name.as_str()),
    }
}

fn route(entry: &ServerEntry, tool: &Tool) -> Route {
    let server = entry.server();
    Route {
        server: server.id,
        server_name: server.name.clone(),
        server_revision: server.revision,
        tool: tool.name.clone(),
        effect: tool.effect,
        digest: tool.digest,
    }
}
