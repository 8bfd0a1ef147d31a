//! Credentials: people fill in their own slots, admins the shared ones, and nobody reads them back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mcphub_domain::server::Needs;
use mcphub_domain::{CredentialId, Destination, Event, SecretText, Server, ServerId, Slot, SlotName, UserId};
use mcphub_policy::Administration;
use mcphub_store::credentials::SealedValue;
use mcphub_vault::{Context, Sealed, Vault};

use crate::accounts::Account;
use crate::audit::Granted;
use crate::cache::Stored;
use crate::caller::Caller;
use crate::error::{HubError, MissingCredential, check_revision};
use crate::hub::Hub;

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

/// Is what a call needs beside its permit: sealed values that fit the server as it is now.
#[derive(Clone, Default)]
pub(crate) struct SealedValues {
    pub(crate) shared: Arc<Stored>,
    pub(crate) personal: Arc<Stored>,
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

    /// Finds the sealed values that a call of `owner` to a server needs, or says what is missing.
    /// Nothing is unsealed here.
    pub(crate) async fn find_values(
        &self,
        owner: UserId,
        server: &Server,
        needs: &Needs,
    ) -> Result<SealedValues, HubError> {
        let values = self.stored_values(owner, server.id, needs).await?;
        let (mut missing, mut suspended) = (Vec::new(), Vec::new());
        for (slot, destination) in &needs.slots {
            match self.state_of(owner, server, slot, (&values, destination)) {
                SlotState::Ready => {}
                SlotState::Missing => missing.push(slot.name().clone()),
                SlotState::Suspended => suspended.push(slot.name().clone()),
            }
        }
        if !missing.is_empty() || !suspended.is_empty() {
            return Err(self.lacks(server, missing, suspended));
        }
        match server.definition.oauth() {
            None => Ok(values),
            // Boxed, as whatever most calls don't do.
            Some(_) => Box::pin(self.with_fresh_token(owner, server, values)).await,
        }
    }

    /// Says what a person has to do before a server can be called.
    pub(crate) fn lacks(
        &self,
        server: &Server,
        missing: Vec<SlotName>,
        suspended: Vec<SlotName>,
    ) -> HubError {
        let (server, url) = (server.name.clone(), self.credential_page(server));
        HubError::MissingCredential(MissingCredential { server, missing, suspended, url })
    }

    /// Says how a slot stands. An account can't be moved, and may be good for nothing while it is there.
    fn state_of(
        &self,
        owner: UserId,
        server: &Server,
        slot: &Slot,
        (values, destination): (&SealedValues, &Destination),
    ) -> SlotState {
        match values.state(slot, destination) {
            SlotState::Suspended if slot.is_account() => SlotState::Missing,
            SlotState::Ready if slot.is_account() => match values.account() {
                Some(row) if self.is_of_no_use(owner, server, row) => SlotState::Missing,
                _ => SlotState::Ready,
            },
            state => state,
        }
    }

    /// Waits until a person has filled in what a server needs of her.
    pub async fn filled_in(&self, caller: &Caller, missing: &MissingCredential) -> Result<(), HubError> {
        let owner = caller.principal.user();
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let world = self.snapshot.fresh()?;
            let server = world.server_named(missing.server.as_str()).map(|entry| entry.share());
            let (Some(owner), Some(server)) = (owner, server) else {
                return Err(HubError::NotFound { what: format!("server {}", missing.server) });
            };
            match self.find_values(owner, &server, &server.definition.needs()).await {
                Err(HubError::MissingCredential(_)) => {}
                found => return found.map(drop),
            }
            if changes.changed().await.is_err() {
                return Err(HubError::Unavailable { reason: "the hub is stopping".to_owned() });
            }
        }
    }

    /// Finds the shared values alone, for the hub's own look at a server.
    pub(crate) async fn find_shared_values(&self, server: &Server) -> Result<SealedValues, HubError> {
        let shared = self.cache.shared(&self.store, server.id).await?;
        Ok(SealedValues { shared, personal: Arc::default() })
    }

    /// Names the page where a person fills in what a server needs.
    pub fn credential_page(&self, server: &Server) -> String {
        let mut url = self.public_url.clone();
        url.set_path(&format!("/credentials/{}", server.name));
        url.into()
    }

    pub(crate) async fn stored_values(
        &self,
        owner: UserId,
        server: ServerId,
        needs: &Needs,
    ) -> Result<SealedValues, HubError> {
        let mut values = SealedValues::default();
        if needs.slots.keys().any(|slot| matches!(slot, Slot::Personal(_))) {
            values.personal = self.cache.personal(&self.store, owner, server).await?;
        }
        if needs.slots.keys().any(|slot| matches!(slot, Slot::Shared(_))) {
            values.shared = self.cache.shared(&self.store, server).await?;
        }
        Ok(values)
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

    /// Seals a value into its row.
    pub(crate) fn seal_value(&self, row: SealedValue, value: &SecretText) -> Result<SealedValue, HubError> {
        check_value(value)?;
        let (id, owner) = names(&row);
        let vault = &self.seal.open()?.vault;
        let sealed = vault.seal(&context(&row, &id, &owner), value.expose().as_bytes(), &self.entropy)?;
        Ok(SealedValue { sealed: sealed.as_bytes().to_vec(), ..row })
    }
}

