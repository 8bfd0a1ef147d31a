//! The HTTP headers of MCP: which era a message belongs to, and whether headers and body agree.
//!
//! Whoever routes on headers must not see another request than whoever reads the body. So every
//! decision is made on the body, and a header that says something else refuses the message.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::envelope::{Envelope, Notification, Request};
use crate::error;
use crate::meta_key;
use crate::method;
use crate::params::{Meta, Params};
use crate::raw::Raw;
use crate::trace::{TRACEPARENT, TRACESTATE};
use crate::version::Version;
use crate::write::ObjectWriter;

/// Names the header with the protocol version.
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Names the header that repeats the method.
pub const METHOD: &str = "mcp-method";
/// Names the header that repeats the tool, prompt, resource or task.
pub const NAME: &str = "mcp-name";
/// Names the header with the session id (legacy).
pub const SESSION_ID: &str = "mcp-session-id";

const ENCODED_START: &str = "=?base64?";
const ENCODED_END: &str = "?=";

/// Holds the headers that matter here; collect it from all headers of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    version: Field<'a>,
    method: Field<'a>,
    name: Field<'a>,
    session: Field<'a>,
    trace_parent: Field<'a>,
    trace_state: Field<'a>,
}

/// Says which rules a message is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Carries its own metadata: see `check` and `check_notification`.
    Modern,
    /// Wants to open a session.
    Initialize,
    /// Belongs to a session.
    Session,
    /// Belongs to nothing: status 400, with no modern error code, so that a probing client falls back.
    Bad,
}

/// Says why the headers refuse a message; the HTTP status is 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Reports a modern request without metadata that it must have.
    #[error("params._meta must hold {0}")]
    MissingMeta(&'static str),
    /// Reports a header that doesn't say what the body says.
    #[error("header {header} {problem}")]
    Mismatch {
        /// Names the header.
        header: &'static str,
        /// Says what is wrong with it.
        problem: Problem,
    },
    /// Reports a header that doesn't say what the argument says which it repeats.
    #[error("header {header} {problem}")]
    Parameter {
        /// Names the header.
        header: Box<str>,
        /// Says what is wrong with it.
        problem: Problem,
    },
    /// Reports a version that the hub doesn't speak.
    #[error("protocol version {requested:?} is not supported")]
    UnsupportedVersion {
        /// Holds what was asked for, at most 64 characters of it.
        requested: Box<str>,
    },
    /// Reports a legacy header that can't be used.
    #[error("header {0} is not valid")]
    Invalid(&'static str),
}

/// Says what is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Reports that it isn't there.
    #[error("is missing")]
    Missing,
    /// Reports that it is there more than once.
    #[error("stands more than once")]
    Repeated,
    /// Reports characters that a header must not have, or encoding that can't be undone.
    #[error("has an invalid value")]
    Malformed,
    /// Reports that the body says something else.
    #[error("differs from the body")]
    Different,
}

#[derive(Clone, Copy, Debug, Default)]
enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated(&'a [u8]),
}

impl HeaderError {
    /// Returns the JSON-RPC error code to answer with.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self {
            Self::MissingMeta(_) => error::INVALID_PARAMS,
            Self::Mismatch { .. } | Self::Parameter { .. } => error::HEADER_MISMATCH,
            Self::UnsupportedVersion { .. } => error::UNSUPPORTED_PROTOCOL_VERSION,
            Self::Invalid(_) => error::INVALID_REQUEST,
        }
    }

    /// Returns the details that the error code asks for.
    #[must_use]
    pub fn data(&self) -> Option<Raw> {
        let Self::UnsupportedVersion { requested } = self else { return None };
        let versions: Vec<Raw> =
            Version::MODERN.iter().map(|version| Raw::string(version.as_str())).collect();
        let mut data = ObjectWriter::new(128);
        data.array("supported", versions.iter().map(Raw::as_bytes));
        data.text("requested", requested);
        Some(data.finish_raw())
    }

    fn unsupported(requested: &str) -> Self {
        Self::UnsupportedVersion { requested: requested.chars().take(64).collect() }
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Headers<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let field = match name {
                _ if name.eq_ignore_ascii_case(PROTOCOL_VERSION) => &mut found.version,
                _ if name.eq_ignore_ascii_case(METHOD) => &mut found.method,
                _ if name.eq_ignore_ascii_case(NAME) => &mut found.name,
                _ if name.eq_ignore_ascii_case(SESSION_ID) => &mut found.session,
                _ if name.eq_ignore_ascii_case(TRACEPARENT) => &mut found.trace_parent,
                _ if name.eq_ignore_ascii_case(TRACESTATE) => &mut found.trace_state,
                _ => continue,
            };
            field.add(value);
        }
        found
    }
}

