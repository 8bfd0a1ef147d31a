//! Runs the wire crate against tables of bad input, random input and another JSON parser.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod differential;
mod envelope;
mod header;
mod json_text;
mod list;
mod no_duplicates;
mod opening;
mod rewrite;
mod sse;
