//! What this process wrote and the index doesn't have yet: it needn't be read back to be indexed.

use std::collections::BTreeSet;
use std::sync::Arc;

use mcphub_domain::audit::Entry;
use parking_lot::Mutex;

use super::index::{Said, said};

/// How many rows of the index are kept in memory; what comes after them is read from the segments.
const ROWS: usize = 65_536;

/// Is what a segment holds, as the index says it.
#[derive(Clone)]
pub(super) struct Contents {
    /// The number of its first record.
    pub(super) first: u64,
    /// The number behind its last record; of an empty one, the next.
    pub(super) end: u64,
    pub(super) rows: BTreeSet<Said>,
}

/// Keeps the contents of segments until the index takes them, in the order in which they were written.
#[derive(Clone, Default)]
pub(super) struct Fresh(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    segments: Vec<Contents>,
    rows: usize,
}

impl Contents {
    /// Says what a segment of these records holds.
    pub(super) fn of(first: u64, entries: &[Entry]) -> Self {
        Self { first, end: first + entries.len() as u64, rows: said(entries) }
    }
}

impl Fresh {
    /// Keeps what a segment holds that was committed, if there is room.
    pub(super) fn keep(&self, contents: Contents) {
        let mut kept = self.0.lock();
        if kept.rows + contents.rows.len() <= ROWS {
            kept.rows += contents.rows.len();
            kept.segments.push(contents);
        }
    }

    /// Hands over what is kept.
    pub(super) fn take(&self) -> Vec<Contents> {
        std::mem::take(&mut *self.0.lock()).segments
    }
}

#[cfg(test)]
mod tests {
    use super::{Contents, Fresh, ROWS};

    fn contents(first: u64, rows: usize) -> Contents {
        let row = |at| (String::new(), String::new(), String::new(), String::new(), at);
        Contents { first, end: first + 1, rows: (0..rows as i64).map(row).collect() }
    }

    #[test]
    fn so_many_rows_are_kept_and_no_more() {
        let fresh = Fresh::default();
        for (first, rows) in [(0, ROWS - 1), (1, 2), (2, 1), (3, 1)] {
            fresh.keep(contents(first, rows));
        }
        assert_eq!(fresh.take().iter().map(|kept| kept.first).collect::<Vec<_>>(), [0, 2]);
        fresh.keep(contents(4, ROWS));
        assert_eq!(fresh.take().len(), 1);
        assert_eq!(fresh.take().len(), 0);
    }
}
