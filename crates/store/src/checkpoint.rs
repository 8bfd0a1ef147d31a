//! Keeps SQLite's write-ahead log short while it is written: what it holds goes into the database beside the
//! writes, not between two of them, so that no call waits for it.

use std::sync::Arc;

use sqlx::SqlitePool;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::sqlite_writer::SqliteWriter;

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Checkpoints whenever enough was written, until it is stopped. PostgreSQL does it by itself.
pub(crate) async fn run(db: Db, stop: CancellationToken) {
    let Db::Sqlite { readers, writer } = db else { return };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = writer.much_written() => {}
        }
        if let Err(error) = checkpoint(&readers, &writer).await {
            tracing::warn!(%error, "the write-ahead log could not be emptied; it is tried again");
        }
    }
}

/// Moves nearly everything while others write, then, with the writer's turn, the little that came meanwhile: only
/// when nothing is left does SQLite begin the log anew.
async fn checkpoint(readers: &SqlitePool, writer: &Arc<SqliteWriter>) -> Result<(), sqlx::Error> {
    sqlx::query(CHECKPOINT).execute(readers).await?;
    let mut turn = writer.turn().await?;
    sqlx::query(CHECKPOINT).execute(turn.connection()?).await?;
    Ok(())
}
