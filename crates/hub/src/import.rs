//! Importing a file in the ecosystem's `mcpServers` shape: what it says is kept, and whatever has to
//! change on the way is reported.

mod plan;
mod secrets;

use mcphub_domain::server::ServerState;
use mcphub_domain::{Server, ServerName, SlotName};
use mcphub_policy::Administration;

pub use plan::Planned;
pub(crate) use secrets::literal_secret;

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::servers::UpdateServer;

/// Says what became of one server of the file.
#[derive(Debug)]
pub struct Imported {
    /// Its name in the file.
    pub original: String,
    /// Its name in the hub, unless it could not be imported.
    pub name: Option<ServerName>,
    /// What happened.
    pub outcome: ImportOutcome,
    /// What was changed on the way, one sentence each.
    pub notes: Vec<String>,
}

/// Says what an import did with a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImportOutcome {
    /// It is new.
    Added,
    /// It was there with another definition.
    Updated,
    /// It was there just so.
    Unchanged,
    /// It can't be imported, for this reason.
    Refused(String),
}

/// How large, in bytes, what is imported at once may be.
pub const LARGEST_FILE: usize = 1 << 20;

impl Hub {
    /// Imports all servers of a file. One that can't be imported is reported and stops no other.
    pub async fn import_servers(&self, caller: &Caller, text: &str) -> Result<Vec<Imported>, HubError> {
        self.administrate(caller, Administration::ManageServers, "servers.import").await?;
        if text.len() > LARGEST_FILE {
            let text = format!("the file is larger than {LARGEST_FILE} bytes: import it in parts");
            return Err(HubError::Invalid(text));
        }
        let planned = plan::read(text).map_err(HubError::Invalid)?;
        let mut report = Vec::with_capacity(planned.len());
        for (original, plan) in planned {
            let imported = match plan {
                Ok(plan) => self.import(caller, original, plan).await?,
                Err(reason) => refused(original, reason),
            };
            report.push(imported);
        }
        Ok(report)
    }

    async fn import(&self, caller: &Caller, original: String, plan: Planned) -> Result<Imported, HubError> {
        let known =
            self.snapshot.fresh()?.server_named(plan.name.as_str()).map(|entry| entry.server().clone());
        let done = match known {
            None => self.add_imported(caller, &plan).await,
            Some(server) => self.update_imported(caller, server, &plan).await,
        };
        let (server, outcome) = match done {
            Ok(done) => done,
            Err(HubError::Invalid(reason) | HubError::Conflict(reason) | HubError::Stale(reason)) => {
                return Ok(refused(original, reason));
            }
            Err(error) => return Err(error),
        };
        for (slot, value) in &plan.secrets {
            let seen = self.see_shared_slot(caller, &server, slot.clone()).await?;
            self.set_shared_value(caller, &seen, value).await?;
        }
        Ok(Imported { original, name: Some(server.name), outcome, notes: plan.notes })
    }

    async fn add_imported(
        &self,
        caller: &Caller,
        plan: &Planned,
    ) -> Result<(Server, ImportOutcome), HubError> {
        let mut server = self.add_server(caller, plan.name.clone(), plan.definition.clone()).await?;
        if plan.state == ServerState::Disabled {
            let update = UpdateServer { revision: 1, definition: None, state: Some(plan.state) };
            server = self.update_server(caller, server.id, update).await?;
        }
        Ok((server, ImportOutcome::Added))
    }

    async fn update_imported(
        &self,
        caller: &Caller,
        server: Server,
        plan: &Planned,
    ) -> Result<(Server, ImportOutcome), HubError> {
        if server.definition == plan.definition && server.state == plan.state {
            return Ok((server, ImportOutcome::Unchanged));
        }
        let update = UpdateServer {
            revision: server.revision,
            definition: Some(plan.definition.clone()),
            state: Some(plan.state),
        };
        Ok((self.update_server(caller, server.id, update).await?, ImportOutcome::Updated))
    }
}

const fn refused(original: String, reason: String) -> Imported {
    Imported { original, name: None, outcome: ImportOutcome::Refused(reason), notes: Vec::new() }
}

/// Makes a slot's name out of any text, such as a header's name.
fn slot_name(text: &str) -> Option<SlotName> {
    let upper: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let upper = upper.trim_matches('_');
    let named =
        if upper.starts_with(|c: char| c.is_ascii_digit()) { format!("X{upper}") } else { upper.to_owned() };
    named.chars().take(64).collect::<String>().parse().ok()
}
