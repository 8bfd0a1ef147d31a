//! How a call's messages become a response: one JSON body if the answer comes first, else a stream
//! of server-sent events, each forwarded as it comes.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, stream};
use mcphub_domain::audit::Refusal;
use mcphub_hub::{Hub, HubError, Running, Said};
use mcphub_wire::Id;
use mcphub_wire::sse::{Event, KEEP_ALIVE, encode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::{Words, failed, forward, json_body};
use super::live::Entry;

/// How long a stream may be silent before a comment says that it lives.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// How many messages wait for a client that reads slowly; then the call waits.
const WAITING: usize = 64;

/// Is a message to the client.
struct Message {
    bytes: Bytes,
    kind: Kind,
}

/// Says whether another message follows, and how an answer that comes alone goes out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Notification,
    Answer(StatusCode),
}

/// Is where a response's messages come from.
enum Source {
    /// The call itself, which ends with the response.
    Call(Box<Running>, Id),
    /// A task that goes on without the response.
    Task(mpsc::Receiver<Message>),
}

/// Answers a modern client: a client that goes away cancels its call.
pub(super) async fn until_disconnect(running: Running, id: Id) -> Response {
    respond(Source::Call(Box::new(running), id)).await
}

/// Answers a legacy client: the call goes on without her, until it is cancelled or her session ends.
pub(super) async fn until_cancelled(hub: &Hub, running: Running, id: Id, entry: Entry) -> Response {
    let (sender, receiver) = mpsc::channel(WAITING);
    hub.spawn(run(running, id, entry, sender));
    respond(Source::Task(receiver)).await
}

async fn run(mut running: Running, id: Id, entry: Entry, sender: mpsc::Sender<Message>) {
    loop {
        let message = tokio::select! {
            biased;
            () = entry.cancelled() => return,
            message = next(&mut running, &id, Words::Legacy) => message,
        };
        let Some(message) = message else { return };
        let kind = message.kind;
        if !sender.is_closed() && sender.send(message).await.is_err() {
            tracing::debug!("a client went away; its call goes on");
        }
        if kind != Kind::Notification {
            return;
        }
    }
}

async fn respond(mut source: Source) -> Response {
    match timeout(SILENCE, source.next()).await {
        Ok(Some(Message { bytes, kind: Kind::Answer(status) })) => json_body(status, bytes),
        Ok(Some(first)) => events(source, Some(first)),
        Ok(None) => json_body(StatusCode::ACCEPTED, Bytes::new()),
        Err(_) => events(source, None),
    }
}

fn events(source: Source, first: Option<Message>) -> Response {
    event_stream(stream::unfold((Some(source), first), |(source, first)| async move {
        let mut source = source?;
        let message = match first {
            Some(first) => Some(first),
            None => match timeout(SILENCE, source.next()).await {
                Err(_) => return Some((KEEP_ALIVE, (Some(source), None))),
                Ok(message) => message,
            },
        };
        let message = message?;
        let rest = (message.kind == Kind::Notification).then_some(source);
        Some((event(message.bytes), (rest, None)))
    }))
}

/// Makes a message an event. It has no id: nothing here can be resumed.
pub(super) fn event(data: Bytes) -> Bytes {
    encode(&Event { event: Some("message".to_owned()), id: None, data, retry: None })
}

/// Answers with a stream of server-sent events.
pub(super) fn event_stream(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures_util::StreamExt;
    let body = Body::from_stream(events.map(Ok::<_, std::convert::Infallible>));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

impl Source {
    async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Call(running, id) => next(running, id, Words::Modern).await,
            Self::Task(receiver) => receiver.recv().await,
        }
    }
}

async fn next(running: &mut Running, id: &Id, words: Words) -> Option<Message> {
    let (status, bytes) = match running.next().await? {
        Said::Notification(bytes) => return Some(Message { bytes, kind: Kind::Notification }),
        Said::Answer(answer) => (StatusCode::OK, forward(&answer, id, words)),
        Said::Failed(error) => (StatusCode::OK, failed(&error, Some(id)).message()),
        Said::Revoked => {
            let error = HubError::Unauthenticated(Refusal::RevokedKey);
            (StatusCode::UNAUTHORIZED, failed(&error, Some(id)).message())
        }
    };
    Some(Message { bytes, kind: Kind::Answer(status) })
}
