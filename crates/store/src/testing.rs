//! Throw-away databases for tests, with a clock that the test sets and randomness that repeats.
//!
//! PostgreSQL is the cluster that `MCPHUB_TEST_POSTGRES_URL` names; each `TestDatabase` is a database
//! of its own there, with logins of its own, and is gone when it is dropped.

#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use mcphub_domain::{Clock, Entropy, Timestamp};
use mcphub_policy::Recorder;
use tempfile::TempDir;
use url::Url;

use crate::audit::LogThread;
use crate::db::{DatabaseUrls, Db};
use crate::error::StoreError;
use crate::place::Place;
use crate::prepare::{Prepared, Roles, prepare};
use crate::statement::Tx;
use crate::store::{Process, Store};

/// Tells the time that the test set; it stands still until the test moves it.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// Starts at a fixed time in 2026.
    pub fn start() -> Self {
        Self(Arc::new(AtomicI64::new(1_795_000_000_000_000)))
    }

    /// Tells the time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Moves the time on.
    pub fn advance(&self, span: Duration) {
        self.0.fetch_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Sets the time, back as well.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::Relaxed);
    }

    /// Hands the clock to the code under test.
    pub fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::new(move || clock.now())
    }
}

/// Is an empty database, with a data directory.
pub struct TestDatabase {
    place: Place,
    clock: TestClock,
    entropy: Entropy,
    postgres: Option<TestPostgres>,
    _folder: TempDir,
}

struct TestPostgres {
    /// The superuser's address of this database.
    admin: Url,
    /// The superuser's address of the cluster.
    cluster: String,
    database: String,
    roles: Roles,
}

impl TestDatabase {
    /// Makes a place for a SQLite file.
    pub fn sqlite() -> Self {
        Self::at(DatabaseUrls::Sqlite, None)
    }

    /// Makes and prepares a PostgreSQL database with logins of its own.
    pub async fn postgres() -> Self {
        let (postgres, entropy) = TestPostgres::named();
        let Prepared { app, worker } =
            prepare(&postgres.cluster, &postgres.database, &postgres.roles, &entropy)
                .await
                .expect("PostgreSQL: preparing a database");
        let urls = DatabaseUrls::Postgres { app: app.into(), worker: worker.into() };
        Self::at(urls, Some(postgres))
    }

    /// Names a PostgreSQL database that doesn't exist yet; it is removed in the end if it does.
    pub fn unprepared_postgres() -> Self {
        let (postgres, _) = TestPostgres::named();
        let urls =
            DatabaseUrls::Postgres { app: postgres.admin.to_string(), worker: postgres.admin.to_string() };
        Self::at(urls, Some(postgres))
    }

    fn at(database: DatabaseUrls, postgres: Option<TestPostgres>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = Place { data_dir: folder.path().join("data"), database };
        let entropy = Entropy::fixed(1);
        Self { place, clock: TestClock::start(), entropy, postgres, _folder: folder }
    }

    /// Says where the database is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// Shows the clock of every store that `open` opens.
    pub const fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// Shows the randomness of every store that `open` opens.
    pub const fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    /// Returns the superuser's address of the PostgreSQL database.
    pub fn admin_url(&self) -> Option<&str> {
        self.postgres.as_ref().map(|postgres| postgres.admin.as_str())
    }

    /// Returns the superuser's address of the PostgreSQL cluster, and the database's name in it.
    pub fn cluster(&self) -> Option<(&str, &str)> {
        self.postgres.as_ref().map(|postgres| (postgres.cluster.as_str(), postgres.database.as_str()))
    }

    /// Names the roles of the PostgreSQL database.
    pub fn roles(&self) -> Option<&Roles> {
        self.postgres.as_ref().map(|postgres| &postgres.roles)
    }

    /// Opens a store, or says why it can't be.
    pub async fn try_open(&self, process: Process) -> Result<Store, StoreError> {
        self.try_open_at(&self.place, process).await
    }

    /// Opens a store at another place with the same clock and randomness, or says why it can't be.
    #[expect(clippy::disallowed_methods, reason = "a test is the wiring of its store")]
    pub async fn try_open_at(&self, place: &Place, process: Process) -> Result<Store, StoreError> {
        let (recorder, means) = (Recorder::new(), (self.clock.clock(), &self.entropy));
        Store::open_with(place, process, recorder, means, LogThread::within).await
    }

    /// Opens a store whose log is written on a thread of its own, as that of every real one is.
    #[expect(clippy::disallowed_methods, reason = "a test is the wiring of its store")]
    pub async fn open_real(&self, process: Process) -> Store {
        let opened =
            Store::open(&self.place, process, Recorder::new(), self.clock.clock(), &self.entropy).await;
        opened.expect("opening the store")
    }

    /// Opens a store.
    pub async fn open(&self, process: Process) -> Store {
        self.try_open(process).await.expect("opening the store")
    }
}

/// Holds connections that a store would need.
pub struct HeldConnections {
    _transactions: Vec<Tx>,
}

impl HeldConnections {
    /// Takes every connection that reads, but those that confirm the world.
    pub async fn of(store: &Store) -> Self {
        let mut transactions = Vec::new();
        for db in [store.app(), store.worker(), store.archive()] {
            for _ in 0..db.connections() {
                transactions.push(db.read().await.expect("a connection"));
            }
        }
        Self { _transactions: transactions }
    }
}

impl TestPostgres {
    fn named() -> (Self, Entropy) {
        let unique = RandomState::new().build_hasher().finish();
        let prefix = format!("test_{unique:016x}");
        let cluster = cluster();
        let mut admin = Url::parse(&cluster).expect("MCPHUB_TEST_POSTGRES_URL: expected a URL");
        admin.set_path(&prefix);
        let roles = Roles::with_prefix(&prefix);
        (Self { admin, cluster, database: prefix, roles }, Entropy::fixed(unique))
    }

    async fn remove(&self) -> Result<(), StoreError> {
        let admin = Db::postgres(&self.cluster, 1).await?;
        admin.administrate(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database)).await?;
        let Roles { migrator, app, worker } = &self.roles;
        admin.administrate(format!("DROP ROLE IF EXISTS {app}, {worker}, {migrator}")).await?;
        admin.close().await;
        Ok(())
    }
}

impl Drop for TestPostgres {
    /// Removes the database from a thread of its own, for the test's runtime can't wait here.
    fn drop(&mut self) {
        let removed = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.map_err(|error| StoreError::Settings(error.to_string()))?.block_on(self.remove())
                })
                .join()
        });
        if !matches!(removed, Ok(Ok(()))) && !std::thread::panicking() {
            panic!("PostgreSQL: removing {}: {removed:?}", self.database);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no configuration to read it from")]
fn cluster() -> String {
    match std::env::var("MCPHUB_TEST_POSTGRES_URL") {
        Ok(url) => url,
        Err(_) => panic!("no test cluster: run `cargo xtask test`, which starts PostgreSQL"),
    }
}
