//! Puts JSON together from parts.

use std::io::Write as _;

use bytes::Bytes;

use crate::id::Id;
use crate::json::plain_length;
use crate::raw::Raw;

/// Writes an object member by member.
pub(crate) struct ObjectWriter {
    out: Vec<u8>,
    /// Where the members of the innermost open object begin.
    begin: usize,
}

impl ObjectWriter {
    /// Opens an object for about `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity + 64);
        out.push(b'{');
        Self { begin: out.len(), out }
    }

    /// Opens a message.
    pub(crate) fn message(capacity: usize) -> Self {
        let mut object = Self::new(capacity);
        object.out.extend_from_slice(br#""jsonrpc":"2.0""#);
        object
    }

    pub(crate) fn id(&mut self, id: &Id) {
        match id {
            Id::Integer(number) => {
                self.key("id");
                // A vector takes whatever is written.
                drop(write!(self.out, "{number}"));
            }
            Id::String(text) => self.text("id", text),
        }
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        string(&mut self.out, value);
    }

    /// Adds a member whose value is already JSON.
    pub(crate) fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(value);
    }

    /// Adds a member whose value is an array of JSON values.
    pub(crate) fn array<'a>(&mut self, key: &str, values: impl Iterator<Item = &'a [u8]>) {
        self.key(key);
        self.out.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(value);
        }
        self.out.push(b']');
    }

    /// Adds a member whose value is an object, of which `fill` writes the members.
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push(b'{');
        let outer = std::mem::replace(&mut self.begin, self.out.len());
        fill(self);
        self.begin = outer;
        self.out.push(b'}');
    }

    /// Adds a member whose value is an object, unless `fill` writes no member.
    pub(crate) fn object_unless_empty(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let (before, mut is_empty) = (self.out.len(), false);
        self.object(key, |inner| {
            fill(inner);
            is_empty = inner.is_empty();
        });
        if is_empty {
            self.out.truncate(before);
        }
    }

    /// Says whether the innermost open object has no member yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.len() == self.begin
    }

    pub(crate) fn finish(self) -> Bytes {
        let mut out = self.out;
        out.push(b'}');
        out.into()
    }

    pub(crate) fn finish_raw(self) -> Raw {
        Raw::checked(self.finish())
    }

    fn key(&mut self, key: &str) {
        if !self.is_empty() {
            self.out.push(b',');
        }
        string(&mut self.out, key);
        self.out.push(b':');
    }
}

/// Writes a JSON string, escaping only what must be.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, more) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let [byte, after @ ..] = more else { break };
        escape(out, *byte);
        rest = after;
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(br#"\""#),
        b'\\' => out.extend_from_slice(br"\\"),
        b'\n' => out.extend_from_slice(br"\n"),
        b'\r' => out.extend_from_slice(br"\r"),
        b'\t' => out.extend_from_slice(br"\t"),
        _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
    }
}
