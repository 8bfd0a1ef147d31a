//! Tests of the whole program: the real binary, real databases, real peers.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and read what the test command hands them from the environment"
)]

mod api;
mod backup;
mod bridge;
mod cli;
mod connect;
mod crowds;
mod custody;
mod database;
mod edge;
mod events;
mod evidence;
mod faults;
mod floods;
mod floors;
mod forwarding;
mod front;
mod harness;
mod hostile;
mod isolation;
#[path = "../../../wire/tests/it/json_text.rs"]
mod json_text;
mod limits;
mod lines;
mod links;
mod oauth;
mod offers;
mod peers;
mod power;
mod recorded;
mod resume;
mod revocation;
mod roots;
mod rounds;
mod routes;
mod starved;
mod tasks;
mod trace;
mod valid;
mod watches;
