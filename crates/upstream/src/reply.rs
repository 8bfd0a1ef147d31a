//! What comes back from a call: notifications as they come, then one answer.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use mcphub_wire::answer::ResultType;
use mcphub_wire::{
    Abilities, Edit, Fault, Id, InputRequired, LogLevel, Notification, Outcome, Raw, Response, Version,
    message, method, progress, task,
};
use tokio::time::timeout_at;

use crate::beside::Beside;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::error::{Blame, Phase, UpstreamError};
use crate::inquiry::Inquiry;
use crate::outgoing::Outgoing;
use crate::pipe::PipeReply;
use crate::pool::Lease;
use crate::related::{TaskNames, TaskProgress};
use crate::response::HttpReply;
use crate::trial::Trial;

/// How long a connection is kept at most for a task that nobody asks after.
const LONGEST_TASK: Duration = Duration::from_mins(60);

/// Is the server's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The result or the error, as the server wrote it.
    pub outcome: Outcome,
    /// The version that the server speaks; the result is in its words.
    pub version: Version,
    /// What the server expects next.
    pub expects: ResultType,
}

/// Is one thing that a call brings.
#[derive(Debug)]
pub enum ReplyMessage {
    /// A notification for the client, ready to be sent on; progress carries the client's own token.
    Notification(Bytes),
    /// What the server asks of the client; its answer is awaited.
    Inquiry(Inquiry),
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
    /// Both names of the task that the request is about.
    task: Option<TaskNames>,
    /// The client wants a task, in the words of 2025-11-25.
    wants_task: bool,
    method: Cow<'static, str>,
    abilities: Abilities,
    log_level: Option<LogLevel>,
    version: Version,
    deadline: Deadline,
    trial: Option<Trial>,
    is_over: bool,
    lease: Lease,
    blame: Blame,
}

/// Is where a call's messages come from.
pub(crate) enum Stream {
    Http {
        reply: Box<HttpReply>,
        /// What comes for the call on the stream of its session.
        beside: Option<Beside>,
    },
    Pipe(PipeReply),
}

/// Is one message of a stream.
pub(crate) enum Step {
    Notification(Notification),
    Inquiry(Inquiry),
    Final(Response),
}

/// Is a call that was sent.
pub(crate) struct Sent {
    pub(crate) stream: Stream,
    pub(crate) id: i64,
    pub(crate) version: Version,
}

impl Stream {
    /// Waits for what comes next. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, UpstreamError> {
        match self {
            Self::Http { reply, beside: None } => reply.next().await,
            Self::Http { reply, beside: Some(beside) } => tokio::select! {
                biased;
                step = beside.next() => Ok(step),
                step = reply.next() => step,
            },
            Self::Pipe(reply) => reply.next().await,
        }
    }
}

impl Reply {
    pub(crate) fn new(sent: Sent, request: Outgoing, deadline: Deadline, trial: Trial, lease: Lease) -> Self {
        let Sent { stream, id, version } = sent;
        let wants_task = request.wants_task(version);
        // How long a task goes on says nothing of its server.
        let trial = match request.waits_for_task() {
            true => {
                trial.end(Ok(()));
                None
            }
            false => Some(trial),
        };
        let Outgoing { method, token, client, task, .. } = request;
        let Client { abilities, log_level, .. } = client;
        let blame = lease.blame();
        Self {
            stream,
            id,
            token,
            task,
            wants_task,
            method,
            abilities,
            log_level,
            version,
            deadline,
            trial,
            lease,
            blame,
            is_over: false,
        }
    }

    /// Names the version that the server speaks.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the tokens of the call's progress, for the task that it may become: a modern server has none then.
    pub fn progress(&self) -> Option<TaskProgress> {
        let here = self.token.clone().filter(|_| !self.version.is_modern())?;
        Some(TaskProgress { here, there: self.id })
    }

    /// Goes on for another request of the same client: what it can do, what it wants to hear, and its token.
    pub fn go_on_for(&mut self, client: &Client, token: Option<Raw>) {
        (self.abilities, self.log_level, self.token) = (client.abilities, client.log_level, token);
    }

