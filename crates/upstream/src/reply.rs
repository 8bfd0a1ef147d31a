//! What comes back from a call: notifications as they come, then one answer.

use bytes::Bytes;
use mcphub_wire::answer::ResultType;
use mcphub_wire::{Edit, Id, Notification, Outcome, Raw, Response, Version, message, method, progress};
use tokio::time::timeout_at;

use crate::deadline::Deadline;
use crate::error::{Blame, Phase, UpstreamError};
use crate::pipe::StdioReply;
use crate::pool::Lease;
use crate::response::HttpReply;
use crate::trial::Trial;

/// Is the server's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The result or the error, as the server wrote it.
    pub outcome: Outcome,
    /// The version that the server speaks; the result is in its words.
    pub version: Version,
}

/// Is one thing that a call brings.
#[derive(Clone, Debug)]
pub enum ReplyMessage {
    /// A notification for the client, ready to be sent on; progress carries the client's own token.
    Notification(Bytes),
    /// The answer; nothing follows.
    Final(Answer),
}

/// Brings what comes back from a call. Dropping it before the answer cancels the call.
pub struct Reply {
    stream: Stream,
    /// The hub's id and progress token of this call.
    id: i64,
    /// The client's progress token.
    token: Option<Raw>,
    version: Version,
    deadline: Deadline,
    trial: Option<Trial>,
    lease: Lease,
    blame: Blame,
}

/// Is where a call's messages come from.
pub(crate) enum Stream {
    Http(Box<HttpReply>),
    Stdio(StdioReply),
}

/// Is one message of a stream.
pub(crate) enum Step {
    Notification(Notification),
    Final(Response),
}

/// Is a call that was sent.
pub(crate) struct Sent {
    pub(crate) stream: Stream,
    pub(crate) id: i64,
    pub(crate) version: Version,
}

impl Stream {
    async fn next(&mut self) -> Result<Step, UpstreamError> {
        match self {
            Self::Http(reply) => reply.next().await,
            Self::Stdio(reply) => reply.next().await,
        }
    }
}

impl Reply {
    pub(crate) fn new(
        sent: Sent,
        token: Option<Raw>,
        deadline: Deadline,
        trial: Trial,
        lease: Lease,
    ) -> Self {
        let Sent { stream, id, version } = sent;
        let blame = lease.blame();
        Self { stream, id, token, version, deadline, trial: Some(trial), lease, blame }
    }

    /// Names the version that the server speaks.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Waits for the next message; after the answer or an error there is none.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<ReplyMessage, UpstreamError>> {
        self.trial.as_ref()?;
        loop {
            match self.step().await {
                Ok(Step::Notification(notification)) => {
                    if let Some(bytes) = self.rewrite(&notification) {
                        return Some(Ok(ReplyMessage::Notification(bytes)));
                    }
                }
                Ok(Step::Final(response)) => {
                    let answer = Answer { outcome: response.outcome, version: self.version };
                    if let Err(error) = self.check(&answer) {
                        self.finish(Err((&error, Phase::Asking)));
                        return Some(Err(error));
                    }
                    self.finish(Ok(()));
                    return Some(Ok(ReplyMessage::Final(answer)));
                }
                Err(error) => {
                    self.finish(Err((&error, Phase::Asking)));
                    return Some(Err(error));
                }
            }
        }
    }

    /// Waits for the answer and drops the notifications before it.
    pub async fn answer(mut self) -> Result<Answer, UpstreamError> {
        loop {
            match self.next().await {
                Some(Ok(ReplyMessage::Final(answer))) => return Ok(answer),
                Some(Ok(ReplyMessage::Notification(_))) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(self.blame.garbage("no answer")),
            }
        }
    }

    async fn step(&mut self) -> Result<Step, UpstreamError> {
        tokio::select! {
            biased;
            () = self.lease.closed() => Err(self.blame.closed()),
            step = timeout_at(self.deadline.at(), self.stream.next()) => {
                step.unwrap_or_else(|_| Err(self.blame.timed_out(self.deadline.span())))
            }
        }
    }

    /// Refuses a result that isn't complete: a modern server may say so only to a client that can go on, and the hub
    /// tells servers of no such capability.
    fn check(&self, answer: &Answer) -> Result<(), UpstreamError> {
        let Outcome::Result(result) = &answer.outcome else { return Ok(()) };
        if !self.version.is_modern() {
            return Ok(());
        }
        match ResultType::read(result) {
            Ok(ResultType::Complete) => Ok(()),
            Ok(_) => Err(self
                .blame
                .garbage("its result isn't complete, though nothing was asked that would allow that")),
            Err(fault) => Err(self.blame.garbage(fault.to_string())),
        }
    }

    fn finish(&mut self, ended: Result<(), (&UpstreamError, Phase)>) {
        if let Some(trial) = self.trial.take() {
            trial.end(ended);
        }
    }

    /// Turns a server's notification into one for the client, if it is for this call at all.
    fn rewrite(&mut self, notification: &Notification) -> Option<Bytes> {
        match &*notification.method {
            method::PROGRESS if progress::token(notification) == Some(Id::Integer(self.id)) => {
                self.deadline.extend();
                self.token.as_ref().map(|token| progress::with_token(notification, token))
            }
            method::MESSAGE => {
                let params = notification.params.as_ref();
                Some(message::notification(method::MESSAGE, params, &Edit::new()))
            }
            _ => None,
        }
    }
}
