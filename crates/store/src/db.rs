//! The one place that knows two databases: connections, transactions, parameters and rows.
//!
//! Everything above speaks one SQL text with `$1`, `$2`, … and the four types of `Value`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite, Transaction};

use crate::error::StoreError;

/// Says which database to use.
#[derive(Clone, Debug)]
pub enum DatabaseUrls {
    /// One SQLite file in the data directory.
    Sqlite,
    /// PostgreSQL, by its two logins.
    Postgres {
        /// The login that requests run as.
        app: String,
        /// The login that loads the world and keeps the search index.
        worker: String,
    },
}

/// Tells that the world's revision may have grown.
#[derive(Debug)]
pub enum Revisions {
    /// PostgreSQL tells.
    Listener(Box<PgListener>),
    /// SQLite tells nothing; one asks.
    Silent,
}

impl Revisions {
    /// Waits until the database tells of a change; on SQLite, for ever.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Listener(listener) => {
                listener.recv().await?;
                Ok(())
            }
            Self::Silent => std::future::pending().await,
        }
    }
}

const CHANNEL: &str = "mcphub_changes";
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const BUSY: Duration = Duration::from_secs(2);

/// Holds connections to one database as one login.
#[derive(Clone)]
pub(crate) enum Db {
    /// Readers share a pool; writers take turns at one connection.
    Sqlite {
        readers: SqlitePool,
        writer: SqlitePool,
    },
    Postgres(PgPool),
}

/// Is an open transaction; dropped, it is rolled back.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Is a parameter. `NULL` has a type too, for PostgreSQL wants one.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Some(bytes.to_vec()))
    }
}

/// Writes the parameters of a query, each as what it is.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Value::from($value)),*] };
}
pub(crate) use values;

/// Is a row of a result; columns are read by their place.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Can be read from a column of either database.
pub(crate) trait Column:
    for<'r> sqlx::Decode<'r, Sqlite>
    + sqlx::Type<Sqlite>
    + for<'r> sqlx::Decode<'r, Postgres>
    + sqlx::Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'r> sqlx::Decode<'r, Sqlite>
        + sqlx::Type<Sqlite>
        + for<'r> sqlx::Decode<'r, Postgres>
        + sqlx::Type<Postgres>
{
}

impl Row {
    /// Reads a column as it is.
    pub(crate) fn get<T: Column>(&self, column: usize) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// Reads a text column as the type that it is the text of.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        column: usize,
    ) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        text.parse().map_err(|error: T::Err| StoreError::damaged(format!("column {column}: {error}")))
    }

    /// Reads a column of bytes with a fixed length.
    pub(crate) fn array<const N: usize>(&self, column: usize) -> Result<[u8; N], StoreError> {
        let bytes: Vec<u8> = self.get(column)?;
        bytes.try_into().map_err(|_| StoreError::damaged(format!("column {column} does not have {N} bytes")))
    }
}

/// Binds the parameters and runs the query on whichever database the transaction is of.
macro_rules! run {
    ($tx:expr, $sql:expr, $values:expr, $method:ident) => {
        match $tx {
            Tx::Sqlite(tx) => {
                let mut query = sqlx::query::<Sqlite>($sql);
                for value in $values {
                    query = match value {
                        Value::Text(text) => query.bind(text),
                        Value::Int(number) => query.bind(number),
                        Value::Bytes(bytes) => query.bind(bytes),
                    };
                }
                query.$method(&mut **tx).await.map(Outcome::Sqlite)
            }
            Tx::Postgres(tx) => {
                let mut query = sqlx::query::<Postgres>($sql);
                for value in $values {
                    query = match value {
                        Value::Text(text) => query.bind(text),
                        Value::Int(number) => query.bind(number),
                        Value::Bytes(bytes) => query.bind(bytes),
                    };
                }
                query.$method(&mut **tx).await.map(Outcome::Postgres)
            }
        }
    };
}

enum Outcome<S, P> {
    Sqlite(S),
    Postgres(P),
}

impl Tx {
    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        check_parameters(sql, &values)?;
        Ok(match run!(self, sql, values, execute)? {
            Outcome::Sqlite(done) => done.rows_affected(),
            Outcome::Postgres(done) => done.rows_affected(),
        })
    }

    /// Runs a query and returns all its rows.
    pub(crate) async fn all(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        check_parameters(sql, &values)?;
        Ok(match run!(self, sql, values, fetch_all)? {
            Outcome::Sqlite(rows) => rows.into_iter().map(Row::Sqlite).collect(),
            Outcome::Postgres(rows) => rows.into_iter().map(Row::Postgres).collect(),
        })
    }

    /// Runs a query that has at most one row.
    pub(crate) async fn one(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// Runs the text of a migration: several statements, no parameters.
    pub(crate) async fn script(&mut self, text: String) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **tx).await.map(|_| ())?,
            Self::Postgres(tx) => sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **tx).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Says whose rows this transaction may see and change, in tables with people's own data.
    pub(crate) async fn act_for(&mut self, owner: &str) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            self.all("SELECT set_config('mcphub.principal', $1, true)", values![owner]).await?;
        }
        Ok(())
    }

    /// Tells other nodes, once this transaction is committed, that the world has changed.
    pub(crate) async fn notify(&mut self) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            self.all("SELECT pg_notify($1, '')", values![CHANNEL]).await?;
        }
        Ok(())
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A parameter that is never bound is `NULL` on SQLite without a word; here it is an error on both.
fn check_parameters(sql: &str, values: &[Value]) -> Result<(), StoreError> {
    let needed = sql
        .split('$')
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok())
        .max()
        .unwrap_or(0);
    if needed == values.len() {
        return Ok(());
    }
    Err(StoreError::Settings(format!("a query with {needed} parameters was given {}: {sql}", values.len())))
}

