//! Searching the log: an index names the segments, the segments hold the records. What isn't indexed
//! yet is read whole, so a search writes nothing and misses nothing.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use mcphub_domain::{ChainId, Record, ServerId, Timestamp, ToolName, UserId};

use super::segment::{Segment, signed};
use crate::error::StoreError;
use crate::statement::{Tx, values};
use crate::store::Store;

/// Names the place of a record among all, to go on behind it: its time, chain and number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor {
    at: Timestamp,
    chain: ChainId,
    number: u64,
}

impl Cursor {
    /// Names the place of a record.
    pub const fn of(record: &Record) -> Self {
        Self { at: record.entry.at, chain: record.chain, number: record.number }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.at.as_micros(), self.chain, self.number)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(BadCursor);
        Ok(Self {
            at: Timestamp::from_micros(part()?.parse().map_err(|_| BadCursor)?),
            chain: part()?.parse().map_err(|_| BadCursor)?,
            number: part()?.parse().map_err(|_| BadCursor)?,
        })
    }
}

/// Says that a text names no place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a place in the log: expected what the page before has as its next place")]
pub struct BadCursor;

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
    /// Those that come after this one, the newest first.
    pub after: Option<Cursor>,
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
            && self.after.is_none_or(|last| Cursor::of(record) < last)
    }

    /// Returns the time, in microseconds, that all wanted records are before.
    fn end(&self) -> i64 {
        let before = self.before.map_or(i64::MAX, Timestamp::as_micros);
        before.min(self.after.map_or(i64::MAX, |last| last.at.as_micros().saturating_add(1)))
    }
}

/// How many segments one search reads at a time.
const PAGE: i64 = 32;

impl Store {
    /// Finds records, the newest first: by time, then chain, then number. Nothing that is durable is
    /// missing, however far the index has come.
    pub async fn search(&self, search: &Search) -> Result<Vec<Record>, StoreError> {
        if search.limit == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.archive().read().await?;
        let mut found: Vec<Record> = Vec::new();
        let mut place = Place::NEWEST;
        loop {
            let segments = candidates(&mut tx, search, &place).await?;
            let Some(last) = segments.last() else { return Ok(found) };
            place = Place::of(last)?;
            for segment in segments {
                found.extend(segment.records()?.into_iter().filter(|record| search.matches(record)));
            }
            found.sort_by_key(|record| Reverse(Cursor::of(record)));
            found.truncate(search.limit);
            // No record is later than its segment, so none that is still unread can come before these.
            let oldest = found.last().map_or(i64::MIN, |record| record.entry.at.as_micros());
            if found.len() == search.limit && oldest > place.at {
                return Ok(found);
            }
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
                AND s.at >= $8 AND (
                    s.first >= COALESCE((SELECT d.upto FROM audit_indexed d WHERE d.chain = s.chain), 0)
                    OR EXISTS (
                        SELECT 1 FROM audit_index i WHERE i.chain = s.chain AND i.first = s.first
                           AND ($1 = '' OR i.person = $1) AND ($2 = '' OR i.server = $2)
                           AND ($3 = '' OR i.tool = $3) AND ($4 = '' OR i.outcome = $4) AND i.at < $9))
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
                search.end(),
                PAGE,
            ],
        )
        .await?;
    rows.iter().map(Segment::from_row).collect()
}
