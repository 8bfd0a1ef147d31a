//! Names that people and servers choose, each with its own rule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Says that a text is not a valid name of its kind, and what would be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a {kind}: expected {rule}")]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

macro_rules! name {
    ($($(#[$doc:meta])+ $name:ident, $kind:literal, $rule:literal, $valid:expr;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Shows the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { text: text.chars().take(160).collect(), kind: $kind, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    )+};
}

name! {
    /// Names a server. It is the prefix of its tools on shared endpoints and a path of its own.
    ServerName, "server name", "a-z, then up to 31 of a-z, 0-9 and -, but not `my`", is_path_name;
    /// Names a group. Groups and servers share one set of names, for both are paths under `/mcp/`.
    GroupName, "group name", "a-z, then up to 31 of a-z, 0-9 and -, but not `my`", is_path_name;
    /// Names a person for signing in and for commands.
    UserName, "user name", "1 to 64 of a-z, 0-9, `.`, `_`, `-`, `+` and `@`, beginning with a letter or digit", is_user_name;
    /// Names a slot: the `X` of a placeholder `${USER_X}` or `${SHARED_X}`.
    SlotName, "slot name", "A-Z, then up to 63 of A-Z, 0-9 and _", is_slot_name;
    /// Names a tool as its server does.
    ToolName, "tool name", "1 to 128 characters without control characters", is_tool_name;
    /// Names a hub key for its owner, such as `laptop`.
    KeyName, "key name", "1 to 64 characters without control characters", |text| is_label(text, 64);
}

/// Names the slot of the account that a person has connected.
const ACCOUNT: &str = "OAUTH";

impl SlotName {
    /// Names the slot of the account that a person has connected.
    pub fn account() -> Self {
        Self(ACCOUNT.into())
    }

    /// Says whether it names that slot.
    pub fn is_account(&self) -> bool {
        self.as_str() == ACCOUNT
    }
}

fn is_path_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 32
        && text != "my"
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_user_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-+@".contains(&byte))
}

fn is_slot_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|first| first.is_ascii_uppercase())
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_tool_name(text: &str) -> bool {
    is_label(text, 128)
}

fn is_label(text: &str, longest: usize) -> bool {
    let length = text.chars().count();
    (1..=longest).contains(&length) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{ServerName, SlotName, ToolName, UserName};

    #[test]
    fn server_names_end_where_the_rule_does() {
        for good in ["a", "github", "g-1", &"a".repeat(32)] {
            assert!(good.parse::<ServerName>().is_ok(), "{good}");
        }
        for bad in ["", "my", "1a", "-a", "Git", "a_b", "a.b", "a/b", &"a".repeat(33), "é"] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn user_slot_and_tool_names_follow_their_rules() {
        assert!("alice@example.org".parse::<UserName>().is_ok());
        assert!("Alice".parse::<UserName>().is_err());
        assert!("GITHUB_TOKEN".parse::<SlotName>().is_ok());
        assert!("github".parse::<SlotName>().is_err());
        assert!("x".repeat(128).parse::<ToolName>().is_ok());
        assert!("x".repeat(129).parse::<ToolName>().is_err());
        assert!("a\nb".parse::<ToolName>().is_err());
    }

    #[test]
    fn a_wrong_name_is_told_the_rule() {
        let error = "Git Hub".parse::<ServerName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"Git Hub\" is not a server name: expected a-z, then up to 31 of a-z, 0-9 and -, but not `my`"
        );
    }
}
