#![doc = include_str!("../README.md")]

pub mod audit;
mod digest;
pub mod group;
pub mod id;
pub mod key;
pub mod name;
pub mod principal;
pub mod quota;
pub mod random;
pub mod role;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod template;
pub mod time;
pub mod tool;
pub mod user;
mod wrap_key;

pub use audit::{Actor, Event, Record};
pub use group::{Grant, Group, Membership, ToolPattern, Verdict};
pub use id::{ChainId, CredentialId, GrantId, GroupId, InstallId, KeyId, RequestId, ServerId, UserId};
pub use key::{HubKey, KeyText};
pub use name::{GroupName, KeyName, ServerName, SlotName, ToolName, UserName};
pub use principal::Principal;
pub use quota::Quota;
pub use random::Entropy;
pub use role::{Effect, Right, Rights, Role};
pub use sandbox::{Sandbox, SandboxProfile};
pub use secret::{Destination, SecretBytes, SecretText};
pub use server::{Server, ServerDefinition, Transport};
pub use template::{Slot, Template};
pub use time::{Clock, Timestamp};
pub use tool::{Tool, ToolDigest, ToolState};
pub use user::User;
pub use wrap_key::{InvalidWrapKeyId, WrapKeyId};
