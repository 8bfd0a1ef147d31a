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
        let mut out = ObjectWriter::new(self.size_with(params));
        self.write_members(params, &mut out);
        (params.is_some() || !out.is_empty()).then(|| out.finish_raw())
    }

    /// Writes the changed form of parameters as a member of a message; nothing if there are none and none are added.
    pub(crate) fn write_params(&self, params: Option<&Params>, message: &mut ObjectWriter) {
        match params {
            Some(_) => message.object("params", |out| self.write_members(params, out)),
            None => message.object_unless_empty("params", |out| self.write_members(params, out)),
        }
    }

    /// Says about how many bytes the changed form of parameters has.
    pub(crate) fn size_with(&self, params: Option<&Params>) -> usize {
        let added = if self.is_empty() { 0 } else { ADDED };
        params.map_or(0, |params| params.size() + 4 * params.members().len()) + added
    }

    fn write_members(&self, params: Option<&Params>, out: &mut ObjectWriter) {
        let members = params.map(Params::members).unwrap_or_default();
        self.write(members, params.map(|params| params.meta().members()).unwrap_or_default(), out);
    }

    /// Writes the members with what is changed. If members of `_meta` are, a change of `_meta` as a whole counts for nothing.
    fn write(&self, members: &[Member], meta: &[Member], out: &mut ObjectWriter) {
        let is_meta = |key: &str| key == META && !self.meta.is_empty();
        let there = members.iter().map(|member| (&*member.key, self.members.of(member)));
        let added = self.members.beside(members).filter(|(key, _)| !is_meta(key));
        let is_missing = !members.iter().any(|member| *member.key == *META);
        for (key, value) in there.chain(added).chain(is_missing.then_some((META, None))) {
            if is_meta(key) {
                out.object_unless_empty(META, |inner| self.meta.write(meta, inner));
            } else if let Some(value) = value {
                out.raw(key, value);
            }
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

    fn put(&mut self, key: Cow<'static, str>, value: Option<Raw>) {
        self.list.retain(|(changed, _)| *changed != key);
        self.list.push((key, value));
    }

    /// Writes the members in order with their new values, then those that are new.
    fn write(&self, members: &[Member], out: &mut ObjectWriter) {
        let there = members.iter().map(|member| (&*member.key, self.of(member)));
        for (key, value) in there.chain(self.beside(members)) {
            if let Some(value) = value {
                out.raw(key, value);
            }
        }
    }

    /// Returns what a member's value is then; nothing if it goes.
    fn of<'a>(&'a self, member: &'a Member) -> Option<&'a Raw> {
        let change = self.list.iter().find(|(changed, _)| **changed == *member.key);
        change.map_or(Some(&member.value), |(_, value)| value.as_ref())
    }

    /// Lists what is changed and isn't among the members.
    fn beside<'a>(&'a self, members: &'a [Member]) -> impl Iterator<Item = (&'a str, Option<&'a Raw>)> {
        let changed = self.list.iter().map(|(key, value)| (&**key, value.as_ref()));
        changed.filter(|(key, _)| !members.iter().any(|member| *member.key == **key))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Edit;
    use crate::{Limits, Params, Raw, message};

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
    fn meta_goes_wherever_it_stands_and_its_members_count_more_than_the_whole() {
        let remove = Edit::new().remove_meta("x");
        assert_eq!(edited(&remove, r#"{"a":1,"_meta":{"x":1},"b":2}"#), r#"{"a":1,"b":2}"#);
        assert_eq!(edited(&remove, r#"{"a":1,"_meta":{}}"#), r#"{"a":1}"#);
        let whole = || Edit::new().set("_meta", Raw::empty_object()).set("b", Raw::integer(2));
        assert_eq!(edited(&whole(), r#"{"_meta":{"x":1}}"#), r#"{"_meta":{},"b":2}"#);
        let both = whole().set_meta("k", Raw::integer(3));
        assert_eq!(edited(&both, r#"{"_meta":{"x":1}}"#), r#"{"_meta":{"x":1,"k":3},"b":2}"#);
        assert_eq!(edited(&both, r#"{"a":1}"#), r#"{"a":1,"b":2,"_meta":{"k":3}}"#);
        let gone = Edit::new().remove("_meta").remove_meta("x");
        assert_eq!(edited(&gone, r#"{"_meta":{"x":1,"y":2},"a":1}"#), r#"{"_meta":{"y":2},"a":1}"#);
    }

    #[test]
    fn a_message_has_parameters_if_there_are_some_or_some_are_added() {
        let written = |params: Option<&str>, edit: &Edit| {
            let raw =
                |text: &str| Raw::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::REQUEST).unwrap();
            let params = params.map(|text| Params::parse(&raw(text)).unwrap());
            let applied = edit.apply_to_params(params.as_ref());
            let message = message::notification("m", params.as_ref(), edit);
            let message = String::from_utf8(message.to_vec()).unwrap();
            let inside = applied.map(|raw| String::from_utf8(raw.to_vec()).unwrap());
            let expected =
                inside.as_ref().map_or_else(String::new, |inside| format!(r#","params":{inside}"#));
            assert_eq!(message, format!(r#"{{"jsonrpc":"2.0","method":"m"{expected}}}"#));
            inside
        };
        let (add, remove) =
            (Edit::new().set_meta("k", Raw::integer(1)), Edit::new().remove("a").remove_meta("k"));
        assert_eq!(written(None, &Edit::new()), None);
        assert_eq!(written(None, &remove), None);
        assert_eq!(written(None, &remove.clone().set("_meta", Raw::empty_object())), None);
        assert_eq!(written(None, &add).as_deref(), Some(r#"{"_meta":{"k":1}}"#));
        assert_eq!(written(Some("{}"), &remove).as_deref(), Some("{}"));
        assert_eq!(written(Some(r#"{"a":1,"_meta":{"k":1}}"#), &remove).as_deref(), Some("{}"));
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
