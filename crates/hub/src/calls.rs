//! The main job: one tool call.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcphub_domain::audit::{CallStatus, Entry, Refusal};
use mcphub_domain::{
    Actor, Event, Principal, RequestId, Server, ServerId, ServerName, Timestamp, ToolName, UserId,
};
use mcphub_policy::{AskPermit, Denial, Endpoint, Permit, Recorded, World, decide};
use mcphub_store::audit::Intent;
use mcphub_upstream::{Answer, Reply, ReplyMessage, Scope};
use mcphub_wire::shared::{Carrier, share};
use mcphub_wire::{Fault, Object, Outcome, Params, Raw};
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::credentials::SealedValues;
use crate::error::HubError;
use crate::hub::Hub;
use crate::lease::Lease;
use crate::limits::Place;

/// Is a `tools/call` as it came in, its envelope parsed, its arguments raw.
#[derive(Debug)]
pub struct ToolCall {
    /// The endpoint that it came to.
    pub endpoint: Endpoint,
    /// The endpoint's path, for the log.
    pub path: String,
    /// The tool, by its name on that endpoint.
    pub name: String,
    /// The request's parameters.
    pub params: Params,
    /// Names the client's connection, for servers that want one of their own for each.
    pub session: Option<[u8; 32]>,
}

/// Is a call that may be sent: decided, charged, and with its sealed values at hand.
pub(crate) struct Cleared {
    pub(crate) permit: Permit,
    pub(crate) values: SealedValues,
    pub(crate) server: Arc<Server>,
    place: Place,
}

/// Is a running call. Dropped before its end, it is cancelled and recorded as such.
pub struct Running {
    pub(crate) reply: Reply,
    pub(crate) lease: Lease,
    pub(crate) outcome: OutcomeRecord,
    pub(crate) shared: Option<SharedBy>,
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
        Ok(())
    }
}

/// Is what a running call says next.
#[derive(Debug)]
pub enum Said {
    /// A notification about the call, such as progress, with the caller's own token.
    Notification(bytes::Bytes),
    /// The answer.
    Answer(Answer),
    /// The server failed; nothing more follows.
    Failed(HubError),
    /// The caller's right has ended; nothing more follows.
    Revoked,
}

impl Hub {
    /// Runs one tool on behalf of `caller`.
    ///
    /// The order is the security argument: decide, record, unseal, send.
    pub async fn call_tool(&self, caller: &Caller, call: ToolCall) -> Result<Running, HubError> {
        let now = self.clock.now();
        let world = self.snapshot.fresh()?; // too old to trust = refuse
        let cleared = self.permit(&world, caller, &call, now).await?; // route, rights, limits, credentials; a refusal is recorded inside
        let lease = self.lease(&cleared.permit, &call.name);
        let shared = SharedBy::of(call.endpoint, &cleared.server, Carrier::Content);
        let outcome = OutcomeRecord::of(self, &cleared.permit, caller, now);
        let recorded = match self.record_intent(cleared.permit, caller, &call).await {
            Ok(recorded) => recorded, // durable before the effect
            Err(error) => {
                outcome.forget();
                return Err(error);
            }
        };
        let reply = tokio::select! {
            biased;
            () = lease.revoked() => Err(HubError::Revoked),
            reply = self.dispatch(recorded, cleared.server, cleared.values, call) => reply, // unseal, send
        };
        match reply {
            Ok(reply) => Ok(Running { reply, lease, outcome, shared, _place: cleared.place }),
            Err(error) => {
                outcome.end(status_of(&error));
                Err(error)
            }
        }
    }

    pub(crate) async fn permit(
        &self,
        world: &World,
        caller: &Caller,
        call: &ToolCall,
        now: Timestamp,
    ) -> Result<Cleared, HubError> {
        let mut cleared = self.clear(world, caller, call, now).await;
        if is_unknown(&cleared) {
            match Box::pin(self.take_up_first(caller, call.endpoint, &call.name)).await {
                Ok(false) => {}
                Ok(true) => {
                    cleared = self.clear(&*self.snapshot.fresh()?, caller, call, self.clock.now()).await
                }
                Err(error) => cleared = Err(error),
            }
        }
        if let Err(error) = &cleared
            && let Some(denial) = denial_of(error, caller.principal, &call.name)
        {
            match denial.reason() {
                Refusal::RateLimited => {
                    Box::pin(self.floods.note_known(self, caller, denial, "tools/call")).await;
                }
                _ => Box::pin(self.record(caller, denial.into_event("tools/call"))).await,
            }
        }
        cleared
    }

    async fn clear(
        &self,
        world: &World,
        caller: &Caller,
        call: &ToolCall,
        now: Timestamp,
    ) -> Result<Cleared, HubError> {
        self.seal.open()?;
        let permit = decide::call(world, caller.principal, call.endpoint, &call.name, now)?;
        let place =
            self.limits.charge(permit.user(), now).map_err(|after| HubError::RateLimited { after })?;
        let entry = world.server(permit.route().server).ok_or_else(|| gone(&permit))?;
        let server = entry.share();
        let values = self.find_values(permit.user(), &server, entry.needs()).await?;
        self.look_again(permit.user(), &server);
        Ok(Cleared { permit, values, server, place })
    }

