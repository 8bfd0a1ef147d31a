//! Hub keys, stored as what proves them, never as what they are.

use mcphub_domain::{HubKey, KeyId, Timestamp};

use crate::error::StoreError;
use crate::snapshot::ChangeKind;
use crate::statement::{Row, Tx, values};
use crate::tx::WriteTx;

impl WriteTx {
    /// Adds a hub key of a person whose context the transaction has.
    pub async fn add_key(&mut self, key: &HubKey) -> Result<(), StoreError> {
        self.tx
            .execute(
                "INSERT INTO hub_keys (id, owner_id, name, mac, created_at, expires_at, revision)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                values![
                    key.id.to_string(),
                    key.owner.to_string(),
                    key.name.as_str(),
                    key.mac.as_slice(),
                    key.created_at.as_micros(),
                    key.expires_at.as_micros(),
                    key.revision,
                ],
            )
            .await?;
        self.changed(ChangeKind::Key, key.id);
        Ok(())
    }

    /// Replaces a key's row that still has the revision before `key.revision`.
    pub async fn put_key(&mut self, key: &HubKey) -> Result<(), StoreError> {
        let changed = self
            .tx
            .execute(
                "UPDATE hub_keys SET revoked_at = $2, exposed_at = $3, revision = $4
                  WHERE id = $1 AND owner_id = $5 AND revision = $4 - 1",
                values![
                    key.id.to_string(),
                    key.revoked_at.map(Timestamp::as_micros),
                    key.exposed_at.map(Timestamp::as_micros),
                    key.revision,
                    key.owner.to_string(),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::stale(format!("key {}", key.id)));
        }
        self.changed(ChangeKind::Key, key.id);
        Ok(())
    }
}

pub(crate) async fn load_keys(tx: &mut Tx) -> Result<Vec<HubKey>, StoreError> {
    let rows = tx
        .all(
            "SELECT id, owner_id, name, mac, created_at, expires_at, revoked_at, exposed_at, revision FROM hub_keys",
            values![],
        )
        .await?;
    rows.iter().map(from_row).collect()
}

pub(crate) async fn load_key(tx: &mut Tx, id: KeyId) -> Result<Option<HubKey>, StoreError> {
    let row = tx
        .one(
            "SELECT id, owner_id, name, mac, created_at, expires_at, revoked_at, exposed_at, revision FROM hub_keys
              WHERE id = $1",
            values![id.to_string()],
        )
        .await?;
    row.as_ref().map(from_row).transpose()
}

fn from_row(row: &Row) -> Result<HubKey, StoreError> {
    Ok(HubKey {
        id: row.parse(0)?,
        owner: row.parse(1)?,
        name: row.parse(2)?,
        mac: row.array(3)?,
        created_at: Timestamp::from_micros(row.get(4)?),
        expires_at: Timestamp::from_micros(row.get(5)?),
        revoked_at: row.get::<Option<i64>>(6)?.map(Timestamp::from_micros),
        exposed_at: row.get::<Option<i64>>(7)?.map(Timestamp::from_micros),
        revision: row.get(8)?,
    })
}
