//! The tests of `mcphub-upstream` against servers that behave and servers that don't.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod egress;
mod escape;
mod harness;
mod hostile;
mod http;
mod http_faults;
mod listing;
mod stdio;
mod supervisor;
mod web;
