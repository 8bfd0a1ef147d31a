//! What is removed in time, so that nothing grows for ever: ended and forgotten sessions, changes that
//! every node has taken up long ago, processes that ended. The log is never among it.

use std::time::Duration;

use crate::error::StoreError;
use crate::statement::{Value, values};
use crate::store::Store;

/// How long a session is kept that nobody uses.
const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long it is known which chain a process wrote that has ended.
const NODE_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How many of the last revisions keep their changes; a node that is further behind loads everything.
const REVISIONS: i64 = 10_000;
/// How many rows one transaction removes.
const BATCH: i64 = 500;
/// How many transactions one time to tidy up may have for each table.
const ROUNDS: usize = 20;

const ENDED_SESSIONS: &str = "DELETE FROM sessions WHERE id_hash IN (
    SELECT id_hash FROM sessions WHERE ended_at IS NOT NULL LIMIT $1)";
const IDLE_SESSIONS: &str = "DELETE FROM sessions WHERE id_hash IN (
    SELECT id_hash FROM sessions WHERE seen_at < $2 ORDER BY seen_at LIMIT $1)";
const PAST_NODES: &str = "DELETE FROM nodes WHERE chain IN (
    SELECT chain FROM nodes WHERE state <> 'open' AND seen_at < $2 LIMIT $1)";
const OLD_CHANGES: &str = "DELETE FROM changes
    WHERE revision <= (SELECT revision FROM world WHERE only_row = 1) - $2
      AND revision < (SELECT MIN(revision) FROM changes) + $1";

impl Store {
    /// Removes what nobody needs any more, and returns how many rows that were.
    pub async fn tidy(&self) -> Result<u64, StoreError> {
        let before = |life: Duration| self.now().as_micros().saturating_sub(life.as_micros() as i64);
        Ok(self.remove(ENDED_SESSIONS, values![BATCH]).await?
            + self.remove(IDLE_SESSIONS, values![BATCH, before(SESSION_LIFE)]).await?
            + self.remove(PAST_NODES, values![BATCH, before(NODE_LIFE)]).await?
            + self.remove(OLD_CHANGES, values![BATCH, REVISIONS]).await?)
    }

    /// Removes batch by batch, so that no other write waits for long.
    async fn remove(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        let mut removed = 0;
        for _ in 0..ROUNDS {
            let mut tx = self.archive().write().await?;
            let gone = tx.execute(sql, values.clone()).await?;
            tx.commit().await?;
            removed += gone;
            if gone == 0 {
                break;
            }
        }
        Ok(removed)
    }
}
