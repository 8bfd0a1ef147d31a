//! The index of the log: for each segment, whom and what its records are about. It can be rebuilt from
//! the segments at any time; a search reads whole what isn't indexed yet.

use std::collections::BTreeMap;

use mcphub_domain::{ChainId, Record, Timestamp};

use super::segment::{Segment, signed};
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// How many segments become one transaction: on SQLite the log waits for it.
const BATCH: i64 = 32;

impl Store {
    /// Adds what the index lacks, batch by batch.
    pub async fn index_audit(&self) -> Result<(), StoreError> {
        loop {
            let behind = self.not_indexed().await?;
            if behind.is_empty() {
                return Ok(());
            }
            let mut tx = self.archive().write().await?;
            for segment in &behind {
                index_segment(&mut tx, segment).await?;
            }
            tx.commit().await?;
        }
    }

    async fn not_indexed(&self) -> Result<Vec<Segment>, StoreError> {
        let rows = self
            .archive()
            .read()
            .await?
            .all(
                "WITH RECURSIVE chains (chain) AS (
                    SELECT MIN(chain) FROM audit_segments UNION ALL
                    SELECT (SELECT MIN(s.chain) FROM audit_segments s WHERE s.chain > c.chain)
                      FROM chains c WHERE c.chain IS NOT NULL)
                 SELECT s.chain, s.first, s.count, s.body, s.leaves, s.previous, s.hash, s.root, s.at
                   FROM chains c LEFT JOIN audit_indexed i ON i.chain = c.chain
                   JOIN audit_segments s ON s.chain = c.chain AND s.first >= COALESCE(i.upto, 0)
                  ORDER BY s.chain, s.first LIMIT $1",
                values![BATCH],
            )
            .await?;
        rows.iter().map(Segment::from_row).collect()
    }
}

/// Writes a segment's rows and the mark behind it.
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
    mark(tx, segment.chain, segment.first + segment.count).await
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

/// Notes how far a chain is indexed; who is slower than another doesn't set it back.
async fn mark(tx: &mut Tx, chain: ChainId, upto: u64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO audit_indexed (chain, upto) VALUES ($1, $2)
         ON CONFLICT (chain) DO UPDATE SET upto = excluded.upto WHERE audit_indexed.upto < excluded.upto",
        values![chain.to_string(), signed(upto)?],
    )
    .await?;
    Ok(())
}
