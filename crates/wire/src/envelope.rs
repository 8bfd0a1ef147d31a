//! The JSON-RPC message around everything: read strictly, once, and taken apart without copying.
//!
//! Members of the envelope that JSON-RPC doesn't name are dropped. Whatever leaves the hub is
//! written anew from the parts kept here, see `message`.

use bytes::Bytes;

use crate::fault::Fault;
use crate::id::Id;
use crate::json::Scanner;
use crate::limits::Limits;
use crate::method;
use crate::object::{Object, refuse_lookalike};
use crate::params::{Meta, Params};
use crate::raw::Raw;

const KNOWN: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// How many messages a batch may hold.
const BATCH: usize = 100;

/// Holds one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// Holds a message that wants an answer.
    Request(Request),
    /// Holds a message that wants none.
    Notification(Notification),
    /// Holds an answer.
    Response(Response),
}

/// Asks the other side to do something and to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Identifies the request among those of its sender.
    pub id: Id,
    /// Names what to do.
    pub method: Box<str>,
    /// Holds the parameters.
    pub params: Option<Params>,
}

/// Tells the other side something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names what happened.
    pub method: Box<str>,
    /// Holds the parameters.
    pub params: Option<Params>,
}

/// Answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Identifies the request; only an error may lack it.
    pub id: Option<Id>,
    /// Holds the answer.
    pub outcome: Outcome,
}

/// Holds how a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Holds the result, always an object.
    Result(Raw),
    /// Holds the error.
    Error(RpcError),
}

/// Says why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// Holds the number of the kind of error.
    pub code: i64,
    /// Holds a sentence for people.
    pub message: Box<str>,
    /// Holds details, depending on the code.
    pub data: Option<Raw>,
}

/// Says why a body is not a message, and whom to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ParseError {
    /// Says what is wrong.
    pub fault: Fault,
    /// Identifies the refused request where that could be read.
    pub id: Option<Id>,
}

impl ParseError {
    /// Returns the JSON-RPC error code to answer with.
    #[must_use]
    pub fn code(&self) -> i64 {
        self.fault.code()
    }

    /// Tells whether the body was too long to be read at all: HTTP says 413.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.fault.is_too_large()
    }
}

impl From<Fault> for ParseError {
    fn from(fault: Fault) -> Self {
        Self { fault, id: None }
    }
}

impl Envelope {
    /// Reads one message of a client.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse(body: &Bytes) -> Result<Self, ParseError> {
        Self::parse_with(body, &Limits::REQUEST)
    }

    /// Reads one message within the given limits.
    ///
    /// # Errors
    /// Says what is wrong with the body.
    pub fn parse_with(body: &Bytes, limits: &Limits) -> Result<Self, ParseError> {
        let mut scanner = Scanner::new(body, limits)?;
        if scanner.peek() == Some(b'[') {
            return Err(Fault::Batch.into());
        }
        let mut draft = Draft::default();
        match draft.read(&mut scanner).and_then(|()| scanner.finish()) {
            Ok(()) => draft.finish(),
            Err(fault) => Err(draft.refuse(fault)),
        }
    }

    /// Reads an array of messages, which only a session of version 2025-03-26 may send.
    ///
    /// # Errors
    /// Refuses the whole array if one message is wrong, if there is none, or if one is `initialize`.
    pub fn parse_batch(body: &Bytes) -> Result<Vec<Self>, ParseError> {
        let mut scanner = Scanner::new(body, &Limits::REQUEST)?;
        let mut drafts = Vec::new();
        scanner.array(|scanner| {
            let mut draft = Draft::default();
            draft.read(scanner)?;
            drafts.push(draft);
            Ok(())
        })?;
        scanner.finish()?;
        let messages = drafts.into_iter().map(Draft::finish).collect::<Result<Vec<_>, _>>()?;
        match messages.iter().any(|message| message.method() == Some(method::INITIALIZE)) {
            _ if messages.is_empty() => Err(Fault::Invalid("a batch must hold a message").into()),
            _ if messages.len() > BATCH => {
                Err(Fault::Invalid("a batch must hold at most 100 messages").into())
            }
            true => Err(Fault::Invalid("initialize must not be part of a batch").into()),
            false => Ok(messages),
        }
    }

    /// Returns the method of a request or notification.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Request(request) => Some(&request.method),
            Self::Notification(notification) => Some(&notification.method),
            Self::Response(_) => None,
        }
    }

    /// Returns the parameters of a request or notification.
    #[must_use]
    pub fn params(&self) -> Option<&Params> {
        match self {
            Self::Request(request) => request.params.as_ref(),
            Self::Notification(notification) => notification.params.as_ref(),
            Self::Response(_) => None,
        }
    }

    /// Returns the metadata of a request or notification.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        self.params().map(Params::meta)
    }
}

