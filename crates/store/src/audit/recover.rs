//! What others do about a process that was killed: its open intents are closed as `unknown`.
//!
//! Its segments are read in pages, without a lock; only what is still open is kept. Then one
//! transaction claims the chain, if its mark still is the one that the looks saw, and writes the outcomes.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::{Actor, ChainId, Event, Record, RequestId, ServerId, Timestamp};

use super::segment::Segment;
use crate::error::StoreError;
use crate::silence::Mark;
use crate::statement::{Row, Tx, values};
use crate::store::Store;

/// No call lasts longer than this, so no intent older than it before a chain's end is open.
const LONGEST_CALL: Duration = Duration::from_secs(12 * 3600);
/// How many segments are read at a time.
const PAGE: i64 = 16;

/// Is what a dead process left open.
#[derive(Default)]
struct Remains {
    /// A request may ask several servers, and one of them several times.
    open: HashMap<Thread, Vec<Entry>>,
    /// The first record after those that were read.
    end: i64,
}

/// Is what an intent and its outcome have in common: the request, the server, and the tool or the method.
type Thread = (RequestId, Option<ServerId>, String);

fn subject(event: &Event) -> &str {
    match event {
        Event::CallIntent { tool, .. } | Event::CallOutcome { tool, .. } => tool.as_str(),
        Event::AskIntent { method, .. } | Event::AskOutcome { method, .. } => method,
        _ => "",
    }
}

impl Store {
    /// Closes, as unknown, what killed processes left open. Returns how many calls that were. Each time is one look at who
    /// lives: it is for once a second.
    ///
    /// Where nobody died, this is one short read.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        let mut closed = 0;
        for dead in self.silence().look(self.others().await?) {
            let remains = self.remains(dead).await?;
            closed += self.close_intents(dead, remains).await?;
        }
        Ok(closed)
    }

    /// Lists the others whose chain hasn't ended, with the mark that each left last. Who was taken for dead and has written
    /// since is one of them, even if it died before it could tell that it lives.
    async fn others(&self) -> Result<Vec<(ChainId, Mark)>, StoreError> {
        let mut tx = self.pulse().read().await?;
        let rows = tx
            .all(
                "SELECT chain, seen_at,
                        COALESCE((SELECT MAX(s.first) FROM audit_segments s WHERE s.chain = n.chain), -1)
                   FROM nodes n
                  WHERE chain <> $1
                    AND (state = 'open'
                         OR state = 'recovered'
                            AND EXISTS (SELECT 1 FROM audit_segments s
                                         WHERE s.chain = n.chain AND s.first >= n.closed_before))
                  ORDER BY chain",
                values![self.ledger().id().to_string()],
            )
            .await?;
        rows.iter().map(|row| Ok((row.parse(0)?, Mark { told: row.get(1)?, wrote: row.get(2)? }))).collect()
    }

    /// Reads the end of a chain as far as the looks saw it, page by page, each in a transaction of its own.
    async fn remains(&self, (chain, mark): (ChainId, Mark)) -> Result<Remains, StoreError> {
        let mut remains = Remains { end: self.first_worth_reading(chain).await?, ..Remains::default() };
        loop {
            let rows = self
                .archive()
                .read()
                .await?
                .all(
                    "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
                      WHERE chain = $1 AND first BETWEEN $2 AND $3 ORDER BY first LIMIT $4",
                    values![chain.to_string(), remains.end, mark.wrote, PAGE],
                )
                .await?;
            if rows.is_empty() {
                return Ok(remains);
            }
            for row in &rows {
                remains.take_in(row)?;
            }
        }
    }

    /// Finds where to begin: what was open before, another has closed, or no call lasts so long.
    async fn first_worth_reading(&self, chain: ChainId) -> Result<i64, StoreError> {
        let row = self
            .archive()
            .read()
            .await?
            .one(
                "SELECT COALESCE((SELECT MIN(s.first) FROM audit_segments s
                                   WHERE s.chain = n.chain AND s.first >= n.closed_before
                                     AND s.at >= (SELECT MAX(t.at) FROM audit_segments t WHERE t.chain = n.chain) - $2),
                                 n.closed_before)
                   FROM nodes n WHERE n.chain = $1",
                values![chain.to_string(), LONGEST_CALL.as_micros() as i64],
            )
            .await?;
        row.map_or(Ok(0), |row| row.get(0))
    }

    /// Claims a chain and writes the outcomes, in one transaction. Of several that recover at once
    /// one does it; a process that lives after all, or wrote more meanwhile, is left alone.
    async fn close_intents(&self, dead: (ChainId, Mark), remains: Remains) -> Result<u64, StoreError> {
        let mut chain = self.ledger().turn().await?;
        let mut tx = self.app().write().await?;
        if !claim(&mut tx, dead, remains.end).await? {
            return Ok(0);
        }
        let entries = remains.outcomes(self.now());
        let closed = entries.len() as u64;
        if closed == 0 {
            return tx.commit().await.map(|()| 0);
        }
        let next = self.ledger().append(&chain, &mut tx, entries).await?;
        chain.expect(next.clone());
        tx.commit().await?;
        chain.adopt(next);
        Ok(closed)
    }
}

