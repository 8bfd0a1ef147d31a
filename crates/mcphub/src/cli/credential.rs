//! `mcphub credential` and `mcphub shared`: the values that servers need.

use clap::Subcommand;
use mcphub_domain::{ServerId, ServerName, Slot, SlotName, UserId, UserName};
use mcphub_hub::credentials::{SlotState, SlotView};
use serde_json::{Value, json};

use super::answer::{Answer, Table};
use super::desk::Desk;
use super::failure::Failure;
use super::input;
use super::server::slot as slot_text;

#[derive(Subcommand, Debug)]
pub(crate) enum CredentialCommand {
    /// Fill in a person's slot; the value is read from standard input
    Set { user: UserName, server: ServerName, slot: SlotName },
    /// List a person's slots and how they stand; values are never shown
    List { user: UserName, server: Option<ServerName> },
    /// Confirm that values may go where the server is now: one slot, or all that wait for it
    Confirm { user: UserName, server: ServerName, slot: Option<SlotName> },
    /// Remove a person's values for a server: one slot, or all
    Remove { user: UserName, server: ServerName, slot: Option<SlotName> },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SharedCommand {
    /// Set the value that everybody's calls to a server use; it is read from standard input
    Set { server: ServerName, slot: SlotName },
}

impl CredentialCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Set { user, server, slot } => {
                let (owner, id) = (desk.user(&user).await?.id, desk.server(&server).await?.id);
                let value = input::secret()?;
                desk.hub.set_credential(&desk.operator, owner, (id, slot.clone()), &value).await?;
                Ok(done("set", &user, &server, &[slot]))
            }
            Self::List { user, server } => list(desk, &user, server.as_ref()).await,
            Self::Confirm { user, server, slot } => {
                let (owner, id) = (desk.user(&user).await?.id, desk.server(&server).await?.id);
                let slots = chosen(desk, (owner, id), slot, |state| state == SlotState::Suspended).await?;
                for slot in &slots {
                    desk.hub.confirm_credential(&desk.operator, owner, (id, slot.clone())).await?;
                }
                Ok(done("confirmed", &user, &server, &slots))
            }
            Self::Remove { user, server, slot } => {
                let (owner, id) = (desk.user(&user).await?.id, desk.server(&server).await?.id);
                let slots = chosen(desk, (owner, id), slot, |state| state != SlotState::Missing).await?;
                for slot in &slots {
                    desk.hub.remove_credential(&desk.operator, owner, (id, slot.clone())).await?;
                }
                Ok(done("removed", &user, &server, &slots))
            }
        }
    }
}

impl SharedCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        let Self::Set { server, slot } = self;
        let id = desk.server(&server).await?.id;
        let value = input::secret()?;
        desk.hub.set_shared_value(&desk.operator, (id, slot.clone()), &value).await?;
        let json = json!({ "server": server, "slots": [slot] });
        Ok(Answer::new(format!("set SHARED_{slot} of {server}"), json))
    }
}

/// Finds the slots that are meant: the one that is named, or all in a fitting state.
async fn chosen(
    desk: &Desk,
    (owner, server): (UserId, ServerId),
    named: Option<SlotName>,
    fits: impl Fn(SlotState) -> bool,
) -> Result<Vec<SlotName>, Failure> {
    if let Some(slot) = named {
        return Ok(vec![slot]);
    }
    let slots = desk.hub.list_credentials(&desk.operator, owner, server).await?;
    let fitting = slots.into_iter().filter(|view| fits(view.state));
    Ok(fitting
        .filter_map(|view| match view.slot {
            Slot::Personal(name) => Some(name),
            Slot::Shared(_) => None,
        })
        .collect())
}

fn done(verb: &str, user: &UserName, server: &ServerName, slots: &[SlotName]) -> Answer {
    let names: Vec<&str> = slots.iter().map(SlotName::as_str).collect();
    let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let json = json!({ "user": user, "server": server, "slots": slots });
    Answer::new(format!("{verb} {names} of {user} for {server}"), json)
}

async fn list(desk: &Desk, user: &UserName, only: Option<&ServerName>) -> Result<Answer, Failure> {
    let owner = desk.user(user).await?.id;
    let servers = match only {
        Some(name) => vec![desk.server(name).await?],
        None => desk.servers().await?,
    };
    let mut table = Table::new(&["SERVER", "SLOT", "STATE"], "no server needs a value");
    let mut json = Vec::new();
    for server in servers.iter().filter(|server| only.is_some() || !server.definition.slots().is_empty()) {
        for slot in desk.hub.list_credentials(&desk.operator, owner, server.id).await? {
            table.row([server.name.to_string(), slot_text(&slot.slot), state(slot.state).to_owned()]);
            json.push(view(&server.name, &slot));
        }
    }
    Ok(Answer::table(&table, json))
}

fn view(server: &ServerName, slot: &SlotView) -> Value {
    json!({ "server": server, "slot": slot_text(&slot.slot), "state": state(slot.state) })
}

const fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Missing => "missing",
        SlotState::Ready => "ready",
        SlotState::Suspended => "suspended",
    }
}
