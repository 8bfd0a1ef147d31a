//! Clients of 2024-11-05 over HTTP: `GET /sse` is the stream on which everything comes, and `POST /messages`, whose
//! address the stream names first, takes each message to the hub. The session is an ordinary one of the legacy era.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use mcphub_domain::Principal;
use mcphub_hub::{HubError, Lease, Session};
use mcphub_wire::sse::{Event, KEEP_ALIVE, encode};
use mcphub_wire::{self as wire, Edit, Envelope, error, message, method};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answer::{Last, Refused, failed};
use super::changes::Changes;
use super::legacy::{Answering, Ongoing, answer_request, id_of, in_itself, open_session, take_note};
use super::post::{malformed, receive, unreadable};
use super::streaming::{Message, Messages, Outlet, SILENCE, channel, event, event_stream};
use super::visit::Visit;
use super::{client, live};
use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::peer;

/// The stream of all servers.
pub(super) const STREAM: &str = "/sse";
/// The stream of one server.
pub(super) const NAMED_STREAM: &str = "/sse/{name}";
/// Where messages to all servers go.
pub(super) const MESSAGES: &str = "/messages";
/// Where messages to one server go.
pub(super) const NAMED_MESSAGES: &str = "/messages/{name}";
/// How long a client may take to say `initialize`.
const PATIENCE: Duration = Duration::from_secs(30);

/// Remembers which streams are open, by the id in the address that each names.
#[derive(Clone, Default)]
pub(in crate::http) struct Channels(Arc<Mutex<HashMap<String, Arc<Channel>>>>);

/// Is one open stream.
struct Channel {
    /// Who opened it, and where: nobody else's messages are taken.
    principal: Principal,
    path: String,
    outlet: Outlet,
    /// Whether a session is being opened for it.
    is_claimed: AtomicBool,
    /// The session's id, as soon as there is one.
    session: OnceLock<String>,
}

/// Keeps a stream remembered.
struct Kept {
    channels: Channels,
    id: String,
}

/// Is what a stream needs to go on.
struct Open {
    greeting: Option<Bytes>,
    messages: Messages,
    lease: Lease,
    stopping: CancellationToken,
    channel: Arc<Channel>,
    until: Instant,
    _kept: Kept,
}

/// Names a stream in the address of a message.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "sessionId")]
    session: String,
}

impl Channels {
    fn add(&self, id: &str, channel: &Arc<Channel>) -> Kept {
        self.0.lock().insert(id.to_owned(), Arc::clone(channel));
        Kept { channels: self.clone(), id: id.to_owned() }
    }

    /// Finds a stream of the visitor's; another person's is as unknown as one that never was.
    fn find(&self, id: &str, visit: &Visit) -> Option<Arc<Channel>> {
        let channel = self.0.lock().get(id).cloned()?;
        let is_hers = channel.principal == visit.caller.principal() && channel.path == visit.path;
        is_hers.then_some(channel)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.channels.0.lock().remove(&self.id);
    }
}

/// Opens a stream. It ends with the session, with the caller's right, and with the hub.
pub(super) async fn open(
    State(state): State<AppState>,
    name: Option<Path<String>>,
    caller: Result<Authenticated, ApiError>,
    request: Request,
) -> Response {
    let suffix = name.as_ref().map_or_else(String::new, |Path(name)| format!("/{name}"));
    let visit = match Visit::arrive(&state, caller, name).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let id = visit.hub.unguessable();
    // Its own connection is closed if its client doesn't read.
    let (outlet, messages) = channel(peer::hang_up(&request.into_parts().0));
    let channel = Arc::new(Channel {
        principal: visit.caller.principal(),
        path: visit.path.clone(),
        outlet,
        is_claimed: AtomicBool::new(false),
        session: OnceLock::new(),
    });
    let address = format!("{MESSAGES}{suffix}?sessionId={id}");
    let greeting = Event { event: Some("endpoint".to_owned()), data: address.into(), ..Event::default() };
    let open = Open {
        greeting: Some(encode(&greeting)),
        messages,
        lease: visit.hub.lease_endpoint(&visit.caller, visit.endpoint),
        stopping: state.stopping.clone(),
        _kept: state.channels.add(&id, &channel),
        channel,
        until: Instant::now() + PATIENCE,
    };
    event_stream(stream::unfold(Some(open), Open::step))
}

