//! The keys that everything sealed lies under: rotate them, and see what lies under which.
//!
//! A rotation goes so: a new key becomes known, and nothing is sealed under it; every serving process
//! says that it holds the key; the key seals; what lies under other keys is moved, batch by batch,
//! while everything goes on. Each step is one change with its record. Whoever begins a rotation again
//! that something interrupted goes on where it stopped.

use std::time::Duration;

use mcphub_domain::{Event, Timestamp, WrapKeyId};
use mcphub_policy::Administration;
pub use mcphub_store::vault_keys::KeyState;
use mcphub_store::vault_keys::{SealedRow, SealedTable, Use, VaultKey};
use mcphub_vault::Sealed;
use mcphub_vault::provider::{Provider, ProviderError};
use tokio::time::{Instant, sleep};

use crate::audit::Granted;
use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;

/// How many values one transaction moves.
const BATCH: i64 = 100;
/// How often it is asked whether the others have taken up a key.
const POLL: Duration = Duration::from_millis(200);
/// How long they have for it: each looks once a second, and tells as often that it lives.
const PATIENCE: Duration = Duration::from_secs(15);

/// Is what a rotation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotated {
    /// The key that seals now.
    pub key: WrapKeyId,
    /// Whether it ended a rotation that was begun before, instead of beginning one.
    pub resumed: bool,
    /// How many values were moved under it.
    pub moved: u64,
    /// How many values could not be moved, because they don't open.
    pub left: u64,
}

/// Describes the vault: never a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultStatus {
    /// Where the keys come from, and why they can't be read, if they can't.
    pub provider: KeyPlace,
    /// Whether the hub is sealed.
    pub sealed: bool,
    /// The keys, the oldest first.
    pub keys: Vec<KeyStatus>,
    /// How many values don't name a key: they are damaged.
    pub damaged: u64,
    /// Whether something is still to be done of a rotation.
    pub unfinished: bool,
}

/// Says where the keys come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPlace {
    /// The key file; none if the environment holds the keys.
    pub file: Option<std::path::PathBuf>,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// Describes a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyStatus {
    /// Names it.
    pub id: WrapKeyId,
    /// What it is for.
    pub state: KeyState,
    /// When it became known.
    pub created_at: Timestamp,
    /// Whether this machine holds it.
    pub held: bool,
    /// How many values are sealed under it.
    pub values: u64,
}

impl Hub {
    /// Makes a new key and moves everything under it, or ends a rotation that was interrupted.
    pub async fn rotate_vault(&self, caller: &Caller) -> Result<Rotated, HubError> {
        let granted = self.keep_custody(caller, "vault.rotate").await?;
        let (earlier, _) = self.move_all(caller, self.seal.open()?.vault.current_key()).await?;
        let next = self.find(KeyState::Next).await?;
        if earlier > 0 && next.is_none() {
            return Ok(Rotated { resumed: true, ..self.rotated(caller, earlier).await? });
        }
        let resumed = next.is_some();
        let key = self.next_key(granted, next).await?;
        self.wait_for_all(key, Use::Opens).await?;
        self.let_seal(caller, key).await?;
        let (moved, _) = self.move_all(caller, key).await?;
        self.wait_for_all(key, Use::Seals).await?;
        let (late, _) = self.move_all(caller, key).await?;
        Ok(Rotated { resumed, ..self.rotated(caller, earlier + moved + late).await? })
    }

    /// Gives up a rotation whose key is lost before it sealed anything.
    pub async fn abandon_rotation(&self, caller: &Caller) -> Result<WrapKeyId, HubError> {
        let granted = self.keep_custody(caller, "vault.abandon").await?;
        let next = self.find(KeyState::Next).await?;
        let key = next.ok_or_else(|| HubError::Invalid("no rotation waits for its key".to_owned()))?.id;
        self.retire(granted, key).await?;
        Ok(key)
    }