impl<'a> Headers<'a> {
    /// Tells whether the version header names a revision without sessions, known or not.
    #[must_use]
    pub fn is_modern(&self) -> bool {
        self.version
            .first()
            .and_then(decode_value)
            .is_some_and(|value| is_date(value.as_bytes()) && *value >= *Version::V2026_07_28.as_str())
    }

    /// Returns the session id of a legacy message.
    ///
    /// # Errors
    /// Refuses a repeated header and anything but visible ASCII.
    pub fn session_id(&self) -> Result<Option<&'a str>, HeaderError> {
        match self.session {
            Field::Absent => Ok(None),
            Field::Once(value) if !value.is_empty() && value.iter().all(u8::is_ascii_graphic) => {
                std::str::from_utf8(value).map(Some).map_err(|_| HeaderError::Invalid(SESSION_ID))
            }
            Field::Once(_) | Field::Repeated(_) => Err(HeaderError::Invalid(SESSION_ID)),
        }
    }

    /// Returns the trace that a request is said to belong to, and what vendors add. A repeated header says nothing.
    #[must_use]
    pub fn trace(&self) -> Option<(&'a str, Option<&'a str>)> {
        let once = |field| match field {
            Field::Once(value) => std::str::from_utf8(value).ok().map(str::trim),
            Field::Absent | Field::Repeated(_) => None,
        };
        Some((once(self.trace_parent)?, once(self.trace_state)))
    }

    /// Returns the version that a message of a session names, if it names one.
    ///
    /// # Errors
    /// Refuses a repeated header and versions without sessions.
    pub fn session_version(&self) -> Result<Option<Version>, HeaderError> {
        const INVALID: HeaderError = HeaderError::Invalid(PROTOCOL_VERSION);
        match self.version.value() {
            Err(Problem::Missing) => Ok(None),
            Err(_) => Err(INVALID),
            Ok(text) => match Version::parse(&text) {
                Some(version) if !version.is_modern() => Ok(Some(version)),
                _ => Err(INVALID),
            },
        }
    }
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match *self {
            Self::Absent => Self::Once(value),
            Self::Once(first) | Self::Repeated(first) => Self::Repeated(first),
        };
    }

    fn first(self) -> Option<&'a [u8]> {
        match self {
            Self::Absent => None,
            Self::Once(value) | Self::Repeated(value) => Some(value),
        }
    }

    fn value(self) -> Result<Cow<'a, str>, Problem> {
        match self {
            Self::Absent => Err(Problem::Missing),
            Self::Repeated(_) => Err(Problem::Repeated),
            Self::Once(value) => decode_value(value).ok_or(Problem::Malformed),
        }
    }

    fn must_say(self, header: &'static str, wanted: Option<&str>) -> Result<(), HeaderError> {
        let problem = match self.value() {
            Err(problem) => problem,
            Ok(value) if Some(value.as_ref()) == wanted => return Ok(()),
            Ok(_) => Problem::Different,
        };
        Err(HeaderError::Mismatch { header, problem })
    }

    fn may_say(self, header: &'static str, wanted: Option<&str>) -> Result<(), HeaderError> {
        match self {
            Self::Absent => Ok(()),
            _ => self.must_say(header, wanted),
        }
    }
}

