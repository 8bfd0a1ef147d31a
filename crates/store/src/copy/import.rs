//! Filling an empty database from a copy: all of it, with the record that says so, or nothing.

use std::fs::File;
use std::sync::Arc;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Actor, ChainId, Clock, Event, InstallId, WrapKeyId};
use mcphub_policy::PermitEntry;

use super::from_line;
use super::tables::{TABLES, Table};
use crate::audit::verify::verify;
use crate::audit::{Ledger, Report, Witness};
use crate::db::Db;
use crate::error::StoreError;
use crate::place::Place;
use crate::statement::{Tx, Value, values};
use crate::store::{Process, connect, lock};

/// Fills a database; dropped without `commit`, it leaves it as empty as it was.
pub struct Import {
    databases: [Db; 2],
    tx: Tx,
    ledger: Arc<Ledger>,
    clock: Clock,
    /// Whose own data the next row can be.
    owner: Option<String>,
    _lock: Option<File>,
}

impl Import {
    /// Begins to fill a database that holds nothing yet, and that no hub serves.
    pub async fn begin(place: &Place, chain: ChainId, clock: Clock) -> Result<Self, StoreError> {
        let lock = lock(&place.data_dir, Process::Serve)?;
        let (app, worker) = connect(place).await?;
        let mut tx = app.write().await?;
        check_empty(&mut tx).await?;
        let ledger = Arc::new(Ledger::new(app.clone(), chain, Process::Command.as_str(), clock.clone()));
        Ok(Self { databases: [app, worker], tx, ledger, clock, owner: None, _lock: lock })
    }

    /// Puts a row in, as `Export` wrote it.
    pub async fn row(&mut self, table: &str, line: &str) -> Result<(), StoreError> {
        let table = TABLES.iter().find(|known| known.name == table);
        let table = table.ok_or_else(|| StoreError::damaged("a table of the copy has no place here"))?;
        let values = from_line(table, line)?;
        self.act_for_owner(table, &values).await?;
        match self.tx.execute(table.insert, values).await? {
            1 => Ok(()),
            _ => Err(StoreError::damaged(format!("a row of {} in the copy", table.name))),
        }
    }

    /// Says which installation the rows are of, and which key sealed in it.
    pub async fn install(&mut self) -> Result<(InstallId, WrapKeyId), StoreError> {
        let sql = "SELECT i.id, k.id FROM install i, vault_keys k WHERE k.state = 'current'";
        let row = self.tx.one(sql, values![]).await?;
        let row = row.ok_or_else(|| StoreError::missing("the installation, or its key,"))?;
        Ok((row.parse(0)?, row.parse(1)?))
    }

    /// Returns a sealed secret of the hub itself.
    pub async fn vault_secret(&mut self, name: &str) -> Result<Vec<u8>, StoreError> {
        let row = self.tx.one("SELECT sealed FROM vault_secrets WHERE name = $1", values![name]).await?;
        row.ok_or_else(|| StoreError::missing(format!("vault secret {name}")))?.get(0)
    }

    /// Checks the log that the rows make, and every root that a witness knows.
    pub async fn verify(&mut self, witnesses: Vec<Witness>) -> Result<Report, StoreError> {
        verify(&mut self.tx, witnesses).await
    }

    /// Keeps all rows, together with a record in a chain of its own.
    pub async fn commit(mut self, entry: PermitEntry) -> Result<(), StoreError> {
        let chain = self.ledger.turn().await?;
        let closed = Entry {
            at: self.clock.now(),
            actor: Actor::Hub,
            event: Event::ChainClosed,
            request: None,
            personal: Default::default(),
        };
        self.ledger.append(&chain, &mut self.tx, vec![entry.into_entry(), closed]).await?;
        self.tx
            .execute("UPDATE nodes SET state = 'closed' WHERE chain = $1", values![chain.id().to_string()])
            .await?;
        self.tx.commit_at_leisure().await?;
        for database in &self.databases {
            database.close().await;
        }
        Ok(())
    }

    async fn act_for_owner(&mut self, table: &Table, values: &[Value]) -> Result<(), StoreError> {
        let Some(Value::Text(owner)) = table.owner.and_then(|place| values.get(place)) else { return Ok(()) };
        if self.owner != *owner {
            self.tx.act_for(owner.as_deref().unwrap_or_default()).await?;
            self.owner.clone_from(owner);
        }
        Ok(())
    }
}

/// Refuses a database that somebody has used: nothing of it may mix with the copy.
async fn check_empty(tx: &mut Tx) -> Result<(), StoreError> {
    let sql = "SELECT (SELECT COUNT(*) FROM install) + (SELECT COUNT(*) FROM audit_segments)
                    + (SELECT COUNT(*) FROM users) + (SELECT revision FROM world WHERE only_row = 1)";
    let row =
        tx.one(sql, values![]).await?.ok_or_else(|| StoreError::damaged("the world has no revision"))?;
    if row.get::<i64>(0)? == 0 {
        return Ok(());
    }
    Err(StoreError::Settings(
        "there is data already: restore into an empty data directory, or an empty database".to_owned(),
    ))
}
