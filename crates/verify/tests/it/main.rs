//! What the verifier promises, on bundles that a hub has written and on garbage.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod bundles;
mod forge;
mod garbage;
mod program;