/// Finds the era of a message by its metadata and headers.
#[must_use]
pub fn era(headers: &Headers<'_>, message: &Envelope) -> Era {
    let says_version = message.meta().is_some_and(|meta| meta.get(meta_key::PROTOCOL_VERSION).is_some());
    match message {
        Envelope::Response(_) if headers.is_modern() => Era::Bad,
        _ if says_version || headers.is_modern() => Era::Modern,
        Envelope::Request(request) if &*request.method == method::INITIALIZE => Era::Initialize,
        _ if headers.session.first().is_some() => Era::Session,
        _ => Era::Bad,
    }
}

/// Checks a modern request: its metadata, then that the headers repeat it, then the version.
///
/// # Errors
/// Says what is missing or differs.
pub fn check(headers: &Headers<'_>, request: &Request) -> Result<Version, HeaderError> {
    let meta = request.params.as_ref().map(Params::meta);
    let version =
        meta.and_then(Meta::protocol_version).ok_or(HeaderError::MissingMeta(meta_key::PROTOCOL_VERSION))?;
    meta.and_then(Meta::client_capabilities)
        .filter(|capabilities| capabilities.is_object())
        .ok_or(HeaderError::MissingMeta(meta_key::CLIENT_CAPABILITIES))?;
    headers.version.must_say(PROTOCOL_VERSION, Some(&version))?;
    headers.method.must_say(METHOD, Some(&request.method))?;
    if let Some(key) = method::named_param(&request.method) {
        let name = request.params.as_ref().and_then(|params| params.text(key));
        headers.name.must_say(NAME, name.as_deref())?;
    }
    modern(&version)
}

/// Checks a modern notification, for which headers are optional but must not lie.
///
/// # Errors
/// Says what differs.
pub fn check_notification(
    headers: &Headers<'_>,
    notification: &Notification,
) -> Result<Version, HeaderError> {
    let in_body = notification.params.as_ref().and_then(|params| params.meta().protocol_version());
    headers.method.may_say(METHOD, Some(&notification.method))?;
    if let Some(version) = in_body {
        headers.version.may_say(PROTOCOL_VERSION, Some(&version))?;
        return modern(&version);
    }
    let header = PROTOCOL_VERSION;
    modern(&headers.version.value().map_err(|problem| HeaderError::Mismatch { header, problem })?)
}

fn modern(version: &str) -> Result<Version, HeaderError> {
    Version::parse(version)
        .filter(|version| version.is_modern())
        .ok_or_else(|| HeaderError::unsupported(version))
}

fn is_date(value: &[u8]) -> bool {
    value.len() == 10
        && value.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Writes a value so that it survives as a header: plain where possible, else as `=?base64?…?=`.
#[must_use]
pub fn encode_value(value: &str) -> Cow<'_, str> {
    let is_plain = !value.is_empty()
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim_ascii().len() == value.len()
        && encoded_part(value).is_none();
    if is_plain {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("{ENCODED_START}{}{ENCODED_END}", BASE64_STANDARD.encode(value)))
}

/// Reads a header value: outer white space goes, `=?base64?…?=` is undone.
///
/// Bytes that a header must not have, and base64 that is not UTF-8 inside, give `None`.
#[must_use]
pub fn decode_value(value: &[u8]) -> Option<Cow<'_, str>> {
    let trimmed = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !trimmed.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return None;
    }
    match encoded_part(trimmed) {
        Some(part) => String::from_utf8(BASE64_STANDARD.decode(part).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(trimmed)),
    }
}

fn encoded_part(value: &str) -> Option<&str> {
    value.strip_prefix(ENCODED_START)?.strip_suffix(ENCODED_END)
}
