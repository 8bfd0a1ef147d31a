//! The trace that a request belongs to, as W3C Trace Context has it: in `_meta`, and in HTTP headers.

use crate::edit::Edit;
use crate::header::Headers;
use crate::meta_key;
use crate::params::Params;
use crate::raw::Raw;

/// Names the header of the trace and the span.
pub const TRACEPARENT: &str = "traceparent";
/// Names the header of what vendors add.
pub const TRACESTATE: &str = "tracestate";
/// How long, in bytes, what vendors add may be.
const LONGEST_STATE: usize = 512;
/// How long, in bytes, baggage may be (W3C Baggage 3.3.2).
const LONGEST_BAGGAGE: usize = 8_192;
/// How long a `traceparent` of version 00 is, in bytes.
const LENGTH: usize = 55;

/// Holds the trace, and the span within it that a request is made in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace's id, 32 lower-case hexadecimal digits.
    trace: Box<str>,
    /// The span's id, 16 of them.
    span: Box<str>,
    /// The flags, two of them.
    flags: Box<str>,
    /// What vendors add.
    state: Option<Box<str>>,
}

impl Trace {
    /// Reads the trace of a request: that of its metadata, else that of its headers. What is malformed is none.
    #[must_use]
    pub fn of(params: Option<&Params>, headers: &Headers<'_>) -> Option<Self> {
        let meta = params.map(Params::meta);
        let said = meta.and_then(|meta| meta.text(meta_key::TRACEPARENT));
        match said {
            Some(parent) => {
                let state = meta.and_then(|meta| meta.text(meta_key::TRACESTATE));
                Self::parse(&parent, state.as_deref())
            }
            None => {
                let (parent, state) = headers.trace()?;
                Self::parse(parent, state)
            }
        }
    }

    /// Reads both parts (W3C Trace Context 3.2 and 3.3). A later version is read as far as this one goes.
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let (known, rest) = parent.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_some = |text: &str| text.bytes().any(|byte| byte != b'0');
        let ends = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
        let is_valid = is_hex(version, 2)
            && version != "ff"
            && is_hex(trace, 32)
            && is_some(trace)
            && is_hex(span, 16)
            && is_some(span)
            && is_hex(flags, 2)
            && ends
            && parts.next().is_none();
        let state = state.filter(|state| is_printable(state, LONGEST_STATE)).map(Into::into);
        is_valid.then(|| Self { trace: trace.into(), span: span.into(), flags: flags.into(), state })
    }

    /// Begins a span within this one.
    #[must_use]
    pub fn child(&self, span: [u8; 8]) -> Self {
        let span = format!("{:016x}", u64::from_be_bytes(span).max(1)).into();
        Self { span, ..self.clone() }
    }

    /// Writes the header of the trace and the span.
    #[must_use]
    pub fn parent(&self) -> String {
        format!("00-{}-{}-{}", self.trace, self.span, self.flags)
    }

    /// Returns what vendors add.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Prepares the metadata of a request within a trace, or outside of any: what the client said of one doesn't go on.
#[must_use]
pub fn trace_meta(edit: Edit, params: Option<&Params>, trace: Option<&Trace>) -> Edit {
    let said = |key| params.is_some_and(|params| params.meta().get(key).is_some());
    let edit = match trace {
        Some(trace) => edit.set_meta(meta_key::TRACEPARENT, Raw::string(&trace.parent())),
        None if said(meta_key::TRACEPARENT) => edit.remove_meta(meta_key::TRACEPARENT),
        None => edit,
    };
    let edit = match trace.and_then(Trace::state) {
        Some(state) => edit.set_meta(meta_key::TRACESTATE, Raw::string(state)),
        None if said(meta_key::TRACESTATE) => edit.remove_meta(meta_key::TRACESTATE),
        None => edit,
    };
    let carries = params.and_then(|params| params.meta().text(meta_key::BAGGAGE));
    match carries {
        Some(baggage) if is_printable(&baggage, LONGEST_BAGGAGE) => edit,
        None if !said(meta_key::BAGGAGE) => edit,
        _ => edit.remove_meta(meta_key::BAGGAGE),
    }
}

/// Says whether a text can stand in a header.
fn is_printable(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::{Edit, LONGEST_BAGGAGE, LONGEST_STATE, Trace, trace_meta};
    use crate::{Envelope, message};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_span_has_its_own_id_in_the_same_trace() {
        let trace = Trace::parse(PARENT, Some("vendor=1")).unwrap();
        assert_eq!(trace.parent(), PARENT);
        let child = trace.child([0xab; 8]);
        assert_eq!(child.parent(), "00-0af7651916cd43dd8448eb211c80319c-abababababababab-01");
        assert_eq!(child.state(), Some("vendor=1"));
        assert_eq!(
            trace.child([0; 8]).parent().split('-').nth(2),
            Some("0000000000000001"),
            "zeroes are no id"
        );
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        let later = PARENT.replacen("00", "01", 1);
        assert!(
            Trace::parse(&later, None).is_some() && Trace::parse(&format!("{later}-more"), None).is_some()
        );
        for wrong in [
            "".to_owned(),
            PARENT.to_uppercase(),
            format!("{PARENT}-more"),
            format!("{later}more"),
            PARENT.replacen("00", "ff", 1),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace('-', "_"),
            PARENT.replace("b7ad", "b7a\u{e9}"),
        ] {
            assert_eq!(Trace::parse(&wrong, None), None, "{wrong}");
        }
        for state in ["", "a\nb"] {
            assert_eq!(Trace::parse(PARENT, Some(state)).unwrap().state(), None);
        }
    }

    #[test]
    fn what_vendors_add_may_be_as_long_as_the_limit_and_no_longer() {
        for (length, fits) in [(LONGEST_STATE, true), (LONGEST_STATE + 1, false)] {
            let state = "x".repeat(length);
            let trace = Trace::parse(PARENT, Some(&state)).unwrap();
            assert_eq!(trace.state(), fits.then_some(state.as_str()), "{length} bytes");
        }
    }

    #[test]
    fn baggage_may_be_as_long_as_the_limit_and_no_longer() {
        for (length, fits) in [(LONGEST_BAGGAGE, true), (LONGEST_BAGGAGE + 1, false)] {
            let meta = json!({ "baggage": "x".repeat(length), "other": 1 });
            let expected = if fits { meta.clone() } else { json!({ "other": 1 }) };
            let said = json!({ "jsonrpc": "2.0", "id": 1, "method": "m", "params": { "_meta": meta } });
            let Ok(Envelope::Request(request)) = Envelope::parse(&Bytes::from(said.to_string())) else {
                panic!("a request")
            };
            let edit = trace_meta(Edit::new(), request.params.as_ref(), None);
            let sent = message::request(&request.id, "m", request.params.as_ref(), &edit);
            let sent: Value = serde_json::from_slice(&sent).unwrap();
            assert_eq!(sent["params"]["_meta"], expected, "{length} bytes");
        }
    }
}
