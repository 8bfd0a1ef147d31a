#![doc = include_str!("../README.md")]

pub mod audit;
pub mod backup;
pub mod calls;
pub mod counters;
pub mod credentials;
pub mod discovery;
pub mod error;
pub mod evidence;
pub mod groups;
pub mod import;
pub mod keys;
pub mod listing;
pub mod restore;
pub mod servers;
pub mod sessions;
pub mod users;
pub mod vault;

mod auth;
mod cache;
mod caller;
mod chores;
mod find;
mod floods;
mod heads;
mod hub;
mod lease;
mod limits;
mod lookout;
mod metrics;
mod personal;
mod seal;
mod snapshot;
#[cfg(test)]
mod tests;

pub use auth::Answered;
pub use caller::Caller;
pub use calls::{Running, Said, ToolCall};
pub use error::{HubError, MissingCredential};
pub use evidence::Bundle;
pub use heads::HeadsCopy;
pub use hub::{Hub, LastHead, Readiness, Settings};
pub use lease::Lease;
pub use listing::{Absence, ListedTool, Listing};
pub use mcphub_policy::{Endpoint, Meter};
pub use mcphub_store::audit::{BadCursor, Cursor, Finding, Notice, Report, Search, Span};
pub use mcphub_store::prepare::{Prepared, Roles, prepare};
pub use mcphub_store::sessions::Session;
pub use mcphub_store::{DatabaseUrls, Place, Process, StoreError};
pub use mcphub_upstream::log::read as read_log;
pub use mcphub_upstream::{Answer, BreakerState};
pub use mcphub_upstream::{Namespaces, PlainHttp, Settings as UpstreamSettings, child};
pub use mcphub_vault::{Identities, Recipient, StreamError};
pub use metrics::Metrics;
pub use seal::KeySource;
pub use sessions::{NewSession, OpenedSession};
