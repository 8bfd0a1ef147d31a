//! What runs at a server: a call or a question, what it says, and the record of its end.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::{Actor, Event, RequestId, Server, ServerId, ServerName, Timestamp, ToolName};
use mcphub_policy::{AskPermit, Endpoint, Permit};
use mcphub_upstream::{Answer, Inquiry, Reply, ReplyMessage, UpstreamError};
use mcphub_wire::shared::{Carrier, share, share_data};
use mcphub_wire::{Fault, Outcome, Raw, RpcError};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::lease::Lease;
use crate::limits::Place;
use crate::tasks::Began;

/// Is a running call. Dropped before its end, it is cancelled and recorded as such.
pub struct Running {
    pub(crate) reply: Reply,
    pub(crate) lease: Lease,
    pub(crate) outcome: OutcomeRecord,
    pub(crate) shared: Option<SharedBy>,
    /// Whose task it may become: the server, and the tool by its name on the endpoint.
    pub(crate) began: Option<(ServerId, String)>,
    pub(crate) _place: Place,
}

/// Says whose the URIs in an answer are, on an endpoint that several servers share.
pub(crate) struct SharedBy {
    server: ServerName,
    carrier: Carrier,
}

impl SharedBy {
    /// Says it for an endpoint; on one server's own, URIs stay as they are.
    pub(crate) fn of(endpoint: Endpoint, server: &Server, carrier: Carrier) -> Option<Self> {
        let is_shared = !matches!(endpoint, Endpoint::Server(_));
        is_shared.then(|| Self { server: server.name.clone(), carrier })
    }

    fn write(&self, answer: &mut Answer) -> Result<(), Fault> {
        if let Outcome::Result(result) = &mut answer.outcome {
            *result = share(result, self.carrier, self.server.as_str())?;
        }
        if let Outcome::Error(RpcError { data: Some(data), .. }) = &mut answer.outcome {
            *data = share_data(data, self.server.as_str())?;
        }
        Ok(())
    }

    fn garbage(&self, fault: &Fault) -> HubError {
        UpstreamError::Garbage { server: self.server.clone(), reason: fault.to_string() }.into()
    }
}

/// Is what a running call says next.
#[derive(Debug)]
pub enum Said {
    /// A notification about the call, such as progress, with the caller's own token.
    Notification(bytes::Bytes),
    /// What the server asks of the client; its answer is awaited.
    Inquiry(Inquiry),
    /// The answer.
    Answer(Answer),
    /// The server failed; nothing more follows.
    Failed(HubError),
    /// The caller's right has ended; nothing more follows.
    Revoked,
}

impl Running {
    /// Lets go of all but the caller's right, between two rounds of a request.
    pub fn into_lease(self) -> Lease {
        self.lease
    }

    /// Says which call runs, for the task that it may become.
    pub fn began(&self) -> Option<Began<'_>> {
        let (server, tool) = self.began.as_ref()?;
        Some(Began { server: *server, tool, progress: self.reply.progress() })
    }

    /// Names its server, until it is over.
    pub(crate) fn server(&self) -> Option<ServerId> {
        self.outcome.open.as_ref().map(|open| open.server)
    }

    /// Waits until the caller's right has ended.
    pub async fn revoked(&self) {
        self.lease.revoked().await;
    }

    /// Waits for what the call says next; nothing after the answer.
    pub async fn next(&mut self) -> Option<Said> {
        if self.outcome.is_over() {
            return None;
        }
        tokio::select! {
            biased;
            () = self.lease.revoked() => {
                self.outcome.finish(CallStatus::Revoked, None);
                Some(Said::Revoked)
            }
            message = self.reply.next() => match message {
                Some(Ok(ReplyMessage::Notification(bytes))) => {
                    self.outcome.add(bytes.len());
                    Some(Said::Notification(bytes))
                }
                Some(Ok(ReplyMessage::Inquiry(inquiry))) => Some(Said::Inquiry(inquiry)),
                Some(Ok(ReplyMessage::Final(answer))) => Some(self.end(answer)),
                Some(Err(error)) => {
                    self.outcome.finish(CallStatus::Unreachable, None);
                    Some(Said::Failed(error.into()))
                }
                None => {
                    self.outcome.finish(CallStatus::Unreachable, None);
                    None
                }
            },
        }
    }

    fn end(&mut self, mut answer: Answer) -> Said {
        self.outcome.add(size(&answer));
        if let Some(shared) = &self.shared
            && let Err(fault) = shared.write(&mut answer)
        {
            let error = shared.garbage(&fault);
            self.outcome.finish(CallStatus::Unreachable, None);
            return Said::Failed(error);
        }
        self.outcome.finish(status(&answer), code(&answer));
        Said::Answer(answer)
    }
}

