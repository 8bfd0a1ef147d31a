//! Which key-encryption keys there are, which of them seals, and what is sealed under which.
//!
//! The database itself refuses a sealed value whose key isn't here, and keeps a key that something is
//! sealed under: so nothing is ever sealed under a key that is gone.

use std::collections::BTreeMap;

use mcphub_domain::{ChainId, Timestamp, UserId, WrapKeyId};

use crate::error::StoreError;
use crate::statement::{Row, values};
use crate::store::Store;
use crate::tx::WriteTx;

/// Says what a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// It seals.
    Current,
    /// It will seal once every process holds it.
    Next,
    /// It only opens.
    Old,
}

/// Is a key that something may be sealed under. The key itself is elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VaultKey {
    /// Names it.
    pub id: WrapKeyId,
    /// What it is for.
    pub state: KeyState,
    /// When it became known here; the start of time if that was before anybody wrote it down.
    pub created_at: Timestamp,
}

/// Names the places where something sealed stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealedTable {
    /// The hub's own secrets.
    Own,
    /// Each person's key in the log.
    PersonKeys,
    /// Values that all people share.
    SharedValues,
    /// People's credentials.
    Credentials,
}

/// Is something sealed, wherever it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedRow {
    /// Where it stands.
    pub table: SealedTable,
    /// Which row it is.
    pub id: String,
    /// Whose own data it is.
    owner: Option<UserId>,
    /// The sealed value.
    pub sealed: Vec<u8>,
}

/// Says what is asked of a process about a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// It can open what is sealed under the key.
    Opens,
    /// It seals with the key.
    Seals,
}

/// Counts what is sealed under each key; what has no key's name is damaged.
pub type Counts = BTreeMap<Option<WrapKeyId>, u64>;

impl KeyState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Old => "old",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        let state = [Self::Current, Self::Next, Self::Old].into_iter().find(|state| state.as_str() == text);
        state.ok_or_else(|| StoreError::damaged("the state of a key"))
    }
}

impl SealedTable {
    /// Lists all of them.
    pub const ALL: [Self; 4] = [Self::Own, Self::PersonKeys, Self::SharedValues, Self::Credentials];

    const fn page(self) -> &'static str {
        match self {
            Self::Own => {
                "SELECT name, sealed FROM vault_secrets WHERE key_id <> $1 AND name > $2 ORDER BY name LIMIT $3"
            }
            Self::PersonKeys => {
                "SELECT owner_id, sealed, owner_id FROM person_keys
                  WHERE key_id <> $1 AND owner_id > $2 ORDER BY owner_id LIMIT $3"
            }
            Self::SharedValues => {
                "SELECT id, sealed FROM shared_values WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3"
            }
            Self::Credentials => {
                "SELECT id, sealed, owner_id FROM credentials
                  WHERE key_id <> $1 AND id > $2 ORDER BY id LIMIT $3"
            }
        }
    }

    /// The row changes only if it still holds what was read: whoever was faster wrote a newer value.
    const fn replace(self) -> &'static str {
        match self {
            Self::Own => "UPDATE vault_secrets SET sealed = $3 WHERE name = $1 AND sealed = $2",
            Self::PersonKeys => "UPDATE person_keys SET sealed = $3 WHERE owner_id = $1 AND sealed = $2",
            Self::SharedValues => "UPDATE shared_values SET sealed = $3 WHERE id = $1 AND sealed = $2",
            Self::Credentials => "UPDATE credentials SET sealed = $3 WHERE id = $1 AND sealed = $2",
        }
    }

    const fn has_owners(self) -> bool {
        matches!(self, Self::PersonKeys | Self::Credentials)
    }
}

impl Store {
    /// Lists the keys, the oldest first.
    pub async fn vault_keys(&self) -> Result<Vec<VaultKey>, StoreError> {
        let mut tx = self.worker().read().await?;
        let rows =
            tx.all("SELECT id, state, created_at FROM vault_keys ORDER BY created_at, id", values![]).await?;
        rows.iter().map(key_from_row).collect()
    }

    /// Lists the keys that were taken away.
    pub async fn retired_keys(&self) -> Result<Vec<WrapKeyId>, StoreError> {
        let rows = self.worker().read().await?.all("SELECT id FROM retired_keys", values![]).await?;
        rows.iter().map(|row| row.parse(0)).collect()
    }

