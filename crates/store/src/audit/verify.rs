//! Checking the whole log: every record against its leaf, every segment against the one before,
//! every root against what the signed heads, and the other chains, say it was.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::audit::ChainHead;
use mcphub_domain::{ChainId, Event, Record};

use super::finding::{Finding, Report, Source, Witness};
use super::ledger::tips;
use super::segment::{Segment, unsigned};
use super::walk::Walk;
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

impl Store {
    /// Checks every record of every chain, and every root that a witness knows.
    pub async fn verify(&self, witnesses: Vec<Witness>) -> Result<Report, StoreError> {
        verify(&mut self.archive().read().await?, witnesses).await
    }

    /// Lists the ends of all chains that no other chain names: what a head has to say.
    pub async fn audit_tips(&self) -> Result<Vec<ChainHead>, StoreError> {
        tips(&mut self.pulse().read().await?).await
    }

    /// Returns ends that were read before, with that of this process's chain as it is now: it is known
    /// without reading, and the others' are seen the next time that all are read.
    pub fn audit_tips_since(&self, read: &[ChainHead]) -> Vec<ChainHead> {
        let Some(own) = self.ledger().tip() else { return read.to_vec() };
        let mut tips: Vec<_> = read.iter().filter(|tip| tip.chain != own.chain).cloned().collect();
        tips.push(own);
        tips.sort_unstable_by_key(|tip| tip.chain.to_string());
        tips
    }
}

/// Checks the log that a transaction sees.
pub(crate) async fn verify(tx: &mut Tx, witnesses: Vec<Witness>) -> Result<Report, StoreError> {
    let mut known = Witnesses::default();
    witnesses.into_iter().for_each(|witness| known.add(witness));
    let chains = chains(tx).await?;
    let mut named = BTreeSet::new();
    for chain in &chains {
        for other in named_by(tx, *chain).await? {
            named.insert((*chain, other.chain, other.size));
            known.add(Witness { head: other, source: Source::Chain(*chain) });
        }
    }
    let mut report = Report { chains: chains.len() as u64, ..Report::default() };
    for chain in &chains {
        let witnesses = known.0.remove(chain).unwrap_or_default();
        Walk::new(*chain, witnesses).check(tx, &mut report).await?;
    }
    report.findings.extend(known.0.into_iter().filter_map(|(chain, witnesses)| {
        let witness = witnesses.into_values().next_back()?;
        Some(Finding::Truncated { chain, found: 0, witness })
    }));
    let misnamed = misnamed(tx, &named).await?;
    let is_known = |by| report.findings.iter().any(|one| one.place().is_some_and(|(chain, _)| chain == by));
    let misnamed: Vec<Finding> = misnamed
        .into_iter()
        .filter(|(by, ..)| !is_known(*by))
        .map(|(by, chain, size)| Finding::Misnamed { chain, size, by })
        .collect();
    report.findings.extend(misnamed);
    Ok(report)
}

#[derive(Default)]
struct Witnesses(BTreeMap<ChainId, BTreeMap<(u64, String), Witness>>);

impl Witnesses {
    fn add(&mut self, witness: Witness) {
        let key = (witness.head.size, witness.head.root.clone());
        self.0.entry(witness.head.chain).or_default().entry(key).or_insert(witness);
    }
}

/// Lists all chains.
pub(super) async fn chains(tx: &mut Tx) -> Result<Vec<ChainId>, StoreError> {
    let rows = tx
        .all(
            "WITH RECURSIVE chains (chain) AS (
                SELECT MIN(chain) FROM audit_segments UNION ALL
                SELECT (SELECT MIN(s.chain) FROM audit_segments s WHERE s.chain > c.chain)
                  FROM chains c WHERE c.chain IS NOT NULL)
             SELECT chain FROM chains WHERE chain IS NOT NULL ORDER BY chain",
            values![],
        )
        .await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Reads what a chain's first record says of the others. A damaged one says nothing here; the walk
/// over its own chain finds it.
pub(super) async fn named_by(tx: &mut Tx, chain: ChainId) -> Result<Vec<ChainHead>, StoreError> {
    let row = tx
        .one(
            "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
              WHERE chain = $1 AND first = 0",
            values![chain.to_string()],
        )
        .await?;
    let Some(row) = row else { return Ok(Vec::new()) };
    let Ok(segment) = Segment::from_row(&row) else { return Ok(Vec::new()) };
    let first = segment.lines().next().and_then(|line| serde_json::from_slice::<Record>(line).ok());
    Ok(match first.map(|record| record.entry.event) {
        Some(Event::ChainOpened { others, .. }) => others,
        _ => Vec::new(),
    })
}

/// Lists what the table of named ends says beyond the first records: who names whom, at which size.
async fn misnamed(
    tx: &mut Tx,
    named: &BTreeSet<(ChainId, ChainId, u64)>,
) -> Result<Vec<(ChainId, ChainId, u64)>, StoreError> {
    let rows = tx
        .all("SELECT by_chain, chain, size FROM audit_named ORDER BY by_chain, chain, size", values![])
        .await?;
    let mut misnamed = Vec::new();
    for row in &rows {
        let says = (row.parse(0)?, row.parse(1)?, unsigned(row.get(2)?)?);
        if !named.contains(&says) {
            misnamed.push(says);
        }
    }
    Ok(misnamed)
}