fn status(answer: &Answer) -> CallStatus {
    match &answer.outcome {
        Outcome::Error(_) => CallStatus::ServerError,
        Outcome::Result(result) if is_tool_error(result) => CallStatus::ToolError,
        Outcome::Result(_) => CallStatus::Ok,
    }
}

fn is_tool_error(result: &Raw) -> bool {
    matches!(result.member("isError"), Ok(Some(flag)) if flag.as_bytes() == b"true")
}

const fn code(answer: &Answer) -> Option<i64> {
    match &answer.outcome {
        Outcome::Error(error) => Some(error.code),
        Outcome::Result(_) => None,
    }
}

fn size(answer: &Answer) -> usize {
    match &answer.outcome {
        Outcome::Result(result) => result.len(),
        Outcome::Error(error) => error.message.len() + error.data.as_ref().map_or(0, |data| data.len()),
    }
}

/// Writes the second record of a call or a question when it ends, however it ends.
pub(crate) struct OutcomeRecord {
    hub: std::sync::Weak<Hub>,
    open: Option<OpenIntent>,
    bytes: u64,
}

/// Is what the outcome's record repeats of its intent.
struct OpenIntent {
    actor: Actor,
    server: ServerId,
    what: What,
    request: RequestId,
    started: Timestamp,
}

/// Is what the server was to do.
enum What {
    Call(ToolName),
    Ask(Cow<'static, str>),
}

impl OutcomeRecord {
    pub(crate) fn of(hub: &Hub, permit: &Permit, caller: &Caller, started: Timestamp) -> Self {
        let (route, actor) = (permit.route(), Actor::from(permit.principal()));
        let (server, what, request) = (route.server, What::Call(route.tool.clone()), caller.request);
        let open = OpenIntent { actor, server, what, request, started };
        Self { hub: hub.handle(), open: Some(open), bytes: 0 }
    }

    /// Begins with a question.
    pub(crate) fn of_ask(hub: &Hub, permit: &AskPermit, caller: &Caller, method: Cow<'static, str>) -> Self {
        let (server, what, request) = (permit.server(), What::Ask(method), caller.request);
        let (actor, started) = (Actor::from(permit.principal()), permit.decided_at());
        let open = OpenIntent { actor, server, what, request, started };
        Self { hub: hub.handle(), open: Some(open), bytes: 0 }
    }

    /// Counts bytes of an answer.
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    const fn is_over(&self) -> bool {
        self.open.is_none()
    }

    pub(crate) fn end(mut self, status: CallStatus) {
        self.finish(status, None);
    }

    fn finish(&mut self, status: CallStatus, code: Option<i64>) {
        let (Some(open), Some(hub)) = (self.open.take(), self.hub.upgrade()) else { return };
        let OpenIntent { actor, server, what, request, started } = open;
        let at = hub.clock.now();
        let took = at.since(started);
        let (micros, bytes) = (u64::try_from(took.as_micros()).unwrap_or(u64::MAX), self.bytes);
        let event = match what {
            What::Call(tool) => {
                hub.counters.ended(status, took);
                Event::CallOutcome { server, tool, status, code, bytes, micros }
            }
            What::Ask(method) => {
                let method = method.into_owned();
                Event::AskOutcome { server, method, status, code, bytes, micros }
            }
        };
        hub.append_soon(Entry { at, actor, event, request: Some(request), personal: BTreeMap::new() });
    }
}

impl Drop for OutcomeRecord {
    fn drop(&mut self) {
        self.finish(CallStatus::Cancelled, None);
    }
}

/// Says how a call ended that was never sent.
pub(crate) const fn status_of(error: &HubError) -> CallStatus {
    match error {
        HubError::Revoked => CallStatus::Revoked,
        _ => CallStatus::Unreachable,
    }
}