async fn claim(tx: &mut Tx, (chain, mark): (ChainId, Mark), end: i64) -> Result<bool, StoreError> {
    let claimed = tx
        .execute(
            "UPDATE nodes SET state = 'recovered', closed_before = $4
              WHERE chain = $1 AND (state = 'open' OR state = 'recovered' AND closed_before < $4) AND seen_at = $2
                AND NOT EXISTS (SELECT 1 FROM audit_segments s WHERE s.chain = $1 AND s.first > $3)",
            values![chain.to_string(), mark.told, mark.wrote, end],
        )
        .await?;
    Ok(claimed == 1)
}

impl Remains {
    /// Takes in a segment. What is damaged in it is for `verify` to find.
    fn take_in(&mut self, row: &Row) -> Result<(), StoreError> {
        self.end = row.get::<i64>(1)? + row.get::<i64>(2)?.max(1);
        if let Ok(segment) = Segment::from_row(row) {
            let records = segment.lines().filter_map(|line| serde_json::from_slice(line).ok());
            records.for_each(|record| self.note(record));
        }
        Ok(())
    }

    fn note(&mut self, record: Record) {
        let Some(request) = record.entry.request else { return };
        let thread = (request, record.entry.event.server(), subject(&record.entry.event).to_owned());
        match record.entry.event {
            Event::CallIntent { .. } | Event::AskIntent { .. } => {
                self.open.entry(thread).or_default().push(record.entry);
            }
            Event::CallOutcome { .. } | Event::AskOutcome { .. } => {
                self.close(thread);
            }
            _ => {}
        }
    }

    fn close(&mut self, thread: Thread) {
        let MapEntry::Occupied(mut intents) = self.open.entry(thread) else { return };
        intents.get_mut().pop();
        if intents.get().is_empty() {
            intents.remove();
        }
    }

    fn outcomes(self, now: Timestamp) -> Vec<Entry> {
        let mut open: Vec<Entry> = self.open.into_values().flatten().collect();
        open.sort_by_key(|intent| (intent.at, intent.request));
        open.into_iter().filter_map(|intent| unknown(intent, now)).collect()
    }
}

/// Says of a call or question that nobody can know any more how it ended.
pub(super) fn unknown(intent: Entry, now: Timestamp) -> Option<Entry> {
    let end = end(&intent, CallStatus::Unknown, now)?;
    Some(Entry { actor: Actor::Hub, personal: intent.personal, ..end })
}

/// Says how a call or question ended that brought nothing; of anything else there is no end.
pub(super) fn end(intent: &Entry, status: CallStatus, now: Timestamp) -> Option<Entry> {
    let micros = u64::try_from(now.since(intent.at).as_micros()).unwrap_or(u64::MAX);
    let (code, bytes) = (None, 0);
    let event = match &intent.event {
        Event::CallIntent { server, tool, .. } => {
            Event::CallOutcome { server: *server, tool: tool.clone(), status, code, bytes, micros }
        }
        Event::AskIntent { server, method, .. } => {
            Event::AskOutcome { server: *server, method: method.clone(), status, code, bytes, micros }
        }
        _ => return None,
    };
    Some(Entry { at: now, actor: intent.actor, event, request: intent.request, personal: BTreeMap::new() })
}