    pub(crate) async fn record_intent(
        &self,
        permit: Permit,
        caller: &Caller,
        call: &ToolCall,
    ) -> Result<Recorded, HubError> {
        let arguments = call.params.arguments().map_or(&b""[..], |raw| raw.as_bytes());
        let intent = Intent {
            request: caller.request,
            endpoint: call.path.clone(),
            arguments: hex::encode(Sha256::digest(arguments)),
            personal: self.personal_of(caller).await?,
        };
        let recorded = self.audit.open(permit, intent).await?;
        caller.note_record();
        Ok(recorded)
    }

    pub(crate) async fn dispatch(
        &self,
        recorded: Recorded,
        server: Arc<Server>,
        sealed: SealedValues,
        call: ToolCall,
    ) -> Result<Reply, HubError> {
        let user = recorded.permit().user();
        let scope = call.session.map_or(Scope::Person(user), |session| Scope::Session(user, session));
        let access = self.access(&server, scope, sealed)?;
        let request = mcphub_upstream::ToolCall { server, access, params: call.params, log_level: None };
        // Boxed: else its state would be moved with that of each function around it.
        Ok(Box::pin(self.upstreams.call_tool(recorded, request)).await?)
    }

    /// Leases the call, and decides it once more if the world moved on since the permit.
    fn lease(&self, permit: &Permit, name: &str) -> Lease {
        let lease = self.leases.call(permit, name);
        let newest = self.snapshot.newest();
        if newest.revision() != permit.world() {
            self.leases.review_one(&lease, &newest, self.clock.now());
        }
        lease
    }

    pub(crate) async fn personal_of(&self, caller: &Caller) -> Result<BTreeMap<UserId, String>, HubError> {
        let Some(user) = caller.principal.user() else { return Ok(BTreeMap::new()) };
        let vault = &self.seal.open()?.vault;
        self.personal.seal(vault, user, &caller.personal_fields()).await
    }
}

impl Running {
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
                Some(Ok(ReplyMessage::Final(mut answer))) => {
                    self.outcome.add(size(&answer));
                    self.outcome.finish(status(&answer), code(&answer));
                    Some(match self.shared.as_ref().map_or(Ok(()), |shared| shared.write(&mut answer)) {
                        Ok(()) => Said::Answer(answer),
                        Err(fault) => Said::Failed(HubError::Internal(fault.to_string())),
                    })
                }
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
}

fn status(answer: &Answer) -> CallStatus {
    match &answer.outcome {
        Outcome::Error(_) => CallStatus::ServerError,
        Outcome::Result(result) if is_tool_error(result) => CallStatus::ToolError,
        Outcome::Result(_) => CallStatus::Ok,
    }
}

fn is_tool_error(result: &Raw) -> bool {
    let flag = Object::parse(result).ok().and_then(|object| object.get("isError").cloned());
    flag.is_some_and(|flag| flag.as_bytes() == b"true")
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
    Ask(&'static str),
}

impl OutcomeRecord {
    fn of(hub: &Hub, permit: &Permit, caller: &Caller, started: Timestamp) -> Self {
        let (route, actor) = (permit.route(), Actor::from(permit.principal()));
        let (server, what, request) = (route.server, What::Call(route.tool.clone()), caller.request);
        let open = OpenIntent { actor, server, what, request, started };
        Self { hub: hub.handle(), open: Some(open), bytes: 0 }
    }

    /// Begins with a question.
    pub(crate) fn of_ask(hub: &Hub, permit: &AskPermit, caller: &Caller, method: &'static str) -> Self {
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

    /// Writes nothing: there is no intent.
    pub(crate) fn forget(mut self) {
        self.open = None;
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
                let method = method.to_owned();
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

/// Says whether a call failed because nobody has listed its server yet, or the tool doesn't exist.
fn is_unknown<T>(cleared: &Result<T, HubError>) -> bool {
    matches!(cleared, Err(HubError::Denied(denial)) if denial.reason() == Refusal::UnknownTool)
}

/// Says which refusal an error is, for the log. What isn't a refusal is no record of its own.
fn denial_of(error: &HubError, principal: Principal, name: &str) -> Option<Denial> {
    let refuse = |reason| Some(decide::refuse(principal, reason, Some(name)));
    match error {
        HubError::Denied(denial) => Some(denial.clone()),
        HubError::RateLimited { .. } => refuse(Refusal::RateLimited),
        HubError::MissingCredential(_) => refuse(Refusal::MissingCredential),
        HubError::Sealed => refuse(Refusal::Sealed),
        // Nobody knows what tools its server has, so there was nothing to decide.
        HubError::Upstream(_) => refuse(Refusal::UnknownTool),
        _ => None,
    }
}

fn gone(permit: &Permit) -> HubError {
    HubError::NotFound { what: format!("server {}", permit.route().server_name) }
}
