//! The index of the log: for each segment, whom and what its records are about. It can be rebuilt from
//! the segments at any time; a search reads whole what isn't indexed yet.
//!
//! What this process wrote is indexed from memory (`fresh`), everything else from the segments.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::audit::Entry;
use mcphub_domain::{ChainId, Record, ServerId, Timestamp, ToolName, UserId};

use super::finding::Notice;
use super::fresh::Contents;
use super::segment::{Segment, signed, unsigned};
use super::verify::chains;
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// How many segments become one transaction: on SQLite the log waits for it.
const BATCH: i64 = 32;

impl Store {
    /// Adds what the index lacks, chain by chain, batch by batch. What is written meanwhile may be left for the next
    /// time: else this never ended where somebody writes all the time.
    pub async fn index_audit(&self) -> Result<(), StoreError> {
        self.index_fresh().await?;
        let mut done = String::new();
        while let Some(behind) = self.not_indexed(&done).await? {
            if behind.segments.len() < BATCH as usize {
                done = behind.chain.to_string();
            }
            self.enter(behind).await?;
        }
        Ok(())
    }

    /// Adds what this process wrote since the last time, as far as it follows on what is indexed.
    async fn index_fresh(&self) -> Result<(), StoreError> {
        let fresh = self.ledger().fresh().take();
        if fresh.is_empty() {
            return Ok(());
        }
        let chain = self.ledger().id();
        let mut upto = indexed_upto(&mut self.archive().read().await?, chain).await?;
        let fresh = following(upto, fresh);
        for segments in fresh.chunks(BATCH as usize) {
            let behind = Behind { chain, from: signed(upto)?, segments: segments.to_vec() };
            upto = segments.last().map_or(upto, |last| last.end);
            self.enter(behind).await?;
        }
        Ok(())
    }

    /// Writes what the index lacks, and how far it is then.
    async fn enter(&self, behind: Behind) -> Result<(), StoreError> {
        let mut tx = self.archive().write().await?;
        enter_rows(&mut tx, behind.chain, &behind.segments).await?;
        behind.mark(&mut tx).await?;
        tx.commit().await
    }

    /// Makes the index anew from the segments. Searches miss nothing meanwhile: what isn't indexed is
    /// read whole. Returns how many chains there are.
    pub async fn reindex_audit(&self) -> Result<u64, StoreError> {
        let known = {
            let mut tx = self.archive().read().await?;
            let rows = tx
                .all(
                    "SELECT chain FROM audit_indexed UNION SELECT DISTINCT chain FROM audit_index ORDER BY chain",
                    values![],
                )
                .await?;
            rows.iter().map(|row| row.get(0)).collect::<Result<Vec<String>, _>>()?
        };
        for chain in known {
            let mut tx = self.archive().write().await?;
            tx.execute("DELETE FROM audit_indexed WHERE chain = $1", values![chain.as_str()]).await?;
            tx.execute("DELETE FROM audit_index WHERE chain = $1", values![chain]).await?;
            tx.commit().await?;
        }
        self.index_audit().await?;
        Ok(chains(&mut self.archive().read().await?).await?.len() as u64)
    }

    /// Reads the next segments that the index lacks, all of one of the chains that come after `done`.
    async fn not_indexed(&self, done: &str) -> Result<Option<Behind>, StoreError> {
        let rows = self
            .archive()
            .read()
            .await?
            .all(
                "WITH RECURSIVE chains (chain) AS (
                    SELECT MIN(chain) FROM audit_segments WHERE chain > $1 UNION ALL
                    SELECT (SELECT MIN(s.chain) FROM audit_segments s WHERE s.chain > c.chain)
                      FROM chains c WHERE c.chain IS NOT NULL)
                 SELECT s.chain, s.first, s.count, s.body, s.leaves, s.previous, s.hash, s.root, s.at,
                        COALESCE(i.upto, 0)
                   FROM chains c LEFT JOIN audit_indexed i ON i.chain = c.chain
                   JOIN audit_segments s ON s.chain = c.chain AND s.first >= COALESCE(i.upto, 0)
                  ORDER BY s.chain, s.first LIMIT $2",
                values![done, BATCH],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (chain, from): (ChainId, i64) = (row.parse(0)?, row.get(9)?);
        let segments = rows.iter().map(Segment::from_row).collect::<Result<Vec<_>, _>>()?;
        let of_chain = segments.iter().take_while(|segment| segment.chain == chain);
        Ok(Some(Behind { chain, from, segments: of_chain.map(contents).collect() }))
    }
}

/// Is what the index lacks of one chain.
struct Behind {
    chain: ChainId,
    /// Up to where the chain was indexed when this was read.
    from: i64,
    segments: Vec<Contents>,
}

impl Behind {
    /// Notes how far the chain is indexed, if nobody else has moved the mark: it stands behind what is
    /// indexed without a gap, also while somebody makes the index anew.
    async fn mark(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let Some(last) = self.segments.last() else { return Ok(()) };
        let (chain, upto) = (self.chain.to_string(), signed(last.end)?);
        if self.from == 0 {
            tx.execute(
                "INSERT INTO audit_indexed (chain, upto) VALUES ($1, 0) ON CONFLICT DO NOTHING",
                values![chain.as_str()],
            )
            .await?;
        }
        tx.execute(
            "UPDATE audit_indexed SET upto = $3 WHERE chain = $1 AND upto = $2",
            values![chain, self.from, upto],
        )
        .await?;
        Ok(())
    }
}

