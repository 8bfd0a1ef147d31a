//! The walk along one chain, from its first record to its last.

use std::collections::BTreeMap;
use std::time::Duration;

use mcphub_domain::{ChainId, Event, Record, Timestamp};

use super::finding::{Finding, Notice, Report, Source, Witness};
use super::index;
use super::segment::{Segment, segment_hash, signed};
use super::tree::{Frontier, Hash, leaf};
use crate::error::StoreError;
use crate::statement::{Row, Tx, values};

/// How many segments are read at a time.
const PAGE: i64 = 256;
/// By how much records may be out of the order of their times: they come from many tasks.
const TOLERANCE: Duration = Duration::from_secs(60);

/// Walks along one chain.
pub(super) struct Walk {
    chain: ChainId,
    frontier: Frontier,
    previous: Hash,
    at: Timestamp,
    witnesses: BTreeMap<(u64, String), Witness>,
    witnessed: u64,
    closed: bool,
    set_back: Option<Notice>,
    index: Option<Notice>,
}

/// Is why a walk ends early.
enum Fault {
    Certain(Finding),
    /// Another record stands where this one should: it may stand elsewhere.
    Displaced {
        number: u64,
        otherwise: Finding,
    },
}

impl From<Finding> for Fault {
    fn from(finding: Finding) -> Self {
        Self::Certain(finding)
    }
}

impl Walk {
    pub(super) fn new(chain: ChainId, witnesses: BTreeMap<(u64, String), Witness>) -> Self {
        Self {
            chain,
            frontier: Frontier::default(),
            previous: [0; 32],
            at: Timestamp::from_micros(i64::MIN),
            witnesses,
            witnessed: 0,
            closed: false,
            set_back: None,
            index: None,
        }
    }

    /// Checks the chain and adds what is found, and how much was read, to the report.
    pub(super) async fn check(mut self, tx: &mut Tx, report: &mut Report) -> Result<(), StoreError> {
        let finding = match self.walk(tx).await? {
            Some(Fault::Certain(finding)) => Some(finding),
            Some(Fault::Displaced { number, otherwise }) => {
                Some(match self.is_further_on(tx, number).await? {
                    true => Finding::Reordered { chain: self.chain, number },
                    false => otherwise,
                })
            }
            None => self.end(),
        };
        report.records += self.frontier.size();
        if finding.is_none() {
            report.unwitnessed += self.frontier.size() - self.witnessed;
        }
        report.findings.extend(finding);
        report.notices.extend(self.set_back.into_iter().chain(self.index));
        Ok(())
    }

    async fn walk(&mut self, tx: &mut Tx) -> Result<Option<Fault>, StoreError> {
        let mut after: i64 = -1;
        loop {
            let rows = page(tx, self.chain, after).await?;
            let Some(last) = rows.last() else { return Ok(None) };
            let upto: i64 = last.get(1)?;
            let mut sound = Vec::new();
            for row in &rows {
                let Ok(segment) = Segment::from_row(row) else {
                    return Ok(Some(self.altered(self.frontier.size()).into()));
                };
                if let Err(fault) = self.segment(&segment) {
                    return Ok(Some(fault));
                }
                sound.push(segment);
            }
            if self.index.is_none() {
                self.index = index::difference(tx, self.chain, &sound).await?;
            }
            after = upto;
        }
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), Fault> {
        let (chain, expected) = (self.chain, self.frontier.size());
        if segment.first > expected {
            return Err(Finding::Removed { chain, number: expected }.into());
        }
        if segment.first < expected {
            return Err(Finding::Inserted { chain, number: segment.first }.into());
        }
        let leaves: Vec<Hash> = segment.leaves.chunks(32).filter_map(|leaf| leaf.try_into().ok()).collect();
        let lines: Vec<&[u8]> = segment.lines().collect();
        self.compare(&lines, &leaves)?;
        let at = self.records(&lines)?;
        for leaf in leaves {
            self.frontier.push(leaf);
            self.witnesses_at_this_size()?;
        }
        self.link(segment, (expected, lines.len() as u64), at)
    }

    /// Checks that every record says of itself that it belongs where it stands, and returns the time
    /// that their segment must have.
    fn records(&mut self, lines: &[&[u8]]) -> Result<Timestamp, Fault> {
        let (chain, mut at) = (self.chain, self.at);
        for (number, line) in (self.frontier.size()..).zip(lines) {
            let Ok(record) = serde_json::from_slice::<Record>(line) else {
                return Err(self.altered(number).into());
            };
            if record.chain != chain || record.number < number {
                return Err(Finding::Inserted { chain, number }.into());
            }
            if record.number > number {
                return Err(Fault::Displaced { number, otherwise: Finding::Removed { chain, number } });
            }
            if self.closed {
                return Err(Finding::Inserted { chain, number }.into());
            }
            self.closed = record.entry.event == Event::ChainClosed;
            let by = at.since(record.entry.at);
            if by > TOLERANCE && at.as_micros() != i64::MIN && self.set_back.is_none() {
                self.set_back = Some(Notice::ClockSetBack { chain, number, by });
            }
            at = at.max(record.entry.at);
        }
        Ok(at)
    }

