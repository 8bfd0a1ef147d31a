//! A segment: the records of one group commit, in one row.

use mcphub_domain::audit::Entry;
use mcphub_domain::{ChainId, Record, Timestamp};
use sha2::{Digest, Sha256};

use super::tree::{Frontier, Hash, leaf};
use crate::error::StoreError;
use crate::single::Single;
use crate::statement::{Row, Tx, Value, values};

/// Is one row of `audit_segments`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) chain: ChainId,
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// The records as canonical JSON, one in each line.
    pub(crate) body: Vec<u8>,
    /// Their leaf hashes, one after the other.
    pub(crate) leaves: Vec<u8>,
    /// The hash of the segment before, or zeros.
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
    /// The root of the chain's tree after the last record.
    pub(crate) root: Hash,
    pub(crate) at: Timestamp,
}

const INSERT: &str =
    "INSERT INTO audit_segments (chain, first, count, body, leaves, previous, hash, root, at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

impl Segment {
    /// Lays out the entries as the next segment of a chain; `frontier` grows with them. Its time is that
    /// of the latest record up to here, `at` being that of the segment before: so everybody can compute
    /// it, and it never goes back, whatever the machine's clock does.
    pub(crate) fn lay_out(
        chain: ChainId,
        frontier: &mut Frontier,
        previous: Hash,
        at: Timestamp,
        entries: &[Entry],
    ) -> Result<Self, StoreError> {
        let first = frontier.size();
        let mut body = Vec::with_capacity(entries.len() * Entry::USUAL);
        let mut leaves = Vec::with_capacity(entries.len() * size_of::<Hash>());
        let at = entries.iter().map(|entry| entry.at).fold(at, Ord::max);
        for entry in entries {
            let start = body.len();
            body = entry
                .canonical(chain, frontier.size(), body)
                .map_err(|error| StoreError::damaged(format!("a record: {error}")))?;
            let hash = leaf(body.get(start..).unwrap_or_default());
            frontier.push(hash);
            leaves.extend_from_slice(&hash);
            body.push(b'\n');
        }
        let count = entries.len() as u64;
        let hash = segment_hash(chain, first, count, &previous, &leaves);
        Ok(Self { chain, first, count, body, leaves, previous, hash, root: frontier.root(), at })
    }

    pub(crate) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            chain: row.parse(0)?,
            first: unsigned(row.get(1)?)?,
            count: unsigned(row.get(2)?)?,
            body: row.get(3)?,
            leaves: row.get(4)?,
            previous: row.array(5)?,
            hash: row.array(6)?,
            root: row.array(7)?,
            at: Timestamp::from_micros(row.get(8)?),
        })
    }

    pub(crate) async fn insert(self, tx: &mut Tx) -> Result<(), StoreError> {
        tx.execute(INSERT, self.into_values()?).await?;
        Ok(())
    }

    /// Inserts and commits at once.
    pub(crate) async fn insert_alone(self, single: &mut Single) -> Result<(), StoreError> {
        single.execute(INSERT, self.into_values()?).await?;
        Ok(())
    }

    fn into_values(self) -> Result<Vec<Value>, StoreError> {
        Ok(values![
            self.chain.to_string(),
            signed(self.first)?,
            signed(self.count)?,
            self.body,
            self.leaves,
            self.previous.as_slice(),
            self.hash.as_slice(),
            self.root.as_slice(),
            self.at.as_micros(),
        ])
    }

    /// Lists the records' lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }

    /// Reads the records.
    pub(crate) fn records(&self) -> Result<Vec<Record>, StoreError> {
        let damaged =
            |error| StoreError::damaged(format!("audit chain {} from {}: {error}", self.chain, self.first));
        self.lines().map(|line| serde_json::from_slice(line).map_err(damaged)).collect()
    }
}

/// Chains a segment to the one before and to its leaves.
pub(crate) fn segment_hash(chain: ChainId, first: u64, count: u64, previous: &Hash, leaves: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"mcphub/segment/v1\0");
    hash.update(chain.as_bytes());
    hash.update(first.to_be_bytes());
    hash.update(count.to_be_bytes());
    hash.update(previous);
    hash.update(leaves);
    hash.finalize().into()
}

pub(crate) fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::damaged("a number beyond 2^63"))
}

pub(crate) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::damaged("a negative number in audit_segments"))
}
