//! What must hold for any bytes: the checks behind the fuzz targets.
//!
//! A check panics when the reader under test and its yardstick disagree; that is how a fuzzer hears of it.

pub mod envelope;
pub mod header;
pub mod sse;

#[path = "../../crates/wire/tests/it/no_duplicates.rs"]
mod no_duplicates;
