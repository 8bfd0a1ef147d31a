//! The store: its connections, its chain, its lock on the data directory.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mcphub_domain::audit::Entry;
use mcphub_domain::{Actor, ChainId, Clock, Entropy, Event};
use mcphub_policy::Recorder;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::audit::{AuditQueue, Chain, Grown, Ledger, LogThread, Writer};
use crate::checkpoint;
use crate::copy::Export;
use crate::db::{DatabaseUrls, Db, Revisions};
use crate::error::StoreError;
use crate::migrate;
use crate::place::Place;
use crate::silence::Silence;
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
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Command => "command",
        }
    }
}

/// Remembers everything.
pub struct Store {
    app: Db,
    worker: Db,
    /// What confirms the world and tells that this process lives: it never waits for other reads.
    pulse: Db,
    /// What reads the log, which may take long.
    archive: Db,
    ledger: Arc<Ledger>,
    audit: Arc<AuditQueue>,
    /// Who of the others tells that she lives.
    silence: Silence,
    clock: Clock,
    log: LogThread,
    tasks: TaskTracker,
    /// Ends the queue, and what runs beside it, at the latest when this is dropped.
    stop: DropGuard,
    _lock: Option<File>,
}

/// How many connections read what isn't one person's own.
const WORKER: u32 = 4;
/// How many connections confirm the world: one listens, one refreshes, one beats, one reads the tips.
const PULSE: u32 = 4;
/// How many connections read the log.
const ARCHIVE: u32 = 3;

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
        Self::open_with(place, process, recorder, (clock, entropy), LogThread::start).await
    }

    /// Opens the database; `start` says where the log is written.
    pub(crate) async fn open_with(
        place: &Place,
        process: Process,
        recorder: Recorder,
        (clock, entropy): (Clock, &Entropy),
        start: fn(Writer) -> std::io::Result<LogThread>,
    ) -> Result<Self, StoreError> {
        let lock = lock(&place.data_dir, process)?;
        let (app, worker) = connect(place).await?;
        let stop = CancellationToken::new();
        let ledger =
            Arc::new(Ledger::new(app.clone(), ChainId::random(entropy), process.as_str(), clock.clone()));
        let (audit, writer, watch) =
            AuditQueue::new(app.clone(), Arc::clone(&ledger), recorder, clock.clone(), stop.clone());
        let log =
            start(writer).map_err(|error| StoreError::Settings(format!("the thread of the log: {error}")))?;
        let (pulse, archive) = (worker.beside(PULSE), worker.beside(ARCHIVE));
        let tasks = TaskTracker::new();
        tasks.spawn(checkpoint::run(app.clone(), stop.clone()));
        tasks.spawn(watch.run(log.over()));
        let stop = stop.drop_guard();
        let audit = Arc::new(audit);
        let silence = Silence::default();
        Ok(Self { app, worker, pulse, archive, ledger, audit, silence, clock, log, tasks, stop, _lock: lock })
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
        self.pulse.revisions().await
    }

    /// Tells the others that this process lives.
    pub async fn beat(&self) -> Result<(), StoreError> {
        if self.grown().borrow().size == 0 {
            return Ok(());
        }
        let mut tx = self.pulse.write().await?;
        tx.execute(
            "UPDATE nodes SET seen_at = $2, state = 'open' WHERE chain = $1 AND state <> 'closed'",
            values![self.ledger.id().to_string(), self.clock.now().as_micros()],
        )
        .await?;
        tx.commit().await
    }

    /// Tells how far this process's chain has grown; who waits is woken every thousand records.
    pub fn grown(&self) -> watch::Receiver<Grown> {
        self.ledger.grown()
    }

    /// Writes what waits and ends this process's chain. Whoever still uses the queue is refused.
    pub async fn end(&self) -> Result<Ended, StoreError> {
        self.stop.token().cancel();
        self.log.written().await;
        self.tasks.close();
        self.tasks.wait().await;
        // A chain whose last records are missing stays open, so that others close what it leaves.
        self.audit.check_written()?;
        // Nobody comes after this to try again on another connection.
        for database in [&self.app, &self.worker, &self.pulse] {
            database.shed_broken().await;
        }
        let mut chain = self.ledger.last_turn().await?;
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
            tx.execute(
                "UPDATE nodes SET seen_at = $2, state = 'closed' WHERE chain = $1",
                values![chain.id().to_string(), self.clock.now().as_micros()],
            )
            .await?;
            chain.expect(next.clone());
            tx.commit().await?;
            chain.adopt(next);
        }
        let databases = [&self.app, &self.worker, &self.pulse, &self.archive].map(Db::clone);
        Ok(Ended { databases, _chain: chain })
    }

    /// Ends this process's chain and closes the database.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.end().await?.close().await;
        Ok(())
    }

    pub(crate) const fn app(&self) -> &Db {
        &self.app
    }

    pub(crate) const fn worker(&self) -> &Db {
        &self.worker
    }

    pub(crate) const fn pulse(&self) -> &Db {
        &self.pulse
    }

    pub(crate) const fn archive(&self) -> &Db {
        &self.archive
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) const fn silence(&self) -> &Silence {
        &self.silence
    }

    pub(crate) fn now(&self) -> mcphub_domain::Timestamp {
        self.clock.now()
    }
}

/// Is a store whose chain has ended: it can still be read, and nothing comes after the end.
pub struct Ended {
    databases: [Db; 4],
    _chain: OwnedMutexGuard<Chain>,
}

impl Ended {
    /// Begins a copy of everything as it is now.
    pub async fn export(&self) -> Result<Export, StoreError> {
        let [.., archive] = &self.databases;
        Export::begin(archive).await
    }

    /// Closes the database; only then is the chain let go.
    pub async fn close(self) {
        for database in &self.databases {
            database.close().await;
        }
    }
}

/// Connects to the database with both logins, and brings SQLite to the newest schema.
pub(crate) async fn connect(place: &Place) -> Result<(Db, Db), StoreError> {
    match &place.database {
        DatabaseUrls::Sqlite => {
            let db = Db::sqlite(&place.file()).await?;
            migrate::migrate(&db, None).await?;
            Ok((db.clone(), db.beside(WORKER)))
        }
        DatabaseUrls::Postgres { app, worker } => {
            let (app, worker) = (Db::postgres(app, 16).await?, Db::postgres(worker, WORKER).await?);
            migrate::check(&app).await?;
            app.check_login().await?;
            worker.check_login().await?;
            Ok((app, worker))
        }
    }
}

pub(crate) fn lock(data_dir: &Path, process: Process) -> Result<Option<File>, StoreError> {
    let failed = |path: &Path, source| StoreError::File { path: path.to_owned(), source };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|error| failed(data_dir, error))?;
    if process == Process::Command {
        return Ok(None);
    }
    let path: PathBuf = data_dir.join("serve.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked { path: data_dir.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(&path, error)),
    }
}
