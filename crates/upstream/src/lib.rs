#![doc = include_str!("../README.md")]

mod address;
pub mod breaker;
pub mod catalog;
mod counters;
mod deadline;
pub mod error;
mod http;
pub mod key;
pub mod leftovers;
mod legacy;
pub mod log;
mod mask;
mod outbound;
mod outgoing;
mod pipe;
mod pool;
mod process;
pub mod reply;
mod response;
pub mod settings;
mod stdio;
pub mod supervisor;
pub mod target;
mod trial;
mod upstreams;

pub use breaker::BreakerState;
pub use catalog::{Catalog, ToolDefinition};
pub use counters::{Counts, UpstreamState};
pub use error::UpstreamError;
pub use key::{ConnectionKey, Revisions, Scope, key};
pub use outbound::SetupError;
pub use reply::{Answer, Reply, ReplyMessage};
pub use settings::{PlainHttp, Settings};
pub use supervisor::supervise;
pub use target::{Caller, Values};
pub use upstreams::{Access, Still, ToolCall, Unseal, Upstreams};
