//! What a start does about processes that were killed: their open intents are closed as `unknown`.

use std::collections::HashMap;
use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::{Actor, ChainId, Event, RequestId, Timestamp};

use super::segment::Segment;
use crate::error::StoreError;
use crate::statement::{Tx, values};

/// No call lasts longer than this, so no intent older than it before a chain's end is open.
const LONGEST_CALL: Duration = Duration::from_secs(12 * 3600);

/// Claims the chains of processes that stopped telling that they live. Of several that recover at
/// once, each chain goes to one; nobody's own chain is dead to her.
pub(crate) async fn claim_dead_chains(
    tx: &mut Tx,
    own: ChainId,
    before: Timestamp,
) -> Result<Vec<ChainId>, StoreError> {
    let rows = tx
        .all(
            "UPDATE nodes SET state = 'recovered' WHERE state = 'open' AND seen_at < $1 AND chain <> $2
             RETURNING chain",
            values![before.as_micros(), own.to_string()],
        )
        .await?;
    rows.iter().map(|row| row.parse(0)).collect()
}

/// Writes an outcome for every intent of a chain that has none.
pub(crate) async fn close_intents(
    tx: &mut Tx,
    chain: ChainId,
    now: Timestamp,
) -> Result<Vec<Entry>, StoreError> {
    let rows = tx
        .all(
            "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments
              WHERE chain = $1 AND at >= (SELECT MAX(at) FROM audit_segments WHERE chain = $1) - $2 ORDER BY first",
            values![chain.to_string(), LONGEST_CALL.as_micros() as i64],
        )
        .await?;
    let mut open: HashMap<RequestId, Entry> = HashMap::new();
    for row in &rows {
        for record in Segment::from_row(row)?.records()? {
            let Some(request) = record.entry.request else { continue };
            match record.entry.event {
                Event::CallIntent { .. } => {
                    open.insert(request, record.entry);
                }
                Event::CallOutcome { .. } => {
                    open.remove(&request);
                }
                _ => {}
            }
        }
    }
    let mut open: Vec<Entry> = open.into_values().collect();
    open.sort_by_key(|intent| (intent.at, intent.request));
    Ok(open.into_iter().filter_map(|intent| unknown(intent, now)).collect())
}

fn unknown(intent: Entry, now: Timestamp) -> Option<Entry> {
    let Event::CallIntent { server, tool, .. } = intent.event else { return None };
    let micros = u64::try_from(now.since(intent.at).as_micros()).unwrap_or(u64::MAX);
    let event =
        Event::CallOutcome { server, tool, status: CallStatus::Unknown, code: None, bytes: 0, micros };
    Some(Entry { at: now, actor: Actor::Hub, event, request: intent.request, personal: intent.personal })
}
