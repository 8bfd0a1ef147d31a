//! The parameters of a request or notification, and the metadata inside them.

use std::borrow::Cow;
use std::sync::Arc;

use crate::edit::Edit;
use crate::fault::Fault;
use crate::json::Scanner;
use crate::limits::Limits;
use crate::meta_key;
use crate::object::{Member, Object, refuse_lookalike};
use crate::raw::Raw;

/// Lists every key that some revision gives a meaning directly in `params`.
const KNOWN: [&str; 45] = [
    "_meta",
    "argument",
    "arguments",
    "capabilities",
    "clientInfo",
    "context",
    "createdAt",
    "cursor",
    "data",
    "elicitationId",
    "includeContext",
    "inputResponses",
    "lastUpdatedAt",
    "level",
    "logger",
    "maxTokens",
    "message",
    "messages",
    "metadata",
    "mode",
    "modelPreferences",
    "name",
    "notifications",
    "pollInterval",
    "progress",
    "progressToken",
    "protocolVersion",
    "reason",
    "ref",
    "requestId",
    "requestState",
    "requestedSchema",
    "status",
    "statusMessage",
    "stopSequences",
    "systemPrompt",
    "task",
    "taskId",
    "temperature",
    "toolChoice",
    "tools",
    "total",
    "ttl",
    "uri",
    "url",
];

/// Lists the texts that decide where a request goes; they travel on as they were understood.
const AUTHORITY: [&str; 3] = ["name", "uri", "cursor"];

/// Holds the parameters of a message in their order. Copies share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Arc<Parts>);

/// Are the parameters, and those of their texts that decide where a request goes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    object: Object,
    meta: Meta,
    name: Option<Box<str>>,
    uri: Option<Box<str>>,
    cursor: Option<Box<str>>,
}

impl Params {
    /// Returns the name of the tool or prompt.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Returns the URI of the resource.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.0.uri.as_deref()
    }

    /// Returns where a list continues; the empty text is a cursor too.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.0.cursor.as_deref()
    }

    /// Returns about how many bytes they take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.object.members().iter().map(|member| member.key.len() + member.value.len()).sum()
    }

    /// Returns the metadata, empty if there is none.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.0.meta
    }

    /// Returns the arguments as they were sent.
    #[must_use]
    pub fn arguments(&self) -> Option<&Raw> {
        self.get("arguments")
    }

    /// Returns the value of any parameter.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Raw> {
        self.0.object.get(key)
    }

    /// Returns the value of any parameter if it is a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.0.object.text(key)
    }

    /// Returns all parameters in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.0.object.members()
    }

    /// Reads parameters that came inside another message.
    ///
    /// # Errors
    /// Refuses what is no object, or could be read in two ways.
    pub fn parse(value: &Raw) -> Result<Self, Fault> {
        let bytes = value.clone().into_bytes();
        let mut scanner = Scanner::new(&bytes, &Limits::CHECKED)?;
        let (params, verdict) = Self::read(&mut scanner)?;
        scanner.finish()?;
        verdict.map(|()| params)
    }

    /// Returns the changed parameters.
    ///
    /// # Errors
    /// Refuses a change that makes them ambiguous.
    pub fn edited(&self, edit: &Edit) -> Result<Self, Fault> {
        edit.apply_to_params(Some(self)).map_or_else(|| Ok(Self::default()), |changed| Self::parse(&changed))
    }

    /// Reads an object; the second value is the first thing that JSON allows and a message doesn't.
    pub(crate) fn read(scanner: &mut Scanner<'_>) -> Result<(Self, Result<(), Fault>), Fault> {
        let mut params = Parts::default();
        let mut verdict = Ok(());
        scanner.object(|scanner, key| {
            if verdict.is_ok() {
                verdict = refuse_lookalike(key, &KNOWN);
            }
            let start = scanner.position();
            if key == "_meta" && scanner.peek() == Some(b'{') {
                params.meta = Meta { object: Object::read(scanner)? };
            } else {
                scanner.skip()?;
            }
            let value = scanner.since(start);
            if key == "_meta" && !value.is_object() && verdict.is_ok() {
                verdict = Err(Fault::Invalid("params._meta must be an object"));
            }
            params.add(key, value);
            Ok(())
        })?;
        Ok((Self(Arc::new(params)), verdict))
    }
}

impl Parts {
    fn add(&mut self, key: &str, value: Raw) {
        let value = if AUTHORITY.contains(&key) { value.canonical() } else { value };
        let text = || value.text().map(Into::into);
        match key {
            "name" => self.name = text(),
            "uri" => self.uri = text(),
            "cursor" => self.cursor = text(),
            _ => {}
        }
        self.object.push(key, value);
    }
}

/// Holds the members of `_meta`; what the hub doesn't know is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    object: Object,
}

impl Meta {
    /// Returns the token under which the client wants to hear of progress.
    #[must_use]
    pub fn progress_token(&self) -> Option<&Raw> {
        self.get(meta_key::PROGRESS_TOKEN)
    }

    /// Returns the protocol version of a modern request.
    #[must_use]
    pub fn protocol_version(&self) -> Option<Cow<'_, str>> {
        self.text(meta_key::PROTOCOL_VERSION)
    }

    /// Returns the capabilities that the client declared for this request.
    #[must_use]
    pub fn client_capabilities(&self) -> Option<&Raw> {
        self.get(meta_key::CLIENT_CAPABILITIES)
    }

    /// Returns what the client says about its software; never a reason to allow anything.
    #[must_use]
    pub fn client_info(&self) -> Option<&Raw> {
        self.get(meta_key::CLIENT_INFO)
    }

    /// Returns the lowest level of log messages that the client wants.
    #[must_use]
    pub fn log_level(&self) -> Option<Cow<'_, str>> {
        self.text(meta_key::LOG_LEVEL)
    }

    /// Returns the value of any key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Raw> {
        self.object.get(key)
    }

    /// Returns the value of any key if it is a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.object.text(key)
    }

    /// Returns all members in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.object.members()
    }
}
