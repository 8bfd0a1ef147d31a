#![doc = include_str!("../README.md")]

pub mod answer;
pub mod discover;
pub mod edit;
pub mod envelope;
pub mod error;
mod fault;
pub mod header;
mod id;
mod json;
pub mod legacy;
mod limits;
pub mod list;
pub mod message;
pub mod method;
mod object;
mod params;
pub mod progress;
mod raw;
mod reference;
pub mod shared;
pub mod sse;
mod version;
mod write;

pub use edit::Edit;
pub use envelope::{Envelope, Notification, Outcome, ParseError, Request, Response, RpcError};
pub use fault::Fault;
pub use id::Id;
pub use limits::Limits;
pub use object::{Member, Object};
pub use params::{Meta, Params, meta_key};
pub use raw::Raw;
pub use reference::{Reference, ReferenceKind};
pub use version::Version;
