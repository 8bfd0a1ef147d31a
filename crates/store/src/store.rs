//! The store: its connections, its chain, its lock on the data directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Actor, ChainId, Clock, Entropy, Event};
use mcphub_policy::Recorder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::queue::Writer;
use crate::audit::{AuditQueue, Ledger};
use crate::db::{DatabaseUrls, Db, Revisions};
use crate::error::StoreError;
use crate::migrate;
use crate::statement::values;
use crate::tx::WriteTx;

/// Says which process opens the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    /// `mcphub serve`: it alone holds the data directory's lock.
    Serve,
    /// A command that reads, or makes one short change.
    Command,
}

impl Process {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Command => "command",
        }
    }
}

/// Says where everything is kept.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of the SQLite file, the lock and the logs of child processes.
    pub data_dir: PathBuf,
    /// Which database.
    pub database: DatabaseUrls,
}

/// Remembers everything.
pub struct Store {
    app: Db,
    worker: Db,
    ledger: Arc<Ledger>,
    audit: Arc<AuditQueue>,
    clock: Clock,
    tasks: TaskTracker,
    stop: CancellationToken,
    _lock: Option<File>,
}

/// A process that hasn't told for so long that it lives is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// The name of the SQLite file in the data directory.
const FILE: &str = "mcphub.db";

impl Store {
    /// Opens the database, brings SQLite to the newest schema, and starts the audit queue.
    ///
    /// `recorder` is the only one of the process. Refuses a schema that is newer than this version,
    /// a PostgreSQL login with too much power, and a second `serve` on one data directory.
    pub async fn open(
        place: &Place,
        process: Process,
        recorder: Recorder,
        clock: Clock,
        entropy: &Entropy,
    ) -> Result<Self, StoreError> {
        let lock = lock(&place.data_dir, process)?;
        let (app, worker) = match &place.database {
            DatabaseUrls::Sqlite => {
                let db = Db::sqlite(&place.data_dir.join(FILE)).await?;
                migrate::migrate(&db, None).await?;
                (db.clone(), db)
            }
            DatabaseUrls::Postgres { app, worker } => {
                let (app, worker) = (Db::postgres(app, 16).await?, Db::postgres(worker, 4).await?);
                migrate::check(&app).await?;
                app.check_login().await?;
                worker.check_login().await?;
                (app, worker)
            }
        };
        let stop = CancellationToken::new();
        let ledger =
            Arc::new(Ledger::new(app.clone(), ChainId::random(entropy), process.as_str(), clock.clone()));
        let (audit, writer) =
            AuditQueue::new(app.clone(), Arc::clone(&ledger), recorder, clock.clone(), stop.clone());
        let tasks = TaskTracker::new();
        tasks.spawn(Writer::run(writer));
        Ok(Self { app, worker, ledger, audit: Arc::new(audit), clock, tasks, stop, _lock: lock })
    }

    /// Shows the audit queue.
    pub fn audit(&self) -> Arc<AuditQueue> {
        Arc::clone(&self.audit)
    }

    /// Begins a change. It waits for the process's turn in the audit chain.
    pub async fn write(&self) -> Result<WriteTx, StoreError> {
        let chain = self.ledger.turn().await?;
        let tx = self.app.write().await?;
        Ok(WriteTx::new(tx, self.clock.now(), chain, Arc::clone(&self.ledger)))
    }

    /// Subscribes to changes of the world; SQLite tells nothing, there one asks.
    pub async fn revisions(&self) -> Result<Revisions, StoreError> {
        self.worker.revisions().await
    }

    /// Closes, as unknown, what killed processes left open. Returns how many calls that were.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let deadline = mcphub_domain::Timestamp::from_micros(now.as_micros() - DEAD_AFTER.as_micros() as i64);
        let mut chain = self.ledger.turn().await?;
        let mut tx = self.app.write().await?;
        let mut entries = Vec::new();
        for dead in crate::audit::claim_dead_chains(&mut tx, chain.id(), deadline).await? {
            entries.extend(crate::audit::close_intents(&mut tx, dead, now).await?);
        }
        let closed = entries.len() as u64;
        if closed == 0 {
            return tx.commit().await.map(|()| 0);
        }
        let next = self.ledger.append(&chain, &mut tx, entries).await?;
        chain.expect(next.clone());
        tx.commit().await?;
        chain.adopt(next);
        Ok(closed)
    }

    /// Tells the others that this process lives.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let chain = self.ledger.turn().await?;
        if !chain.is_open() {
            return Ok(());
        }
        let mut tx = self.app.write().await?;
        self.set_node(&mut tx, chain.id(), "open").await?;
        tx.commit().await
    }

    /// Writes what waits, ends this process's chain and closes the database. Whoever still uses the
    /// queue is refused.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let mut chain = self.ledger.turn().await?;
        if chain.is_open() {
            let mut tx = self.app.write().await?;
            let entry = Entry {
                at: self.clock.now(),
                actor: Actor::Hub,
                event: Event::ChainClosed,
                request: None,
                personal: Default::default(),
            };
            let next = self.ledger.append(&chain, &mut tx, vec![entry]).await?;
            self.set_node(&mut tx, chain.id(), "closed").await?;
            chain.expect(next.clone());
            tx.commit().await?;
            chain.adopt(next);
        }
        // The chain stays taken until the database is closed, so that nothing comes after its end.
        self.app.close().await;
        self.worker.close().await;
        drop(chain);
        Ok(())
    }

    pub(crate) const fn app(&self) -> &Db {
        &self.app
    }

    pub(crate) const fn worker(&self) -> &Db {
        &self.worker
    }

    pub(crate) fn now(&self) -> mcphub_domain::Timestamp {
        self.clock.now()
    }

    async fn set_node(
        &self,
        tx: &mut crate::statement::Tx,
        chain: ChainId,
        state: &str,
    ) -> Result<(), StoreError> {
        tx.execute(
            "UPDATE nodes SET seen_at = $2, state = $3 WHERE chain = $1",
            values![chain.to_string(), self.clock.now().as_micros(), state],
        )
        .await?;
        Ok(())
    }
}

fn lock(data_dir: &Path, process: Process) -> Result<Option<File>, StoreError> {
    let failed = |path: &Path, source| StoreError::File { path: path.to_owned(), source };
    std::fs::create_dir_all(data_dir).map_err(|error| failed(data_dir, error))?;
    if process == Process::Command {
        return Ok(None);
    }
    let path: PathBuf = data_dir.join("serve.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: data_dir.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&path, error)),
    }
}
