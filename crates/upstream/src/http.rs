//! A connection to a Streamable HTTP server: which era it speaks, and how a request gets there.
//!
//! Nothing of the client's own HTTP request goes on: every header comes from the server's
//! definition or is made here.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response};
use ipnet::IpNet;
use mcphub_wire::discover::Discovery;
use mcphub_wire::{Id, Outcome, Version, error, header, trace};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::asking::{Asked, can_ask};
use crate::challenge::Challenge;
use crate::counters::Drops;
use crate::destination::{Destination, HttpRequest};
use crate::error::{Blame, UpstreamError};
use crate::events::{EventSession, Posted};
use crate::key::{ConnectionKey, Prefers};
use crate::legacy::{Cancel, Session};
use crate::outbound::{Body, Outbound};
use crate::outgoing::Outgoing;
use crate::reply::{Sent, Stream};
use crate::response::{Arrival, HttpReply, read_answer};
use crate::roots::Roots;
use crate::target::ResolvedHttp;
use crate::watch::{Bus, Feed};

/// How long something may take that nobody waits for.
pub(crate) const BEST_EFFORT: Duration = Duration::from_secs(5);
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METHOD: HeaderName = HeaderName::from_static(header::METHOD);
const NAME: HeaderName = HeaderName::from_static(header::NAME);
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static(header::PROTOCOL_VERSION);
const TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(trace::TRACESTATE);
const SESSION_ID: HeaderName = HeaderName::from_static(header::SESSION_ID);

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
    era: ArcSwapOption<Era>,
    /// Who holds it finds the era out.
    probing: Mutex<()>,
}

/// Says how a server wants to be spoken to.
#[derive(Clone)]
pub(crate) enum Era {
    Modern(Version),
    Legacy(Arc<Session>),
    /// With the stream of 2024-11-05.
    Events(Arc<EventSession>),
}

/// Is what came of sending a request.
enum Attempt {
    Taken(Stream),
    /// The server says that it did not take the request: its era or session is another.
    Refused(UpstreamError),
}

