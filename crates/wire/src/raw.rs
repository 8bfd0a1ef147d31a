//! One JSON value as its bytes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::Serialize;

use crate::fault::Fault;
use crate::json::Scanner;
use crate::limits::Limits;
use crate::write;

/// Holds the bytes of exactly one valid JSON value, so that it can be put into a message as it is.
///
/// `Debug` shows only the length: arguments can hold what nobody should log.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(Bytes);

impl Raw {
    /// Checks `bytes` as strictly as a message and keeps them.
    ///
    /// # Errors
    /// Says what is wrong with the bytes or which limit they exceed.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, Fault> {
        let mut scanner = Scanner::new(&bytes, limits)?;
        let value = scanner.value()?;
        scanner.finish()?;
        Ok(value)
    }

    /// Finds the value of one key of an object, and keeps nothing of the others.
    ///
    /// # Errors
    /// Refuses a value that is not an object.
    pub fn member(&self, wanted: &str) -> Result<Option<Self>, Fault> {
        let mut scanner = Scanner::new(&self.0, &Limits::CHECKED)?;
        let mut found = None;
        scanner.object(|scanner, key| {
            if key == wanted {
                found = Some(scanner.value()?);
                return Ok(());
            }
            scanner.skip()
        })?;
        scanner.finish()?;
        Ok(found)
    }

    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// Fails if the value has no JSON form (such as a map whose keys are not strings) or has a key twice.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Fault> {
        let bytes = serde_json::to_vec(value).map_err(|_| Fault::Invalid("the value has no JSON form"))?;
        Self::parse(bytes.into(), &Limits::CHECKED)
    }

    /// Writes a string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 2);
        write::string(&mut out, text);
        Self(out.into())
    }

    /// Writes an integer.
    #[must_use]
    pub fn integer(number: i64) -> Self {
        Self(number.to_string().into())
    }

    /// Returns an object without members.
    #[must_use]
    pub const fn empty_object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// Trusts bytes that this crate has just read or written as one value.
    pub(crate) const fn checked(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes without copying them.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Tells whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// Returns the value if it is a string.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let inside = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if inside.contains(&b'\\') {
            serde_json::from_slice(&self.0).ok().map(Cow::Owned)
        } else {
            std::str::from_utf8(inside).ok().map(Cow::Borrowed)
        }
    }

    /// Returns the value if it is an integer that fits. `-0` is none: some parsers take it for another
    /// number than `0`.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if self.as_bytes() == b"-0" {
            return None;
        }
        std::str::from_utf8(&self.0).ok()?.parse().ok()
    }

    /// Returns a string in its plainest form, with no escape that is not needed, and all else as it is.
    pub(crate) fn canonical(self) -> Self {
        match self.text() {
            Some(Cow::Owned(text)) => Self::string(&text),
            _ => self,
        }
    }
}

impl Deref for Raw {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Raw {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Raw({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Raw;
    use crate::Limits;

    fn raw(text: &'static str) -> Raw {
        Raw::parse(Bytes::from_static(text.as_bytes()), &Limits::REQUEST).unwrap()
    }

    #[test]
    fn text_is_unescaped_and_only_of_strings() {
        assert_eq!(raw(r#" "a\u0062\n\ud83d\ude00" "#).text().unwrap(), "ab\n😀");
        assert_eq!(raw(r#""plain""#).text().unwrap(), "plain");
        for other in ["1", "{}", "null", r#"["a"]"#] {
            assert_eq!(raw(other).text(), None);
        }
    }

    #[test]
    fn a_member_is_found_whatever_stands_around_it() {
        let object = raw(r#"{"a":{"b":1},"b" : [ 2 ],"\u0063":null}"#);
        for (key, value) in [("a", r#"{"b":1}"#), ("b", "[ 2 ]"), ("c", "null")] {
            assert_eq!(object.member(key).unwrap().unwrap().as_bytes(), value.as_bytes());
        }
        assert_eq!(object.member("d").unwrap(), None);
        assert!(["1", "[]", "null"].iter().all(|other| raw(other).member("a").is_err()));
    }

    #[test]
    fn string_writes_what_serde_json_reads() {
        let all: String = (0..0x300).filter_map(char::from_u32).chain("😀\u{2028}".chars()).collect();
        let read: String = serde_json::from_slice(&Raw::string(&all)).unwrap();
        assert_eq!(read, all);
    }

    #[test]
    fn debug_does_not_show_the_value() {
        assert_eq!(format!("{:?}", raw(r#""hunter2""#)), "Raw(9 bytes)");
    }

    #[test]
    fn json_checks_its_own_work() {
        assert_eq!(Raw::json(&vec![1, 2]).unwrap().as_bytes(), b"[1,2]");
        assert!(Raw::json(&std::collections::BTreeMap::from([(vec![1], 2)])).is_err());
    }
}
