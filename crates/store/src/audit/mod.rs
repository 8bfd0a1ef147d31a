//! The audit log: one chain of records for each process, written in segments.
//!
//! `tree` is the arithmetic of RFC 6962, `segment` the row that one group commit writes, `ledger` the
//! owner of this process's chain, `queue` where records wait, `writer` the group commit, `verify` the check of everything by a `walk`
//! along each chain, `search` reads by means of `index`, which `fresh` tells what this process wrote, `recover` what a start does about the end of a
//! process that was killed. `extract` and `proof` read what leaves the hub as evidence.

mod extract;
mod finding;
mod fresh;
mod index;
mod ledger;
mod patience;
mod proof;
pub mod queue;
mod recover;
pub mod search;
mod segment;
mod thread;
pub mod tree;
mod underway;
pub(crate) mod verify;
mod walk;
mod writer;

pub use extract::{Extract, Piece, Span};
pub use finding::{Finding, Notice, Report, Source, Witness};
pub use proof::{Proof, Step};
pub use queue::{AuditQueue, Intent, Question};
pub use search::{BadCursor, Cursor, Search};

pub use ledger::Grown;
pub(crate) use ledger::{Chain, Ledger, tips};
pub(crate) use thread::LogThread;
pub(crate) use writer::Writer;
