//! The identifier of a request.

use std::fmt;

use crate::fault::Fault;
use crate::raw::Raw;

/// Identifies a request on one hop; text and number stay what they are (`1` is not `"1"`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// Holds a text of at most 128 characters.
    String(Box<str>),
    /// Holds a whole number.
    Integer(i64),
}

impl Id {
    /// Bounds the length of a textual id in characters.
    pub const MAX_CHARS: usize = 128;

    /// Reads an id; `null` is `None`.
    ///
    /// # Errors
    /// Refuses fractions, numbers beyond 64 bits, other types and long texts.
    pub fn read(value: &Raw) -> Result<Option<Self>, Fault> {
        const RULE: Fault = Fault::Invalid("an id must be an integer or a string of at most 128 characters");
        if value.as_bytes() == b"null" {
            return Ok(None);
        }
        if let Some(text) = value.text() {
            let fits = text.chars().nth(Self::MAX_CHARS).is_none();
            return if fits { Ok(Some(Self::String(text.into()))) } else { Err(RULE) };
        }
        value.as_integer().map(|number| Some(Self::Integer(number))).ok_or(RULE)
    }

    /// Writes the id as JSON.
    #[must_use]
    pub fn to_raw(&self) -> Raw {
        match self {
            Self::String(text) => Raw::string(text),
            Self::Integer(number) => Raw::integer(*number),
        }
    }
}

impl From<i64> for Id {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => write!(formatter, "{text:?}"),
            Self::Integer(number) => write!(formatter, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Id;
    use crate::{Limits, Raw};

    fn read(text: &str) -> Result<Option<Id>, crate::Fault> {
        Id::read(&Raw::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::REQUEST).unwrap())
    }

    #[test]
    fn ids_keep_their_type() {
        assert_eq!(read("7").unwrap(), Some(Id::Integer(7)));
        assert_eq!(read("-9223372036854775808").unwrap(), Some(Id::Integer(i64::MIN)));
        assert_eq!(read("\"7\"").unwrap(), Some(Id::String("7".into())));
        assert_eq!(read("\"\"").unwrap(), Some(Id::String("".into())));
        assert_eq!(read("null").unwrap(), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in ["1.0", "-0", "1e2", "9223372036854775808", "true", "[]", "{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_may_have_128_characters_however_long_they_are() {
        assert!(read(&format!("\"{}\"", "é".repeat(128))).is_ok());
        assert!(read(&format!("\"{}\"", "é".repeat(129))).is_err());
    }
}
