//! Statements: parameters, rows and open transactions, alike on both databases.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Postgres, Row as _, Sqlite, Transaction};

use crate::error::StoreError;
use crate::sqlite_writer::Turn;

/// The channel on which PostgreSQL tells of changes of the world.
pub(crate) const CHANNEL: &str = "mcphub_changes";

/// Is an open transaction; dropped, it is rolled back.
pub(crate) enum Tx {
    /// Reads only.
    Sqlite(Transaction<'static, Sqlite>),
    /// Writes, on SQLite.
    Write(Turn),
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

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

/// Writes the parameters of a query, each as what it is.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::statement::Value::from($value)),*] };
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

/// Makes a query with its parameters.
macro_rules! bind {
    ($database:ty, $sql:expr, $values:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query
    }};
}

pub(crate) use bind;

/// Runs the query on whichever database the transaction is of.
macro_rules! run {
    ($tx:expr, $sql:expr, $values:expr, $method:ident) => {
        match $tx {
            Tx::Sqlite(tx) => bind!(Sqlite, $sql, $values).$method(&mut **tx).await.map(Outcome::Sqlite),
            Tx::Write(turn) => {
                bind!(Sqlite, $sql, $values).$method(turn.connection()?).await.map(Outcome::Sqlite)
            }
            Tx::Postgres(tx) => {
                bind!(Postgres, $sql, $values).$method(&mut **tx).await.map(Outcome::Postgres)
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
        Ok(match in_time(async { run!(self, sql, values, execute) }).await? {
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
        Ok(match in_time(async { run!(self, sql, values, fetch_all) }).await? {
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
            Self::Write(turn) => {
                sqlx::raw_sql(AssertSqlSafe(text)).execute(turn.connection()?).await.map(|_| ())?
            }
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
            Self::Sqlite(tx) => in_time(tx.commit()).await,
            Self::Write(turn) => in_time(turn.commit()).await,
            Self::Postgres(tx) => in_time(tx.commit()).await,
        }
    }

    /// Commits what nobody waits behind, however long the disk takes for so much.
    pub(crate) async fn commit_at_leisure(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Write(turn) => turn.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A statement that takes longer has lost its database: whoever waits behind it must not.
const STATEMENT: Duration = Duration::from_secs(10);

/// Waits for a statement. It is boxed: its state is large, and whoever may run one, but mostly doesn't,
/// would be as large.
pub(crate) async fn in_time<T, E>(statement: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
where
    StoreError: From<E>,
{
    match tokio::time::timeout(STATEMENT, Box::pin(statement)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::TimedOut),
    }
}

/// A parameter that is never bound is `NULL` on SQLite without a word; here it is an error on both.
pub(crate) fn check_parameters(sql: &str, values: &[Value]) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use super::{Value, check_parameters};

    #[test]
    fn a_forgotten_parameter_is_an_error() {
        let fits = |sql, values: Vec<Value>| check_parameters(sql, &values).is_ok();
        assert!(fits("SELECT $1, $2, $1", values!["a", 1]));
        assert!(!fits("SELECT $1, $2", values!["a"]));
        assert!(!fits("SELECT 1", values!["a"]));
        assert!(!fits("SELECT $12", values!["a"]));
    }
}
