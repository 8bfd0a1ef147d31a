//! Changes to `params` or to a result: members are set or removed, all other values keep their bytes.

use std::borrow::Cow;

use crate::fault::Fault;
use crate::object::{Member, Object};
use crate::params::Params;
use crate::raw::Raw;
use crate::write::ObjectWriter;

/// The member of which the members are changed, too.
const META: &str = "_meta";
/// About how many bytes changes add.
const ADDED: usize = 256;

/// Lists what to change in an object and in the `_meta` inside it.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    members: Changes,
    meta: Changes,
}

impl Edit {
    /// Changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces `name`.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.set("name", Raw::string(name))
    }

    /// Replaces `uri`.
    #[must_use]
    pub fn uri(self, uri: &str) -> Self {
        self.set("uri", Raw::string(uri))
    }

    /// Replaces `cursor`.
    #[must_use]
    pub fn cursor(self, cursor: &str) -> Self {
        self.set("cursor", Raw::string(cursor))
    }

    /// Sets a member in its place, or adds it at the end. `_meta` is changed with `set_meta`.
    #[must_use]
    pub fn set(mut self, key: impl Into<Cow<'static, str>>, value: Raw) -> Self {
        self.members.put(key.into(), Some(value));
        self
    }

    /// Removes a member.
    #[must_use]
    pub fn remove(mut self, key: &'static str) -> Self {
        self.members.put(key.into(), None);
        self
    }

    /// Sets a member of `_meta`, adding `_meta` where there is none.
    #[must_use]
    pub fn set_meta(mut self, key: impl Into<Cow<'static, str>>, value: Raw) -> Self {
        self.meta.put(key.into(), Some(value));
        self
    }

    /// Removes a member of `_meta`, and `_meta` itself when nothing is left in it.
    #[must_use]
    pub fn remove_meta(mut self, key: &'static str) -> Self {
        self.meta.put(key.into(), None);
        self
    }

    /// Tells whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.meta.is_empty()
    }

    /// Writes the changed form of an object, such as a result.
    ///
    /// # Errors
    /// Refuses a value that is not an object, or whose `_meta` is not one.
    pub fn apply(&self, value: &Raw) -> Result<Raw, Fault> {
        let object = Object::parse(value)?;
        let meta = match object.get(META) {
            Some(meta) if !self.meta.is_empty() => Object::parse(meta)?,
            _ => Object::default(),
        };
        let mut out = ObjectWriter::new(value.len());
        self.write(object.members(), meta.members(), &mut out);
        Ok(out.finish_raw())
    }

    /// Writes the changed form of parameters; `None` if there are none and none are added.
    #[must_use]
    pub fn apply_to_params(&self, params: Option<&Params>) -> Option<Raw> {
        let (members, meta) = self.parts(params)?;
        let mut out = ObjectWriter::new(self.size_with(params));
        self.write(members, meta, &mut out);
        Some(out.finish_raw())
    }

    /// Says about how many bytes the changed form of parameters has.
    pub(crate) fn size_with(&self, params: Option<&Params>) -> usize {
        let added = if self.is_empty() { 0 } else { ADDED };
        params.map_or(0, |params| params.size() + 4 * params.members().len()) + added
    }

    /// Writes the changed form of parameters as a member of a message; nothing if there are none and none are added.
    pub(crate) fn write_params(&self, params: Option<&Params>, message: &mut ObjectWriter) {
        if let Some((members, meta)) = self.parts(params) {
            message.object("params", |out| self.write(members, meta, out));
        }
    }

    /// Returns the members of parameters and of their `_meta`; nothing if there are none and none are added.
    fn parts<'a>(&self, params: Option<&'a Params>) -> Option<(&'a [Member], &'a [Member])> {
        match params {
            Some(params) => Some((params.members(), params.meta().members())),
            None => (self.members.adds() || self.meta.adds()).then_some((&[], &[])),
        }
    }

    /// Writes the members with what is changed. Changes in `_meta` count, whatever becomes of it as a whole.
    fn write(&self, members: &[Member], meta: &[Member], out: &mut ObjectWriter) {
        if self.meta.is_empty() {
            return self.members.write(members, out);
        }
        let write_meta = |out: &mut ObjectWriter| {
            out.object_unless_empty(META, |inner| self.meta.write(meta, inner));
        };
        for member in members {
            match &*member.key {
                META => write_meta(out),
                _ => self.members.write_one(member, out),
            }
        }
        self.members.write_new(members, Some(META), out);
        if !members.iter().any(|member| &*member.key == META) {
            write_meta(out);
        }
    }
}