    /// Checks what joins a segment to the one before it.
    fn link(&mut self, segment: &Segment, (first, count): (u64, u64), at: Timestamp) -> Result<(), Fault> {
        let hash = segment_hash(self.chain, segment.first, segment.count, &segment.previous, &segment.leaves);
        let sound = segment.count == count
            && segment.previous == self.previous
            && segment.hash == hash
            && segment.root == self.frontier.root()
            && segment.at <= at;
        if !sound {
            return Err(self.altered(first).into());
        }
        if segment.at < at {
            return Err(Finding::ClockRegress { chain: self.chain, number: first }.into());
        }
        (self.previous, self.at) = (hash, at);
        Ok(())
    }

    /// Compares the records with the leaves that were written with them, and names the first
    /// difference by what explains it.
    fn compare(&self, lines: &[&[u8]], leaves: &[Hash]) -> Result<(), Fault> {
        let found: Vec<Hash> = lines.iter().map(|line| leaf(line)).collect();
        let differs = |place: &usize| found.get(*place) != leaves.get(*place);
        let Some(place) = (0..found.len().max(leaves.len())).find(differs) else { return Ok(()) };
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
        let is_another = lines.get(place).is_some_and(|line| is_another_record(line, chain, number));
        Err(if same_records {
            Finding::Reordered { chain, number }.into()
        } else if found.len() < leaves.len() && (here(&found, 0).is_none() || moved(&found, leaves)) {
            Finding::Removed { chain, number }.into()
        } else if found.len() > leaves.len() && (here(leaves, 0).is_none() || moved(leaves, &found)) {
            Finding::Inserted { chain, number }.into()
        } else if is_another {
            Fault::Displaced { number, otherwise: Finding::Altered { chain, number } }
        } else {
            Finding::Altered { chain, number }.into()
        })
    }

    fn witnesses_at_this_size(&mut self) -> Result<(), Fault> {
        let size = self.frontier.size();
        let mut here = Vec::new();
        while let Some(entry) = self.witnesses.first_entry() {
            if entry.key().0 > size {
                break;
            }
            here.push(entry.remove());
        }
        if here.is_empty() {
            return Ok(());
        }
        let root = hex::encode(self.frontier.root());
        let (chain, from) = (self.chain, self.witnessed);
        let mut heads = here.iter().filter(|witness| matches!(witness.source, Source::Head(_)));
        if let (Some(one), Some(other)) = (heads.next(), heads.next()) {
            let (one, other) = (Box::new(one.clone()), Box::new(other.clone()));
            return Err(Finding::Forked { chain, from, one, other }.into());
        }
        if let Some(witness) = here.into_iter().find(|witness| witness.head.root != root) {
            return Err(Finding::Rewritten { chain, from, witness }.into());
        }
        self.witnessed = size;
        Ok(())
    }

    /// Says what is missing after the last record. Zero records were witnessed by nobody.
    fn end(&mut self) -> Option<Finding> {
        let found = self.frontier.size();
        let (_, witness) = self.witnesses.pop_last()?;
        Some(Finding::Truncated { chain: self.chain, found, witness })
    }

    /// Looks for a record behind its place.
    async fn is_further_on(&self, tx: &mut Tx, number: u64) -> Result<bool, StoreError> {
        let mut after = signed(self.frontier.size())? - 1;
        loop {
            let rows = page(tx, self.chain, after).await?;
            let Some(last) = rows.last() else { return Ok(false) };
            after = last.get(1)?;
            for segment in rows.iter().filter_map(|row| Segment::from_row(row).ok()) {
                let is_it = |record: Record| record.chain == self.chain && record.number == number;
                if segment.lines().any(|line| serde_json::from_slice(line).is_ok_and(is_it)) {
                    return Ok(true);
                }
            }
        }
    }

    fn altered(&self, number: u64) -> Finding {
        Finding::Altered { chain: self.chain, number }
    }
}

/// Says whether a line is a record of the chain that belongs to another place.
fn is_another_record(line: &[u8], chain: ChainId, number: u64) -> bool {
    serde_json::from_slice::<Record>(line)
        .is_ok_and(|record| record.chain == chain && record.number != number)
}

/// Reads the next segments of a chain.
pub(super) async fn page(tx: &mut Tx, chain: ChainId, after: i64) -> Result<Vec<Row>, StoreError> {
    tx.all(
        "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
          WHERE chain = $1 AND first > $2 ORDER BY first LIMIT $3",
        values![chain.to_string(), after, PAGE],
    )
    .await
}
