//! What can be wrong with a message.

use std::fmt;

use crate::error;

/// Says what is wrong with a message or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Reports a body that is longer than its limit; over HTTP this is status 413.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Holds the limit in bytes.
        limit: usize,
    },
    /// Reports bytes that are not UTF-8.
    #[error("byte {at} is not valid UTF-8")]
    NotUtf8 {
        /// Holds the position of the first bad byte.
        at: usize,
    },
    /// Reports text that is not JSON.
    #[error("byte {at} is not valid JSON: expected {expected}")]
    Syntax {
        /// Holds the position of the first bad byte.
        at: usize,
        /// Names what should have stood there.
        expected: &'static str,
    },
    /// Reports a `\u` escape that is one half of a pair.
    #[error("byte {at}: unpaired surrogate in a string")]
    UnpairedSurrogate {
        /// Holds the position just after the escape.
        at: usize,
    },
    /// Reports nesting beyond the limit.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// Holds the limit in levels.
        limit: usize,
    },
    /// Reports more object keys than the limit.
    #[error("more than {limit} object keys")]
    TooManyKeys {
        /// Holds the limit in keys.
        limit: usize,
    },
    /// Reports a string beyond the limit.
    #[error("a string is longer than {limit} bytes")]
    StringTooLong {
        /// Holds the limit in bytes.
        limit: usize,
    },
    /// Reports an object that has the same key twice.
    #[error("duplicate key {0}")]
    DuplicateKey(Quoted),
    /// Reports a key that another parser could take for one with a meaning.
    #[error("key {found} could be taken for \"{meant}\"")]
    LookalikeKey {
        /// Holds the key as sent.
        found: Quoted,
        /// Names the key that it resembles.
        meant: &'static str,
    },
    /// Reports an array of messages where only one message is allowed.
    #[error("batches are not allowed here: send one message")]
    Batch,
    /// Reports JSON that is not the message it should be.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Fault {
    /// Returns the JSON-RPC error code that tells a client of this fault.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self {
            Self::NotUtf8 { .. } | Self::Syntax { .. } | Self::UnpairedSurrogate { .. } => error::PARSE_ERROR,
            _ => error::INVALID_REQUEST,
        }
    }

    /// Tells whether the body was too long to be read at all.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }
}

/// Holds the start of a text that a stranger chose, safe to show and to log.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted(Box<str>);

impl Quoted {
    const SHOWN: usize = 64;

    /// Keeps the first 64 characters of `text`.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().take(Self::SHOWN).collect())
    }

    /// Returns the kept characters as they were sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
