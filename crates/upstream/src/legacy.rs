//! Sessions with servers up to 2025-11-25 over HTTP: opening, cancelling, closing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method};
use mcphub_wire::legacy::{InitializeResult, initialized};
use mcphub_wire::{
    Edit, Id, LogLevel, Notification, Outcome, Raw, Version, header, message, method, progress,
};
use tokio_util::sync::CancellationToken;

use crate::beside::{Reachable, can_ask};
use crate::era::{Era, era_headers};
use crate::error::UpstreamError;
use crate::http::{BEST_EFFORT, HttpConnection, Own, status_error, unauthorized};
use crate::outgoing::initialize;
use crate::response::{Arrival, read_answer};
use crate::stream::OwnStream;
use crate::watch::Feed;

/// Is an open session.
pub(crate) struct Session {
    pub(crate) version: Version,
    /// The id, if the server gave one.
    pub(crate) id: Option<HeaderValue>,
    /// Takes what the server tells by itself.
    pub(crate) feed: Arc<Feed>,
    /// Is the stream on which that comes.
    pub(crate) stream: OwnStream,
    /// The calls to which something may come on that stream.
    pub(crate) reachable: Reachable,
    /// Is cancelled when nobody uses the session any more.
    pub(crate) over: CancellationToken,
}

impl Session {
    /// Opens a session.
    pub(crate) async fn open(connection: &Arc<HttpConnection>) -> Result<Arc<Self>, UpstreamError> {
        let blame = &connection.blame;
        let id = connection.shared.next_id();
        let response = connection.post(initialize(id, &connection.key), Own::new()).await?;
        if matches!(response.status().as_u16(), 401 | 403) {
            return Err(unauthorized(&connection.blame, &response));
        }
        if let Some(error) = status_error(&connection.blame, &response) {
            return Err(error);
        }
        let session_id = response.headers().get(header::SESSION_ID).cloned();
        let outcome = match read_answer(connection, response, id).await? {
            Arrival::Response(answer) => answer.outcome,
            Arrival::Other => return Err(blame.garbage("it did not answer `initialize`")),
        };
        let opened = opened(&outcome).map_err(|reason| blame.garbage(reason))?;
        let session = Arc::new(Self {
            version: opened.version,
            id: session_id,
            feed: Arc::default(),
            stream: OwnStream::default(),
            reachable: Reachable::default(),
            over: CancellationToken::new(),
        });
        let headers = || era_headers(&Era::Legacy(Arc::clone(&session)));
        let acknowledged = connection.post(initialized(), headers()).await?;
        if !acknowledged.status().is_success() {
            return Err(blame.garbage("it refused `notifications/initialized`"));
        }
        if let Some(request) = ask_for_logs(&opened, connection.shared.next_id()) {
            let (connection, headers) = (Arc::clone(connection), headers());
            connection.shared.clone().spawn(async move { connection.post_quietly(request, headers).await });
        }
        if can_ask(connection) {
            session.hear_from_now_on(connection).await;
        }
        Ok(session)
    }

    /// Hands on what the server told, on whatever stream.
    pub(crate) fn heard(&self, connection: &HttpConnection, notification: &Notification) {
        connection.shared.bus.tell(&connection.key, notification);
        self.feed.tell(notification);
    }

    /// Closes the session, as far as the server cares.
    pub(crate) async fn delete(self: Arc<Self>, connection: &HttpConnection) {
        self.over.cancel();
        if self.id.is_none() {
            return;
        }
        let headers = era_headers(&Era::Legacy(self));
        let request = connection.request(Method::DELETE, headers, Bytes::new());
        let deleted = matches!(tokio::time::timeout(BEST_EFFORT, request).await, Ok(Ok(_)));
        tracing::debug!(server = %connection.blame.0, deleted, "closed a legacy session");
    }
}

/// Reads the answer to `initialize`.
pub(crate) fn opened(outcome: &Outcome) -> Result<InitializeResult, String> {
    match outcome {
        Outcome::Result(result) => InitializeResult::read(result).map_err(|fault| fault.to_string()),
        Outcome::Error(error) => Err(format!("it refused `initialize` with error {}", error.code)),
    }
}

/// Asks a server that writes log messages for all of them: a level holds for the whole session, which clients of
/// different wishes share.
pub(crate) fn ask_for_logs(opened: &InitializeResult, id: i64) -> Option<Bytes> {
    let writes = matches!(opened.capabilities.member("logging"), Ok(Some(_)));
    let level = Edit::new().set("level", Raw::string(LogLevel::Debug.as_str()));
    writes.then(|| message::request(&Id::Integer(id), method::SET_LEVEL, None, &level))
}

/// Tells a legacy server that a request is given up, unless it was answered before: there, a closed
/// stream alone says nothing.
pub(crate) struct Cancel(Option<(Arc<HttpConnection>, Arc<Session>, i64)>);

impl Cancel {
    pub(crate) fn new(connection: &Arc<HttpConnection>, era: &Era, id: i64) -> Self {
        match era {
            // What comes on a session's stream is cancelled where it is awaited.
            Era::Modern(_) | Era::Events(_) => Self::none(),
            Era::Legacy(session) => Self(Some((Arc::clone(connection), Arc::clone(session), id))),
        }
    }

    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }

    /// Returns the session, to answer what the server asks.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.0.as_ref().map(|(_, session, _)| Arc::clone(session))
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        let Some((connection, session, id)) = self.0.take() else { return };
        let shared = connection.shared.clone();
        shared.spawn(async move {
            let body = progress::cancelled(&Id::Integer(id), "the caller gave up");
            let headers = era_headers(&Era::Legacy(session));
            connection.post_quietly(body, headers).await;
        });
    }
}
