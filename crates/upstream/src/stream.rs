//! The stream of a session, on which an older server says what belongs to no request, or to one that waits for it: when it is
//! opened, for whom, and how long it stays.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method, Response};
use mcphub_wire::Envelope;
use mcphub_wire::sse::Decoder;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::era::{Era, era_headers};
use crate::error::UpstreamError;
use crate::http::HttpConnection;
use crate::legacy::Session;
use crate::outbound::Body;
use crate::response::{MOST_REQUESTS, limits, media};

/// How long after its end a stream is opened anew, and how long a call waits for it to open.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells how the stream of a session stands.
#[derive(Default)]
pub(crate) struct OwnStream(watch::Sender<Standing>);

#[derive(Clone, Copy, Default)]
struct Standing {
    phase: Phase,
    /// It is to stay open as long as the session, whether anybody watches or not.
    lasts: bool,
    /// The server did not open it when it was asked to, for nobody who watched.
    refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nobody needs it.
    #[default]
    Closed,
    /// It is asked for, or will be in a moment.
    Opening,
    Open,
    /// The server has none.
    Absent,
}

impl OwnStream {
    fn set(&self, phase: Phase) {
        self.0.send_modify(|standing| standing.phase = phase);
    }
}

impl Session {
    /// Lets watchers hear what the server tells by itself: the stream stays open as long as there are any.
    pub(crate) fn hear(self: &Arc<Self>, connection: &Arc<HttpConnection>) {
        self.begin_hearing(connection, false);
    }

    /// Opens the stream for as long as the session lasts, before the server has a reason to say something there: what it says
    /// where nobody listens is lost. Waits until that is so, but not long.
    pub(crate) async fn hear_from_now_on(self: &Arc<Self>, connection: &Arc<HttpConnection>) {
        self.begin_hearing(connection, true);
        let mut standing = self.stream.0.subscribe();
        let opened = timeout(PAUSE, standing.wait_for(|standing| standing.phase != Phase::Opening)).await;
        tracing::trace!(server = %connection.blame.0, waited = opened.is_err(), "a session's stream");
    }

    /// Opens the stream in a task of its own, which a call that ends meanwhile takes nothing from.
    fn begin_hearing(self: &Arc<Self>, connection: &Arc<HttpConnection>, lasts: bool) {
        let begins = self.stream.0.send_if_modified(|standing| {
            standing.lasts |= lasts;
            let begins = standing.phase == Phase::Closed && !(lasts && standing.refused);
            if begins {
                standing.phase = Phase::Opening;
            }
            begins
        });
        if begins {
            let (session, connection) = (Arc::clone(self), Arc::clone(connection));
            connection.shared.clone().spawn(async move {
                tokio::select! {
                    () = session.over.cancelled() => {}
                    () = session.unwanted() => {}
                    () = session.keep_hearing(&connection) => {}
                }
            });
        }
    }

    /// Waits until nobody needs the stream, which is closed then.
    async fn unwanted(&self) {
        loop {
            self.feed.news.closed().await;
            if self.stream.0.borrow().lasts {
                return std::future::pending().await;
            }
            if self.close_unless(|standing| standing.lasts) {
                return;
            }
        }
    }

    /// Closes the stream, unless somebody watches or there is another reason. Who comes later opens it anew.
    fn close_unless(&self, is_wanted: impl FnOnce(&mut Standing) -> bool) -> bool {
        self.stream.0.send_if_modified(|standing| {
            let closes = self.feed.news.receiver_count() == 0 && !is_wanted(standing);
            if closes {
                standing.phase = Phase::Closed;
            }
            closes
        })
    }

    /// Opens the stream anew whenever it ends, unless the server has none.
    async fn keep_hearing(self: &Arc<Self>, connection: &Arc<HttpConnection>) {
        let mut has_opened = false;
        loop {
            match self.get_stream(connection).await {
                Ok(response) if is_stream(&response) => {
                    has_opened = true;
                    self.stream.set(Phase::Open);
                    self.hear_out(connection, response).await;
                    self.stream.set(Phase::Opening);
                }
                // It has none. What it says comes with its answers.
                Ok(response) if response.status().is_success() || response.status().as_u16() == 405 => {
                    self.stream.set(Phase::Absent);
                    return std::future::pending().await;
                }
                // For calls alone it isn't asked again: they may do without.
                _ if !has_opened
                    && self.close_unless(|standing| {
                        standing.refused = true;
                        false
                    }) =>
                {
                    return;
                }
                // The session has ended, or the token: who listens has to begin anew.
                Ok(response) if matches!(response.status().as_u16(), 401 | 403 | 404) => {
                    connection.forget_session(self);
                    return self.feed.end();
                }
                Ok(_) | Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn get_stream(
        self: &Arc<Self>,
        connection: &HttpConnection,
    ) -> Result<Response<Body>, UpstreamError> {
        let mut own = era_headers(&Era::Legacy(Arc::clone(self)));
        own.push((ACCEPT, HeaderValue::from_static("text/event-stream")));
        connection.request(Method::GET, own, Bytes::new()).await
    }

    async fn hear_out(self: &Arc<Self>, connection: &Arc<HttpConnection>, response: Response<Body>) {
        let mut decoder = Decoder::for_messages(connection.shared.max_response);
        let (mut body, mut requests) = (response.into_body(), 0);
        while let Some(Ok(bytes)) = body.next().await {
            decoder.push(&bytes);
            if self.take_in(connection, &mut decoder, &mut requests).is_break() {
                return;
            }
        }
    }

    /// Takes in the events that are there. Breaks off where one is too large, or the server asks too often.
    fn take_in(
        self: &Arc<Self>,
        connection: &Arc<HttpConnection>,
        decoder: &mut Decoder,
        requests: &mut usize,
    ) -> ControlFlow<()> {
        loop {
            let event = match decoder.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return ControlFlow::Continue(()),
                Err(error) => {
                    tracing::debug!(server = %connection.blame.0, %error, "its stream is closed");
                    return ControlFlow::Break(());
                }
            };
            let size = event.data.len();
            match Envelope::parse_with(&event.data, &limits(connection.shared.max_response)) {
                Ok(Envelope::Notification(notification)) => self.told(connection, notification, size),
                Ok(Envelope::Request(_)) if *requests == MOST_REQUESTS => return ControlFlow::Break(()),
                Ok(Envelope::Request(request)) => {
                    *requests += 1;
                    self.asked(connection, request, size);
                }
                Ok(Envelope::Response(_)) | Err(_) => {
                    tracing::debug!(server = %connection.blame.0, "its stream holds no notification");
                }
            }
        }
    }
}

fn is_stream(response: &Response<Body>) -> bool {
    let (_, is_events) = media(response);
    response.status().is_success() && is_events
}