impl Open {
    async fn step(open: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut open = open?;
        let bytes = match open.greeting.take() {
            Some(greeting) => Ok(greeting),
            None => open.next().await?,
        };
        let goes_on = bytes.is_ok();
        Some((bytes, goes_on.then_some(open)))
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let silent = self.channel.session.get().is_none();
        tokio::select! {
            biased;
            () = self.lease.revoked() => None,
            () = self.stopping.cancelled() => None,
            message = self.messages.next() => match message {
                Ok(Some(Message::Event(bytes) | Message::Last(Last { body: bytes, .. }))) => Some(Ok(event(bytes))),
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
            () = sleep_until(self.until), if silent => None,
            () = sleep(SILENCE) => Some(Ok(KEEP_ALIVE)),
        }
    }
}

/// Takes a message. What it leads to comes on the stream; the request itself is only acknowledged.
pub(super) async fn post(
    State(state): State<AppState>,
    name: Option<Path<String>>,
    request: Request,
) -> Response {
    let name = name.map(|Path(name)| name);
    let (mut visit, parts, body) = match Box::pin(receive(&state, name, request)).await {
        Ok(received) => received,
        Err(response) => return response,
    };
    // What comes of it goes out on another connection.
    visit.hang_up = None;
    let refuse = |status, text| Refused::new(status, error::INVALID_REQUEST, text);
    let id = Query::<Named>::try_from_uri(&parts.uri).ok().map(|Query(named)| named.session);
    let Some(channel) = id.and_then(|id| state.channels.find(&id, &visit)) else {
        return malformed(&visit, refuse(StatusCode::NOT_FOUND, "no such stream: open one with GET /sse"))
            .await;
    };
    let message = match Envelope::parse(&body) {
        Ok(message) => message,
        Err(error) => return malformed(&visit, unreadable(error)).await,
    };
    let ongoing = (state.live.clone(), state.stopping.clone());
    let Some(id) = channel.session.get() else {
        return begin(visit, ongoing, channel, message).await;
    };
    match visit.hub.find_session(&visit.caller, &visit.path, id).await {
        Ok(session) => take(visit, ongoing, (&channel, &session), message).await,
        Err(HubError::NotFound { .. }) => {
            let refused = refuse(StatusCode::NOT_FOUND, "the session has ended: open another stream");
            malformed(&visit, refused.of(id_of(&message))).await
        }
        Err(failure) => failed(&failure, id_of(&message).as_ref()).into_response(),
    }
}

/// Begins the session that the stream is for.
async fn begin(visit: Visit, ongoing: Ongoing, channel: Arc<Channel>, message: Envelope) -> Response {
    let refuse = |text| Refused::new(StatusCode::BAD_REQUEST, error::INVALID_REQUEST, text);
    let request = match message {
        Envelope::Request(request) if &*request.method == method::INITIALIZE => request,
        other => return malformed(&visit, refuse("send `initialize` first").of(id_of(&other))).await,
    };
    if channel.is_claimed.swap(true, Ordering::AcqRel) {
        return malformed(&visit, refuse("the stream has a session already").of(Some(request.id))).await;
    }
    let hub = Arc::clone(&visit.hub);
    // Apart from this request: whoever sent it may go away meanwhile.
    hub.spawn(hold(visit, ongoing, channel, request));
    StatusCode::ACCEPTED.into_response()
}

/// Opens the session, and ends it when its stream has ended.
async fn hold(visit: Visit, (live, _): Ongoing, channel: Arc<Channel>, request: wire::Request) {
    let (id, answer) = match open_session(&visit, &live, request).await {
        Ok(opened) => opened,
        Err(last) => {
            channel.is_claimed.store(false, Ordering::Release);
            return channel.outlet.tell(Message::Last(last)).await;
        }
    };
    let session = match visit.hub.find_session(&visit.caller, &visit.path, &id).await {
        Ok(session) => session,
        Err(failure) => {
            tracing::warn!(%failure, "a session is gone before it began");
            return channel.outlet.hang_up();
        }
    };
    let entry = live.stream(session.id_hash);
    if channel.session.set(id).is_ok() {
        channel.outlet.tell(Message::Event(answer)).await;
        accompany(&visit, &channel, (&session, &entry)).await;
    }
    channel.outlet.hang_up();
    live.end(&session.id_hash);
    if let Err(failure) = visit.hub.close_session(&visit.caller, &session).await {
        tracing::warn!(%failure, "a session whose stream has ended stays open until it is forgotten");
    }
}

/// Tells what belongs to no request, until the stream ends, the session, or the caller's right. A client that reads
/// nothing doesn't notice that by itself.
async fn accompany(visit: &Visit, channel: &Channel, (session, entry): (&Session, &live::Entry)) {
    let lease = visit.hub.lease_endpoint(&visit.caller, visit.endpoint);
    let mut changes = Changes::of(visit, &client::of_session(session, None));
    loop {
        let news = tokio::select! {
            biased;
            () = channel.outlet.closed() => return,
            () = lease.revoked() => return,
            () = entry.cancelled() => return,
            news = entry.news() => news,
            changed = changes.next(visit) => match changed {
                Some(kind) => message::notification(kind.changed(), None, &Edit::new()),
                None => return,
            },
        };
        channel.outlet.tell(Message::Event(news)).await;
    }
}

/// Takes a message of a session.
async fn take(
    visit: Visit,
    ongoing: Ongoing,
    (channel, session): (&Arc<Channel>, &Session),
    message: Envelope,
) -> Response {
    match message {
        Envelope::Request(request) => {
            let client = client::of_session(session, in_itself(&request));
            match answer_request(&visit, &ongoing, session, request, client).await {
                Answering::Over(last) => channel.outlet.tell(Message::Last(last)).await,
                Answering::Going(messages) => {
                    let channel = Arc::clone(channel);
                    visit.hub.spawn(hand_on(messages, channel));
                }
            }
        }
        Envelope::Notification(notification) => take_note(&visit, &ongoing.0, session, &notification),
        Envelope::Response(response) => ongoing.0.answer(&session.id_hash, response),
    }
    StatusCode::ACCEPTED.into_response()
}

/// Hands on what a call says.
async fn hand_on(mut messages: Messages, channel: Arc<Channel>) {
    while let Ok(Some(message)) = messages.next().await {
        channel.outlet.tell(message).await;
    }
}
