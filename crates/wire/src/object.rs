//! A JSON object taken apart one level deep.

use std::borrow::Cow;

use crate::fault::{Fault, Quoted};
use crate::json::Scanner;
use crate::limits::Limits;
use crate::meta_key;
use crate::raw::Raw;

/// Lists the keys of nearly every request, of which no copies are made.
const USUAL: [&str; 8] = [
    "name",
    "arguments",
    "uri",
    "_meta",
    meta_key::PROTOCOL_VERSION,
    meta_key::CLIENT_CAPABILITIES,
    meta_key::CLIENT_INFO,
    meta_key::PROGRESS_TOKEN,
];

/// Holds one member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Holds the key without quotes and escapes.
    pub key: Cow<'static, str>,
    /// Holds the bytes of the value.
    pub value: Raw,
}

/// Holds the members of an object in their order; no key stands twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    members: Vec<Member>,
}

impl Object {
    /// Takes an object apart.
    ///
    /// # Errors
    /// Refuses a value that is not an object.
    pub fn parse(value: &Raw) -> Result<Self, Fault> {
        let bytes = value.clone().into_bytes();
        let mut scanner = Scanner::new(&bytes, &Limits::CHECKED)?;
        let object = Self::read(&mut scanner)?;
        scanner.finish()?;
        Ok(object)
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Raw> {
        self.members.iter().find(|member| &*member.key == key).map(|member| &member.value)
    }

    /// Returns the value of a key if it is a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key)?.text()
    }

    /// Returns all members in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let mut object = Self::default();
        scanner.object(|scanner, key| {
            let value = scanner.value()?;
            object.push(key, value);
            Ok(())
        })?;
        Ok(object)
    }

    pub(crate) fn push(&mut self, key: &str, value: Raw) {
        let usual = USUAL.into_iter().find(|usual| *usual == key);
        let key = usual.map_or_else(|| Cow::Owned(key.to_owned()), Cow::Borrowed);
        self.members.push(Member { key, value });
    }
}

/// Refuses a key that a parser which ignores case would take for one of `known`.
///
/// Go's parser also takes the long s and the Kelvin sign for the letters s and k.
pub(crate) fn refuse_lookalike(key: &str, known: &[&'static str]) -> Result<(), Fault> {
    let folded: Cow<'_, str> =
        if key.is_ascii() { key.into() } else { key.replace('\u{17f}', "s").replace('\u{212a}', "k").into() };
    let resembles = |name: &&&'static str| name.eq_ignore_ascii_case(&folded) && **name != key;
    match known.iter().find(resembles) {
        Some(meant) => Err(Fault::LookalikeKey { found: Quoted::new(key), meant }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::refuse_lookalike;

    #[test]
    fn only_exact_or_unrelated_keys_pass() {
        let known = ["method", "params", "token"];
        for fine in ["method", "params", "methods", "", "param", "πarams"] {
            assert!(refuse_lookalike(fine, &known).is_ok(), "{fine}");
        }
        for bad in ["Method", "METHOD", "paramS", "param\u{17f}", "PARAM\u{17f}", "to\u{212a}en"] {
            assert!(refuse_lookalike(bad, &known).is_err(), "{bad}");
        }
    }
}
