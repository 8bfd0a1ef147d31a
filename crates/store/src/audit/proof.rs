//! Proofs that a record is in the log: a way from a signed head down to it.

use std::collections::{BTreeMap, VecDeque};

use mcphub_domain::ChainId;
use mcphub_domain::audit::ChainHead;

use super::finding::{Source, Witness};
use super::segment::{Segment, signed, unsigned};
use super::tree::{Frontier, Hash, Path, leaf};
use super::verify::{chains, named_by};
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// How many segments' leaves are read at a time.
const PAGE: i64 = 256;

/// Is a way from a head down to a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The number of the signed head.
    pub head: u64,
    /// The steps, from the head down. The last one's record is what is proved; the others are first
    /// records, which name the chain of the next step.
    pub steps: Vec<Step>,
}

/// Shows that a record is in a chain whose end is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The chain's end.
    pub end: ChainHead,
    /// The record's number.
    pub number: u64,
    /// The record.
    pub record: Vec<u8>,
    /// Its audit path.
    pub path: Vec<Hash>,
}

/// Is how a chain's end came to be known.
struct Known {
    end: ChainHead,
    by: Option<ChainId>,
}

impl Store {
    /// Lists the chains whose id begins like this.
    pub async fn chains_like(&self, beginning: &str) -> Result<Vec<ChainId>, StoreError> {
        let all = chains(&mut self.archive().read().await?).await?;
        Ok(all.into_iter().filter(|chain| chain.to_string().starts_with(beginning)).collect())
    }

    /// Proves that a record is in the log, by what signed heads say. Without a head that covers it
    /// there is no proof yet.
    pub async fn prove(
        &self,
        (chain, number): (ChainId, u64),
        heads: &[Witness],
    ) -> Result<Option<Proof>, StoreError> {
        let mut tx = self.archive().read().await?;
        if segment_of(&mut tx, chain, number).await?.is_none() {
            return Err(StoreError::missing(format!("record {number} of chain {chain}")));
        }
        let Some((head, way)) = way(&mut tx, (chain, number), heads).await? else { return Ok(None) };
        let last = way.len() - 1;
        let mut steps = Vec::with_capacity(way.len());
        for (place, end) in way.into_iter().enumerate() {
            steps.push(step(&mut tx, end, if place == last { number } else { 0 }).await?);
        }
        Ok(Some(Proof { head, steps }))
    }
}

/// Finds the shortest way from a record's chain, over chains whose first records name the one before,
/// to one that a head names. Returns it from the head down.
async fn way(
    tx: &mut Tx,
    (chain, number): (ChainId, u64),
    heads: &[Witness],
) -> Result<Option<(u64, Vec<ChainHead>)>, StoreError> {
    let mut known: BTreeMap<ChainId, Option<Known>> = BTreeMap::from([(chain, None)]);
    let mut next = VecDeque::from([chain]);
    while let Some(reached) = next.pop_front() {
        let least = if reached == chain { number + 1 } else { 1 };
        let covers = |witness: &&Witness| witness.head.chain == reached && witness.head.size >= least;
        let by_size = |witness: &&Witness| witness.head.size;
        if let Some(Witness { head, source: Source::Head(by) }) =
            heads.iter().filter(covers).min_by_key(by_size)
        {
            let mut way = vec![head.clone()];
            let mut at = reached;
            while let Some(Some(Known { end, by: Some(below) })) = known.get(&at) {
                way.push(end.clone());
                at = *below;
            }
            return Ok(Some((*by, way)));
        }
        for (by, end) in naming(tx, reached, least).await? {
            known.entry(by).or_insert_with(|| {
                next.push_back(by);
                Some(Known { end, by: Some(reached) })
            });
        }
    }
    Ok(None)
}

/// Lists the chains whose first records name a chain's end at this size or a greater one.
async fn naming(tx: &mut Tx, chain: ChainId, least: u64) -> Result<Vec<(ChainId, ChainHead)>, StoreError> {
    let rows = tx
        .all(
            "SELECT by_chain FROM audit_named WHERE chain = $1 AND size >= $2 ORDER BY size, by_chain",
            values![chain.to_string(), signed(least)?],
        )
        .await?;
    let mut naming = Vec::new();
    for row in &rows {
        let by: ChainId = row.parse(0)?;
        let named = named_by(tx, by).await?.into_iter();
        let end =
            named.filter(|named| named.chain == chain && named.size >= least).min_by_key(|named| named.size);
        naming.extend(end.map(|end| (by, end)));
    }
    Ok(naming)
}

async fn step(tx: &mut Tx, end: ChainHead, number: u64) -> Result<Step, StoreError> {
    let broken = |what: &str| {
        let (chain, size) = (end.chain, end.size);
        StoreError::damaged(format!("{what} record {number} of chain {chain} with {size} records"))
    };
    let segment = segment_of(tx, end.chain, number).await?.ok_or_else(|| broken("there is no"))?;
    let place = usize::try_from(number - segment.first).unwrap_or(usize::MAX);
    let record = segment.lines().nth(place).ok_or_else(|| broken("there is no"))?.to_vec();
    let (mut path, mut tree) = (Path::new(number, end.size), Frontier::default());
    let (mut passed, mut is_there) = (0, false);
    while passed < end.size {
        let leaves = leaves(tx, end.chain, passed).await?;
        if leaves.is_empty() {
            return Err(broken("the log ends before the size that is signed, so nothing proves"));
        }
        for found in leaves.into_iter().take(usize::try_from(end.size - passed).unwrap_or(usize::MAX)) {
            is_there |= passed == number && found == leaf(&record);
            path.push(found);
            tree.push(found);
            passed += 1;
        }
    }
    if !is_there || hex::encode(tree.root()) != end.root {
        return Err(broken("the log isn't what was signed, so nothing proves"));
    }
    Ok(Step { path: path.finish(), record, number, end })
}

/// Reads the leaves of some segments, from the one that begins with this record.
async fn leaves(tx: &mut Tx, chain: ChainId, first: u64) -> Result<Vec<Hash>, StoreError> {
    let rows = tx
        .all(
            "SELECT first, leaves FROM audit_segments WHERE chain = $1 AND first >= $2 ORDER BY first LIMIT $3",
            values![chain.to_string(), signed(first)?, PAGE],
        )
        .await?;
    let mut leaves: Vec<Hash> = Vec::new();
    for row in &rows {
        if unsigned(row.get(0)?)? != first + leaves.len() as u64 {
            return Err(StoreError::damaged(format!("records of chain {chain} are missing")));
        }
        let bytes: Vec<u8> = row.get(1)?;
        leaves.extend(bytes.chunks(32).filter_map(|leaf| Hash::try_from(leaf).ok()));
    }
    Ok(leaves)
}

/// Reads the segment that holds a record.
async fn segment_of(tx: &mut Tx, chain: ChainId, number: u64) -> Result<Option<Segment>, StoreError> {
    let row = tx
        .one(
            "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
              WHERE chain = $1 AND first <= $2 ORDER BY first DESC LIMIT 1",
            values![chain.to_string(), signed(number)?],
        )
        .await?;
    let segment = row.as_ref().map(Segment::from_row).transpose()?;
    Ok(segment.filter(|segment| number < segment.first + segment.count))
}
