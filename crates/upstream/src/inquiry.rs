//! What a legacy server asks in the middle of a call: the client's model, the person, the client's folders.

use std::sync::Arc;

use bytes::Bytes;
use mcphub_wire::{Id, Outcome, Params, Raw, Request, error, message, method};

use crate::era::{Era, era_headers};
use crate::http::HttpConnection;
use crate::legacy::Session;
use crate::pipe::Pipe;
use crate::related::TaskNames;

/// Is a question of a server. Dropped unanswered, it is answered with an error.
#[derive(Debug)]
pub struct Inquiry {
    /// Names what is asked for: `sampling/createMessage`, `elicitation/create` or `roots/list`.
    pub method: Box<str>,
    /// Holds the parameters as the server sent them.
    pub params: Option<Params>,
    id: Id,
    back: Option<Back>,
    /// The task in whose course it asks.
    task: Option<TaskNames>,
}

/// Is the way back to the server.
pub(crate) enum Back {
    Http(Arc<HttpConnection>, Arc<Session>),
    Pipe(Arc<Pipe>),
}

impl Inquiry {
    pub(crate) fn new(request: Request, back: Back) -> Self {
        let Request { id, method, params } = request;
        Self { method, params, id, back: Some(back), task: None }
    }

    /// Gives the task that the question may be about the name that the client knows.
    pub(crate) fn about(mut self, task: Option<&TaskNames>) -> Self {
        if let Some(task) = task {
            self.params = self.params.as_ref().map(|params| task.to_client(params));
            self.task = Some(task.clone());
        }
        self
    }

    /// Sends the client's answer to the server.
    pub fn answer(mut self, outcome: &Outcome) {
        let renamed = self.task.as_ref().map(|task| task.to_server(outcome));
        self.send(match renamed.as_ref().unwrap_or(outcome) {
            Outcome::Result(result) => message::result(&self.id, result),
            Outcome::Error(error) => {
                message::error(Some(&self.id), error.code, &error.message, error.data.as_ref())
            }
        });
    }

    /// Tells the server that nobody can be asked.
    pub fn refuse(mut self, reason: &str) {
        self.send(message::error(Some(&self.id), error::METHOD_NOT_FOUND, reason, None));
    }

    fn send(&mut self, body: Bytes) {
        if let Some(back) = self.back.take() {
            back.send(body);
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        let body = message::error(Some(&self.id), error::INTERNAL_ERROR, "the client gave no answer", None);
        self.send(body);
    }
}

impl Back {
    pub(crate) fn send(self, body: Bytes) {
        match self {
            Self::Http(connection, session) => {
                let headers = era_headers(&Era::Legacy(session));
                let shared = connection.shared.clone();
                shared.spawn(async move { connection.post_quietly(body, headers).await });
            }
            Self::Pipe(pipe) => pipe.send_soon(body),
        }
    }
}

impl std::fmt::Debug for Back {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Back")
    }
}

/// Answers what no client needs to be asked for, or says that the hub doesn't offer it.
pub(crate) fn own_answer(request: &Request) -> Option<Bytes> {
    match &*request.method {
        method::PING => Some(message::result(&request.id, &Raw::empty_object())),
        method::SAMPLING | method::ELICITATION | method::ROOTS_LIST => None,
        _ => Some(refusal(request, "the hub does not offer this method")),
    }
}

/// Refuses a request.
pub(crate) fn refusal(request: &Request, reason: &str) -> Bytes {
    message::error(Some(&request.id), error::METHOD_NOT_FOUND, reason, None)
}
