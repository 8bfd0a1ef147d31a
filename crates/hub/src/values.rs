//! The values that a call takes: found sealed, and unsealed only for the connection that is made with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcphub_domain::server::Needs;
use mcphub_domain::{Destination, SecretText, Server, ServerId, Slot, SlotName, UserId};
use mcphub_store::credentials::SealedValue;
use mcphub_upstream::{Access, Client as AboutClient, Scope, Values};
use mcphub_vault::{Context, Sealed, Vault};

use crate::accounts::Account;
use crate::cache::Stored;
use crate::caller::Caller;
use crate::credentials::SlotState;
use crate::error::{HubError, MissingCredential};
use crate::hub::Hub;

/// Is what a call needs beside its permit: sealed values that fit the server as it is now.
#[derive(Clone, Default)]
pub(crate) struct SealedValues {
    pub(crate) shared: Arc<Stored>,
    pub(crate) personal: Arc<Stored>,
}

impl Hub {
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
    pub(crate) fn state_of(
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

    /// Unseals what a connection is made with, which is used only while it still holds. It is for a person's client, or for
    /// the hub itself.
    pub(crate) fn access(
        &self,
        server: &Server,
        user: Option<UserId>,
        client: &AboutClient,
        sealed: SealedValues,
    ) -> Result<Access, HubError> {
        let missing = || HubError::Invalid(format!("server {} needs a person's own values", server.name));
        let scope = match (user, client.session) {
            (None, _) => Scope::Shared,
            (Some(user), None) => Scope::Person(user),
            (Some(user), Some(session)) => Scope::Session(user, session),
        };
        let declared = (client.abilities, client.prefers);
        let key = mcphub_upstream::key(server, scope, declared, sealed.revisions()).ok_or_else(missing)?;
        let (hub, used) = (self.handle(), sealed.clone());
        let still = move || {
            let Some(hub) = hub.upgrade() else { return false };
            let world = hub.snapshot.newest();
            world.server(key.server).is_some_and(|entry| entry.server().revision == key.revision)
                && hub.cache.still_holds(user, key.server, (&used.shared, &used.personal))
        };
        let hub = self.handle();
        let values = move || {
            let hub = hub.upgrade().ok_or("the hub is stopping")?;
            hub.unseal_values(user, &sealed).map_err(|error| error.to_string())
        };
        Ok(Access { key, caller: user, values: Box::new(values), still: Box::new(still) })
    }

    /// Unseals the values for a connection of a person, or of the hub itself.
    fn unseal_values(&self, user: Option<UserId>, sealed: &SealedValues) -> Result<Values, HubError> {
        let slots = sealed.unseal(&self.seal.open()?.vault)?;
        let world = self.snapshot.fresh()?;
        let caller = user.and_then(|user| world.user(user)).map(|user| mcphub_upstream::Caller {
            id: user.id,
            name: user.name.clone(),
            email: user.email.clone(),
        });
        Ok(Values { slots, caller })
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
        self.personal.values().iter().find(|value| value.slot.is_account())
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
