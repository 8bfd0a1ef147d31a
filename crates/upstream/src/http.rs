//! A connection to a Streamable HTTP server: how a request gets there.
//!
//! Nothing of the client's own HTTP request goes on: every header comes from the server's
//! definition or is made here.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response};
use ipnet::IpNet;
use mcphub_wire::{Id, Outcome, header, trace};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::beside::{Beside, is_reachable};
use crate::challenge::Challenge;
use crate::counters::Drops;
use crate::destination::{Destination, HttpRequest};
use crate::era::{Era, KnownEra, era_headers, is_of_other_era};
use crate::error::{Blame, UpstreamError};
use crate::events::Posted;
use crate::key::ConnectionKey;
use crate::legacy::{Cancel, Session};
use crate::outbound::{Body, Outbound};
use crate::outgoing::Outgoing;
use crate::reply::{Sent, Stream};
use crate::response::{Arrival, HttpReply, read_answer};
use crate::roots::{Roots, Telling};
use crate::target::ResolvedHttp;
use crate::watch::{Bus, Feed};

/// How long something may take that nobody waits for.
pub(crate) const BEST_EFFORT: Duration = Duration::from_secs(5);
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METHOD: HeaderName = HeaderName::from_static(header::METHOD);
const NAME: HeaderName = HeaderName::from_static(header::NAME);
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(header::PROTOCOL_VERSION);
const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(trace::TRACESTATE);
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static(header::SESSION_ID);

/// Are headers of one request, beside those of all.
pub(crate) type Own = Vec<(HeaderName, HeaderValue)>;

/// Is what connections need from the outside.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) ids: Arc<AtomicI64>,
    pub(crate) tracker: TaskTracker,
    /// What runs tasks of calls that are dropped, wherever that happens.
    pub(crate) runtime: Handle,
    pub(crate) max_response: usize,
    pub(crate) drops: Drops,
    /// Tells which lists have changed.
    pub(crate) bus: Bus,
}

impl Shared {
    /// Runs something that a drain waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task, &self.runtime);
    }

    pub(crate) fn next_id(&self) -> i64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Is a connection to one server with one set of values.
pub(crate) struct HttpConnection {
    pub(crate) blame: Blame,
    pub(crate) shared: Shared,
    /// Whose connection it is.
    pub(crate) key: ConnectionKey,
    /// The folders of its clients, which a session hears of.
    pub(crate) roots: Roots,
    destination: Destination,
    pub(crate) era: KnownEra,
}

/// Is what came of sending a request.
enum Attempt {
    Taken(Stream),
    /// The server says that it did not take the request: its era or session is another.
    Refused(UpstreamError),
}

impl HttpConnection {
    pub(crate) fn new(
        blame: Blame,
        shared: Shared,
        target: ResolvedHttp,
        (networks, key): (Vec<IpNet>, &ConnectionKey),
    ) -> Result<Arc<Self>, UpstreamError> {
        let destination = Destination::new(target.url.as_str(), target.headers, networks);
        let destination = destination.ok_or_else(|| UpstreamError::UnusableValue {
            server: blame.0.clone(),
            place: "the URL".to_owned(),
            reason: "it can't be sent over HTTP",
        })?;
        let (roots, era) = (Roots::default(), KnownEra::default());
        Ok(Arc::new(Self { blame, shared, key: *key, roots, destination, era }))
    }

    /// Makes sure that the server answers, and in which era.
    pub(crate) async fn settle(self: &Arc<Self>) -> Result<(), UpstreamError> {
        self.era().await.map(|_| ())
    }

