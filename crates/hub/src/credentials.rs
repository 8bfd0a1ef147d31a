//! Credentials: people fill in their own slots, admins the shared ones, and nobody reads them back. `values` is what calls
//! take of them.

use std::collections::BTreeSet;

use mcphub_domain::{CredentialId, Destination, Event, SecretText, Server, ServerId, Slot, SlotName, UserId};
use mcphub_policy::Administration;
use mcphub_store::credentials::SealedValue;

use crate::audit::Granted;
use crate::caller::Caller;
use crate::error::{HubError, check_revision};
use crate::hub::Hub;
use crate::values::open_value;

/// Says how a slot stands for a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// Nobody has filled it in.
    Missing,
    /// It is filled in and goes where the server is.
    Ready,
    /// The server has moved since: the owner has to confirm that the value may go there.
    Suspended,
}

/// Describes a slot of a server, as its owner may see it: never the value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotView {
    /// The slot.
    pub slot: Slot,
    /// How it stands.
    pub state: SlotState,
    /// The revision of its value; 0 if nobody has filled it in.
    pub revision: i64,
    /// Where the server is, in words: there the value goes.
    pub goes_to: String,
    /// The same, as a change of the slot names it.
    pub destination: Destination,
}

/// Names a slot as it was looked at: what a change of it is based on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenSlot {
    /// The server.
    pub server: ServerId,
    /// The slot's name.
    pub slot: SlotName,
    /// The revision of its value; 0 if nobody had filled it in.
    pub revision: i64,
    /// Where the value may go.
    pub destination: Destination,
}

impl SlotView {
    /// Bases a change of the slot on this look at it.
    pub fn seen(&self, server: ServerId) -> SeenSlot {
        let slot = self.slot.name().clone();
        SeenSlot { server, slot, revision: self.revision, destination: self.destination }
    }
}

impl SeenSlot {
    /// Finds the value that the slot had when it was looked at, and still has.
    pub(crate) fn value(&self, values: &[SealedValue]) -> Result<Option<SealedValue>, HubError> {
        let found = find(values, &self.slot);
        let revision = found.as_ref().map_or(0, |found| found.revision);
        check_revision(format_args!("the value for {}", self.slot), revision, self.revision)?;
        Ok(found)
    }
}