/// Collects the members of an envelope in whatever order they come.
#[derive(Default)]
struct Draft {
    version: Option<Raw>,
    /// `Some(None)` is an id that says `null`.
    id: Option<Option<Id>>,
    method: Option<Raw>,
    params: Option<Params>,
    result: Option<Raw>,
    error: Option<Raw>,
    /// The first thing that JSON allows and a message doesn't; told once the id is known.
    fault: Option<Fault>,
}

impl Draft {
    fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if scanner.peek() != Some(b'{') {
            scanner.skip()?;
            self.note(Err(Fault::Invalid("a message must be an object")));
            return Ok(());
        }
        scanner.object(|scanner, key| self.member(scanner, key))
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<(), Fault> {
        match key {
            "jsonrpc" => self.version = Some(scanner.value()?),
            "id" => self.id(&scanner.value()?),
            "method" => self.method = Some(scanner.value()?),
            "params" => self.params(scanner)?,
            "result" => self.result = Some(scanner.value()?),
            "error" => self.error = Some(scanner.value()?),
            other => {
                self.note(refuse_lookalike(other, &KNOWN));
                scanner.skip()?;
            }
        }
        Ok(())
    }

    /// Keeps the id, unless there are two: then nobody knows which one to answer.
    fn id(&mut self, value: &Raw) {
        match (Id::read(value), &self.id) {
            (Ok(id), None) => self.id = Some(id),
            (Ok(_), Some(_)) => self.id = Some(None),
            (Err(fault), _) => self.note(Err(fault)),
        }
    }

    fn params(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if scanner.peek() != Some(b'{') {
            self.note(Err(Fault::Invalid("params must be an object")));
            return scanner.skip();
        }
        let (params, verdict) = Params::read(scanner)?;
        self.note(verdict);
        self.params = Some(params);
        Ok(())
    }

    fn note(&mut self, verdict: Result<(), Fault>) {
        if let (Err(fault), None) = (verdict, &self.fault) {
            self.fault = Some(fault);
        }
    }

    fn refuse(&mut self, fault: Fault) -> ParseError {
        ParseError { fault, id: self.id.take().flatten() }
    }

    fn finish(mut self) -> Result<Envelope, ParseError> {
        if self.version.as_ref().and_then(Raw::text).as_deref() != Some("2.0") {
            self.note(Err(Fault::Invalid("jsonrpc must be \"2.0\"")));
        }
        match self.fault.take() {
            Some(fault) => Err(self.refuse(fault)),
            None => self.build().map_err(|fault| self.refuse(fault)),
        }
    }

    /// Takes the parts; the id goes last, so that a refusal still has it.
    fn build(&mut self) -> Result<Envelope, Fault> {
        match (self.method.take(), self.result.take(), self.error.take()) {
            (Some(method), None, None) => self.build_call(&method),
            (None, Some(result), None) => {
                if !result.is_object() {
                    return Err(Fault::Invalid("a result must be an object"));
                }
                let id = self.id.take().flatten().ok_or(Fault::Invalid("a result must carry an id"))?;
                Ok(Envelope::Response(Response { id: Some(id), outcome: Outcome::Result(result) }))
            }
            (None, None, Some(error)) => {
                let outcome = Outcome::Error(RpcError::read(&error)?);
                Ok(Envelope::Response(Response { id: self.id.take().flatten(), outcome }))
            }
            (None, None, None) => Err(Fault::Invalid("a message must hold a method, a result or an error")),
            _ => Err(Fault::Invalid("a message must hold only one of method, result and error")),
        }
    }

    fn build_call(&mut self, method: &Raw) -> Result<Envelope, Fault> {
        let method = method.text().ok_or(Fault::Invalid("method must be a string"))?.into();
        let params = self.params.take();
        match self.id.take() {
            Some(Some(id)) => Ok(Envelope::Request(Request { id, method, params })),
            Some(None) => Err(Fault::Invalid("the id of a request must not be null")),
            None => Ok(Envelope::Notification(Notification { method, params })),
        }
    }
}

impl RpcError {
    fn read(value: &Raw) -> Result<Self, Fault> {
        const RULE: Fault = Fault::Invalid("an error must be an object with a whole code and a message");
        if !value.is_object() {
            return Err(RULE);
        }
        let object = Object::parse(value)?;
        let code = object.get("code").and_then(Raw::as_integer).ok_or(RULE)?;
        let message = object.text("message").ok_or(RULE)?.into();
        Ok(Self { code, message, data: object.get("data").cloned() })
    }
}