    /// Sends a request. One that the server refused because it forgot the session, or changed its
    /// era, was not run, so that it is sent once more.
    pub(crate) async fn send(self: &Arc<Self>, request: &Outgoing) -> Result<Sent, UpstreamError> {
        let mut last = self.blame.unreachable("it refuses every request");
        for _ in 0..2 {
            let era = self.era().await?;
            let id = self.shared.next_id();
            match self.attempt(request, &era, id).await? {
                Attempt::Taken(stream) => return Ok(Sent { stream, id, version: era.version() }),
                Attempt::Refused(error) => {
                    self.forget(&era);
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Returns where a session's news goes; a modern server keeps none.
    pub(crate) async fn feed(self: &Arc<Self>) -> Result<Option<Arc<Feed>>, UpstreamError> {
        Ok(match &*self.era().await? {
            Era::Modern(_) => None,
            Era::Legacy(session) => Some(Arc::clone(&session.feed)),
            Era::Events(session) => Some(session.feed()),
        })
    }

    async fn attempt(
        self: &Arc<Self>,
        request: &Outgoing,
        era: &Era,
        id: i64,
    ) -> Result<Attempt, UpstreamError> {
        if let Era::Events(session) = era {
            let first = self.roots.to_tell(&request.client);
            return Ok(match Box::pin(session.request(request, id, first)).await? {
                Posted::Taken(reply) => Attempt::Taken(Stream::Pipe(reply)),
                Posted::Refused(error) => Attempt::Refused(error),
            });
        }
        let beside = match era {
            Era::Legacy(session) if is_reachable(self, request) => {
                Some(Box::pin(self.begin(request, session, id)).await)
            }
            _ => None,
        };
        let cancel = Cancel::new(self, era, id);
        let response = self.post_request(request, id, era).await?;
        let status = response.status();
        if status.is_success() {
            let reply = Box::new(HttpReply::new(Arc::clone(self), response, id, cancel)?);
            return Ok(Attempt::Taken(Stream::Http { reply, beside }));
        }
        cancel.disarm();
        if matches!(status.as_u16(), 401 | 403) {
            return Err(unauthorized(&self.blame, &response));
        }
        let error =
            status_error(&self.blame, &response).unwrap_or_else(|| self.blame.garbage(status.as_str()));
        if matches!(era, Era::Legacy(session) if session.id.is_some()) && status.as_u16() == 404 {
            return Ok(Attempt::Refused(error));
        }
        match Box::pin(read_answer(self, response, id)).await {
            Ok(Arrival::Response(answer)) if is_of_other_era(&answer.outcome, era) => {
                Ok(Attempt::Refused(error))
            }
            Ok(Arrival::Response(answer)) => {
                let reply = Box::new(HttpReply::ready(Arc::clone(self), answer));
                Ok(Attempt::Taken(Stream::Http { reply, beside: None }))
            }
            _ if matches!(status.as_u16(), 400 | 404 | 405) => Ok(Attempt::Refused(error)),
            _ => Err(error),
        }
    }

    /// Sees to it that what a legacy server says beside a request's own stream reaches it, and that the server has heard of
    /// what it may ask for.
    async fn begin(self: &Arc<Self>, request: &Outgoing, session: &Arc<Session>, id: i64) -> Beside {
        let beside = Beside::new((self, session), id, request);
        if request.waits_for_task() {
            session.hear_from_now_on(self).await;
        }
        if let Some(telling) = self.roots.to_tell(&request.client) {
            let era = Era::Legacy(Arc::clone(session));
            if self.tell(Telling::message(), era_headers(&era)).await {
                telling.heard();
            }
        }
        beside
    }

    pub(crate) async fn post_request(
        &self,
        request: &Outgoing,
        id: i64,
        era: &Era,
    ) -> Result<Response<Body>, UpstreamError> {
        let own = self.request_headers(request, era)?;
        self.post(request.write(id, era.version()), own).await
    }

    /// Makes the headers of a request, which a modern one repeats in words.
    fn request_headers(&self, request: &Outgoing, era: &Era) -> Result<Own, UpstreamError> {
        let mut own = era_headers(era);
        if let Some(trace) = &request.client.trace {
            let said = [(TRACEPARENT, Some(trace.parent())), (TRACESTATE, trace.state().map(str::to_owned))];
            let fit = |(name, text): (_, Option<String>)| Some((name, HeaderValue::try_from(text?).ok()?));
            own.extend(said.into_iter().filter_map(fit));
        }
        if matches!(era, Era::Modern(_)) {
            let method = match &request.method {
                Cow::Borrowed(method) => HeaderValue::from_static(method),
                Cow::Owned(method) => HeaderValue::try_from(method.as_str())
                    .map_err(|_| self.blame.garbage("the name of the method fits into no header"))?,
            };
            own.push((METHOD, method));
            if let Some(name) = &request.name {
                let name = HeaderValue::try_from(header::encode_value(name).as_ref())
                    .map_err(|_| self.blame.garbage("the name of the tool fits into no header"))?;
                own.push((NAME, name));
            }
            for (name, value) in request.param_headers() {
                let unfit = |_| self.blame.garbage(format!("the argument of {name} fits into no header"));
                let value = HeaderValue::try_from(value).map_err(unfit)?;
                let unfit = |_| self.blame.garbage("an argument's header has a name that is none");
                own.push((HeaderName::try_from(name.as_str()).map_err(unfit)?, value));
            }
        }
        Ok(own)
    }

    pub(crate) async fn post(&self, body: Bytes, mut own: Own) -> Result<Response<Body>, UpstreamError> {
        own.extend([(ACCEPT, BOTH), (CONTENT_TYPE, JSON)]);
        self.request(Method::POST, own, body).await
    }

    /// Sends what nobody waits for; whether it arrives changes nothing here.
    pub(crate) async fn post_quietly(&self, body: Bytes, own: Own) {
        self.tell(body, own).await;
    }

    /// Sends what has no answer; says whether the server took it.
    async fn tell(&self, body: Bytes, own: Own) -> bool {
        let sent = tokio::time::timeout(BEST_EFFORT, self.post(body, own)).await;
        let arrived = matches!(sent, Ok(Ok(response)) if response.status().is_success());
        tracing::debug!(server = %self.blame.0, arrived, "sent a notification");
        arrived
    }

    pub(crate) async fn request(
        &self,
        method: Method,
        headers: Own,
        body: Bytes,
    ) -> Result<Response<Body>, UpstreamError> {
        let request = HttpRequest { destination: &self.destination, method, headers, body };
        self.shared.outbound.send(&request).await.map_err(|error| self.blame.send(error))
    }

    /// Is where the requests go.
    pub(crate) const fn destination(&self) -> &Destination {
        &self.destination
    }
}

/// Says that the server refused the credential, and what it wants instead.
pub(crate) fn unauthorized(blame: &Blame, response: &Response<Body>) -> UpstreamError {
    let (server, status) = (blame.0.clone(), response.status().as_u16());
    UpstreamError::Unauthorized { server, status, challenge: Challenge::read(response.headers()) }
}

/// Says what a status means that is no success.
pub(crate) fn status_error(blame: &Blame, response: &Response<Body>) -> Option<UpstreamError> {
    let status = response.status();
    match status.as_u16() {
        200..=299 => None,
        300..=399 => Some(UpstreamError::Redirected { server: blame.0.clone(), to: origin(response) }),
        status @ (429 | 500..=599) => Some(UpstreamError::Failing { server: blame.0.clone(), status }),
        other => Some(blame.garbage(format!("HTTP {other} without a message"))),
    }
}

/// Shows only the origin of a redirect: the rest may repeat a secret.
fn origin(response: &Response<Body>) -> String {
    let location = response.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
    match location.map(url::Url::parse) {
        Some(Ok(url)) => url.origin().ascii_serialization(),
        Some(Err(_)) => "another place on the same host".to_owned(),
        None => "an unknown place".to_owned(),
    }
}

/// Says whether an answer is the one to our request; an error may lack its id.
pub(crate) fn is_ours(id: Option<&Id>, ours: i64, outcome: &Outcome) -> bool {
    match id {
        Some(id) => *id == Id::Integer(ours),
        None => matches!(outcome, Outcome::Error(_)),
    }
}

#[cfg(test)]
impl Shared {
    /// Is all that a connection needs which opens nothing.
    pub(crate) fn alone() -> Self {
        let outbound = Outbound::new(&[], crate::settings::PlainHttp::LoopbackOnly).unwrap();
        Self {
            outbound: Arc::new(outbound),
            ids: Arc::default(),
            tracker: TaskTracker::new(),
            runtime: Handle::current(),
            max_response: 8 << 20,
            drops: Drops::default(),
            bus: Bus::default(),
        }
    }
}
