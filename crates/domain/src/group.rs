//! Groups, who is in them, and what they grant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{GrantId, GroupId, ServerId, UserId};
use crate::name::{GroupName, ToolName};
use crate::role::{Rights, words};
use crate::time::Timestamp;

/// Describes a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its name, which is also a path under `/mcp/`.
    pub name: GroupName,
    /// Counts the changes of it, of who is in it and of what it grants, from 1.
    pub revision: i64,
    /// When it was added.
    pub created_at: Timestamp,
}

words! {
    /// Says what a member is to the group.
    Standing, "standing" {
        /// Has what the group grants.
        Member = "member",
        /// Has it too, and, with the role of a manager, runs the group.
        Manager = "manager",
    }
    /// Says whether a grant gives or takes away.
    Verdict, "verdict" {
        /// Gives the rights.
        Allow = "allow",
        /// Takes the rights away, whatever other grants give.
        Deny = "deny",
    }
    /// Says as what somebody made a grant, and so who may take it away.
    Author, "author" {
        /// As an admin: holds by itself, and only admins remove it.
        Admin = "admin",
        /// As the group's manager: holds while an admin's grant lets the group do anything on the server.
        Manager = "manager",
    }
}

/// Puts a person into a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The group.
    pub group: GroupId,
    /// The person.
    pub user: UserId,
    /// What she is to the group.
    pub standing: Standing,
    /// When she stops being in it.
    pub expires_at: Option<Timestamp>,
    /// The group's revision at which this was last changed; 0 while it is nowhere stored.
    pub revision: i64,
}

impl Membership {
    /// Says whether it holds at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Gives a group rights on a server, or denies them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who gets it.
    pub group: GroupId,
    /// On what.
    pub server: ServerId,
    /// Whether it gives or takes away.
    pub verdict: Verdict,
    /// As what somebody made it.
    pub author: Author,
    /// Which rights.
    pub rights: Rights,
    /// For which tools; empty means all.
    pub tools: Vec<ToolPattern>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Counts the changes of this row, from 1.
    pub revision: i64,
}

impl Grant {
    /// Says whether it holds at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// Says whether it is about the tool.
    pub fn covers(&self, tool: &ToolName) -> bool {
        self.tools.is_empty() || self.tools.iter().any(|pattern| pattern.matches(tool))
    }
}

/// Matches tool names: `*` stands for any run of characters, everything else for itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolPattern(Arc<str>);

/// Says that a text is not a tool pattern.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a tool pattern: expected 1 to 128 characters, with `*` for any run of characters")]
pub struct InvalidPattern(String);

impl ToolPattern {
    /// Says whether the pattern matches the whole name.
    ///
    /// It walks both texts once and goes back at most to the last `*`, so that no pattern is slow.
    pub fn matches(&self, tool: &ToolName) -> bool {
        let (pattern, name) = (self.0.as_bytes(), tool.as_str().as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, n));
                    p += 1;
                }
                Some(byte) if name.get(n) == Some(byte) => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((star, from)) => {
                        retry = Some((star, from + 1));
                        p = star + 1;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(p).all(|byte| *byte == b'*')
    }
}

impl FromStr for ToolPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text.parse::<ToolName>() {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(InvalidPattern(text.chars().take(160).collect())),
        }
    }
}

impl TryFrom<String> for ToolPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<ToolPattern> for String {
    fn from(pattern: ToolPattern) -> Self {
        pattern.0.as_ref().to_owned()
    }
}

impl fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ToolPattern;

    #[test]
    fn a_star_stands_for_any_run() {
        let table = [
            ("get_*", "get_me", true),
            ("get_*", "get_", true),
            ("get_*", "set_me", false),
            ("*", "anything", true),
            ("*_me", "get_me_me", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("[a]", "a", false),
        ];
        for (pattern, name, expected) in table {
            let pattern: ToolPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&name.parse().unwrap()), expected, "{pattern} against {name}");
        }
    }
}
