//! Roles, rights, and the effects of tools.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Says that a text is none of the words that it must be one of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a {kind}: expected one of {words}")]
pub struct UnknownWord {
    text: String,
    kind: &'static str,
    words: String,
}

macro_rules! words {
    ($($(#[$doc:meta])+ $name:ident, $kind:literal { $($(#[$variant_doc:meta])+ $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Lists all of them, in their order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Shows the word that stands for it everywhere.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::role::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::role::UnknownWord::new(text, $kind, &[$($word,)+])),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}
pub(crate) use words;

impl UnknownWord {
    pub(crate) fn new(text: &str, kind: &'static str, words: &[&str]) -> Self {
        Self { text: text.chars().take(64).collect(), kind, words: words.join(", ") }
    }
}

words! {
    /// Says what a person may administrate. No role lets anybody call a tool: that takes a grant.
    Role, "role" {
        /// Sees servers, groups, state and statistics; calls nothing.
        Viewer = "viewer",
        /// Calls what her groups grant.
        User = "user",
        /// Runs her own groups and their servers.
        Manager = "manager",
        /// Does everything but read people's secrets and the log's content.
        Admin = "admin",
    }
    /// Says what a grant lets its group do on a server. Rights don't imply each other.
    Right, "right" {
        /// Calls tools that change nothing; sees the server, its resources and prompts.
        Read = "read",
        /// Calls tools that change state reversibly.
        Write = "write",
        /// Calls any other tool.
        Execute = "execute",
    }
    /// Says what a tool does to the world, fixed when the tool is approved.
    Effect, "effect" {
        /// Changes nothing.
        Read = "read",
        /// Changes state, reversibly.
        Write = "write",
        /// Does anything else, or something unknown.
        Execute = "execute",
    }
}

impl Effect {
    /// Names the right that calling such a tool takes.
    pub const fn right(self) -> Right {
        match self {
            Self::Read => Right::Read,
            Self::Write => Right::Write,
            Self::Execute => Right::Execute,
        }
    }
}

/// Holds a set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Right>", into = "Vec<Right>")]
pub struct Rights(u8);

impl Rights {
    /// Holds all rights.
    pub const ALL: Self = Self(0b111);

    /// Says whether `right` is in the set.
    pub const fn contains(self, right: Right) -> bool {
        self.0 & Self::bit(right) != 0
    }

    /// Says whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Lists the rights in the set.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.iter().copied().filter(move |right| self.contains(*right))
    }

    const fn bit(right: Right) -> u8 {
        match right {
            Right::Read => 1,
            Right::Write => 2,
            Right::Execute => 4,
        }
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |set, right| set | Self::bit(right)))
    }
}

impl From<Vec<Right>> for Rights {
    fn from(rights: Vec<Right>) -> Self {
        rights.into_iter().collect()
    }
}

impl From<Rights> for Vec<Right> {
    fn from(rights: Rights) -> Self {
        rights.iter().collect()
    }
}

impl FromStr for Rights {
    type Err = UnknownWord;

    /// Reads `read,write,execute`, in any order.
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        text.split(',').map(|word| word.trim().parse::<Right>()).collect()
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Right::as_str).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::{Right, Rights, Role};

    #[test]
    fn rights_survive_their_text() {
        for text in ["read", "read,write", "read,write,execute", "execute"] {
            assert_eq!(text.parse::<Rights>().unwrap().to_string(), text);
        }
        assert!(!"write".parse::<Rights>().unwrap().contains(Right::Read));
    }

    #[test]
    fn an_unknown_role_is_an_error_that_lists_the_known_ones() {
        let error = "root".parse::<Role>().unwrap_err().to_string();
        assert_eq!(error, "\"root\" is not a role: expected one of viewer, user, manager, admin");
    }
}
