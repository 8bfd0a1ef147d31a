//! Tools: what the hub knows of each, beside the definition's own bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest;
use crate::id::ServerId;
use crate::name::{ServerName, ToolName};
use crate::role::{Effect, words};

words! {
    /// Says whether a tool may be seen and called.
    ToolState, "tool state" {
        /// Is listed and callable, in the definition that was approved.
        Approved = "approved",
        /// Is new: hidden until somebody approves it.
        Pending = "pending",
        /// Has changed since it was approved: hidden, and calls are told so, until somebody approves it.
        Changed = "changed",
    }
}

/// Describes a tool of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tool {
    /// The server.
    pub server: ServerId,
    /// The name that the server gives it.
    pub name: ToolName,
    /// What it does to the world.
    pub effect: Effect,
    /// Whether it may be seen and called.
    pub state: ToolState,
    /// The definition that this is about: the approved one, or the pending one.
    pub digest: ToolDigest,
    /// Its place in its server's list, from 0.
    pub position: i64,
    /// Counts the changes of its definition, effect and state, from 1.
    pub revision: i64,
}

/// Names a tool's definition: SHA-256 over its canonical JSON (RFC 8785).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolDigest([u8; 32]);

/// Says that a text is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct InvalidDigest;

impl ToolDigest {
    /// Digests a definition that is canonical JSON already.
    pub fn of(canonical: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"mcphub/tool/v1\0");
        hash.update(canonical);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for ToolDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digest::write(&self.0, f)
    }
}

impl fmt::Debug for ToolDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolDigest({self})")
    }
}

impl FromStr for ToolDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        digest::read(text).map(Self).ok_or(InvalidDigest)
    }
}

impl TryFrom<String> for ToolDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<ToolDigest> for String {
    fn from(digest: ToolDigest) -> Self {
        digest.to_string()
    }
}

/// Holds what a server says of a tool's behaviour (`annotations`). They are hints from the server,
/// so they only lead to a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Annotations {
    /// Claims that the tool changes nothing.
    pub read_only_hint: Option<bool>,
    /// Claims that the tool may destroy something; the protocol's default is yes.
    pub destructive_hint: Option<bool>,
}

impl Annotations {
    /// Proposes an effect: `read` for a tool that claims to change nothing, `write` for one that
    /// claims to destroy nothing, `execute` for every other.
    pub fn proposed_effect(self) -> Effect {
        match (self.read_only_hint, self.destructive_hint) {
            (Some(true), _) => Effect::Read,
            (_, Some(false)) => Effect::Write,
            _ => Effect::Execute,
        }
    }
}

/// The longest name on a shared endpoint, in bytes; some clients drop names above 60.
pub const LONGEST_SHARED_NAME: usize = 56;

/// Makes the name of a tool or a prompt on an endpoint that several servers share: `{server}__{name}`,
/// or, where that is too long, its first 47 bytes, `_` and 8 digits of its SHA-256.
pub fn shared_name(server: &ServerName, name: &str) -> String {
    let whole = format!("{server}__{name}");
    if whole.len() <= LONGEST_SHARED_NAME {
        return whole;
    }
    let digest = ToolDigest::of(whole.as_bytes()).to_string();
    let mut start = LONGEST_SHARED_NAME - 9;
    while !whole.is_char_boundary(start) {
        start -= 1;
    }
    let (kept, _) = whole.split_at(start);
    let (short, _) = digest.split_at(8);
    format!("{kept}_{short}")
}

#[cfg(test)]
mod tests {
    use super::{Annotations, Effect, LONGEST_SHARED_NAME, ToolDigest, shared_name};

    #[test]
    fn effects_are_proposed_from_hints_and_unknown_is_execute() {
        let propose = |json: &str| serde_json::from_str::<Annotations>(json).unwrap().proposed_effect();
        assert_eq!(propose(r#"{"readOnlyHint":true}"#), Effect::Read);
        assert_eq!(propose(r#"{"readOnlyHint":false,"destructiveHint":false}"#), Effect::Write);
        assert_eq!(propose(r#"{"readOnlyHint":false}"#), Effect::Execute);
        assert_eq!(propose("{}"), Effect::Execute);
    }

    #[test]
    fn long_shared_names_are_short_and_distinct() {
        let server = "github".parse().unwrap();
        let name = |tool: &str| shared_name(&server, tool);
        assert_eq!(name("get_me"), "github__get_me");
        assert_eq!(name(&"a".repeat(48)).len(), LONGEST_SHARED_NAME);
        let (one, two) = (name(&"a".repeat(49)), name(&"a".repeat(50)));
        assert_eq!((one.len(), two.len()), (LONGEST_SHARED_NAME, LONGEST_SHARED_NAME));
        assert_ne!(one, two);
        assert!(name(&"é".repeat(64)).len() <= LONGEST_SHARED_NAME);
    }

    #[test]
    fn a_digest_survives_its_text() {
        let digest = ToolDigest::of(b"{}");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("é".repeat(32).parse::<ToolDigest>().is_err());
    }
}
