//! What the decisions promise, checked against worlds that are built by hand, by enumeration and at random.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod administration;
mod authors;
mod build;
mod expiry;
mod looks;
mod names;
mod random_world;
mod reading;
mod small_world;
