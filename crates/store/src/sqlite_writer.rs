//! The one connection that writes to the SQLite file, beside the log's own (`direct`): whoever writes, there or here, takes a
//! turn, in the order in which they come.
//!
//! It is no pool of the library's: a pool asks each connection whether it is well when it comes back, which
//! costs as much as writing a segment of the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Error};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio::time::timeout;

/// After how many turns it is time for a checkpoint: some 1,000 pages of the log.
const MUCH: u64 = 128;
/// How long one waits for a turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands out the turns.
pub(crate) struct SqliteWriter {
    options: SqliteConnectOptions,
    slot: Arc<Mutex<Slot>>,
    turns: AtomicU64,
    much: Notify,
}

/// Is the connection, and what the last turn left behind.
struct Slot {
    /// None once it is closed.
    connection: Option<SqliteConnection>,
    left: Left,
}

/// Says in which state a turn leaves the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing is under way on it.
    Clean,
    /// There may be an open transaction.
    Unsure,
}

/// Is a turn at the connection. Dropped with a transaction open, it rolls that back.
pub(crate) struct Turn(Option<OwnedMutexGuard<Slot>>);

impl SqliteWriter {
    /// Opens the connection.
    pub(crate) async fn open(options: SqliteConnectOptions) -> Result<Self, Error> {
        let connection = Some(SqliteConnection::connect_with(&options).await?);
        let slot = Arc::new(Mutex::new(Slot { connection, left: Left::Clean }));
        Ok(Self { options, slot, turns: AtomicU64::new(0), much: Notify::new() })
    }

    /// Names the file.
    pub(crate) fn file(&self) -> &Path {
        self.options.get_filename()
    }

    /// Waits until much was written since the last time.
    pub(crate) async fn much_written(&self) {
        self.much.notified().await;
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self) -> Result<Turn, Error> {
        let slot = Arc::clone(&self.slot).lock_owned();
        let mut slot = timeout(PATIENCE, slot).await.map_err(|_| Error::PoolTimedOut)?;
        // Once it is closed, nobody writes any more.
        slot.connection()?;
        if slot.left == Left::Unsure && slot.clean().await.is_err() {
            slot.replace(&self.options).await?;
        }
        if self.turns.fetch_add(1, Ordering::Relaxed) % MUCH == MUCH - 1 {
            self.much.notify_one();
        }
        Ok(Turn(Some(slot)))
    }

    /// Closes the connection; there are no turns afterwards.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.slot.lock().await.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database was not closed as it should be");
        }
    }
}

impl Slot {
    fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.connection.as_mut().ok_or(Error::PoolClosed)
    }

    /// Rolls back what may be open. SQLite ends a transaction by itself if, say, the disk is full: then it says
    /// that there is none, and that is as good. Any other failure proves nothing.
    async fn clean(&mut self) -> Result<(), Error> {
        match sqlx::query("ROLLBACK").execute(self.connection()?).await {
            Err(error) if !says_there_is_none(&error) => Err(error),
            _ => {
                self.left = Left::Clean;
                Ok(())
            }
        }
    }

    /// Takes another connection; what was open on the old one is rolled back when that closes.
    async fn replace(&mut self, options: &SqliteConnectOptions) -> Result<(), Error> {
        // Once it is closed, it stays closed.
        self.connection()?;
        self.connection = Some(SqliteConnection::connect_with(options).await?);
        self.left = Left::Clean;
        Ok(())
    }
}

/// Says whether an error of `ROLLBACK` is that no transaction is open: SQLite's general error, while a
/// failure of the disk or of memory has a code of its own.
fn says_there_is_none(error: &Error) -> bool {
    const GENERAL: &str = "1";
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(GENERAL))
}

