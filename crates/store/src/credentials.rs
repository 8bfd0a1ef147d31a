//! People's credentials and shared values, as the vault sealed them.

use mcphub_domain::{CredentialId, Destination, ServerId, SlotName, Timestamp, UserId};

use crate::error::StoreError;
use crate::snapshot::ChangeKind;
use crate::statement::{Row, Tx, values};
use crate::store::Store;
use crate::tx::WriteTx;

/// Is a sealed value for one slot of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedValue {
    /// Its id.
    pub id: CredentialId,
    /// Whose it is; a shared value is nobody's.
    pub owner: Option<UserId>,
    /// For which server.
    pub server: ServerId,
    /// For which slot.
    pub slot: SlotName,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// Where it may be sent; also sealed into the value.
    pub destination: Destination,
    /// Counts the changes of this row, from 1; also sealed into the value.
    pub revision: i64,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl WriteTx {
    /// Adds a credential (revision 1), or replaces the one with the revision before, of the person
    /// whose context the transaction has. Connections that used the one before close.
    pub async fn put_credential(&mut self, owner: UserId, value: &SealedValue) -> Result<(), StoreError> {
        self.put_of(owner, value).await?;
        self.changed(ChangeKind::Credential, format!("{owner}/{}", value.server));
        Ok(())
    }

    /// Replaces a credential by one that is as good: connections that used the one before go on.
    pub async fn renew_credential(&mut self, owner: UserId, value: &SealedValue) -> Result<(), StoreError> {
        self.put_of(owner, value).await?;
        self.changed(ChangeKind::Renewal, format!("{owner}/{}", value.server));
        Ok(())
    }

    async fn put_of(&mut self, owner: UserId, value: &SealedValue) -> Result<(), StoreError> {
        let sql = if value.revision == 1 {
            "INSERT INTO credentials (id, owner_id, server_id, slot, sealed, destination, revision, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (owner_id, server_id, slot) DO NOTHING"
        } else {
            "UPDATE credentials
                SET sealed = $5, destination = $6, revision = $7, updated_at = $8, renewing_until = NULL
              WHERE id = $1 AND owner_id = $2 AND server_id = $3 AND slot = $4 AND revision = $7 - 1"
        };
        let changed = self
            .tx
            .execute(
                sql,
                values![
                    value.id.to_string(),
                    owner.to_string(),
                    value.server.to_string(),
                    value.slot.as_str(),
                    value.sealed.as_slice(),
                    value.destination.as_bytes().as_slice(),
                    value.revision,
                    value.updated_at.as_micros(),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::stale(format!("credential {}", value.slot)));
        }
        Ok(())
    }

    /// Removes a credential of the person whose context the transaction has.
    pub async fn remove_credential(&mut self, owner: UserId, value: &SealedValue) -> Result<(), StoreError> {
        let gone = self
            .tx
            .execute(
                "DELETE FROM credentials WHERE id = $1 AND owner_id = $2 AND revision = $3",
                values![value.id.to_string(), owner.to_string(), value.revision],
            )
            .await?;
        if gone == 0 {
            return Err(StoreError::stale(format!("credential {}", value.slot)));
        }
        self.changed(ChangeKind::Credential, format!("{owner}/{}", value.server));
        Ok(())
    }

    /// Adds a shared value (revision 1), or replaces the one with the revision before.
    pub async fn put_shared_value(&mut self, value: &SealedValue) -> Result<(), StoreError> {
        let sql = if value.revision == 1 {
            "INSERT INTO shared_values (id, server_id, slot, sealed, destination, revision, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (server_id, slot) DO NOTHING"
        } else {
            "UPDATE shared_values SET sealed = $4, destination = $5, revision = $6, updated_at = $7
              WHERE id = $1 AND server_id = $2 AND slot = $3 AND revision = $6 - 1"
        };
        let changed = self
            .tx
            .execute(
                sql,
                values![
                    value.id.to_string(),
                    value.server.to_string(),
                    value.slot.as_str(),
                    value.sealed.as_slice(),
                    value.destination.as_bytes().as_slice(),
                    value.revision,
                    value.updated_at.as_micros(),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::stale(format!("shared value {}", value.slot)));
        }
        self.changed(ChangeKind::SharedValue, value.server);
        Ok(())
    }
}

impl Store {
    /// Loads a person's credentials for a server.
    pub async fn credentials(&self, owner: UserId, server: ServerId) -> Result<Vec<SealedValue>, StoreError> {
        let mut tx = self.app().read().await?;
        tx.act_for(&owner.to_string()).await?;
        let rows = tx
            .all(
                "SELECT id, server_id, slot, sealed, destination, revision, updated_at, owner_id FROM credentials
                  WHERE owner_id = $1 AND server_id = $2",
                values![owner.to_string(), server.to_string()],
            )
            .await?;
        rows.iter().map(|row| from_row(row, Some(row.parse(7)?))).collect()
    }

    /// Claims the renewal of a credential as it was read, until a time: no other process renews it meanwhile. Says no if
    /// another has claimed it, or it has changed.
    pub async fn claim_renewal(
        &self,
        owner: UserId,
        value: &SealedValue,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.app().write().await?;
        tx.act_for(&owner.to_string()).await?;
        let claimed = tx
            .execute(
                "UPDATE credentials SET renewing_until = $4
                  WHERE id = $1 AND owner_id = $2 AND revision = $3
                    AND (renewing_until IS NULL OR renewing_until <= $5)",
                values![
                    value.id.to_string(),
                    owner.to_string(),
                    value.revision,
                    until.as_micros(),
                    self.now().as_micros(),
                ],
            )
            .await?;
        tx.commit().await?;
        Ok(claimed > 0)
    }

    /// Gives a claim back that came to nothing. One that has ended meanwhile, and is another's, stays.
    pub async fn release_renewal(
        &self,
        owner: UserId,
        value: &SealedValue,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.app().write().await?;
        tx.act_for(&owner.to_string()).await?;
        tx.execute(
            "UPDATE credentials SET renewing_until = NULL
              WHERE id = $1 AND owner_id = $2 AND revision = $3 AND renewing_until = $4",
            values![value.id.to_string(), owner.to_string(), value.revision, until.as_micros()],
        )
        .await?;
        tx.commit().await
    }

    /// Loads the shared values of a server.
    pub async fn shared_values(&self, server: ServerId) -> Result<Vec<SealedValue>, StoreError> {
        load_shared_values(&mut self.app().read().await?, server).await
    }
}

async fn load_shared_values(tx: &mut Tx, server: ServerId) -> Result<Vec<SealedValue>, StoreError> {
    let rows = tx
        .all(
            "SELECT id, server_id, slot, sealed, destination, revision, updated_at FROM shared_values
              WHERE server_id = $1",
            values![server.to_string()],
        )
        .await?;
    rows.iter().map(|row| from_row(row, None)).collect()
}

fn from_row(row: &Row, owner: Option<UserId>) -> Result<SealedValue, StoreError> {
    Ok(SealedValue {
        id: row.parse(0)?,
        owner,
        server: row.parse(1)?,
        slot: row.parse(2)?,
        sealed: row.get(3)?,
        destination: Destination::from_bytes(row.array(4)?),
        revision: row.get(5)?,
        updated_at: Timestamp::from_micros(row.get(6)?),
    })
}
