//! Sessions with servers of 2024-11-05 over HTTP: one stream carries all that the server says, and each message to it
//! is a request of its own, to an address that the stream names first.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use mcphub_wire::Version;
use mcphub_wire::legacy::initialized;
use mcphub_wire::sse::{Decoder, Event};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::course::Course;
use crate::destination::{Destination, HttpRequest};
use crate::error::{Blame, UpstreamError};
use crate::http::{BEST_EFFORT, HttpConnection, JSON, Own, Shared, status_error, unauthorized};
use crate::legacy::{ask_for_logs, opened};
use crate::outbound::Body;
use crate::outgoing::{Outgoing, initialize};
use crate::pipe::{Outlets, Pipe, PipeReply, STRAYS};
use crate::roots::Telling;
use crate::watch::Feed;

/// The event that names the address.
const ENDPOINT: &str = "endpoint";

/// Is an open session. Dropped, its stream ends, and with it all that waits for an answer.
pub(crate) struct EventSession {
    pub(crate) version: Version,
    pipe: Arc<Pipe>,
    post: Arc<Post>,
}

/// Sends messages to the address that the stream named.
struct Post {
    blame: Blame,
    shared: Shared,
    destination: Destination,
}

/// Is a request to be posted.
struct Posting<'a> {
    id: i64,
    course: Course,
    /// What the server is to hear of first: by the request it may ask for it.
    first: Option<Telling<'a>>,
    body: Bytes,
}

/// Says what came of a request.
pub(crate) enum Posted {
    Taken(PipeReply),
    /// The server knows the session no more, and took nothing.
    Refused(UpstreamError),
}

/// Is a stream that has named the address.
struct Greeting {
    body: Body,
    decoder: Decoder,
    destination: Destination,
}

impl EventSession {
    /// Opens the stream, and a session on it.
    pub(crate) async fn open(connection: &Arc<HttpConnection>) -> Result<Arc<Self>, UpstreamError> {
        let (blame, shared) = (connection.blame.clone(), connection.shared.clone());
        let Greeting { body, decoder, destination } = greet(connection).await?;
        let (outlets, messages, _) = Outlets::new();
        let pipe = Pipe::new(blame.clone(), shared.clone(), connection.key, outlets);
        let post = Arc::new(Post { blame, shared, destination });
        post.shared.spawn(Arc::clone(&pipe).read_events(body, decoder));
        post.shared.spawn(write(Arc::clone(&pipe), Arc::clone(&post), messages));
        // Ended when it is dropped, whatever fails from here on.
        let mut session = Self { version: Version::V2024_11_05, pipe, post };
        session.version = session.initialize().await?;
        Ok(Arc::new(session))
    }

    async fn initialize(&self) -> Result<Version, UpstreamError> {
        let (blame, id) = (&self.post.blame, self.post.shared.next_id());
        let body = initialize(id, self.pipe.key());
        let mut reply = match self.ask(Posting { id, course: Course::default(), first: None, body }).await? {
            Posted::Taken(reply) => reply,
            Posted::Refused(error) => return Err(error),
        };
        let opened = opened(&reply.response().await?.outcome).map_err(|reason| blame.garbage(reason))?;
        self.pipe.send(initialized()).await?;
        if let Some(request) = ask_for_logs(&opened, self.post.shared.next_id()) {
            self.pipe.send(request).await?;
        }
        Ok(opened.version)
    }

    /// Sends a request, whose answer the stream will bring.
    pub(crate) async fn request(
        self: &Arc<Self>,
        request: &Outgoing,
        id: i64,
        first: Option<Telling<'_>>,
    ) -> Result<Posted, UpstreamError> {
        let (course, body) = (Course::of(request), request.write(id, self.version));
        let posted = self.ask(Posting { id, course, first, body }).await?;
        Ok(match posted {
            // Who waits for an answer keeps the session open, even if it is forgotten meanwhile.
            Posted::Taken(reply) => Posted::Taken(reply.within(Arc::clone(self))),
            refused @ Posted::Refused(_) => refused,
        })
    }

    async fn ask(&self, posting: Posting<'_>) -> Result<Posted, UpstreamError> {
        let Posting { id, course, first, body } = posting;
        let reply = match self.pipe.register(id, course) {
            Ok(reply) => reply,
            Err(error) => return Ok(Posted::Refused(error)),
        };
        if let Some(telling) = first
            && self.post.tell(Telling::message()).await
        {
            telling.heard();
        }
        let response = self.post.send(body).await?;
        let status = response.status().as_u16();
        match status_error(&self.post.blame, &response) {
            None => Ok(Posted::Taken(reply)),
            Some(error) => {
                reply.forget();
                match status {
                    401 | 403 => Err(unauthorized(&self.post.blame, &response)),
                    404 | 410 => Ok(Posted::Refused(error)),
                    _ => Err(error),
                }
            }
        }
    }