impl Turn {
    /// Shows the connection.
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.0.as_mut().ok_or(Error::PoolClosed)?.connection()
    }

    /// Begins a transaction that has the file to itself.
    pub(crate) async fn begin(mut self) -> Result<Self, Error> {
        self.leave(Left::Unsure);
        sqlx::query("BEGIN IMMEDIATE").execute(self.connection()?).await?;
        Ok(self)
    }

    /// Commits the transaction.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        sqlx::query("COMMIT").execute(self.connection()?).await?;
        self.leave(Left::Clean);
        Ok(())
    }

    fn leave(&mut self, left: Left) {
        if let Some(slot) = &mut self.0 {
            slot.left = left;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(mut slot) = self.0.take()
            && slot.left == Left::Unsure
            && let Ok(runtime) = Handle::try_current()
        {
            // Now, and not with the next turn: nobody else can write meanwhile. If it fails, that turn knows.
            runtime.spawn(async move { slot.clean().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
    use sqlx::{Connection as _, Error};
    use tempfile::TempDir;

    use super::{SqliteWriter, says_there_is_none};

    /// Opens a file with one empty table.
    async fn open(folder: &TempDir) -> (SqliteWriter, SqliteConnectOptions) {
        let file = folder.path().join("db");
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let writer = SqliteWriter::open(options.clone()).await.unwrap();
        execute(&writer, "CREATE TABLE t (x)").await.unwrap();
        (writer, options)
    }

    async fn execute(writer: &SqliteWriter, sql: &'static str) -> Result<u64, Error> {
        let mut turn = writer.turn().await?;
        Ok(sqlx::query(sql).execute(turn.connection()?).await?.rows_affected())
    }

    async fn count(writer: &SqliteWriter) -> i64 {
        let mut turn = writer.turn().await.unwrap();
        sqlx::query_scalar("SELECT COUNT(*) FROM t").fetch_one(turn.connection().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_transaction_that_is_given_up_is_rolled_back_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, options) = open(&folder).await;
        let mut turn = writer.turn().await.unwrap().begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES (1)").execute(turn.connection().unwrap()).await.unwrap();
        drop(turn);
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (2)").execute(&mut other).await.unwrap();
        assert_eq!(count(&writer).await, 1, "nobody held the file, and the first row is gone");
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_ended_by_itself_leaves_a_connection_that_works() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _) = open(&folder).await;
        let mut turn = writer.turn().await.unwrap().begin().await.unwrap();
        sqlx::query("ROLLBACK").execute(turn.connection().unwrap()).await.unwrap();
        assert!(turn.commit().await.is_err());
        assert_eq!(execute(&writer, "INSERT INTO t VALUES (1)").await.unwrap(), 1);
        let mut turn = writer.turn().await.unwrap().begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES (2)").execute(turn.connection().unwrap()).await.unwrap();
        turn.commit().await.unwrap();
        assert_eq!(count(&writer).await, 2);
    }

    #[tokio::test]
    async fn a_connection_that_is_replaced_takes_its_transaction_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, options) = open(&folder).await;
        let mut turn = writer.turn().await.unwrap().begin().await.unwrap();
        sqlx::query("INSERT INTO t VALUES (1)").execute(turn.connection().unwrap()).await.unwrap();
        let mut slot = turn.0.take().unwrap();
        slot.replace(&options).await.unwrap();
        drop(slot);
        assert_eq!(execute(&writer, "INSERT INTO t VALUES (2)").await.unwrap(), 1);
        assert_eq!(count(&writer).await, 1);
    }

    #[tokio::test]
    async fn only_the_error_that_there_is_no_transaction_proves_that_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _) = open(&folder).await;
        let none = execute(&writer, "ROLLBACK").await.unwrap_err();
        execute(&writer, "CREATE TABLE u (x UNIQUE)").await.unwrap();
        execute(&writer, "INSERT INTO u VALUES (1)").await.unwrap();
        let other = execute(&writer, "INSERT INTO u VALUES (1)").await.unwrap_err();
        assert_eq!(
            [none, other, Error::PoolClosed].map(|error| says_there_is_none(&error)),
            [true, false, false]
        );
    }

    #[tokio::test]
    async fn a_closed_connection_gives_no_turns() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _) = open(&folder).await;
        writer.close().await;
        let refused = execute(&writer, "INSERT INTO t VALUES (1)").await;
        assert!(matches!(refused, Err(Error::PoolClosed)), "{refused:?}");
        writer.close().await;
    }
}
