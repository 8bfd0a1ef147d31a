//! The audit log: one chain of records for each process, written in segments.
//!
//! `tree` is the arithmetic of RFC 6962, `segment` the row that one group commit writes, `ledger` the
//! owner of this process's chain, `queue` the group commit, `verify` the check of everything, `search`
//! reads by means of `index`, `recover` what a start does about the end of a process that was killed.

mod index;
mod ledger;
pub mod queue;
mod recover;
pub mod search;
mod segment;
pub mod tree;
pub mod verify;

pub use queue::{AuditQueue, Intent};
pub use search::{BadCursor, Cursor, Search};
pub use verify::{Finding, Report, Witness};

pub(crate) use ledger::{Chain, Ledger};