/// Maps keys to their new value, or to nothing where the member goes.
#[derive(Clone, Debug, Default)]
struct Changes {
    list: Vec<(Cow<'static, str>, Option<Raw>)>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Says whether something is set, and not only removed.
    fn adds(&self) -> bool {
        self.list.iter().any(|(_, value)| value.is_some())
    }

    fn put(&mut self, key: Cow<'static, str>, value: Option<Raw>) {
        self.list.retain(|(changed, _)| *changed != key);
        self.list.push((key, value));
    }

    /// Writes the members in order with their new values, then those that are new.
    fn write(&self, members: &[Member], out: &mut ObjectWriter) {
        members.iter().for_each(|member| self.write_one(member, out));
        self.write_new(members, None, out);
    }

    /// Writes a member with its new value, if it stays.
    fn write_one(&self, Member { key, value }: &Member, out: &mut ObjectWriter) {
        match self.list.iter().find(|(changed, _)| **changed == **key) {
            Some((_, Some(new))) => out.raw(key, new),
            Some((_, None)) => {}
            None => out.raw(key, value),
        }
    }

    /// Writes what is set and isn't among the members, but for one key.
    fn write_new(&self, members: &[Member], but: Option<&str>, out: &mut ObjectWriter) {
        for (key, value) in &self.list {
            let is_there = Some(&**key) == but || members.iter().any(|member| *member.key == **key);
            if let (false, Some(value)) = (is_there, value) {
                out.raw(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Edit;
    use crate::{Limits, Raw};

    fn edited(edit: &Edit, text: &'static str) -> String {
        let raw = Raw::parse(Bytes::from_static(text.as_bytes()), &Limits::REQUEST).unwrap();
        String::from_utf8(edit.apply(&raw).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn set_replaces_in_place_and_adds_at_the_end() {
        let edit = Edit::new().name("b").set("new", Raw::integer(1));
        assert_eq!(
            edited(&edit, r#"{ "x": [1, 2 ], "name":"a","y":1e5}"#),
            r#"{"x":[1, 2 ],"name":"b","y":1e5,"new":1}"#
        );
    }

    #[test]
    fn remove_takes_a_member_out() {
        assert_eq!(edited(&Edit::new().remove("a"), r#"{"a":1,"b":2}"#), r#"{"b":2}"#);
        assert_eq!(edited(&Edit::new().remove("z"), r#"{"a":1}"#), r#"{"a":1}"#);
    }

    #[test]
    fn meta_is_changed_inside_and_made_or_dropped_as_needed() {
        let add = Edit::new().set_meta("k", Raw::string("v"));
        assert_eq!(edited(&add, r#"{"_meta":{"x": 1},"a":1}"#), r#"{"_meta":{"x":1,"k":"v"},"a":1}"#);
        assert_eq!(edited(&add, r#"{"a":1}"#), r#"{"a":1,"_meta":{"k":"v"}}"#);
        let remove = Edit::new().remove_meta("x");
        assert_eq!(edited(&remove, r#"{"_meta":{"x":1},"a":1}"#), r#"{"a":1}"#);
        assert_eq!(edited(&remove, r#"{"a":1}"#), r#"{"a":1}"#);
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let edit = Edit::new().set("a", Raw::integer(1)).remove("a").set("a", Raw::integer(2));
        assert_eq!(edited(&edit, "{}"), r#"{"a":2}"#);
    }

    #[test]
    fn only_objects_can_be_edited() {
        assert!(Edit::new().apply(&Raw::integer(1)).is_err());
        let meta = Raw::json(&serde_json::json!({"_meta": 1})).unwrap();
        assert!(Edit::new().set_meta("k", Raw::integer(1)).apply(&meta).is_err());
    }
}