impl Era {
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Modern(version) => *version,
            Self::Legacy(session) => session.version,
            Self::Events(session) => session.version,
        }
    }
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
        let (roots, era, probing) = (Roots::default(), ArcSwapOption::empty(), Mutex::default());
        Ok(Arc::new(Self { blame, shared, key: *key, roots, destination, era, probing }))
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

    /// Opens the stream on which a session's news comes.
    pub(crate) fn hear(self: &Arc<Self>) {
        if let Some(Era::Legacy(session)) = self.era.load_full().as_deref() {
            session.hear(self);
        }
    }

    /// Takes leave of the server, if it keeps a session.
    pub(crate) async fn end(&self) {
        let _probed = self.probing.lock().await;
        // A stream ends with its session.
        if let Some(Era::Legacy(session)) = self.era.swap(None).as_deref() {
            Arc::clone(session).delete(self).await;
        }
    }

    /// Returns the era, finding it out first if need be; others wait meanwhile.
    async fn era(self: &Arc<Self>) -> Result<Arc<Era>, UpstreamError> {
        match self.known_era() {
            Some(era) => Ok(era),
            // Boxed, as whatever a call mostly doesn't do: its state would make that of every call large.
            None => Box::pin(self.find_out()).await,
        }
    }

    /// Returns the era, unless its session has ended.
    fn known_era(&self) -> Option<Arc<Era>> {
        self.era.load_full().filter(|era| !matches!(&**era, Era::Events(session) if session.is_over()))
    }

    async fn find_out(self: &Arc<Self>) -> Result<Arc<Era>, UpstreamError> {
        let _probing = self.probing.lock().await;
        if let Some(era) = self.known_era() {
            return Ok(era);
        }
        let era = Arc::new(self.probe().await?);
        self.era.store(Some(Arc::clone(&era)));
        Ok(era)
    }

    /// Forgets an era that turned out wrong, unless another was found since.
    fn forget(&self, assumed: &Arc<Era>) {
        if let Era::Legacy(session) = &**assumed {
            session.over.cancel();
        }
        self.era.rcu(|known| match known {
            Some(known) if Arc::ptr_eq(known, assumed) => None,
            known => known.clone(),
        });
    }

    /// Finds the era out, beginning with the one that is preferred. Only a clear answer makes a server modern, and no
    /// single code makes it legacy.
    async fn probe(self: &Arc<Self>) -> Result<Era, UpstreamError> {
        if self.key.prefers == Prefers::Modern
            && let Some(version) = self.discover().await?
        {
            return Ok(Era::Modern(version));
        }
        let refused = match Session::open(self).await {
            Ok(session) => return Ok(Era::Legacy(session)),
            // It answers, but not to `initialize`.
            Err(error @ UpstreamError::Garbage { .. }) => error,
            Err(error) => return Err(error),
        };
        if self.key.prefers == Prefers::Legacy
            && let Some(version) = self.discover().await?
        {
            return Ok(Era::Modern(version));
        }
        match EventSession::open(self).await {
            Ok(session) => Ok(Era::Events(session)),
            Err(UpstreamError::Garbage { .. }) => Err(refused),
            Err(error) => Err(error),
        }
    }

    /// Forgets a session that the server has forgotten.
    pub(crate) fn forget_session(&self, session: &Arc<Session>) {
        session.over.cancel();
        let is_it = |era: &Era| matches!(era, Era::Legacy(known) if Arc::ptr_eq(known, session));
        self.era.rcu(|known| known.clone().filter(|known| !is_it(known)));
    }

    /// Asks which modern version the server speaks, if any.
    async fn discover(self: &Arc<Self>) -> Result<Option<Version>, UpstreamError> {
        let newest = Version::V2026_07_28;
        let id = self.shared.next_id();
        let response = self.post_request(&Outgoing::discover(), id, &Era::Modern(newest)).await?;
        let status = response.status().as_u16();
        if let Some(error) = status_error(&self.blame, &response)
            && !matches!(status, 400..=501)
        {
            return Err(error);
        }
        if matches!(status, 401 | 403) {
            return Err(unauthorized(&self.blame, &response));
        }
        match read_answer(self, response, id).await {
            Ok(Arrival::Response(answer)) => Ok(modern_version(&answer.outcome)),
            Ok(Arrival::Other) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        request: &Outgoing,
        era: &Era,
        id: i64,
    ) -> Result<Attempt, UpstreamError> {
        if let Era::Events(session) = era {
            let first = self.roots.to_tell(request.client.abilities);
            return Ok(match session.request(request, id, first).await? {
                Posted::Taken(reply) => Attempt::Taken(Stream::Pipe(reply)),
                Posted::Refused(error) => Attempt::Refused(error),
            });
        }
        let cancel = Cancel::new(self, era, id);
        let asked = match era {
            Era::Legacy(session) if can_ask(self) => Some(Asked::new(session, id, request.client.abilities)),
            _ => None,
        };
        if asked.is_some()
            && let Some(told) = self.roots.to_tell(request.client.abilities)
        {
            Box::pin(self.post_quietly(told, era_headers(era))).await;
        }
        let response = self.post_request(request, id, era).await?;
        let status = response.status();
        if status.is_success() {
            let reply = HttpReply::new(Arc::clone(self), response, id, (cancel, asked))?;
            return Ok(Attempt::Taken(Stream::Http(Box::new(reply))));
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
                let reply = HttpReply::ready(Arc::clone(self), answer);
                Ok(Attempt::Taken(Stream::Http(Box::new(reply))))
            }
            _ if matches!(status.as_u16(), 400 | 404 | 405) => Ok(Attempt::Refused(error)),
            _ => Err(error),
        }
    }

    async fn post_request(
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
        let sent = tokio::time::timeout(BEST_EFFORT, self.post(body, own)).await;
        tracing::debug!(server = %self.blame.0, arrived = matches!(sent, Ok(Ok(_))), "sent a notification");
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

/// Makes the headers that say which version, and which session, a message belongs to.
pub(crate) fn era_headers(era: &Era) -> Own {
    let mut own = Own::with_capacity(6);
    let version = era.version();
    if version >= Version::V2025_06_18 {
        own.push((PROTOCOL_VERSION, HeaderValue::from_static(version.as_str())));
    }
    if let Era::Legacy(session) = era
        && let Some(id) = &session.id
    {
        own.push((SESSION_ID, id.clone()));
    }
    own
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

/// Reads the version out of an answer to `server/discover` that only a modern server gives.
pub(crate) fn modern_version(outcome: &Outcome) -> Option<Version> {
    match outcome {
        Outcome::Result(result) => Discovery::read(result).ok()?.best_version(),
        Outcome::Error(error) => {
            let modern = matches!(
                error.code,
                error::HEADER_MISMATCH
                    | error::MISSING_CLIENT_CAPABILITY
                    | error::UNSUPPORTED_PROTOCOL_VERSION
            );
            let speaks = |version: &Version| match &error.data {
                Some(data) if error.code == error::UNSUPPORTED_PROTOCOL_VERSION => {
                    String::from_utf8_lossy(data).contains(version.as_str())
                }
                _ => true,
            };
            Version::MODERN.into_iter().find(|version| modern && speaks(version))
        }
    }
}

/// Says whether an error means that the server no longer speaks the era that was assumed.
fn is_of_other_era(outcome: &Outcome, era: &Era) -> bool {
    let Outcome::Error(rpc) = outcome else { return false };
    match era {
        Era::Modern(_) => rpc.code == error::UNSUPPORTED_PROTOCOL_VERSION,
        Era::Legacy(_) | Era::Events(_) => {
            matches!(rpc.code, error::HEADER_MISMATCH | error::UNSUPPORTED_PROTOCOL_VERSION)
        }
    }
}

/// Says whether an answer is the one to our request; an error may lack its id.
pub(crate) fn is_ours(id: Option<&Id>, ours: i64, outcome: &Outcome) -> bool {
    match id {
        Some(id) => *id == Id::Integer(ours),
        None => matches!(outcome, Outcome::Error(_)),
    }
}
