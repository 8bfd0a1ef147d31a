//! `mcphub credential` and `mcphub shared`: the values that servers need.

use clap::Subcommand;
use mcphub_domain::{Server, ServerName, Slot, SlotName, UserId, UserName};
use mcphub_hub::HubError;
use mcphub_hub::credentials::{SeenSlot, SlotState, SlotView};
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
    /// Say who confirms that values may go where the server is now: their owner, and nobody for her
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
                let (owner, at) = (desk.user(&user).await?.id, desk.server(&server).await?);
                let value = input::secret()?;
                let seen = look(desk, owner, &at, &Slot::Personal(slot.clone())).await?;
                desk.hub.set_credential(&desk.operator, owner, &seen, &value).await?;
                Ok(done("set", &user, &server, &[slot]))
            }
            Self::List { user, server } => list(desk, &user, server.as_ref()).await,
            Self::Confirm { user, server, slot } => confirm(desk, &user, &server, slot).await,
            Self::Remove { user, server, slot } => {
                let (owner, at) = (desk.user(&user).await?.id, desk.server(&server).await?);
                let slots = chosen(desk, owner, &at, slot, |state| state != SlotState::Missing).await?;
                for seen in &slots {
                    let place = (seen.server, seen.slot.clone());
                    desk.hub.remove_credential(&desk.operator, owner, place, seen.revision).await?;
                }
                Ok(done("removed", &user, &server, &names(&slots)))
            }
        }
    }
}

impl SharedCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        let Self::Set { server, slot } = self;
        let at = desk.server(&server).await?;
        let value = input::secret()?;
        let seen = desk.hub.see_shared_slot(&desk.operator, &at, slot.clone()).await?;
        desk.hub.set_shared_value(&desk.operator, &seen, &value).await?;
        let json = json!({ "server": server, "slots": [slot] });
        Ok(Answer::new(format!("set SHARED_{slot} of {server}"), json))
    }
}

/// Asks the hub to confirm, which it does for the owner alone, and tells where she does it.
async fn confirm(
    desk: &Desk,
    user: &UserName,
    server: &ServerName,
    slot: Option<SlotName>,
) -> Result<Answer, Failure> {
    let (owner, at) = (desk.user(user).await?.id, desk.server(server).await?);
    let slots = chosen(desk, owner, &at, slot, |state| state == SlotState::Suspended).await?;
    for seen in &slots {
        let confirmed = desk.hub.confirm_credential(&desk.operator, owner, seen).await;
        confirmed.map_err(|error| match error {
            HubError::Denied(_) => {
                let page = desk.hub.credential_page(&at);
                let message = format!(
                    "only {user} may say that her value goes where {server} is now: she does it on {page}, \
                     or you set a new one with `mcphub credential set`"
                );
                Failure::new("denied", message)
            }
            error => error.into(),
        })?;
    }
    Ok(done("confirmed", user, server, &names(&slots)))
}

/// Looks at one slot. One that the server doesn't have is refused when it is changed.
async fn look(desk: &Desk, owner: UserId, server: &Server, slot: &Slot) -> Result<SeenSlot, Failure> {
    let slots = desk.hub.list_credentials(&desk.operator, owner, server.id).await?;
    let found = slots.iter().find(|view| view.slot == *slot).map(|view| view.seen(server.id));
    Ok(found.unwrap_or_else(|| SeenSlot {
        server: server.id,
        slot: slot.name().clone(),
        revision: 0,
        destination: server.definition.destination_of(slot),
    }))
}

/// Finds the slots that are meant: the one that is named, or all in a fitting state.
async fn chosen(
    desk: &Desk,
    owner: UserId,
    server: &Server,
    named: Option<SlotName>,
    fits: impl Fn(SlotState) -> bool,
) -> Result<Vec<SeenSlot>, Failure> {
    if let Some(slot) = named {
        return Ok(vec![look(desk, owner, server, &Slot::Personal(slot)).await?]);
    }
    let slots = desk.hub.list_credentials(&desk.operator, owner, server.id).await?;
    let personal = slots.iter().filter(|view| matches!(view.slot, Slot::Personal(_)));
    Ok(personal.filter(|view| fits(view.state)).map(|view| view.seen(server.id)).collect())
}

fn names(slots: &[SeenSlot]) -> Vec<SlotName> {
    slots.iter().map(|seen| seen.slot.clone()).collect()
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
    json!({ "server": server, "slot": slot_text(&slot.slot), "state": state(slot.state), "goes_to": slot.goes_to })
}

const fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Missing => "missing",
        SlotState::Ready => "ready",
        SlotState::Suspended => "suspended",
    }
}