    /// Takes away the old keys under which nothing is sealed any more, from the key file as well.
    /// Backups that were made before need them: whoever keeps those keeps a copy of the file.
    pub async fn retire_keys(&self, caller: &Caller) -> Result<Vec<WrapKeyId>, HubError> {
        self.keep_custody(caller, "vault.retire").await?;
        let counts = self.store.count_sealed().await?;
        let mut gone = Vec::new();
        for key in self.store.vault_keys().await? {
            if key.state == KeyState::Old && !counts.contains_key(&Some(key.id)) {
                self.retire(self.keep_custody(caller, "vault.retire").await?, key.id).await?;
                gone.push(key.id);
            }
        }
        self.clear_key_file().await?;
        Ok(gone)
    }

    /// Describes the keys and what lies under them.
    pub async fn vault_status(&self, caller: &Caller) -> Result<VaultStatus, HubError> {
        self.keep_custody(caller, "vault.status").await?;
        let (known, mut counts) = (self.store.vault_keys().await?, self.store.count_sealed().await?);
        self.record_read(caller, "vault.status", None, known.len()).await;
        let file = match self.seal.provider() {
            Provider::File(file) => Some(file.path().to_owned()),
            Provider::Env(_) => None,
        };
        let loaded = self.seal.provider().load();
        let held = loaded.as_ref().map(|keyring| keyring.ids()).unwrap_or_default();
        let keys: Vec<KeyStatus> = known
            .into_iter()
            .map(|VaultKey { id, state, created_at }| {
                let values = counts.remove(&Some(id)).unwrap_or_default();
                KeyStatus { id, state, created_at, held: held.contains(&id), values }
            })
            .collect();
        let unfinished = |key: &KeyStatus| match key.state {
            KeyState::Current => false,
            KeyState::Next => true,
            KeyState::Old => key.values > 0,
        };
        Ok(VaultStatus {
            provider: KeyPlace { file, fault: loaded.err().map(|error| error.to_string()) },
            sealed: self.seal.open().is_err(),
            damaged: counts.remove(&None).unwrap_or_default(),
            unfinished: keys.iter().any(unfinished),
            keys,
        })
    }

    /// Takes retired keys out of the key file.
    async fn clear_key_file(&self) -> Result<(), HubError> {
        let Provider::File(file) = self.seal.provider() else { return Ok(()) };
        let failed = |error: ProviderError| HubError::Internal(error.to_string());
        let retired = self.store.retired_keys().await?;
        if file.load().map_err(failed)?.ids().iter().any(|key| retired.contains(key)) {
            file.remove(&retired).map_err(failed)?;
        }
        Ok(())
    }

    async fn keep_custody(&self, caller: &Caller, method: &str) -> Result<Granted, HubError> {
        self.administrate(caller, Administration::KeepCustody, method).await
    }

    async fn find(&self, state: KeyState) -> Result<Option<VaultKey>, HubError> {
        Ok(self.store.vault_keys().await?.into_iter().find(|key| key.state == state))
    }

    /// Returns the key that will seal: one that an interrupted rotation has made known, one that lies
    /// ready, or a new one.
    async fn next_key(&self, granted: Granted, next: Option<VaultKey>) -> Result<WrapKeyId, HubError> {
        self.seal.follow(&self.store, &self.entropy).await?;
        let held = self.seal.open()?.vault.keys();
        if let Some(key) = next {
            return if held.contains(&key.id) { Ok(key.id) } else { Err(lost(key.id)) };
        }
        let mut used = self.store.retired_keys().await?;
        used.extend(self.store.vault_keys().await?.iter().map(|key| key.id));
        let key = match (held.into_iter().find(|key| !used.contains(key)), self.seal.provider()) {
            (Some(ready), _) => ready,
            (None, Provider::File(file)) => {
                file.add(&self.entropy).map_err(|error| HubError::Internal(error.to_string()))?
            }
            (None, Provider::Env(_)) => return Err(HubError::Invalid(NEW_VALUE.to_owned())),
        };
        self.seal.follow(&self.store, &self.entropy).await?;
        let mut tx = self.store.write().await?;
        tx.add_vault_key(key).await?;
        self.commit(tx, granted, Event::VaultKeyAdded { key }).await?;
        Ok(key)
    }