impl SealedValues {
    /// Names the state of the values: any change of any of them changes these numbers.
    pub(crate) fn revisions(&self) -> mcphub_upstream::Revisions {
        mcphub_upstream::Revisions {
            shared: self.shared.fingerprint(),
            personal: self.personal.fingerprint(),
        }
    }

    /// Unseals everything, for one connection to one server.
    pub(crate) fn unseal(&self, vault: &Vault) -> Result<BTreeMap<Slot, SecretText>, HubError> {
        let mut values = BTreeMap::new();
        for value in self.shared.values() {
            values.insert(Slot::Shared(value.slot.clone()), open_value(vault, value)?);
        }
        for value in self.personal.values() {
            let opened = open_value(vault, value)?;
            let opened = if value.slot.is_account() { Account::read(&opened)?.token() } else { opened };
            values.insert(Slot::Personal(value.slot.clone()), opened);
        }
        Ok(values)
    }

    /// Finds the account that the person has connected.
    pub(crate) fn account(&self) -> Option<&SealedValue> {
        self.find(&Slot::account())
    }

    pub(crate) fn find(&self, slot: &Slot) -> Option<&SealedValue> {
        let values = match slot {
            Slot::Personal(_) => &self.personal,
            Slot::Shared(_) => &self.shared,
        };
        values.values().iter().find(|value| value.slot == *slot.name())
    }

    /// Says how a slot stands, as far as its value tells.
    pub(crate) fn state(&self, slot: &Slot, destination: &Destination) -> SlotState {
        match self.find(slot) {
            None => SlotState::Missing,
            Some(value) if value.destination == *destination => SlotState::Ready,
            Some(_) => SlotState::Suspended,
        }
    }
}

pub(crate) fn open_value(vault: &Vault, value: &SealedValue) -> Result<SecretText, HubError> {
    let (id, owner) = names(value);
    Ok(vault.open_text(&context(value, &id, &owner), &Sealed::from_bytes(value.sealed.clone())?)?)
}

fn names(value: &SealedValue) -> (String, String) {
    (value.id.to_string(), value.owner.map(|owner| owner.to_string()).unwrap_or_default())
}

/// The context that a value is sealed in: moved to another row, owner, slot, version or destination,
/// it doesn't open.
fn context<'a>(value: &'a SealedValue, id: &'a str, owner: &'a str) -> Context<'a> {
    Context {
        table: if value.owner.is_some() { "credentials" } else { "shared_values" },
        column: "sealed",
        row: id,
        owner,
        name: value.slot.as_str(),
        version: value.revision.unsigned_abs(),
        destination: Some(&value.destination),
    }
}

fn check_value(value: &SecretText) -> Result<(), HubError> {
    let text = value.expose();
    if text.is_empty() || text.len() > SecretText::MAX {
        return Err(HubError::Invalid("a credential has 1 byte to 64 KiB".to_owned()));
    }
    if text.contains(['\r', '\n', '\0']) {
        return Err(HubError::Invalid("a credential has no line break and no NUL".to_owned()));
    }
    Ok(())
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
