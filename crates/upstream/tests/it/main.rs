//! The tests of `mcphub-upstream` against servers that behave and servers that don't.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod egress;
mod errands;
mod escape;
mod harness;
mod hostile;
mod http;
mod http_faults;
mod limits;
mod listing;
#[expect(dead_code, reason = "the tests of the whole program check both directions, these only one")]
#[path = "../../../mcphub/tests/it/harness/schema.rs"]
mod schema;
mod stdio;
mod stream;
mod supervisor;
mod web;
