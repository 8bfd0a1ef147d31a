//! Where a command works: the opened hub, the operator who asks, and the names that she uses.

use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::{Group, GroupName, Server, ServerName, Timestamp, User, UserName};
use mcphub_hub::groups::GroupDetails;
use mcphub_hub::{Caller, Hub, LastHead, Process};

use super::failure::Failure;
use crate::Machine;
use crate::config::Config;

/// How long what a command has started may take to end.
const END: Duration = Duration::from_secs(10);

/// Is an opened hub with its operator.
pub(crate) struct Desk {
    /// The hub.
    pub(crate) hub: Arc<Hub>,
    /// Who asks.
    pub(crate) operator: Caller,
    /// The configuration that the hub was opened with.
    pub(crate) config: Config,
    /// The time at which the command began.
    pub(crate) now: Timestamp,
}

impl Desk {
    /// Opens the hub for one command.
    pub(crate) async fn open(config: Config, machine: &Machine) -> Result<Self, Failure> {
        let settings = config.settings(Process::Command, machine.program.clone());
        let hub = Hub::open(settings, machine.clock.clone(), machine.entropy.clone()).await?;
        Ok(Self { operator: hub.operator(), hub, config, now: machine.clock.now() })
    }

    /// Opens a hub that is there. Whoever keeps or checks one and mistakes its folder is not to be told that all is well
    /// with a new one.
    pub(crate) async fn open_existing(config: Config, machine: &Machine) -> Result<Self, Failure> {
        if !config.place().may_have_data() {
            let folder = config.data_dir.display();
            let told = format!("there is no hub in {folder}: say with --data-dir where it is");
            return Err(Failure::new("not_found", told));
        }
        Self::open(config, machine).await
    }

    /// Lets everything end that the command has started.
    pub(crate) async fn close(&self, last: LastHead) -> Result<(), Failure> {
        Ok(self.hub.close(END, last).await?)
    }

    /// Lists everybody.
    pub(crate) async fn users(&self) -> Result<Vec<User>, Failure> {
        Ok(self.hub.list_users(&self.operator).await?)
    }

    /// Lists all groups.
    pub(crate) async fn groups(&self) -> Result<Vec<GroupDetails>, Failure> {
        Ok(self.hub.list_groups(&self.operator).await?)
    }

    /// Lists all servers.
    pub(crate) async fn servers(&self) -> Result<Vec<Server>, Failure> {
        Ok(self.hub.list_servers(&self.operator).await?)
    }

    /// Finds a person by name.
    pub(crate) async fn user(&self, name: &UserName) -> Result<User, Failure> {
        if let Some(user) = self.hub.user_by_name(&self.operator, name)? {
            return Ok(user);
        }
        let users = self.users().await?;
        Err(unknown("person", name.as_str(), users.iter().map(|user| user.name.as_str()), "user list"))
    }

    /// Finds a group by name.
    pub(crate) async fn group(&self, name: &GroupName) -> Result<Group, Failure> {
        if let Some(group) = self.hub.group_by_name(&self.operator, name)? {
            return Ok(group);
        }
        let groups = self.groups().await?;
        let names = groups.iter().map(|details| details.group.name.as_str());
        Err(unknown("group", name.as_str(), names, "group list"))
    }

    /// Finds a server by name.
    pub(crate) async fn server(&self, name: &ServerName) -> Result<Server, Failure> {
        if let Some(server) = self.hub.server_by_name(&self.operator, name)? {
            return Ok(server);
        }
        let servers = self.servers().await?;
        Err(unknown(
            "server",
            name.as_str(),
            servers.iter().map(|server| server.name.as_str()),
            "server list",
        ))
    }
}

/// Says that a name means nothing, and which known one looks most like it.
pub(crate) fn unknown<'n>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'n str>,
    list: &str,
) -> Failure {
    let likeness = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = known
        .filter(|known| likeness(known) > 0.8)
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let hint = nearest.map_or_else(String::new, |nearest| format!("did you mean {nearest}? "));
    Failure::new("not_found", format!("there is no {kind} {name}: {hint}`mcphub {list}` shows what there is"))
}
