//! Checking the whole log: every record against its leaf, every segment against the one before,
//! every root against what the signed heads, and the other chains, say it was.

use std::collections::BTreeMap;
use std::fmt;

use mcphub_domain::audit::ChainHead;
use mcphub_domain::{ChainId, Event, Record};

use super::ledger::tips;
use super::segment::{Segment, segment_hash};
use super::tree::{Frontier, Hash, leaf};
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// Says that a chain had this root at this size, according to somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// The chain, its size and root.
    pub head: ChainHead,
    /// Who says so, such as `head 812`.
    pub source: String,
}

/// Is what a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many chains there are.
    pub chains: u64,
    /// How many records were read.
    pub records: u64,
    /// The first thing that is wrong in each chain.
    pub findings: Vec<Finding>,
}

/// Says what is wrong with the log, and where first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A record's text isn't what was written.
    Altered {
        /// The chain.
        chain: ChainId,
        /// The record's place.
        number: u64,
    },
    /// A record is gone.
    Removed {
        /// The chain.
        chain: ChainId,
        /// The place where it was.
        number: u64,
    },
    /// A record has been put in.
    Inserted {
        /// The chain.
        chain: ChainId,
        /// Its place.
        number: u64,
    },
    /// Records have changed places.
    Reordered {
        /// The chain.
        chain: ChainId,
        /// The first place that holds another record.
        number: u64,
    },
    /// The end of a chain is gone.
    Truncated {
        /// The chain.
        chain: ChainId,
        /// How many records there are.
        found: u64,
        /// How many there were, and who says so.
        witness: Witness,
    },
    /// The chain is consistent in itself but isn't the one that was witnessed.
    Rewritten {
        /// The chain.
        chain: ChainId,
        /// Records before this place were witnessed as they are.
        from: u64,
        /// Who says otherwise.
        witness: Witness,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered { chain, number } => write!(f, "altered: record {number} of chain {chain}"),
            Self::Removed { chain, number } => write!(f, "removed: record {number} of chain {chain}"),
            Self::Inserted { chain, number } => write!(f, "inserted: record {number} of chain {chain}"),
            Self::Reordered { chain, number } => write!(f, "reordered: record {number} of chain {chain}"),
            Self::Truncated { chain, found, witness } => write!(
                f,
                "truncated: chain {chain} ends before record {found}, but {} saw {} records",
                witness.source, witness.head.size
            ),
            Self::Rewritten { chain, from, witness } => write!(
                f,
                "rewritten: chain {chain} is not what {} saw; the first changed record is one of {from} to {}",
                witness.source,
                witness.head.size.saturating_sub(1)
            ),
        }
    }
}

/// How many segments are read at a time.
const PAGE: i64 = 256;

impl Store {
    /// Checks every record of every chain, and every root that a witness knows.
    pub async fn verify(&self, witnesses: Vec<Witness>) -> Result<Report, StoreError> {
        let mut tx = self.archive().read().await?;
        let mut known = Witnesses::default();
        witnesses.into_iter().for_each(|witness| known.add(witness));
        let chains = chains(&mut tx).await?;
        for chain in &chains {
            for other in named_by(&mut tx, *chain).await? {
                known.add(Witness { head: other, source: format!("the first record of chain {chain}") });
            }
        }
        let mut report = Report { chains: chains.len() as u64, ..Report::default() };
        for chain in &chains {
            let mut walk = Walk::new(*chain, known.0.remove(chain).unwrap_or_default());
            let finding = walk.check(&mut tx).await?;
            report.records += walk.frontier.size();
            report.findings.extend(finding);
        }
        report.findings.extend(known.0.into_iter().filter_map(|(chain, witnesses)| {
            let witness = witnesses.into_values().next_back()?;
            Some(Finding::Truncated { chain, found: 0, witness })
        }));
        Ok(report)
    }

    /// Lists the ends of all chains that no other chain names: what a head has to say.
    pub async fn audit_tips(&self) -> Result<Vec<ChainHead>, StoreError> {
        tips(&mut self.pulse().read().await?).await
    }
}

#[derive(Default)]
struct Witnesses(BTreeMap<ChainId, BTreeMap<(u64, String), Witness>>);

impl Witnesses {
    fn add(&mut self, witness: Witness) {
        let key = (witness.head.size, witness.head.root.clone());
        self.0.entry(witness.head.chain).or_default().entry(key).or_insert(witness);
    }
}