/// Finds the first of some segments, all of one chain, of which the index says what isn't so.
pub(super) async fn difference(
    tx: &mut Tx,
    chain: ChainId,
    segments: &[Segment],
) -> Result<Option<Notice>, StoreError> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(None) };
    let upto = indexed_upto(tx, chain).await?;
    let rows = tx
        .all(
            "SELECT first, person, server, tool, outcome, at FROM audit_index
              WHERE chain = $1 AND first BETWEEN $2 AND $3",
            values![chain.to_string(), signed(first.first)?, signed(last.first)?],
        )
        .await?;
    let mut found: BTreeMap<u64, BTreeSet<Said>> = BTreeMap::new();
    for row in &rows {
        let said = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        found.entry(unsigned(row.get(0)?)?).or_default().insert(said);
    }
    let differs = |segment: &&Segment| {
        let said = found.get(&segment.first).cloned().unwrap_or_default();
        said != contents(segment).rows && (segment.first < upto || !said.is_empty())
    };
    let number = segments.iter().find(differs).map(|segment| segment.first);
    Ok(number.map(|number| Notice::IndexDiffers { chain, number }))
}

/// Picks the segments that follow on a number, and on each other, without a gap.
fn following(upto: u64, segments: Vec<Contents>) -> Vec<Contents> {
    let mut next = upto;
    let mut follow = Vec::new();
    for contents in segments {
        if contents.first == next {
            next = contents.end;
            follow.push(contents);
        }
    }
    follow
}

/// Says up to where a chain is indexed.
async fn indexed_upto(tx: &mut Tx, chain: ChainId) -> Result<u64, StoreError> {
    let row = tx.one("SELECT upto FROM audit_indexed WHERE chain = $1", values![chain.to_string()]).await?;
    unsigned(row.map_or(Ok(0), |row| row.get(0))?)
}

/// Is one row of the index: a person, a server, a tool, an outcome, and the time of the earliest record
/// that is about them.
pub(super) type Said = (String, String, String, String, i64);

/// How many rows one statement writes.
const ROWS: usize = 8;

/// Writes the rows of segments, several with each statement: its text is fixed, so that what is missing of the
/// last one is its last row again, which is there already.
async fn enter_rows(tx: &mut Tx, chain: ChainId, segments: &[Contents]) -> Result<(), StoreError> {
    let rows = segments.iter().flat_map(|contents| contents.rows.iter().map(|row| (contents.first, row)));
    let rows: Vec<(u64, &Said)> = rows.collect();
    for some in rows.chunks(ROWS) {
        let Some(last) = some.last() else { continue };
        let mut parameters = values![chain.to_string()];
        for (first, row) in some.iter().chain(std::iter::repeat(last)).take(ROWS) {
            let (person, server, tool, outcome, at) = (*row).clone();
            parameters.extend(values![signed(*first)?, person, server, tool, outcome, at]);
        }
        tx.execute(
            "INSERT INTO audit_index (chain, first, person, server, tool, outcome, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7), ($1, $8, $9, $10, $11, $12, $13),
                    ($1, $14, $15, $16, $17, $18, $19), ($1, $20, $21, $22, $23, $24, $25),
                    ($1, $26, $27, $28, $29, $30, $31), ($1, $32, $33, $34, $35, $36, $37),
                    ($1, $38, $39, $40, $41, $42, $43), ($1, $44, $45, $46, $47, $48, $49)
             ON CONFLICT DO NOTHING",
            parameters,
        )
        .await?;
    }
    Ok(())
}

/// Reads what a segment holds. A record that is damaged says nothing: it must not keep the others from
/// being found, and `verify` finds it.
fn contents(segment: &Segment) -> Contents {
    let records = segment.lines().filter_map(|line| serde_json::from_slice::<Record>(line).ok());
    let entries: Vec<Entry> = records.map(|record| record.entry).collect();
    Contents { first: segment.first, end: segment.first + segment.count.max(1), rows: said(&entries) }
}

/// Lists the rows that records have in the index.
pub(super) fn said(entries: &[Entry]) -> BTreeSet<Said> {
    let mut earliest: BTreeMap<Subject<'_>, Timestamp> = BTreeMap::new();
    for entry in entries {
        let event = &entry.event;
        let mut note = |person| {
            let subject = (person, event.server(), event.tool(), event.outcome());
            let first = earliest.entry(subject).or_insert(entry.at);
            *first = entry.at.min(*first);
        };
        note(entry.actor.user());
        if let Some(subject) = event.subject() {
            note(Some(subject));
        }
    }
    earliest.into_iter().map(row).collect()
}

/// Is whom and what a record is about.
type Subject<'a> = (Option<UserId>, Option<ServerId>, Option<&'a ToolName>, &'static str);

fn row(((person, server, tool, outcome), at): (Subject<'_>, Timestamp)) -> Said {
    let text = |value: Option<String>| value.unwrap_or_default();
    (
        text(person.map(|id| id.to_string())),
        text(server.map(|id| id.to_string())),
        text(tool.map(ToString::to_string)),
        outcome.to_owned(),
        at.as_micros(),
    )
}

#[cfg(test)]
mod tests {
    use super::{Contents, following};

    #[test]
    fn only_what_follows_without_a_gap_is_indexed_from_memory() {
        let contents = |(first, end)| Contents { first, end, rows: [].into() };
        let follow = |upto, segments: &[(u64, u64)]| {
            let followed = following(upto, segments.iter().copied().map(contents).collect());
            followed.iter().map(|contents| contents.first).collect::<Vec<_>>()
        };
        assert_eq!(follow(0, &[(0, 2), (2, 3), (3, 9)]), [0, 2, 3]);
        assert_eq!(follow(2, &[(0, 2), (2, 3), (3, 9)]), [2, 3]);
        assert_eq!(follow(0, &[(0, 2), (3, 9)]), [0]);
        assert_eq!(follow(1, &[(2, 3), (3, 9)]), [0; 0]);
        assert_eq!(follow(1, &[(0, 2), (2, 3)]), [0; 0]);
    }
}
