//! Searching the log: an index names the segments, the segments hold the records.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use mcphub_domain::{ChainId, Record, ServerId, Timestamp, ToolName, UserId};

use super::segment::{Segment, signed, unsigned};
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// Says which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Those of, or about, this person.
    pub person: Option<UserId>,
    /// Those about this server.
    pub server: Option<ServerId>,
    /// Those about this tool.
    pub tool: Option<ToolName>,
    /// Those with this outcome.
    pub outcome: Option<String>,
    /// Those before this time.
    pub before: Option<Timestamp>,
    /// Those from this time on.
    pub from: Option<Timestamp>,
    /// At most so many, the newest first.
    pub limit: usize,
}

impl Search {
    fn matches(&self, record: &Record) -> bool {
        let entry = &record.entry;
        let about = |person| entry.actor.user() == Some(person) || entry.event.subject() == Some(person);
        self.person.is_none_or(about)
            && self.server.is_none_or(|server| entry.event.server() == Some(server))
            && self.tool.as_ref().is_none_or(|tool| entry.event.tool() == Some(tool))
            && self.outcome.as_ref().is_none_or(|outcome| entry.event.outcome() == outcome)
            && self.before.is_none_or(|end| entry.at < end)
            && self.from.is_none_or(|start| entry.at >= start)
    }
}

/// How many segments one search reads at a time.
const PAGE: i64 = 64;

impl Store {
    /// Finds records, the newest first. The index is brought up to date before, so that nothing that
    /// is durable is missing.
    pub async fn search(&self, search: &Search) -> Result<Vec<Record>, StoreError> {
        if search.limit == 0 {
            return Ok(Vec::new());
        }
        self.index_audit().await?;
        let mut tx = self.worker().read().await?;
        let mut found: Vec<Record> = Vec::new();
        let mut place = Place::NEWEST;
        loop {
            let segments = candidates(&mut tx, search, &place).await?;
            let Some(last) = segments.last() else { return Ok(found) };
            place = Place::of(last)?;
            for segment in segments {
                found.extend(segment.records()?.into_iter().filter(|record| search.matches(record)));
            }
            found.sort_by_key(|record| Reverse((record.entry.at, record.number)));
            found.truncate(search.limit);
            // No record is later than its segment, so none that is still unread can be newer.
            let oldest = found.last().map_or(i64::MIN, |record| record.entry.at.as_micros());
            if found.len() == search.limit && oldest >= place.at {
                return Ok(found);
            }
        }
    }

    /// Adds what the index lacks; a segment's rows and its mark are one transaction.
    pub async fn index_audit(&self) -> Result<(), StoreError> {
        loop {
            let mut tx = self.worker().read().await?;
            let behind = tx.all(
                "WITH RECURSIVE chains (chain) AS (
                    SELECT MIN(chain) FROM audit_segments UNION ALL
                    SELECT (SELECT MIN(s.chain) FROM audit_segments s WHERE s.chain > c.chain)
                      FROM chains c WHERE c.chain IS NOT NULL)
                 SELECT s.chain, s.first, s.count, s.body, s.leaves, s.previous, s.hash, s.root, s.at
                   FROM chains c LEFT JOIN audit_indexed i ON i.chain = c.chain
                   JOIN audit_segments s ON s.chain = c.chain AND s.first >= COALESCE(i.upto, 0)
                  ORDER BY s.chain, s.first LIMIT 256",
                values![],
            );
            let rows = behind.await?;
            drop(tx);
            if rows.is_empty() {
                return Ok(());
            }
            let mut tx = self.worker().write().await?;
            for row in &rows {
                index_segment(&mut tx, &Segment::from_row(row)?).await?;
            }
            tx.commit().await?;
        }
    }
}

/// Is how far a search has come: segments are read from the newest on.
struct Place {
    at: i64,
    chain: String,
    first: i64,
}

impl Place {
    const NEWEST: Self = Self { at: i64::MAX, chain: String::new(), first: i64::MAX };

    fn of(segment: &Segment) -> Result<Self, StoreError> {
        let (at, first) = (segment.at.as_micros(), signed(segment.first)?);
        Ok(Self { at, chain: segment.chain.to_string(), first })
    }
}

async fn candidates(tx: &mut Tx, search: &Search, after: &Place) -> Result<Vec<Segment>, StoreError> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let rows = tx
        .all(
            "SELECT s.chain, s.first, s.count, s.body, s.leaves, s.previous, s.hash, s.root, s.at
               FROM audit_segments s
              WHERE s.at <= $5 AND (s.at < $5 OR s.chain > $6 OR (s.chain = $6 AND s.first < $7))
                AND s.at >= $8 AND EXISTS (
                    SELECT 1 FROM audit_index i WHERE i.chain = s.chain AND i.first = s.first
                       AND ($1 = '' OR i.person = $1) AND ($2 = '' OR i.server = $2)
                       AND ($3 = '' OR i.tool = $3) AND ($4 = '' OR i.outcome = $4) AND i.at < $9)
              ORDER BY s.at DESC, s.chain, s.first DESC LIMIT $10",
            values![
                text(search.person.map(|id| id.to_string())),
                text(search.server.map(|id| id.to_string())),
                text(search.tool.as_ref().map(ToString::to_string)),
                text(search.outcome.clone()),
                after.at,
                after.chain.as_str(),
                after.first,
                search.from.map_or(i64::MIN, Timestamp::as_micros),
                search.before.map_or(i64::MAX, Timestamp::as_micros),
                PAGE,
            ],
        )
        .await?;
    rows.iter().map(Segment::from_row).collect()
}

async fn index_segment(tx: &mut Tx, segment: &Segment) -> Result<(), StoreError> {
    let mut keys = BTreeMap::<_, i64>::new();
    let mut note = |key, at: Timestamp| {
        keys.entry(key).and_modify(|first| *first = at.as_micros().min(*first)).or_insert(at.as_micros());
    };
    for record in segment.records()? {
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
    let (chain, first) = (segment.chain.to_string(), signed(segment.first)?);
    for ((person, (server, tool, outcome)), at) in keys {
        tx.execute(
            "INSERT INTO audit_index (chain, first, person, server, tool, outcome, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            values![chain.as_str(), first, person, server, tool, outcome, at],
        )
        .await?;
    }
    mark(tx, segment.chain, segment.first + segment.count).await
}

async fn mark(tx: &mut Tx, chain: ChainId, upto: u64) -> Result<(), StoreError> {
    let row = tx
        .one(
            "INSERT INTO audit_indexed (chain, upto) VALUES ($1, $2)
             ON CONFLICT (chain) DO UPDATE SET upto = excluded.upto RETURNING upto",
            values![chain.to_string(), signed(upto)?],
        )
        .await?
        .ok_or_else(|| StoreError::missing("the mark of the search index"))?;
    unsigned(row.get(0)?).map(|_| ())
}
