//! A connection to the SQLite file that works on the thread that calls it.
//!
//! The library that all other statements go through has a thread for each connection. To hand a segment there and back
//! cost the log a fifth of its time (`docs/decisions/0025-the-log-writes-sqlite-itself.md`).

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, ErrorCode, OpenFlags, ToSql};
use tokio::time::sleep;

use crate::db::AUTOCHECKPOINT;
use crate::statement::Value;

/// After how long one tries again while another process writes.
const PAUSE: Duration = Duration::from_millis(1);

/// Is the connection, once there is one.
pub(crate) struct Direct {
    file: PathBuf,
    connection: Option<Connection>,
}

impl Direct {
    /// Has no connection yet.
    pub(crate) const fn new(file: PathBuf) -> Self {
        Self { file, connection: None }
    }

    /// Runs a statement that is a transaction by itself, and returns how many rows it changed.
    ///
    /// While the disk works, the thread waits for it. While another process has the file, it is tried again and again,
    /// for as long as the caller likes.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, Error> {
        loop {
            match self.attempt(sql, &values) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    sleep(PAUSE).await
                }
                Err(error) => {
                    // Whatever is left of it goes with the connection.
                    self.connection = None;
                    return Err(error);
                }
                Ok(rows) => return Ok(rows),
            }
        }
    }

    fn attempt(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(open(&self.file)?),
        };
        let mut statement = connection.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }
}

/// Opens the file as `Db::sqlite` does, but for waiting while another process has it.
fn open(file: &PathBuf) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT)?;
    Ok(connection)
}

/// Binds `$1` and so on, each wherever it stands.
fn bind(statement: &mut CachedStatement<'_>, values: &[Value]) -> Result<(), Error> {
    for place in 1..=statement.parameter_count() {
        let number =
            statement.parameter_name(place).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let value = number.and_then(|number| values.get(number.checked_sub(1)?));
        statement
            .raw_bind_parameter(place, value.ok_or(Error::InvalidParameterCount(place, values.len()))?)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, Error> {
        let value = match self {
            Self::Text(text) => {
                text.as_deref().map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
            }
            Self::Int(number) => number.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Bytes(bytes) => bytes.as_deref().map_or(ValueRef::Null, ValueRef::Blob),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::{Connection, Error};
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::Direct;
    use crate::db::Db;
    use crate::statement::values;

    async fn table(folder: &TempDir) -> (Direct, Connection) {
        let file = folder.path().join("db");
        let db = Db::sqlite(&file).await.unwrap();
        db.administrate("CREATE TABLE t (a INTEGER UNIQUE, b TEXT, c BLOB)".to_owned()).await.unwrap();
        db.close().await;
        (Direct::new(file.clone()), Connection::open(file).unwrap())
    }

    const INSERT: &str = "INSERT INTO t (a, c, b) VALUES ($1, $3, $2)";

    #[tokio::test]
    async fn values_stand_where_their_number_does() {
        let folder = tempfile::tempdir().unwrap();
        let (mut direct, raw) = table(&folder).await;
        assert_eq!(direct.execute(INSERT, values![7, "text", vec![1_u8, 2]]).await.unwrap(), 1);
        assert_eq!(
            direct.execute(INSERT, values![None::<i64>, None::<String>, vec![0_u8; 0]]).await.unwrap(),
            1
        );
        let row =
            |a: &str| raw.query_row(&format!("SELECT a, b, c FROM t WHERE a {a}"), [], |row| row.try_into());
        let full: (Option<i64>, Option<String>, Vec<u8>) = row("= 7").unwrap();
        assert_eq!(full, (Some(7), Some("text".to_owned()), vec![1, 2]));
        assert_eq!(row("IS NULL").unwrap(), (None, None, Vec::new()));
    }

    #[tokio::test]
    async fn it_is_durable_as_everything_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let (mut direct, _) = table(&folder).await;
        direct.execute(INSERT, values![1, "", vec![0_u8]]).await.unwrap();
        let connection = direct.connection.as_ref().unwrap();
        let asked = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(["synchronous", "foreign_keys", "wal_autocheckpoint"].map(asked), [2, 1, 8_192]);
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[tokio::test]
    async fn it_waits_while_another_process_writes_and_no_longer_than_its_caller_likes() {
        let folder = tempfile::tempdir().unwrap();
        let (mut direct, mut raw) = table(&folder).await;
        let held = raw.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        let row = values![1, "", vec![0_u8]];
        let waited = timeout(Duration::from_millis(50), direct.execute(INSERT, row.clone())).await;
        assert!(waited.is_err(), "{waited:?}");
        let (done, ()) = tokio::join!(direct.execute(INSERT, row), async { held.commit().unwrap() });
        assert_eq!(done.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (mut direct, _) = table(&folder).await;
        let row = |a: i64| values![a, "", vec![0_u8]];
        direct.execute(INSERT, row(1)).await.unwrap();
        let refused: Error = direct.execute(INSERT, row(1)).await.unwrap_err();
        assert!(refused.to_string().contains("UNIQUE"), "{refused}");
        assert_eq!(direct.execute(INSERT, row(2)).await.unwrap(), 1);
    }
}