    /// Waits for the next message; after the answer or an error there is none.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<ReplyMessage, UpstreamError>> {
        if self.is_over {
            return None;
        }
        loop {
            match self.step().await {
                Ok(Step::Notification(notification)) => {
                    if let Some(bytes) = self.rewrite(&notification) {
                        return Some(Ok(ReplyMessage::Notification(bytes)));
                    }
                }
                Ok(Step::Inquiry(inquiry)) => {
                    if let Some(inquiry) = self.admit(inquiry) {
                        return Some(Ok(ReplyMessage::Inquiry(inquiry)));
                    }
                }
                Ok(Step::Final(response)) => {
                    let answer = self.conclude(response.outcome);
                    self.finish(answer.as_ref().map(|_| ()).map_err(|error| (error, Phase::Asking)));
                    return Some(answer.map(ReplyMessage::Final));
                }
                Err(error) => {
                    self.finish(Err((&error, Phase::Asking)));
                    return Some(Err(error));
                }
            }
        }
    }

    /// Waits for the answer and drops what comes before it.
    pub async fn answer(mut self) -> Result<Answer, UpstreamError> {
        loop {
            match self.next().await {
                Some(Ok(ReplyMessage::Final(answer))) => return Ok(answer),
                Some(Ok(ReplyMessage::Notification(_) | ReplyMessage::Inquiry(_))) => {}
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

    /// Reads the answer, and gives a task in it the name that the client knows.
    fn conclude(&self, outcome: Outcome) -> Result<Answer, UpstreamError> {
        let expects = self.check(&outcome)?;
        if let (ResultType::Task, Outcome::Result(result)) = (expects, &outcome) {
            // A session or process that ended for nobody using it would take its task along.
            self.lease.keep(task::lifetime(result, self.version).unwrap_or(LONGEST_TASK).min(LONGEST_TASK));
        }
        let outcome = match &self.task {
            Some(task) => {
                task.outcome_to_client(outcome).map_err(|fault| self.blame.garbage(fault.to_string()))?
            }
            None => outcome,
        };
        Ok(Answer { outcome, version: self.version, expects })
    }

    /// Lets a server ask what the client can do, and gives it time for the answer.
    fn admit(&mut self, inquiry: Inquiry) -> Option<Inquiry> {
        if self.abilities.allow(&inquiry.method, inquiry.params.as_ref()) {
            self.deadline.wait_for_client();
            // It answers; how long a person thinks says nothing of it, and keeps nobody else waiting.
            self.tell(Ok(()));
            return Some(inquiry.about(self.task.as_ref()));
        }
        inquiry.refuse("the client can't do this");
        None
    }

    /// Reads what the server expects next. A result that isn't complete is refused, unless the client can go on with it.
    fn check(&self, outcome: &Outcome) -> Result<ResultType, UpstreamError> {
        let Outcome::Result(result) = outcome else { return Ok(ResultType::Complete) };
        if !self.version.is_modern() {
            let is_task = self.wants_task && task::is_begun(result);
            return Ok(if is_task { ResultType::Task } else { ResultType::Complete });
        }
        let garbage = |fault: Fault| self.blame.garbage(fault.to_string());
        let expects = ResultType::read(result).map_err(garbage)?;
        let goes_on = match expects {
            ResultType::Complete => true,
            ResultType::InputRequired => {
                InputRequired::read(result, self.abilities).map_err(garbage)?;
                method::may_require_input(&self.method)
            }
            ResultType::Task => self.method == method::TOOLS_CALL && self.abilities.takes_tasks(),
        };
        match goes_on {
            true => Ok(expects),
            false => {
                Err(self.blame.garbage("its result isn't complete, though the client can't go on with it"))
            }
        }
    }

    fn finish(&mut self, ended: Result<(), (&UpstreamError, Phase)>) {
        self.is_over = true;
        self.tell(ended);
    }

    fn tell(&mut self, ended: Result<(), (&UpstreamError, Phase)>) {
        if let Some(trial) = self.trial.take() {
            trial.end(ended);
        }
    }

    /// Turns a server's notification into one for the client, if it is for this call at all.
    fn rewrite(&mut self, notification: &Notification) -> Option<Bytes> {
        let renamed = self.task.as_ref().and_then(|task| task.notification_to_client(notification));
        let notification = renamed.as_ref().unwrap_or(notification);
        match &*notification.method {
            method::PROGRESS => {
                let is_own = progress::token(notification) == Some(Id::Integer(self.id));
                let of_task = self.task.as_ref().and_then(|task| task.token(notification));
                if is_own || of_task.is_some() {
                    self.deadline.extend();
                }
                let token = if is_own { self.token.as_ref() } else { of_task };
                token.map(|token| progress::with_token(notification, token))
            }
            method::MESSAGE if self.log_level.is_some_and(|lowest| LogLevel::of(notification) >= lowest) => {
                let params = notification.params.as_ref();
                Some(message::notification(method::MESSAGE, params, &Edit::new()))
            }
            method::TASK_STATUS if renamed.is_some() => {
                Some(message::notification(method::TASK_STATUS, notification.params.as_ref(), &Edit::new()))
            }
            _ => None,
        }
    }
}
