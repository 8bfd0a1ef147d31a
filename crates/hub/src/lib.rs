#![doc = include_str!("../README.md")]

pub mod asks;
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
pub mod offers;
pub mod restore;
pub mod servers;
pub mod sessions;
pub mod users;
pub mod vault;

mod auth;
mod cache;
mod caller;
mod chores;
mod client;
mod find;
mod floods;
mod heads;
mod hearing;
mod hub;
mod lease;
mod limits;
mod lookout;
mod metrics;
mod personal;
mod rounds;
mod running;
mod seal;
mod shelf;
mod snapshot;
mod tasks;
#[cfg(test)]
mod tests;
mod watches;

pub use asks::{About, Ask};
pub use auth::Answered;
pub use caller::Caller;
pub use calls::ToolCall;
pub use client::Client;
pub use error::{HubError, MissingCredential};
pub use evidence::Bundle;
pub use heads::HeadsCopy;
pub use hearing::Hearing;
pub use hub::{Hub, LastHead, Readiness, Settings};
pub use lease::Lease;
pub use listing::{Absence, ListedTool, Listing};
pub use mcphub_policy::{Endpoint, Meter};
pub use mcphub_store::audit::{BadCursor, Cursor, Finding, Notice, Report, Search, Span};
pub use mcphub_store::prepare::{Prepared, Roles, prepare};
pub use mcphub_store::sessions::Session;
pub use mcphub_store::{DatabaseUrls, Place, Process, StoreError};
pub use mcphub_upstream::log::read as read_log;
pub use mcphub_upstream::{
    ANSWER, Answer, BreakerState, Changed, Client as AboutClient, Drops, Inquiry, Prefers,
};
pub use mcphub_upstream::{Namespaces, PlainHttp, Settings as UpstreamSettings, child};
pub use mcphub_upstream::{Remote, RemoteBody, RemoteError, Unreached};
pub use mcphub_vault::{Identities, Recipient, StreamError};
pub use metrics::Metrics;
pub use offers::{Entrance, Offer, Offers};
pub use rounds::{Bound, State};
pub use running::{Running, Said};
pub use seal::KeySource;
pub use sessions::{NewSession, OpenedSession};
pub use watches::{Heard, RESOURCES, Watch, Wish};
