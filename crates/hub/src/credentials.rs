//! Credentials: people fill in their own slots, admins the shared ones, and nobody reads them back.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::{CredentialId, Destination, Event, SecretText, Server, ServerId, Slot, SlotName, UserId};
use mcphub_policy::Administration;
use mcphub_store::credentials::SealedValue;
use mcphub_vault::{Context, Sealed, Vault};

use crate::cache::{Mark, mark};
use crate::caller::Caller;
use crate::error::{HubError, MissingCredential};
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
}

/// Is what a call needs beside its permit: sealed values that fit the server as it is now.
pub(crate) struct SealedValues {
    shared: Vec<SealedValue>,
    personal: Vec<SealedValue>,
}

impl Hub {
    /// Fills in a slot of one's own, or replaces its value.
    pub async fn set_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        (server, slot): (ServerId, SlotName),
        value: &SecretText,
    ) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::Credentials(owner), "credentials.set").await?;
        let server = self.enabled_slot(server, &Slot::Personal(slot.clone()))?;
        self.snapshot
            .fresh()?
            .user(owner)
            .ok_or_else(|| HubError::NotFound { what: format!("user {owner}") })?;
        let before = find(&self.store.credentials(owner, server.id).await?, &slot);
        let sealed = self.seal_value(self.place(Some(owner), &server, &slot, before.as_ref()), value)?;
        let event = Event::CredentialSet { credential: sealed.id, owner, server: server.id, slot };
        let mut tx = self.write_for(owner).await?;
        tx.put_credential(owner, &sealed).await?;
        self.commit(tx, permit, event).await
    }

    /// Confirms that a value may go where the server is now. Only its owner can, never an admin.
    pub async fn confirm_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        (server, slot): (ServerId, SlotName),
    ) -> Result<(), HubError> {
        let permit =
            self.administrate(caller, Administration::Credentials(owner), "credentials.confirm").await?;
        let server = self.enabled_slot(server, &Slot::Personal(slot.clone()))?;
        let before =
            find(&self.store.credentials(owner, server.id).await?, &slot).ok_or_else(|| missing(&slot))?;
        let value = open_value(&self.seal.open()?.vault, &before)?;
        let sealed = self.seal_value(self.place(Some(owner), &server, &slot, Some(&before)), &value)?;
        let event = Event::CredentialConfirmed { credential: sealed.id, owner, server: server.id, slot };
        let mut tx = self.write_for(owner).await?;
        tx.put_credential(owner, &sealed).await?;
        self.commit(tx, permit, event).await
    }

    /// Removes a value of one's own; connections that used it close within a second.
    pub async fn remove_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        (server, slot): (ServerId, SlotName),
    ) -> Result<(), HubError> {
        let permit =
            self.administrate(caller, Administration::Credentials(owner), "credentials.remove").await?;
        let before =
            find(&self.store.credentials(owner, server).await?, &slot).ok_or_else(|| missing(&slot))?;
        let event = Event::CredentialRemoved { credential: before.id, owner, server, slot };
        let mut tx = self.write_for(owner).await?;
        tx.remove_credential(owner, &before).await?;
        self.commit(tx, permit, event).await
    }

    /// Sets the one value that everybody's calls to a server use.
    pub async fn set_shared_value(
        &self,
        caller: &Caller,
        (server, slot): (ServerId, SlotName),
        value: &SecretText,
    ) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::ManageServers, "shared-values.set").await?;
        let server = self.enabled_slot(server, &Slot::Shared(slot.clone()))?;
        let before = find(&self.store.shared_values(server.id).await?, &slot);
        let sealed = self.seal_value(self.place(None, &server, &slot, before.as_ref()), value)?;
        let event = Event::SharedValueSet { credential: sealed.id, server: server.id, slot };
        let mut tx = self.store.write().await?;
        tx.put_shared_value(&sealed).await?;
        self.commit(tx, permit, event).await
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
        let values = self.stored_values(owner, &server).await?;
        let destination = server.definition.destination();
        let slots: Vec<SlotView> = server
            .definition
            .slots()
            .into_iter()
            .map(|slot| SlotView { state: values.state(&slot, &destination), slot })
            .collect();
        self.record_read(caller, "credentials.list", Some(server.name.as_str()), slots.len()).await;
        Ok(slots)
    }

    /// Finds the sealed values that a call of `owner` to a server needs, or says what is missing.
    /// Nothing is unsealed here.
    pub(crate) async fn find_values(&self, owner: UserId, server: &Server) -> Result<SealedValues, HubError> {
        let values = self.stored_values(owner, server).await?;
        let destination = server.definition.destination();
        let (mut missing, mut suspended) = (Vec::new(), Vec::new());
        for slot in server.definition.slots() {
            match values.state(&slot, &destination) {
                SlotState::Ready => {}
                SlotState::Missing => missing.push(slot.name().clone()),
                SlotState::Suspended => suspended.push(slot.name().clone()),
            }
        }
        if missing.is_empty() && suspended.is_empty() {
            return Ok(values);
        }
        Err(HubError::MissingCredential(MissingCredential {
            server: server.name.clone(),
            missing,
            suspended,
            url: self.credential_page(server),
        }))
    }

    /// Finds the shared values alone, for the hub's own look at a server.
    pub(crate) async fn find_shared_values(&self, server: &Server) -> Result<SealedValues, HubError> {
        let shared = self.cache.shared(&self.store, server.id).await?;
        Ok(SealedValues { shared, personal: Vec::new() })
    }

    /// Names the page where a person fills in what a server needs.
    pub(crate) fn credential_page(&self, server: &Server) -> String {
        let mut url = self.public_url.clone();
        url.set_path(&format!("/credentials/{}", server.name));
        url.into()
    }

    async fn stored_values(&self, owner: UserId, server: &Server) -> Result<SealedValues, HubError> {
        let slots = server.definition.slots();
        let personal = if slots.iter().any(|slot| matches!(slot, Slot::Personal(_))) {
            self.cache.personal(&self.store, owner, server.id).await?
        } else {
            Vec::new()
        };
        let shared = if slots.iter().any(|slot| matches!(slot, Slot::Shared(_))) {
            self.cache.shared(&self.store, server.id).await?
        } else {
            Vec::new()
        };
        Ok(SealedValues { shared, personal })
    }

    fn enabled_slot(&self, server: ServerId, slot: &Slot) -> Result<Server, HubError> {
        let server = self.server(server)?;
        if server.definition.slots().contains(slot) {
            return Ok(server);
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
    fn place(
        &self,
        owner: Option<UserId>,
        server: &Server,
        slot: &SlotName,
        before: Option<&SealedValue>,
    ) -> SealedValue {
        SealedValue {
            id: before.map_or_else(|| CredentialId::random(&self.entropy), |before| before.id),
            owner,
            server: server.id,
            slot: slot.clone(),
            sealed: Vec::new(),
            destination: server.definition.destination(),
            revision: before.map_or(1, |before| before.revision + 1),
            updated_at: self.clock.now(),
        }
    }

    /// Seals a value into its row.
    fn seal_value(&self, mut row: SealedValue, value: &SecretText) -> Result<SealedValue, HubError> {
        check_value(value)?;
        let (id, owner) = names(&row);
        let vault = &self.seal.open()?.vault;
        let sealed = vault.seal(&context(&row, &id, &owner), value.expose().as_bytes(), &self.entropy)?;
        row.sealed = sealed.as_bytes().to_vec();
        Ok(row)
    }
}

impl SealedValues {
    /// Names the state of the values: any change of any of them changes these numbers.
    pub(crate) fn revisions(&self) -> mcphub_upstream::Revisions {
        mcphub_upstream::Revisions {
            shared: fingerprint(&self.shared),
            personal: fingerprint(&self.personal),
        }
    }

    /// Names every value in its version.
    pub(crate) fn marks(&self) -> (Vec<Mark>, Vec<Mark>) {
        (self.shared.iter().map(mark).collect(), self.personal.iter().map(mark).collect())
    }

    /// Unseals everything, for one connection to one server.
    pub(crate) fn unseal(&self, vault: &Vault) -> Result<BTreeMap<Slot, SecretText>, HubError> {
        let mut values = BTreeMap::new();
        for value in &self.shared {
            values.insert(Slot::Shared(value.slot.clone()), open_value(vault, value)?);
        }
        for value in &self.personal {
            values.insert(Slot::Personal(value.slot.clone()), open_value(vault, value)?);
        }
        Ok(values)
    }

    fn state(&self, slot: &Slot, destination: &Destination) -> SlotState {
        let values = match slot {
            Slot::Personal(_) => &self.personal,
            Slot::Shared(_) => &self.shared,
        };
        match values.iter().find(|value| value.slot == *slot.name()) {
            None => SlotState::Missing,
            Some(value) if value.destination == *destination => SlotState::Ready,
            Some(_) => SlotState::Suspended,
        }
    }
}

fn open_value(vault: &Vault, value: &SealedValue) -> Result<SecretText, HubError> {
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

fn find(values: &[SealedValue], slot: &SlotName) -> Option<SealedValue> {
    values.iter().find(|value| value.slot == *slot).cloned()
}

fn missing(slot: &SlotName) -> HubError {
    HubError::NotFound { what: format!("a value for {slot}") }
}

fn fingerprint(values: &[SealedValue]) -> i64 {
    use sha2::{Digest, Sha256};
    let mut rows: Vec<Mark> = values.iter().map(mark).collect();
    rows.sort_unstable();
    let mut hash = Sha256::new();
    for (id, revision) in rows {
        hash.update(id.as_bytes());
        hash.update(revision.to_be_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}
