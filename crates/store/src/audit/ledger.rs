//! The owner of this process's chain: whoever appends holds its lock.

use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::audit::{ChainHead, Entry};
use mcphub_domain::{Actor, ChainId, Clock, Event, Timestamp};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::timeout;

use super::fresh::{Contents, Fresh};
use super::segment::{Segment, signed, unsigned};
use super::tree::{Frontier, Hash};
use crate::db::Db;
use crate::error::StoreError;
use crate::statement::{Tx, values};

/// After how many records who waits for the chain to grow is woken: not for each segment.
const NOTED: u64 = 1_000;
/// How long one waits for the turn.
const TURN: Duration = Duration::from_secs(10);

/// Is the end of a chain that this process grows.
pub(crate) struct Chain {
    id: ChainId,
    frontier: Frontier,
    previous: Hash,
    at: Timestamp,
    /// What the chain becomes if the commit whose fate is unknown did succeed.
    pending: Option<Next>,
    /// Those that did, as was found out since somebody asked last.
    found: Vec<Hash>,
    grown: watch::Sender<Grown>,
    fresh: Fresh,
}

/// Is what a chain becomes when a segment is committed.
#[derive(Clone)]
pub(crate) struct Next {
    frontier: Frontier,
    pub(crate) hash: Hash,
    root: Hash,
    at: Timestamp,
    contents: Contents,
}

/// Is how far a chain has grown.
#[derive(Clone, Copy, Default, Debug)]
pub struct Grown {
    /// How many records it has.
    pub size: u64,
    /// The root of its tree, once it has any.
    pub root: Hash,
}

/// Owns the chain of this process.
pub(crate) struct Ledger {
    db: Db,
    id: ChainId,
    chain: Arc<Mutex<Chain>>,
    grown: watch::Receiver<Grown>,
    fresh: Fresh,
    process: &'static str,
    clock: Clock,
}

impl Ledger {
    pub(crate) fn new(db: Db, id: ChainId, process: &'static str, clock: Clock) -> Self {
        let (sender, grown) = watch::channel(Grown::default());
        let frontier = Frontier::default();
        let at = Timestamp::from_micros(i64::MIN);
        let fresh = Fresh::default();
        let chain = Chain {
            id,
            frontier,
            previous: [0; 32],
            at,
            pending: None,
            found: Vec::new(),
            grown: sender,
            fresh: fresh.clone(),
        };
        Self { db, id, chain: Arc::new(Mutex::new(chain)), grown, fresh, process, clock }
    }

    /// Names the chain.
    pub(crate) const fn id(&self) -> ChainId {
        self.id
    }

    /// Tells how far the chain has grown, and wakes who waits for it when it passes a multiple of `NOTED`.
    pub(crate) fn grown(&self) -> watch::Receiver<Grown> {
        self.grown.clone()
    }

    /// Is the end of the chain, from memory.
    pub(super) fn tip(&self) -> Option<ChainHead> {
        let Grown { size, root } = *self.grown.borrow();
        (size > 0).then(|| ChainHead { chain: self.id, size, root: hex::encode(root) })
    }

    /// Holds what was written and isn't indexed yet.
    pub(super) const fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// Waits for the turn to append, ten seconds at most: somebody's write may hang. Whoever has it opens the transaction
    /// after it, never before.
    ///
    /// While the fate of a commit is unknown, the database is asked first. It may not know yet: then
    /// the next segment either replaces that one, or collides with it, and the turn after asks again.
    pub(crate) async fn turn(&self) -> Result<OwnedMutexGuard<Chain>, StoreError> {
        timeout(TURN, self.last_turn()).await.map_err(|_| StoreError::TimedOut)?
    }

    /// Waits for it however long it takes: nobody comes afterwards.
    pub(crate) async fn last_turn(&self) -> Result<OwnedMutexGuard<Chain>, StoreError> {
        let mut chain = Arc::clone(&self.chain).lock_owned().await;
        if let Some(next) = chain.pending.clone()
            && self.last_hash(chain.id).await? == Some(next.hash)
        {
            chain.found.push(next.hash);
            chain.adopt(next);
        }
        Ok(chain)
    }