impl Hub {
    /// Fills in a slot of one's own, or replaces its value.
    pub async fn set_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        seen: &SeenSlot,
        value: &SecretText,
    ) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::Credentials(owner), "credentials.set").await?;
        by_hand(&seen.slot)?;
        self.check_place(seen, &Slot::Personal(seen.slot.clone()))?;
        self.snapshot
            .fresh()?
            .user(owner)
            .ok_or_else(|| HubError::NotFound { what: format!("user {owner}") })?;
        let before = seen.value(&self.store.credentials(owner, seen.server).await?)?;
        let row = self.next(Some(owner), seen, before.as_ref());
        let event =
            Event::CredentialSet { credential: row.id, owner, server: seen.server, slot: seen.slot.clone() };
        self.put_value(permit, row, value, event).await
    }

    /// Confirms that a value may go where its owner saw that the server is now. Nobody else can: only
    /// she knows what she gave for the place before.
    pub async fn confirm_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        seen: &SeenSlot,
    ) -> Result<(), HubError> {
        let action = Administration::ConfirmCredentials(owner);
        let permit = self.administrate(caller, action, "credentials.confirm").await?;
        by_hand(&seen.slot)?;
        self.check_place(seen, &Slot::Personal(seen.slot.clone()))?;
        let before = seen.value(&self.store.credentials(owner, seen.server).await?)?;
        let before = before.ok_or_else(|| missing(&seen.slot))?;
        let value = open_value(&self.seal.open()?.vault, &before)?;
        let row = self.next(Some(owner), seen, Some(&before));
        let event = Event::CredentialConfirmed {
            credential: row.id,
            owner,
            server: seen.server,
            slot: seen.slot.clone(),
        };
        self.put_value(permit, row, &value, event).await
    }

    /// Removes a value of one's own; connections that used it close within a second.
    pub async fn remove_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        (server, slot): (ServerId, SlotName),
        revision: i64,
    ) -> Result<(), HubError> {
        let permit =
            self.administrate(caller, Administration::Credentials(owner), "credentials.remove").await?;
        let before =
            find(&self.store.credentials(owner, server).await?, &slot).ok_or_else(|| missing(&slot))?;
        let before = SealedValue { revision, ..before };
        let event = Event::CredentialRemoved { credential: before.id, owner, server, slot };
        let mut tx = self.write_for(owner).await?;
        tx.remove_credential(owner, &before).await?;
        self.commit(tx, permit, event).await
    }

    /// Sets the one value that everybody's calls to a server use.
    pub async fn set_shared_value(
        &self,
        caller: &Caller,
        seen: &SeenSlot,
        value: &SecretText,
    ) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::ManageServers, "shared-values.set").await?;
        self.check_place(seen, &Slot::Shared(seen.slot.clone()))?;
        let before = seen.value(&self.store.shared_values(seen.server).await?)?;
        let row = self.next(None, seen, before.as_ref());
        let event =
            Event::SharedValueSet { credential: row.id, server: seen.server, slot: seen.slot.clone() };
        self.put_value(permit, row, value, event).await
    }

    /// Looks at a shared slot of a server that was just read, for something that has a record of its own.
    pub async fn see_shared_slot(
        &self,
        caller: &Caller,
        server: &Server,
        slot: SlotName,
    ) -> Result<SeenSlot, HubError> {
        self.directory(caller)?;
        let before = find(&self.store.shared_values(server.id).await?, &slot);
        let revision = before.map_or(0, |before| before.revision);
        let destination = server.definition.destination_of(&Slot::Shared(slot.clone()));
        Ok(SeenSlot { server: server.id, slot, revision, destination })
    }

    /// Lists the slots of a server and how they stand for a person.
    pub async fn list_credentials(
        &self,
        caller: &Caller,
        owner: UserId,
        server: ServerId,
    ) -> Result<Vec<SlotView>, HubError> {
        self.administrate(caller, Administration::Credentials(owner), "credentials.list").await?;
        let server = self.server(server)?;
        let needs = server.definition.needs();
        let values = self.stored_values(owner, server.id, &needs).await?;
        let view = |(slot, destination): (Slot, Destination)| SlotView {
            state: self.state_of(owner, &server, &slot, (&values, &destination)),
            revision: values.find(&slot).map_or(0, |value| value.revision),
            goes_to: server.definition.describe_destination_of(&slot),
            destination,
            slot,
        };
        let slots: Vec<SlotView> = needs.slots.into_iter().map(view).collect();
        self.record_read(caller, "credentials.list", Some(server.name.as_str()), slots.len()).await;
        Ok(slots)
    }

    /// Checks that the server has the slot, and is where whoever saw it agreed that a value may go.
    pub(crate) fn check_place(&self, seen: &SeenSlot, slot: &Slot) -> Result<(), HubError> {
        let server = self.server(seen.server)?;
        if server.definition.slots().contains(slot) {
            return if server.definition.destination_of(slot) == seen.destination {
                Ok(())
            } else {
                let name = server.name;
                Err(HubError::Stale(format!(
                    "server {name} has moved: look where it is now, and decide anew"
                )))
            };
        }
        let known: BTreeSet<String> = server.definition.slots().iter().map(ToString::to_string).collect();
        let known: Vec<String> = known.into_iter().collect();
        Err(HubError::Invalid(format!(
            "server {} has no slot {slot}; it has: {}",
            server.name,
            known.join(", ")
        )))
    }

    /// Says where a value will stand: a new row, or the next version of the one before.
    pub(crate) fn next(
        &self,
        owner: Option<UserId>,
        seen: &SeenSlot,
        before: Option<&SealedValue>,
    ) -> SealedValue {
        SealedValue {
            id: before.map_or_else(|| CredentialId::random(&self.entropy), |before| before.id),
            owner,
            server: seen.server,
            slot: seen.slot.clone(),
            sealed: Vec::new(),
            destination: seen.destination,
            revision: seen.revision + 1,
            updated_at: self.clock.now(),
        }
    }

    /// Seals a value into its row, and stores it with its record.
    pub(crate) async fn put_value(
        &self,
        permit: Granted,
        row: SealedValue,
        value: &SecretText,
        event: Event,
    ) -> Result<(), HubError> {
        let row = self.seal_value(row, value)?;
        let tx = match row.owner {
            Some(owner) => {
                let mut tx = self.write_for(owner).await?;
                tx.put_credential(owner, &row).await?;
                tx
            }
            None => {
                let mut tx = self.store.write().await?;
                tx.put_shared_value(&row).await?;
                tx
            }
        };
        self.commit(tx, permit, event).await
    }
}

pub(crate) fn find(values: &[SealedValue], slot: &SlotName) -> Option<SealedValue> {
    values.iter().find(|value| value.slot == *slot).cloned()
}

/// Refuses to fill in by hand what only connecting an account does.
fn by_hand(slot: &SlotName) -> Result<(), HubError> {
    if slot.is_account() {
        return Err(HubError::Invalid("an account is connected on the hub's page, not typed in".to_owned()));
    }
    Ok(())
}

fn missing(slot: &SlotName) -> HubError {
    HubError::NotFound { what: format!("a value for {slot}") }
}