    /// Says whether its stream has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.pipe.gone.is_cancelled()
    }

    /// Returns where the session's news goes.
    pub(crate) fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.pipe.feed)
    }
}

impl Drop for EventSession {
    fn drop(&mut self) {
        self.pipe.stop.at_once.cancel();
    }
}

impl Post {
    async fn send(&self, body: Bytes) -> Result<Response<Body>, UpstreamError> {
        let (destination, method) = (&self.destination, Method::POST);
        let request = HttpRequest { destination, method, headers: vec![(CONTENT_TYPE, JSON)], body };
        self.shared.outbound.send(&request).await.map_err(|error| self.blame.send(error))
    }

    /// Sends what has no answer; says whether the server took it.
    async fn tell(&self, body: Bytes) -> bool {
        let sent = timeout(BEST_EFFORT, self.send(body)).await;
        let arrived = matches!(sent, Ok(Ok(response)) if response.status().is_success());
        tracing::debug!(server = %self.blame.0, arrived, "sent a message");
        arrived
    }
}

/// Opens the stream, and waits for the address. It has to be the server's own: what is posted there holds secrets.
async fn greet(connection: &Arc<HttpConnection>) -> Result<Greeting, UpstreamError> {
    let blame = &connection.blame;
    let own: Own = vec![(ACCEPT, HeaderValue::from_static("text/event-stream"))];
    let response = connection.request(Method::GET, own, Bytes::new()).await?;
    if matches!(response.status().as_u16(), 401 | 403) {
        return Err(unauthorized(blame, &response));
    }
    if let Some(error) = status_error(blame, &response) {
        return Err(error);
    }
    let mut decoder = Decoder::for_messages(connection.shared.max_response);
    let mut body = response.into_body();
    let named = loop {
        if let Some(event) = decoder.next_event().map_err(|error| blame.garbage(error.to_string()))? {
            break event;
        }
        match body.next().await {
            Some(Ok(bytes)) => decoder.push(&bytes),
            Some(Err(_)) | None => {
                return Err(blame.unreachable("its stream ended before it named an address"));
            }
        }
    };
    let address = match &named {
        Event { event: Some(name), data, .. } if name == ENDPOINT => std::str::from_utf8(data).ok(),
        _ => None,
    };
    let destination = address.and_then(|address| connection.destination().beside(address.trim()));
    let destination = destination
        .ok_or_else(|| blame.garbage("its stream begins with no address of its own to send messages to"))?;
    Ok(Greeting { body, decoder, destination })
}

/// Sends what nobody waits for, one message after the other, until the session ends.
async fn write(pipe: Arc<Pipe>, post: Arc<Post>, mut messages: mpsc::Receiver<Bytes>) {
    loop {
        let message = tokio::select! {
            biased;
            () = pipe.gone.cancelled() => return,
            message = messages.recv() => message,
        };
        let Some(message) = message else { return };
        post.tell(message).await;
    }
}

impl Pipe {
    /// Reads messages until the stream ends, or the session.
    async fn read_events(self: Arc<Self>, body: Body, decoder: Decoder) {
        let error = tokio::select! {
            biased;
            () = self.stop.at_once.cancelled() => self.blame.closed(),
            error = self.hear_out(body, decoder) => error,
        };
        self.fail(error);
    }

    async fn hear_out(self: &Arc<Self>, mut body: Body, mut decoder: Decoder) -> UpstreamError {
        let mut strays = 0;
        loop {
            let event = match decoder.next_event() {
                Ok(event) => event,
                Err(error) => return self.blame.garbage(error.to_string()),
            };
            match event {
                Some(event) if event.event.as_deref().is_none_or(|name| name == "message") => {
                    strays = if self.message(event.data) { 0 } else { strays + 1 };
                    if strays > STRAYS {
                        return self.blame.garbage("its stream holds no messages");
                    }
                }
                Some(_) => {}
                None => match body.next().await {
                    Some(Ok(bytes)) => decoder.push(&bytes),
                    Some(Err(_)) | None => return self.blame.unreachable("its stream ended"),
                },
            }
        }
    }
}
