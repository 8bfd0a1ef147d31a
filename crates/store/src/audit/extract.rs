//! Reading the log whole, chain by chain, for somebody who checks it elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::{ChainId, Record, Timestamp};

use super::segment::{Segment, signed};
use super::tree::Hash;
use super::verify::{chains, named_by};
use crate::db::Db;
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// How many segments are read at a time.
const PAGE: i64 = 16;

/// Says which records are wanted: those from one time on, and before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

impl Span {
    fn holds(self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }

    /// Says whether a segment is wanted with its records. The first one of a chain always is: it names
    /// the ends of others. So is one with something in it that can't be read.
    fn shows(self, segment: &Segment) -> bool {
        let is_wanted = |line: &[u8]| {
            serde_json::from_slice::<Record>(line).map_or(true, |record| self.holds(record.entry.at))
        };
        segment.first == 0 || segment.lines().any(is_wanted)
    }
}

/// Is one segment as it leaves the hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The chain.
    pub chain: ChainId,
    /// The number of the first record.
    pub first: u64,
    /// How many records there are.
    pub count: u64,
    /// The leaf hashes, one after the other.
    pub leaves: Vec<u8>,
    /// The hash of the segment before.
    pub previous: Hash,
    /// The segment's own hash.
    pub hash: Hash,
    /// The chain's root after its last record.
    pub root: Hash,
    /// Its time.
    pub at: Timestamp,
    /// Its records, each one line; nothing outside the wanted span.
    pub records: Option<Vec<Vec<u8>>>,
}

/// Reads the log as it was when this began, page by page. No page waits for a reader: each is read in
/// a transaction of its own, and what is read is never changed.
pub struct Extract {
    db: Db,
    span: Span,
    /// The chains that are still to be read, the next one last, each with where it ends.
    chains: Vec<(ChainId, i64)>,
    /// The first record of the next segment.
    next: i64,
}

impl Store {
    /// Begins to read the whole log. A chain that names another comes before it.
    pub async fn extract(&self, span: Span) -> Result<Extract, StoreError> {
        let mut tx = self.archive().read().await?;
        let mut named = BTreeMap::new();
        for chain in chains(&mut tx).await? {
            let others = named_by(&mut tx, chain).await?;
            named.insert(chain, others.into_iter().map(|other| other.chain).collect::<BTreeSet<_>>());
        }
        let mut ordered = Vec::new();
        for chain in in_order(named).into_iter().rev() {
            ordered.push((chain, end(&mut tx, chain).await?));
        }
        Ok(Extract { db: self.archive().clone(), span, chains: ordered, next: 0 })
    }
}

impl Extract {
    /// Reads the next segments; none is the end.
    pub async fn page(&mut self) -> Result<Vec<Piece>, StoreError> {
        while let Some((chain, end)) = self.chains.last().copied() {
            let rows = self
                .db
                .read()
                .await?
                .all(
                    "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
                      WHERE chain = $1 AND first >= $2 AND first <= $3 ORDER BY first LIMIT $4",
                    values![chain.to_string(), self.next, end, PAGE],
                )
                .await?;
            let segments = rows.iter().map(Segment::from_row).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = segments.last() else {
                self.chains.pop();
                self.next = 0;
                continue;
            };
            self.next = signed(last.first)? + 1;
            return Ok(segments.into_iter().map(|segment| piece(segment, self.span)).collect());
        }
        Ok(Vec::new())
    }
}

fn piece(segment: Segment, span: Span) -> Piece {
    let records = span.shows(&segment).then(|| segment.lines().map(<[u8]>::to_vec).collect());
    let Segment { chain, first, count, leaves, previous, hash, root, at, .. } = segment;
    Piece { chain, first, count, leaves, previous, hash, root, at, records }
}

/// Finds the first record of a chain's last segment.
async fn end(tx: &mut Tx, chain: ChainId) -> Result<i64, StoreError> {
    let row =
        tx.one("SELECT MAX(first) FROM audit_segments WHERE chain = $1", values![chain.to_string()]).await?;
    let end: Option<i64> = row.map_or(Ok(None), |row| row.get(0))?;
    Ok(end.unwrap_or(0))
}

/// Puts chains in an order in which each comes before those that it names. Where they name each other
/// in a ring, which no hub writes, the order is that of their ids.
fn in_order(named: BTreeMap<ChainId, BTreeSet<ChainId>>) -> Vec<ChainId> {
    let mut waits: BTreeMap<ChainId, usize> = named.keys().map(|chain| (*chain, 0)).collect();
    for others in named.values() {
        for other in others {
            waits.entry(*other).and_modify(|count| *count += 1);
        }
    }
    let mut ready: Vec<ChainId> =
        waits.iter().filter(|(_, count)| **count == 0).map(|(chain, _)| *chain).collect();
    waits.retain(|_, count| *count > 0);
    let mut ordered = Vec::with_capacity(named.len());
    while let Some(chain) = ready.pop() {
        ordered.push(chain);
        for other in named.get(&chain).into_iter().flatten() {
            let Some(count) = waits.get_mut(other) else { continue };
            *count -= 1;
            if *count == 0 {
                waits.remove(other);
                ready.push(*other);
            }
        }
    }
    ordered.extend(waits.into_keys());
    ordered
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, BTreeSet, ChainId, in_order};

    fn chains(edges: &[(u8, &[u8])]) -> BTreeMap<ChainId, BTreeSet<ChainId>> {
        let id = |byte: &u8| ChainId::from_bytes([*byte; 16]);
        edges.iter().map(|(chain, named)| (id(chain), named.iter().map(id).collect())).collect()
    }

    fn order(edges: &[(u8, &[u8])]) -> Vec<u8> {
        in_order(chains(edges)).iter().map(|chain| chain.as_bytes()[0]).collect()
    }

    #[test]
    fn a_chain_comes_before_those_that_it_names() {
        assert_eq!(order(&[(1, &[]), (2, &[1]), (3, &[2, 1]), (4, &[1])]), [4, 3, 2, 1]);
        assert_eq!(order(&[(1, &[2]), (2, &[3]), (3, &[])]), [1, 2, 3]);
    }

    #[test]
    fn a_ring_and_a_chain_that_is_gone_stop_nothing() {
        assert_eq!(order(&[(1, &[2]), (2, &[1]), (3, &[9])]), [3, 1, 2]);
        assert_eq!(order(&[(1, &[1])]), [1]);
    }
}
