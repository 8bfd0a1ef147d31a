//! Connections to the two databases. With `statement`, the one place that knows that there are two.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _};

use url::Url;

use crate::error::StoreError;
use crate::sqlite_writer::SqliteWriter;
use crate::statement::{CHANNEL, Tx, values};

/// Says which database to use.
#[derive(Clone)]
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

impl fmt::Debug for DatabaseUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite => f.write_str("Sqlite"),
            Self::Postgres { app, worker } => f
                .debug_struct("Postgres")
                .field("app", &without_password(app))
                .field("worker", &without_password(worker))
                .finish(),
        }
    }
}

/// Shows what of an address is no secret: who logs in, where, and to what.
pub(crate) fn without_password(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "…".to_owned() };
    url.set_query(None);
    match url.set_password(None) {
        Ok(()) => url.into(),
        Err(()) => "…".to_owned(),
    }
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

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// After how many pages of the write-ahead log, 32 MiB, a commit empties it by itself, should `checkpoint` not have
/// come to it.
pub(crate) const AUTOCHECKPOINT: u32 = 8_192;
/// How much of the file each connection that reads keeps in memory, in KiB (negative, so that it doesn't count pages): the
/// system keeps the rest, for all of them.
const READERS_CACHE: &str = "-256";
const BUSY: Duration = Duration::from_secs(2);
/// How long a connection to PostgreSQL may have rested to be used unasked.
pub(crate) const RESTED: Duration = Duration::from_secs(1);

/// Holds connections to one database as one login.
#[derive(Clone)]
pub(crate) enum Db {
    /// Readers share a pool; who writes takes a turn at one connection.
    Sqlite {
        readers: SqlitePool,
        writer: Arc<SqliteWriter>,
    },
    Postgres(PgPool),
}

impl Db {
    /// Opens, or makes, the SQLite file, which nobody else may read; so are the files that SQLite lays beside it.
    ///
    /// Every commit is synced to the disk before it counts (`synchronous = FULL` with a write-ahead log).
    pub(crate) async fn sqlite(file: &Path) -> Result<Self, StoreError> {
        match File::options().write(true).create_new(true).mode(0o600).open(file) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(StoreError::File { path: file.to_owned(), source });
            }
            _ => {}
        }
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT.to_string())
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let writer = Arc::new(SqliteWriter::open(options.clone()).await?);
        let readers = sqlite_pool(4).connect_with(options.pragma("cache_size", READERS_CACHE)).await?;
        Ok(Self::Sqlite { readers, writer })
    }

    /// Connects to PostgreSQL.
    pub(crate) async fn postgres(url: &str, connections: u32) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| StoreError::Settings(format!("database URL: {error}")))?;
        // Whatever the database or the role has by default: what is answered for survives a power cut.
        let options = options.application_name("mcphub").options([("synchronous_commit", "on")]);
        let pool = postgres_pool(connections).connect_with(options).await?;
        Ok(Self::Postgres(pool))
    }

    /// Prepares connections of their own beside these, to the same database as the same login, so that
    /// neither waits for the other; on SQLite all still take turns to write.
    pub(crate) fn beside(&self, connections: u32) -> Self {
        match self {
            Self::Sqlite { readers, writer } => {
                let options = readers.connect_options().as_ref().clone();
                let readers = sqlite_pool(connections).connect_lazy_with(options);
                Self::Sqlite { readers, writer: Arc::clone(writer) }
            }
            Self::Postgres(pool) => {
                let options = pool.connect_options().as_ref().clone();
                Self::Postgres(postgres_pool(connections).connect_lazy_with(options))
            }
        }
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
                let mut turn = writer.turn().await?;
                sqlx::raw_sql(AssertSqlSafe(text)).execute(turn.connection()?).await.map(|_| ())?
            }
            Self::Postgres(pool) => sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Begins a transaction that only reads, and that sees one state of the database throughout.
    pub(crate) async fn read(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => Tx::Sqlite(Box::pin(readers.begin()).await?),
            Self::Postgres(pool) => Tx::Postgres(Box::pin(pool.begin_with(READ)).await?),
        })
    }

    /// Begins a transaction that writes; on SQLite it has the file to itself from here on.
    pub(crate) async fn write(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Write(Box::pin(writer.turn().await?.begin()).await?),
            Self::Postgres(pool) => Tx::Postgres(Box::pin(pool.begin()).await?),
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

    /// Says how many transactions that only read there can be at the same time.
    #[cfg(feature = "testing")]
    pub(crate) fn connections(&self) -> u32 {
        match self {
            Self::Sqlite { readers, .. } => readers.options().get_max_connections(),
            Self::Postgres(pool) => pool.options().get_max_connections(),
        }
    }

    /// Gives up the connections that broke since they were used.
    pub(crate) async fn shed_broken(&self) {
        if let Self::Postgres(pool) = self {
            let resting: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
            for mut connection in resting {
                if connection.ping().await.is_err() {
                    drop(connection.detach());
                }
            }
        }
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

/// A file doesn't go away, so its connections aren't asked whether they are still there. But when reading it fails,
/// SQLite ends a transaction by itself, and the library believes it open for ever after, so that what begins there next
/// sees the past for ever: such a connection is given up.
fn sqlite_pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false).before_acquire(
        |connection, _| {
            Box::pin(async move {
                if connection.is_in_transaction() {
                    // The end of a transaction may still be under way.
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            })
        },
    )
}

/// Connections that rested are asked whether they are still there; one that worked a moment ago is.
fn postgres_pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY)
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for >= RESTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
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
    use super::{AUTOCHECKPOINT, Db, READERS_CACHE, Tx, fill, values};

    /// Asks a connection how late it empties the write-ahead log, and how much it keeps in memory.
    async fn ask(mut tx: Tx) -> [i64; 2] {
        let mut asked = [0; 2];
        for (answer, pragma) in asked.iter_mut().zip(["PRAGMA wal_autocheckpoint", "PRAGMA cache_size"]) {
            *answer = tx.one(pragma, values![]).await.unwrap().unwrap().get(0).unwrap();
        }
        asked
    }

    #[tokio::test]
    async fn every_connection_leaves_the_write_ahead_log_alone_for_as_long_and_readers_keep_little() {
        const USUAL_CACHE: i64 = -2_000;
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("db")).await.unwrap();
        let (late, little) = (AUTOCHECKPOINT.into(), READERS_CACHE.parse().unwrap());
        assert_eq!(ask(db.write().await.unwrap()).await, [late, USUAL_CACHE]);
        for db in [&db, &db.beside(1)] {
            assert_eq!(ask(db.read().await.unwrap()).await, [late, little]);
        }
    }

    async fn count(db: &Db) -> i64 {
        let mut tx = db.read().await.unwrap();
        tx.one("SELECT COUNT(*) FROM t", values![]).await.unwrap().unwrap().get(0).unwrap()
    }

    #[tokio::test]
    async fn a_reader_whose_transaction_sqlite_ended_sees_what_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("db")).await.unwrap().beside(1);
        db.administrate("CREATE TABLE t (x)".to_owned()).await.unwrap();
        let mut tx = db.read().await.unwrap();
        tx.execute("ROLLBACK", values![]).await.unwrap();
        drop(tx);
        for written in 0..3 {
            assert_eq!(count(&db).await, written);
            db.administrate("INSERT INTO t VALUES (1)".to_owned()).await.unwrap();
        }
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