    /// Waits until every serving process uses the key so: what one seals, all can open.
    async fn wait_for_all(&self, key: WrapKeyId, how: Use) -> Result<(), HubError> {
        let deadline = Instant::now() + PATIENCE;
        let first = self.store.processes_without(key, how).await?;
        let mut without = first.clone();
        while !without.is_empty() {
            if Instant::now() > deadline {
                // Who hasn't told once in all this time that she lives is dead.
                let living = without.iter().filter(|(chain, told)| first.get(chain) != Some(told)).count();
                return if living == 0 { Ok(()) } else { Err(HubError::Conflict(waiting(key, living))) };
            }
            sleep(POLL).await;
            without = self.store.processes_without(key, how).await?;
        }
        Ok(())
    }

    async fn let_seal(&self, caller: &Caller, key: WrapKeyId) -> Result<(), HubError> {
        let granted = self.keep_custody(caller, "vault.rotate").await?;
        let mut tx = self.store.write().await?;
        tx.use_vault_key(key).await?;
        self.commit(tx, granted, Event::VaultKeyCurrent { key }).await?;
        self.seal.follow(&self.store, &self.entropy).await
    }

    /// Moves everything under the key that seals. Returns how many values moved and how many can't.
    async fn move_all(&self, caller: &Caller, key: WrapKeyId) -> Result<(u64, u64), HubError> {
        let (mut moved, mut left) = (0, 0);
        for table in SealedTable::ALL {
            let mut after = String::new();
            loop {
                let rows = self.store.sealed_under_others(table, key, &after, BATCH).await?;
                let Some(last) = rows.last() else { break };
                after.clone_from(&last.id);
                let begun = Instant::now();
                let done = self.move_batch(caller, key, &rows).await?;
                moved += done;
                left += rows.len() as u64 - done;
                // Everybody else writes meanwhile: half of the time is theirs.
                sleep(begun.elapsed()).await;
            }
        }
        Ok((moved, left))
    }

    async fn move_batch(&self, caller: &Caller, key: WrapKeyId, rows: &[SealedRow]) -> Result<u64, HubError> {
        let unsealed = self.seal.open()?;
        let mut fresh = Vec::with_capacity(rows.len());
        for row in rows {
            let sealed = Sealed::from_bytes(row.sealed.clone());
            match sealed.and_then(|sealed| unsealed.vault.rewrap(&sealed, &self.entropy)) {
                Ok(moved) => fresh.extend(moved.map(|moved| (row, moved))),
                Err(error) => tracing::warn!(row = row.id, %error, "a value stays under its key"),
            }
        }
        if fresh.is_empty() {
            return Ok(0);
        }
        let granted = self.keep_custody(caller, "vault.rotate").await?;
        let (mut tx, mut count) = (self.store.write().await?, 0);
        for (row, moved) in fresh {
            count += u64::from(tx.rewrap(row, moved.as_bytes()).await?);
        }
        self.commit(tx, granted, Event::VaultRewrapped { key, count }).await?;
        Ok(count)
    }

    async fn rotated(&self, caller: &Caller, moved: u64) -> Result<Rotated, HubError> {
        let key = self.seal.open()?.vault.current_key();
        let counts = self.store.count_sealed().await?;
        let left = counts.iter().filter(|(id, _)| **id != Some(key)).map(|(_, count)| count).sum();
        self.record_durable(caller, Event::VaultRotated { key, count: moved }).await?;
        Ok(Rotated { key, resumed: false, moved, left })
    }

    async fn retire(&self, granted: Granted, key: WrapKeyId) -> Result<(), HubError> {
        let mut tx = self.store.write().await?;
        tx.retire_vault_key(key).await?;
        self.commit(tx, granted, Event::VaultKeyRetired { key }).await
    }
}

const NEW_VALUE: &str = "the keys come from the environment: put a new key (`openssl rand -hex 32`) and a comma \
    before the one in MCPHUB_VAULT__KEY, restart every hub with that value, and run this again with it";

fn lost(key: WrapKeyId) -> HubError {
    HubError::Invalid(format!(
        "a rotation was begun with key {key}, which is not in the key file here: put the key file of the machine \
         where it was begun here, or, if that is lost, run `mcphub vault rotate --abandon`"
    ))
}

fn waiting(key: WrapKeyId, processes: usize) -> String {
    format!(
        "{processes} running hubs have not taken up key {key} yet: if they run on other machines, put this \
         machine's key file there too (with keys in the environment, restart them); then run this again, and it \
         goes on from here"
    )
}