    /// Returns the key that seals; where none does yet, `first` does from now on.
    pub async fn sealing_key(&self, first: WrapKeyId) -> Result<WrapKeyId, StoreError> {
        if let Some(key) = self.find_sealing_key().await? {
            return Ok(key);
        }
        let mut tx = self.app().write().await?;
        tx.execute(
            "UPDATE vault_keys SET state = 'current'
              WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM vault_keys k WHERE k.state = 'current')",
            values![first.to_string()],
        )
        .await?;
        tx.execute(
            "INSERT INTO vault_keys (id, state, created_at) SELECT $1, 'current', $2
              WHERE NOT EXISTS (SELECT 1 FROM vault_keys k WHERE k.state = 'current') ON CONFLICT DO NOTHING",
            values![first.to_string(), self.now().as_micros()],
        )
        .await?;
        tx.commit().await?;
        self.find_sealing_key().await?.ok_or_else(|| StoreError::missing("the key that seals"))
    }

    /// Says which keys this process holds, the one that seals first. False if nobody would see it yet, because the process has
    /// written no record.
    pub async fn note_held_keys(&self, held: &[WrapKeyId]) -> Result<bool, StoreError> {
        let held: Vec<String> = held.iter().map(ToString::to_string).collect();
        let mut tx = self.pulse().write().await?;
        let noted = tx
            .execute(
                "UPDATE nodes SET keys = $2 WHERE chain = $1",
                values![self.ledger().id().to_string(), held.join(",")],
            )
            .await?;
        tx.commit().await?;
        Ok(noted > 0)
    }

    /// Lists the serving processes that haven't said that they use a key so, with when each told last, by its own clock, that it
    /// lives. Who lives tells each second; nobody has said that the others have ended.
    pub async fn processes_without(
        &self,
        key: WrapKeyId,
        how: Use,
    ) -> Result<BTreeMap<ChainId, Timestamp>, StoreError> {
        let sql = "SELECT chain, keys, seen_at FROM nodes WHERE state = 'open' AND process = 'serve'";
        let rows = self.pulse().read().await?.all(sql, values![]).await?;
        let mut without = BTreeMap::new();
        for row in &rows {
            let keys: String = row.get(1)?;
            let place = keys.split(',').position(|held| held == key.to_string());
            let does = match how {
                Use::Opens => place.is_some(),
                Use::Seals => place == Some(0),
            };
            if !does {
                without.insert(row.parse(0)?, Timestamp::from_micros(row.get(2)?));
            }
        }
        Ok(without)
    }

    /// Counts what is sealed under which key.
    pub async fn count_sealed(&self) -> Result<Counts, StoreError> {
        let rows = self
            .worker()
            .read()
            .await?
            .all(
                "SELECT key_id, COUNT(*) FROM (
                    SELECT key_id FROM vault_secrets UNION ALL SELECT key_id FROM person_keys UNION ALL
                    SELECT key_id FROM shared_values UNION ALL SELECT key_id FROM credentials) s
                  GROUP BY key_id",
                values![],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let id: Option<String> = row.get(0)?;
                let id = id.map(|id| id.parse().map_err(StoreError::damaged)).transpose()?;
                Ok((id, row.get::<i64>(1)?.unsigned_abs()))
            })
            .collect()
    }

    /// Reads the next rows of a table that lie under another key than this one.
    pub async fn sealed_under_others(
        &self,
        table: SealedTable,
        key: WrapKeyId,
        after: &str,
        limit: i64,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let mut tx = self.worker().read().await?;
        let rows = tx.all(table.page(), values![key.to_string(), after, limit]).await?;
        rows.iter()
            .map(|row| {
                let owner = if table.has_owners() { Some(row.parse(2)?) } else { None };
                Ok(SealedRow { table, id: row.get(0)?, owner, sealed: row.get(1)? })
            })
            .collect()
    }

    async fn find_sealing_key(&self) -> Result<Option<WrapKeyId>, StoreError> {
        let sql = "SELECT id FROM vault_keys WHERE state = 'current'";
        let row = self.app().read().await?.one(sql, values![]).await?;
        row.map(|row| row.parse(0)).transpose()
    }
}

impl WriteTx {
    /// Makes a key known that will seal.
    pub async fn add_vault_key(&mut self, key: WrapKeyId) -> Result<(), StoreError> {
        let added = self
            .tx
            .execute(
                "INSERT INTO vault_keys (id, state, created_at) SELECT $1, 'next', $2
                  WHERE NOT EXISTS (SELECT 1 FROM retired_keys r WHERE r.id = $1) ON CONFLICT DO NOTHING",
                values![key.to_string(), self.now.as_micros()],
            )
            .await?;
        if added == 0 { Err(StoreError::stale("the set of keys")) } else { Ok(()) }
    }

    /// Lets the next key seal from now on; the one before only opens.
    pub async fn use_vault_key(&mut self, key: WrapKeyId) -> Result<(), StoreError> {
        self.tx.execute("UPDATE vault_keys SET state = 'old' WHERE state = 'current'", values![]).await?;
        let sql = "UPDATE vault_keys SET state = 'current' WHERE id = $1 AND state = 'next'";
        match self.tx.execute(sql, values![key.to_string()]).await? {
            0 => Err(StoreError::stale("the set of keys")),
            _ => Ok(()),
        }
    }

    /// Takes a key away for ever that doesn't seal, if nothing is sealed under it.
    pub async fn retire_vault_key(&mut self, key: WrapKeyId) -> Result<(), StoreError> {
        let sql = "DELETE FROM vault_keys WHERE id = $1 AND state <> 'current'";
        let gone = self.tx.execute(sql, values![key.to_string()]).await;
        match gone {
            Err(error) if error.is_reference() => {
                return Err(StoreError::stale(format!("what is sealed under key {key}")));
            }
            Ok(0) => return Err(StoreError::stale("the set of keys")),
            gone => gone?,
        };
        self.tx
            .execute(
                "INSERT INTO retired_keys (id, retired_at) VALUES ($1, $2)",
                values![key.to_string(), self.now.as_micros()],
            )
            .await?;
        Ok(())
    }

    /// Puts a rewrapped value in its row's place, unless somebody has changed the row since. Neither
    /// its revision nor the world's changes: it is the same value.
    pub async fn rewrap(&mut self, row: &SealedRow, sealed: &[u8]) -> Result<bool, StoreError> {
        if let Some(owner) = row.owner {
            self.act_for(owner).await?;
        }
        let values = values![row.id.as_str(), row.sealed.as_slice(), sealed];
        Ok(self.tx.execute(row.table.replace(), values).await? > 0)
    }
}

fn key_from_row(row: &Row) -> Result<VaultKey, StoreError> {
    Ok(VaultKey {
        id: row.parse(0)?,
        state: KeyState::parse(&row.get::<String>(1)?)?,
        created_at: Timestamp::from_micros(row.get(2)?),
    })
}
