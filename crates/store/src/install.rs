//! What exists once: the installation's id, the hub's own sealed secrets, and each person's key.

use mcphub_domain::{InstallId, UserId};

use crate::error::StoreError;
use crate::statement::values;
use crate::store::Store;

impl Store {
    /// Returns the installation's id; on an empty database it becomes `fresh`.
    pub async fn install(&self, fresh: InstallId) -> Result<InstallId, StoreError> {
        if let Some(id) = self.find_install().await? {
            return Ok(id);
        }
        let mut tx = self.app().write().await?;
        tx.execute(
            "INSERT INTO install (only_row, id, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
            values![fresh.to_string(), self.now().as_micros()],
        )
        .await?;
        tx.commit().await?;
        self.find_install().await?.ok_or_else(|| StoreError::damaged("the database has no installation id"))
    }

    /// Says whether anything has ever been sealed here: then a missing key must not be made anew.
    pub async fn has_secrets(&self) -> Result<bool, StoreError> {
        let row = self.app().read().await?.one("SELECT COUNT(*) FROM vault_secrets", values![]).await?;
        Ok(row.map_or(Ok(0_i64), |row| row.get(0))? > 0)
    }

    /// Returns a sealed secret of the hub itself; where there is none, it becomes `fresh`.
    pub async fn vault_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
        if let Some(sealed) = self.find_vault_secret(name).await? {
            return Ok(sealed);
        }
        let mut tx = self.app().write().await?;
        tx.execute(
            "INSERT INTO vault_secrets (name, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            values![name, fresh, self.now().as_micros()],
        )
        .await?;
        tx.commit().await?;
        self.find_vault_secret(name).await?.ok_or_else(|| StoreError::missing(format!("vault secret {name}")))
    }

    /// Notes the public key that the log's heads are signed with.
    pub async fn set_signer(&self, public: &[u8; 32]) -> Result<(), StoreError> {
        let mut tx = self.app().write().await?;
        tx.execute("UPDATE install SET signer = $1 WHERE signer IS NULL", values![public.as_slice()]).await?;
        tx.commit().await
    }

    /// Returns the public key that the log's heads are signed with.
    pub async fn signer(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let row = self
            .worker()
            .read()
            .await?
            .one("SELECT signer FROM install WHERE signer IS NOT NULL", values![])
            .await?;
        row.map(|row| row.array(0)).transpose()
    }

    /// Returns the sealed key of a person's fields in the log; where there is none, it becomes `fresh`.
    pub async fn person_key(&self, person: UserId, fresh: &[u8]) -> Result<Vec<u8>, StoreError> {
        if let Some(sealed) = self.find_person_key(person).await? {
            return Ok(sealed);
        }
        let mut tx = self.app().write().await?;
        tx.act_for(&person.to_string()).await?;
        tx.execute(
            "INSERT INTO person_keys (owner_id, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            values![person.to_string(), fresh, self.now().as_micros()],
        )
        .await?;
        tx.commit().await?;
        self.find_person_key(person)
            .await?
            .ok_or_else(|| StoreError::missing(format!("the log key of person {person}")))
    }

    /// Finds the sealed key of a person's fields in the log.
    pub async fn find_person_key(&self, person: UserId) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self
            .worker()
            .read()
            .await?
            .one("SELECT sealed FROM person_keys WHERE owner_id = $1", values![person.to_string()])
            .await?;
        row.map(|row| row.get(0)).transpose()
    }

    async fn find_install(&self) -> Result<Option<InstallId>, StoreError> {
        let row = self.app().read().await?.one("SELECT id FROM install", values![]).await?;
        row.map(|row| row.parse(0)).transpose()
    }

    async fn find_vault_secret(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self
            .app()
            .read()
            .await?
            .one("SELECT sealed FROM vault_secrets WHERE name = $1", values![name])
            .await?;
        row.map(|row| row.get(0)).transpose()
    }
}