    /// Inserts the entries as the next segment; the first one begins the chain.
    ///
    /// The chain has grown only when `Chain::adopt` is called, after the commit.
    pub(crate) async fn append(
        &self,
        chain: &Chain,
        tx: &mut Tx,
        mut entries: Vec<Entry>,
    ) -> Result<Next, StoreError> {
        if chain.frontier.size() == 0 {
            let others = tips(tx).await?;
            self.name(chain.id, tx, &others).await?;
            let (process, version) = (self.process.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
            let event = Event::ChainOpened { process, version, others };
            let at = entries.iter().map(|entry| entry.at).fold(self.clock.now(), Ord::min);
            entries.insert(
                0,
                Entry { at, actor: Actor::Hub, event, request: None, personal: Default::default() },
            );
        }
        let (segment, next) = chain.lay_out(&entries)?;
        segment.insert(tx).await?;
        Ok(next)
    }

    async fn name(&self, chain: ChainId, tx: &mut Tx, others: &[ChainHead]) -> Result<(), StoreError> {
        for other in others {
            tx.execute(
                "INSERT INTO audit_named (chain, size, by_chain) VALUES ($1, $2, $3)",
                values![other.chain.to_string(), signed(other.size)?, chain.to_string()],
            )
            .await?;
        }
        tx.execute(
            "INSERT INTO nodes (chain, process, seen_at, state) VALUES ($1, $2, $3, 'open')",
            values![chain.to_string(), self.process, self.clock.now().as_micros()],
        )
        .await?;
        Ok(())
    }

    async fn last_hash(&self, chain: ChainId) -> Result<Option<Hash>, StoreError> {
        let row = self
            .db
            .write()
            .await?
            .one(
                "SELECT hash FROM audit_segments WHERE chain = $1 ORDER BY first DESC LIMIT 1",
                values![chain.to_string()],
            )
            .await?;
        row.map(|row| row.array(0)).transpose()
    }
}

impl Chain {
    /// Lays out the entries as the next segment; nothing is written.
    pub(crate) fn lay_out(&self, entries: &[Entry]) -> Result<(Segment, Next), StoreError> {
        let mut frontier = self.frontier.clone();
        let contents = Contents::of(frontier.size(), entries);
        let segment = Segment::lay_out(self.id, &mut frontier, self.previous, self.at, entries)?;
        let next = Next { frontier, hash: segment.hash, root: segment.root, at: segment.at, contents };
        Ok((segment, next))
    }

    /// Remembers that a commit has begun whose fate isn't known yet.
    pub(crate) fn expect(&mut self, next: Next) {
        self.pending = Some(next);
    }

    /// Grows the chain by what has been committed.
    pub(crate) fn adopt(&mut self, next: Next) {
        self.frontier = next.frontier;
        self.previous = next.hash;
        self.at = next.at;
        self.pending = None;
        self.fresh.keep(next.contents);
        let now = Grown { size: self.frontier.size(), root: next.root };
        self.grown.send_if_modified(|grown| {
            let before = std::mem::replace(grown, now);
            before.size / NOTED != now.size / NOTED
        });
    }

    /// Names the chain.
    pub(crate) const fn id(&self) -> ChainId {
        self.id
    }

    /// Tells, once, which commits of unknown fate turned out to have succeeded.
    pub(crate) fn found(&mut self) -> Vec<Hash> {
        std::mem::take(&mut self.found)
    }

    /// Says whether the chain has begun and its end is known. Then a segment may be written without
    /// asking; else it is known only after the insert which segment may be in the log.
    pub(crate) const fn is_settled(&self) -> bool {
        self.is_open() && self.pending.is_none()
    }

    /// Says whether anything has been appended.
    pub(crate) const fn is_open(&self) -> bool {
        self.frontier.size() > 0
    }
}

/// Lists the ends of all chains that no other chain's first record names yet.
pub(crate) async fn tips(tx: &mut Tx) -> Result<Vec<ChainHead>, StoreError> {
    let rows = tx
        .all(
            "WITH RECURSIVE chains (chain) AS (
                SELECT MIN(chain) FROM audit_segments UNION ALL
                SELECT (SELECT MIN(s.chain) FROM audit_segments s WHERE s.chain > c.chain)
                  FROM chains c WHERE c.chain IS NOT NULL)
             SELECT s.chain, s.first + s.count, s.root
               FROM chains c JOIN audit_segments s ON s.chain = c.chain
                AND s.first = (SELECT MAX(t.first) FROM audit_segments t WHERE t.chain = c.chain)
              WHERE NOT EXISTS (SELECT 1 FROM audit_named n WHERE n.chain = s.chain AND n.size = s.first + s.count)
              ORDER BY s.chain",
            values![],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ChainHead {
                chain: row.parse(0)?,
                size: unsigned(row.get(1)?)?,
                root: hex::encode(row.array::<32>(2)?),
            })
        })
        .collect()
}
