//! Changes to `params` or to a result: members are set or removed, all other values keep their bytes.

use std::borrow::Cow;

use crate::fault::Fault;
use crate::object::{Member, Object};
use crate::params::Params;
use crate::raw::Raw;
use crate::write::ObjectWriter;

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
        let meta = match object.get("_meta") {
            Some(meta) if !self.meta.is_empty() => Object::parse(meta)?,
            _ => Object::default(),
        };
        Ok(self.write(object.members(), meta.members(), value.len()))
    }

    /// Writes the changed form of parameters; `None` if there are none and none are added.
    #[must_use]
    pub fn apply_to_params(&self, params: Option<&Params>) -> Option<Raw> {
        let members = params.map(Params::members).unwrap_or_default();
        let meta = params.map(|params| params.meta().members()).unwrap_or_default();
        let size = members.iter().map(|member| member.key.len() + member.value.len() + 4).sum();
        let written = self.write(members, meta, size);
        (params.is_some() || written.as_bytes() != b"{}").then_some(written)
    }

    fn write(&self, members: &[Member], meta: &[Member], size: usize) -> Raw {
        let mut out = ObjectWriter::new(size);
        if self.meta.is_empty() {
            self.members.write(members, &mut out);
        } else {
            let mut inner = ObjectWriter::new(256);
            self.meta.write(meta, &mut inner);
            let mut changes = self.members.clone();
            changes.put("_meta".into(), (!inner.is_empty()).then(|| inner.finish_raw()));
            changes.write(members, &mut out);
        }
        out.finish_raw()
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
        for Member { key, value } in members {
            match self.list.iter().find(|(changed, _)| **changed == **key) {
                Some((_, Some(new))) => out.raw(key, new),
                Some((_, None)) => {}
                None => out.raw(key, value),
            }
        }
        for (key, value) in &self.list {
            let is_new = !members.iter().any(|member| *member.key == **key);
            if let (true, Some(value)) = (is_new, value) {
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
