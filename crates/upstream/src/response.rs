//! Reads what an HTTP server answers: one JSON message, or a stream of events that is never collected.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use mcphub_wire::sse::Decoder;
use mcphub_wire::{Envelope, Limits, Request};

use crate::error::UpstreamError;
use crate::http::{HttpConnection, is_ours};
use crate::inquiry::{Back, Inquiry, own_answer};
use crate::legacy::Cancel;
use crate::outbound::Body;
use crate::reply::Step;
use crate::resume::Resume;

/// How many requests a server may send during one call, or on one stream of a session.
pub(crate) const MOST_REQUESTS: usize = 100;

/// Reads the messages of one answer.
pub(crate) struct HttpReply {
    connection: Arc<HttpConnection>,
    id: i64,
    content: Content,
    cancel: Option<Cancel>,
    requests: usize,
    resume: Resume,
}

enum Content {
    /// The answer came with an error status and was read.
    Ready(Option<Box<mcphub_wire::Response>>),
    Json(Body, BytesMut),
    Events(Body, Box<Decoder>),
}

/// Is what a body held.
pub(crate) enum Arrival {
    Response(mcphub_wire::Response),
    /// Something that is no answer to our request.
    Other,
}

impl HttpReply {
    pub(crate) fn new(
        connection: Arc<HttpConnection>,
        response: Response<Body>,
        id: i64,
        cancel: Cancel,
    ) -> Result<Self, UpstreamError> {
        let (is_json, is_events) = media(&response);
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(connection.blame.garbage("it compressed its answer, which nobody asked for"));
        }
        let limit = connection.shared.max_response;
        let content = match (is_json, is_events) {
            (true, _) => Content::Json(response.into_body(), BytesMut::new()),
            (_, true) => Content::Events(response.into_body(), Box::new(Decoder::for_messages(limit))),
            _ => {
                return Err(connection
                    .blame
                    .garbage("its answer is neither application/json nor text/event-stream"));
            }
        };
        let resume = Resume::default();
        Ok(Self { connection, id, content, cancel: Some(cancel), requests: 0, resume })
    }

    /// Wraps an answer that came with an error status.
    pub(crate) fn ready(connection: Arc<HttpConnection>, answer: mcphub_wire::Response) -> Self {
        let (content, resume) = (Content::Ready(Some(Box::new(answer))), Resume::default());
        Self { connection, id: 0, content, cancel: None, requests: 0, resume }
    }

    /// Reads on to the next message. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, UpstreamError> {
        let step = match &mut self.content {
            Content::Ready(answer) => match answer.take() {
                Some(answer) => Step::Final(*answer),
                None => return Err(self.connection.blame.garbage("no answer")),
            },
            Content::Json(..) => self.json().await?,
            Content::Events(..) => self.event().await?,
        };
        if matches!(step, Step::Final(_))
            && let Some(cancel) = self.cancel.take()
        {
            cancel.disarm();
        }
        Ok(step)
    }

    async fn json(&mut self) -> Result<Step, UpstreamError> {
        let limit = self.connection.shared.max_response;
        let Content::Json(body, collected) = &mut self.content else {
            return Err(self.connection.blame.garbage("no answer"));
        };
        collect(&self.connection, body, collected, limit).await?;
        let bytes = std::mem::take(collected).freeze();
        match self.message(&bytes)? {
            Some(step @ Step::Final(_)) => Ok(step),
            _ => Err(self.connection.blame.garbage("its answer is no JSON-RPC response")),
        }
    }

    async fn event(&mut self) -> Result<Step, UpstreamError> {
        loop {
            if self.resume.is_due() {
                self.take_up().await?;
            }
            let Content::Events(body, decoder) = &mut self.content else {
                return Err(self.connection.blame.garbage("no answer"));
            };
            let event =
                decoder.next_event().map_err(|error| self.connection.blame.garbage(error.to_string()))?;
            let Some(event) = event else {
                let is_legacy = self.cancel.as_ref().and_then(Cancel::session).is_some();
                match chunk(&self.connection, body).await {
                    Ok(Some(bytes)) => decoder.push(&bytes),
                    Ok(None) | Err(_) if is_legacy && self.resume.ended() => {}
                    Ok(None) => {
                        return Err(self.connection.blame.unreachable("its stream ended before the answer"));
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            self.resume.note(&event);
            let is_message = event.event.as_deref().is_none_or(|name| name == "message");
            if is_message && !event.data.is_empty() {
                self.resume.progress();
                if let Some(step) = self.message(&event.data)? {
                    return Ok(step);
                }
            }
        }
    }

    /// Opens the stream of the call again.
    async fn take_up(&mut self) -> Result<(), UpstreamError> {
        let blame = &self.connection.blame;
        let session = self.cancel.as_ref().and_then(Cancel::session);
        let session = session.ok_or_else(|| blame.unreachable("its stream ended before the answer"))?;
        let body = self.resume.take_up(&self.connection, session).await?;
        let decoder = Decoder::for_messages(self.connection.shared.max_response);
        self.content = Content::Events(body, Box::new(decoder));
        Ok(())
    }

    fn message(&mut self, bytes: &Bytes) -> Result<Option<Step>, UpstreamError> {
        let blame = &self.connection.blame;
        match Envelope::parse_with(bytes, &limits(self.connection.shared.max_response)) {
            Ok(Envelope::Response(answer)) => match is_ours(answer.id.as_ref(), self.id, &answer.outcome) {
                true => Ok(Some(Step::Final(answer))),
                false => Err(blame.garbage("it answered a request that was not sent")),
            },
            Ok(Envelope::Notification(notification)) => {
                let connection = &self.connection;
                match self.cancel.as_ref().and_then(Cancel::session) {
                    Some(session) => session.heard(connection, &notification),
                    None => connection.shared.bus.tell(&connection.key, &notification),
                }
                Ok(Some(Step::Notification(notification)))
            }
            Ok(Envelope::Request(request)) => self.serve(request),
            Err(error) => Err(blame.garbage(error.to_string())),
        }
    }

    /// Takes what a legacy server asks in the middle of a call. A modern server may not ask.
    fn serve(&mut self, request: Request) -> Result<Option<Step>, UpstreamError> {
        self.requests += 1;
        let session = self.cancel.as_ref().and_then(Cancel::session);
        let (Some(session), true) = (session, self.requests <= MOST_REQUESTS) else {
            return Err(self.connection.blame.garbage("it sent requests where it may not"));
        };
        let back = Back::Http(Arc::clone(&self.connection), session);
        match own_answer(&request) {
            Some(answer) => {
                back.send(answer);
                Ok(None)
            }
            None => Ok(Some(Step::Inquiry(Inquiry::new(request, back)))),
        }
    }
}

/// Bounds what a server may send.
pub(crate) const fn limits(max_response: usize) -> Limits {
    Limits { body: max_response, string: max_response, ..Limits::RESPONSE }
}

/// Reads an answer whole: the first response in it, whether it came as JSON or as events.
pub(crate) async fn read_answer(
    connection: &Arc<HttpConnection>,
    response: Response<Body>,
    id: i64,
) -> Result<Arrival, UpstreamError> {
    if media(&response) == (false, false) {
        return Ok(Arrival::Other);
    }
    let mut reply = HttpReply::new(Arc::clone(connection), response, id, Cancel::none())?;
    loop {
        match reply.next().await {
            Ok(Step::Final(answer)) => return Ok(Arrival::Response(answer)),
            Ok(Step::Notification(_) | Step::Inquiry(_)) => {}
            Err(UpstreamError::Garbage { .. }) => return Ok(Arrival::Other),
            Err(error) => return Err(error),
        }
    }
}

/// Says whether a body is JSON, and whether it is a stream of events.
pub(crate) fn media(response: &Response<Body>) -> (bool, bool) {
    let value =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    (essence.eq_ignore_ascii_case("application/json"), essence.eq_ignore_ascii_case("text/event-stream"))
}

async fn collect(
    connection: &HttpConnection,
    body: &mut Body,
    collected: &mut BytesMut,
    limit: usize,
) -> Result<(), UpstreamError> {
    while let Some(bytes) = chunk(connection, body).await? {
        if collected.len() + bytes.len() > limit {
            return Err(connection.blame.garbage(format!("its answer is larger than {limit} bytes")));
        }
        collected.extend_from_slice(&bytes);
    }
    Ok(())
}

async fn chunk(connection: &HttpConnection, body: &mut Body) -> Result<Option<Bytes>, UpstreamError> {
    let broke_off = |error| connection.blame.unreachable(format!("its answer broke off: {error}"));
    body.next().await.transpose().map_err(broke_off)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use mcphub_domain::UserId;
    use mcphub_wire::Version;
    use tokio_util::sync::CancellationToken;

    use super::{
        Arc, Bytes, Cancel, Content, HttpConnection, HttpReply, MOST_REQUESTS, Resume, UpstreamError,
    };
    use crate::beside::Reachable;
    use crate::era::Era;
    use crate::error::Blame;
    use crate::http::Shared;
    use crate::key::ConnectionKey;
    use crate::legacy::Session;
    use crate::stream::OwnStream;
    use crate::target::ResolvedHttp;

    /// Is what comes back from a legacy server.
    fn reply() -> HttpReply {
        let target = ResolvedHttp { url: "http://localhost/".parse().unwrap(), headers: HeaderMap::new() };
        let (blame, key) = (Blame("s".parse().unwrap()), ConnectionKey::of(UserId::from_bytes([1; 16])));
        let connection = HttpConnection::new(blame, Shared::alone(), target, (Vec::new(), &key)).unwrap();
        let session = Session {
            version: Version::V2025_11_25,
            id: None,
            feed: Arc::default(),
            stream: OwnStream::default(),
            reachable: Reachable::default(),
            over: CancellationToken::new(),
        };
        let cancel = Some(Cancel::new(&connection, &Era::Legacy(Arc::new(session)), 7));
        let (content, resume) = (Content::Ready(None), Resume::default());
        HttpReply { connection, id: 7, content, cancel, requests: 0, resume }
    }

    #[tokio::test]
    async fn a_legacy_server_asks_so_often_during_a_call_and_no_more() {
        let mut reply = reply();
        let ping = Bytes::from_static(br#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#);
        for number in 0..MOST_REQUESTS {
            assert!(reply.message(&ping).is_ok(), "{number}");
        }
        let refused = reply.message(&ping).err().unwrap();
        assert!(matches!(refused, UpstreamError::Garbage { .. }), "{refused}");
    }
}
