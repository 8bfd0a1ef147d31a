//! What somebody who owns the database, and knows how the log is made, can write into it.

use mcphub_domain::ChainId;
use mcphub_store::audit::tree::{Frontier, leaf};
use sha2::{Digest, Sha256};

use crate::raw::SegmentRow;

/// Makes a chain's segments consistent with the text of their records, from the first to the last.
pub(crate) fn consistent(segments: &[SegmentRow]) -> Vec<SegmentRow> {
    let (mut frontier, mut previous) = (Frontier::default(), vec![0; 32]);
    let mut chain = Vec::new();
    for segment in segments {
        let mut forged = segment.clone();
        forged.first = frontier.size() as i64;
        forged.count = segment.lines().len() as i64;
        forged.leaves = Vec::new();
        for line in segment.lines() {
            let leaf = leaf(line.as_bytes());
            frontier.push(leaf);
            forged.leaves.extend_from_slice(&leaf);
        }
        forged.previous = previous;
        forged.hash = hash(&forged);
        forged.root = frontier.root().to_vec();
        previous = forged.hash.clone();
        chain.push(forged);
    }
    chain
}

/// Hashes a segment as the log's format says.
pub(crate) fn hash(segment: &SegmentRow) -> Vec<u8> {
    let chain: ChainId = segment.chain.parse().unwrap();
    let mut hash = Sha256::new();
    hash.update(b"mcphub/segment/v1\0");
    hash.update(chain.as_bytes());
    hash.update((segment.first as u64).to_be_bytes());
    hash.update((segment.count as u64).to_be_bytes());
    hash.update(&segment.previous);
    hash.update(&segment.leaves);
    hash.finalize().to_vec()
}
