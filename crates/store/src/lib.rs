#![doc = include_str!("../README.md")]

pub mod audit;
mod checkpoint;
pub mod copy;
pub mod credentials;
pub mod error;
pub mod groups;
pub mod install;
pub mod keys;
pub mod prepare;
pub mod servers;
pub mod sessions;
pub mod snapshot;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod users;
pub mod vault_keys;

mod db;
mod direct;
mod migrate;
mod place;
mod silence;
mod single;
mod sqlite_writer;
mod statement;
mod tidy;
mod tx;

pub use db::{DatabaseUrls, Revisions};
pub use error::StoreError;
pub use place::Place;
pub use store::{Ended, Process, Store};
pub use tx::WriteTx;