impl Db {
    /// Opens, or makes, the SQLite file.
    ///
    /// Every commit is synced to the disk before it counts (`synchronous = FULL` with a write-ahead log).
    pub(crate) async fn sqlite(file: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let readers = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        Ok(Self::Sqlite { readers, writer })
    }

    /// Connects to PostgreSQL.
    pub(crate) async fn postgres(url: &str, connections: u32) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| StoreError::Settings(format!("database URL: {error}")))?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(BUSY)
            .connect_with(options.application_name("mcphub"))
            .await?;
        Ok(Self::Postgres(pool))
    }

    /// Connects to PostgreSQL as an administrator who acts as another role from then on.
    pub(crate) async fn postgres_as(url: &str, role: &str) -> Result<Self, StoreError> {
        let set_role = fill("SET ROLE {role}", &BTreeMap::from([("role", role.to_owned())]))?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .after_connect(move |connection, _| {
                let set_role = AssertSqlSafe(set_role.clone());
                Box::pin(async move { sqlx::raw_sql(set_role).execute(connection).await.map(|_| ()) })
            })
            .connect(url)
            .await?;
        Ok(Self::Postgres(pool))
    }

    /// Runs statements outside of a transaction, as making a database wants it.
    pub(crate) async fn administrate(&self, text: String) -> Result<(), StoreError> {
        match self {
            Self::Sqlite { writer, .. } => {
                sqlx::raw_sql(AssertSqlSafe(text)).execute(writer).await.map(|_| ())?
            }
            Self::Postgres(pool) => sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Begins a transaction that only reads, and that sees one state of the database throughout.
    pub(crate) async fn read(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => Tx::Sqlite(readers.begin().await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin_with(READ).await?),
        })
    }

    /// Begins a transaction that writes; on SQLite it has the file to itself from here on.
    pub(crate) async fn write(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Subscribes to changes of the world.
    pub(crate) async fn revisions(&self) -> Result<Revisions, StoreError> {
        Ok(match self {
            Self::Sqlite { .. } => Revisions::Silent,
            Self::Postgres(pool) => {
                let mut listener = PgListener::connect_with(pool).await?;
                listener.listen(CHANNEL).await?;
                Revisions::Listener(Box::new(listener))
            }
        })
    }

    /// Refuses a PostgreSQL login that row security and the append-only rule can't hold.
    pub(crate) async fn check_login(&self) -> Result<(), StoreError> {
        if let Self::Sqlite { .. } = self {
            return Ok(());
        }
        let row = self
            .read()
            .await?
            .one(
                "SELECT current_user::text, rolsuper OR rolbypassrls, rolcreaterole,
                        EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace
                                   AND pg_has_role(current_user, relowner, 'MEMBER'))
                   FROM pg_roles WHERE rolname = current_user",
                values![],
            )
            .await?
            .ok_or_else(|| StoreError::missing("the database login"))?;
        let powers = [
            (1, "is a superuser or bypasses row security"),
            (2, "may make other logins"),
            (3, "owns tables"),
        ];
        for (column, power) in powers {
            if row.get(column)? {
                return Err(StoreError::TooPowerful { login: row.get(0)?, power });
            }
        }
        Ok(())
    }

    /// Chooses between two texts that no common one can replace.
    pub(crate) const fn dialect<'t>(&self, sqlite: &'t str, postgres: &'t str) -> &'t str {
        match self {
            Self::Sqlite { .. } => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { readers, writer } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Fills `{name}` places of a migration's text with identifiers, which are checked.
pub(crate) fn fill(text: &str, identifiers: &BTreeMap<&str, String>) -> Result<String, StoreError> {
    let mut filled = text.to_owned();
    for (place, identifier) in identifiers {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if identifier.is_empty() || identifier.len() > 63 || !identifier.chars().all(plain) {
            return Err(StoreError::Settings(format!(
                "{identifier:?} is not a database name: expected a-z, 0-9 and _, at most 63"
            )));
        }
        filled = filled.replace(&format!("{{{place}}}"), identifier);
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::{Value, check_parameters, fill};

    #[test]
    fn a_forgotten_parameter_is_an_error() {
        let fits = |sql, values: Vec<Value>| check_parameters(sql, &values).is_ok();
        assert!(fits("SELECT $1, $2, $1", values!["a", 1]));
        assert!(!fits("SELECT $1, $2", values!["a"]));
        assert!(!fits("SELECT 1", values!["a"]));
        assert!(!fits("SELECT $12", values!["a"]));
    }

    #[test]
    fn only_plain_identifiers_are_filled_in() {
        let filled = |name: &str| fill("GRANT {role}", &[("role", name.to_owned())].into());
        assert_eq!(filled("mcphub_app").unwrap(), "GRANT mcphub_app");
        for name in ["", "Admin", "a b", "a;b", "a\"b", "é", &"a".repeat(64)] {
            assert!(filled(name).is_err(), "{name:?}");
        }
    }
}