async fn chains(tx: &mut Tx) -> Result<Vec<ChainId>, StoreError> {
    let rows = tx.all("SELECT DISTINCT chain FROM audit_segments ORDER BY chain", values![]).await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Reads what a chain's first record says of the others. A damaged one says nothing here; the walk
/// over its own chain finds it.
async fn named_by(tx: &mut Tx, chain: ChainId) -> Result<Vec<ChainHead>, StoreError> {
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

/// Walks along one chain.
struct Walk {
    chain: ChainId,
    frontier: Frontier,
    previous: Hash,
    witnesses: BTreeMap<(u64, String), Witness>,
    witnessed: u64,
    closed: bool,
}

impl Walk {
    fn new(chain: ChainId, witnesses: BTreeMap<(u64, String), Witness>) -> Self {
        Self {
            chain,
            frontier: Frontier::default(),
            previous: [0; 32],
            witnesses,
            witnessed: 0,
            closed: false,
        }
    }

    async fn check(&mut self, tx: &mut Tx) -> Result<Option<Finding>, StoreError> {
        let mut after: i64 = -1;
        loop {
            let rows = tx
                .all(
                    "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
                      WHERE chain = $1 AND first > $2 ORDER BY first LIMIT $3",
                    values![self.chain.to_string(), after, PAGE],
                )
                .await?;
            if rows.is_empty() {
                return Ok(self.end());
            }
            for row in &rows {
                after = row.get(1)?;
                let finding = match Segment::from_row(row) {
                    Ok(segment) => self.segment(&segment),
                    Err(_) => Some(self.altered(self.frontier.size())),
                };
                if finding.is_some() {
                    return Ok(finding);
                }
            }
        }
    }

    fn segment(&mut self, segment: &Segment) -> Option<Finding> {
        let (chain, expected) = (self.chain, self.frontier.size());
        if segment.first > expected {
            return Some(Finding::Removed { chain, number: expected });
        }
        if segment.first < expected {
            return Some(Finding::Inserted { chain, number: segment.first });
        }
        let leaves: Vec<Hash> = segment.leaves.chunks(32).filter_map(|leaf| leaf.try_into().ok()).collect();
        let lines: Vec<&[u8]> = segment.lines().collect();
        if let Some(finding) = self.compare(&lines, &leaves) {
            return Some(finding);
        }
        for (number, line) in (expected..).zip(&lines) {
            match serde_json::from_slice::<Record>(line) {
                Ok(record) if record.chain == chain && record.number == number => {
                    if self.closed {
                        return Some(Finding::Inserted { chain, number });
                    }
                    self.closed = record.entry.event == Event::ChainClosed;
                }
                Ok(_) => return Some(Finding::Reordered { chain, number }),
                Err(_) => return Some(self.altered(number)),
            }
        }
        for leaf in leaves {
            self.frontier.push(leaf);
            let finding = self.witnesses_at_this_size();
            if finding.is_some() {
                return finding;
            }
        }
        let hash = segment_hash(chain, segment.first, segment.count, &segment.previous, &segment.leaves);
        let sound = segment.count == lines.len() as u64
            && segment.previous == self.previous
            && segment.hash == hash
            && segment.root == self.frontier.root();
        self.previous = hash;
        if sound { None } else { Some(self.altered(expected)) }
    }

    /// Compares the records with the leaves that were written with them, and names the first
    /// difference by what explains it.
    fn compare(&self, lines: &[&[u8]], leaves: &[Hash]) -> Option<Finding> {
        let found: Vec<Hash> = lines.iter().map(|line| leaf(line)).collect();
        let place =
            (0..found.len().max(leaves.len())).find(|place| found.get(*place) != leaves.get(*place))?;
        let (chain, number) = (self.chain, self.frontier.size() + place as u64);
        let here = |hashes: &[Hash], offset: usize| hashes.get(place + offset).copied();
        let moved = |one: &[Hash], other: &[Hash]| {
            here(one, 0).is_some_and(|hash| other.iter().skip(place + 1).any(|later| *later == hash))
        };
        let same_records = {
            let (mut one, mut other) = (found.clone(), leaves.to_vec());
            one.sort_unstable();
            other.sort_unstable();
            one == other
        };
        Some(if same_records {
            Finding::Reordered { chain, number }
        } else if found.len() < leaves.len() && (here(&found, 0).is_none() || moved(&found, leaves)) {
            Finding::Removed { chain, number }
        } else if found.len() > leaves.len() && (here(leaves, 0).is_none() || moved(leaves, &found)) {
            Finding::Inserted { chain, number }
        } else {
            Finding::Altered { chain, number }
        })
    }

    fn witnesses_at_this_size(&mut self) -> Option<Finding> {
        let size = self.frontier.size();
        let mut root = None;
        while let Some(entry) = self.witnesses.first_entry() {
            if entry.key().0 > size {
                break;
            }
            let witness = entry.remove();
            let root = root.get_or_insert_with(|| hex::encode(self.frontier.root()));
            if witness.head.root != *root {
                return Some(Finding::Rewritten { chain: self.chain, from: self.witnessed, witness });
            }
            self.witnessed = size;
        }
        None
    }

    /// Says what is missing after the last record. Zero records were witnessed by nobody.
    fn end(&mut self) -> Option<Finding> {
        let found = self.frontier.size();
        let (_, witness) = self.witnesses.pop_last()?;
        Some(Finding::Truncated { chain: self.chain, found, witness })
    }

    fn altered(&self, number: u64) -> Finding {
        Finding::Altered { chain: self.chain, number }
    }
}
