//! The index of the log: for each segment, whom and what its records are about. It can be rebuilt from
//! the segments at any time; a search reads whole what isn't indexed yet.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::{ChainId, Record, Timestamp};

use super::finding::Notice;
use super::segment::{Segment, signed, unsigned};
use super::verify::chains;
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// How many segments become one transaction: on SQLite the log waits for it.
const BATCH: i64 = 32;

impl Store {
    /// Adds what the index lacks, batch by batch.
    pub async fn index_audit(&self) -> Result<(), StoreError> {
        while let Some(behind) = self.not_indexed().await? {
            let mut tx = self.archive().write().await?;
            for segment in &behind.segments {
                index_segment(&mut tx, segment).await?;
            }
            behind.mark(&mut tx).await?;
            tx.commit().await?;
        }
        Ok(())
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

    /// Reads the next segments, all of one chain, that the index lacks.
    async fn not_indexed(&self) -> Result<Option<Behind>, StoreError> {
        let rows = self
            .archive()
            .read()
            .await?
            .all(
                "WITH RECURSIVE chains (chain) AS (
                    SELECT MIN(chain) FROM audit_segments UNION ALL
                    SELECT (SELECT MIN(s.chain) FROM audit_segments s WHERE s.chain > c.chain)
                      FROM chains c WHERE c.chain IS NOT NULL)
                 SELECT s.chain, s.first, s.count, s.body, s.leaves, s.previous, s.hash, s.root, s.at,
                        COALESCE(i.upto, 0)
                   FROM chains c LEFT JOIN audit_indexed i ON i.chain = c.chain
                   JOIN audit_segments s ON s.chain = c.chain AND s.first >= COALESCE(i.upto, 0)
                  ORDER BY s.chain, s.first LIMIT $1",
                values![BATCH],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (chain, from): (ChainId, i64) = (row.parse(0)?, row.get(9)?);
        let segments = rows.iter().map(Segment::from_row).collect::<Result<Vec<_>, _>>()?;
        let segments: Vec<_> = segments.into_iter().take_while(|segment| segment.chain == chain).collect();
        Ok(Some(Behind { chain, from, segments }))
    }
}

/// Is what the index lacks of one chain.
struct Behind {
    chain: ChainId,
    /// Up to where the chain was indexed when this was read.
    from: i64,
    segments: Vec<Segment>,
}

impl Behind {
    /// Notes how far the chain is indexed, if nobody else has moved the mark: it stands behind what is
    /// indexed without a gap, also while somebody makes the index anew.
    async fn mark(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let Some(last) = self.segments.last() else { return Ok(()) };
        let (chain, upto) = (self.chain.to_string(), signed(last.first + last.count.max(1))?);
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
    let upto = tx.one("SELECT upto FROM audit_indexed WHERE chain = $1", values![chain.to_string()]).await?;
    let upto = unsigned(upto.map_or(Ok(0), |row| row.get(0))?)?;
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
        said != says(segment) && (segment.first < upto || !said.is_empty())
    };
    let number = segments.iter().find(differs).map(|segment| segment.first);
    Ok(number.map(|number| Notice::IndexDiffers { chain, number }))
}

/// Is one row of the index: a person, a server, a tool, an outcome and a time.
type Said = (String, String, String, String, i64);

/// Lists the rows that a segment has in the index.
fn says(segment: &Segment) -> BTreeSet<Said> {
    let row = |((person, (server, tool, outcome)), at)| (person, server, tool, str::to_owned(outcome), at);
    keys(segment).into_iter().map(row).collect()
}

/// Writes a segment's rows.
async fn index_segment(tx: &mut Tx, segment: &Segment) -> Result<(), StoreError> {
    let (chain, first) = (segment.chain.to_string(), signed(segment.first)?);
    for ((person, (server, tool, outcome)), at) in keys(segment) {
        tx.execute(
            "INSERT INTO audit_index (chain, first, person, server, tool, outcome, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            values![chain.as_str(), first, person, server, tool, outcome, at],
        )
        .await?;
    }
    Ok(())
}

/// Is a person, a server, a tool and an outcome.
type Key = (String, (String, String, &'static str));

/// Lists the distinct keys of a segment's records, each with the time of the earliest. A record that
/// is damaged has none: it must not keep the others from being found, and `verify` finds it.
fn keys(segment: &Segment) -> BTreeMap<Key, i64> {
    let mut keys = BTreeMap::new();
    let mut note = |key, at: Timestamp| {
        keys.entry(key).and_modify(|first| *first = at.as_micros().min(*first)).or_insert(at.as_micros());
    };
    for record in segment.lines().filter_map(|line| serde_json::from_slice::<Record>(line).ok()) {
        let event = &record.entry.event;
        let text = |value: Option<String>| value.unwrap_or_default();
        let rest = (
            text(event.server().map(|id| id.to_string())),
            text(event.tool().map(ToString::to_string)),
            event.outcome(),
        );
        note((text(record.entry.actor.user().map(|id| id.to_string())), rest.clone()), record.entry.at);
        if let Some(subject) = event.subject() {
            note((subject.to_string(), rest), record.entry.at);
        }
    }
    keys
}
