//! The only way to change anything: a transaction that ends with its audit entry.

use mcphub_domain::{Timestamp, UserId};
use mcphub_policy::PermitEntry;
use tokio::sync::OwnedMutexGuard;

use crate::audit::{Chain, Ledger};
use crate::error::StoreError;
use crate::snapshot::ChangeKind;
use crate::statement::{Tx, values};

/// Is an open write. Dropped without `commit`, it leaves nothing behind.
pub struct WriteTx {
    pub(crate) tx: Tx,
    pub(crate) now: Timestamp,
    chain: OwnedMutexGuard<Chain>,
    ledger: std::sync::Arc<Ledger>,
    changes: Vec<(ChangeKind, String)>,
}

impl WriteTx {
    pub(crate) const fn new(
        tx: Tx,
        now: Timestamp,
        chain: OwnedMutexGuard<Chain>,
        ledger: std::sync::Arc<Ledger>,
    ) -> Self {
        Self { tx, now, chain, ledger, changes: Vec::new() }
    }

    /// Says whose own data the next statements are about.
    pub async fn act_for(&mut self, owner: UserId) -> Result<(), StoreError> {
        self.tx.act_for(&owner.to_string()).await
    }

    /// Notes what of the world changes, so that every node takes it up.
    pub(crate) fn changed(&mut self, kind: ChangeKind, id: impl ToString) {
        let change = (kind, id.to_string());
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Commits the change together with its record, or neither. Returns the world's revision.
    pub async fn commit(mut self, entry: PermitEntry) -> Result<i64, StoreError> {
        let revision = self.bump().await?;
        let next = self.ledger.append(&self.chain, &mut self.tx, vec![entry.into_entry()]).await?;
        self.chain.expect(next.clone());
        self.tx.commit().await?;
        self.chain.adopt(next);
        Ok(revision)
    }

    /// Counts the world's revision on, if anything of it changed.
    async fn bump(&mut self) -> Result<i64, StoreError> {
        let sql = if self.changes.is_empty() {
            "SELECT revision FROM world WHERE only_row = 1"
        } else {
            "UPDATE world SET revision = revision + 1 WHERE only_row = 1 RETURNING revision"
        };
        let row = self
            .tx
            .one(sql, values![])
            .await?
            .ok_or_else(|| StoreError::damaged("the world has no revision"))?;
        let revision: i64 = row.get(0)?;
        if self.changes.is_empty() {
            return Ok(revision);
        }
        for (kind, id) in std::mem::take(&mut self.changes) {
            self.tx
                .execute(
                    "INSERT INTO changes (revision, kind, id) VALUES ($1, $2, $3)",
                    values![revision, kind.as_str(), id],
                )
                .await?;
        }
        self.tx.notify().await?;
        Ok(revision)
    }
}
