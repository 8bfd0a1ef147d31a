//! The way to the hub: requests over HTTP, each with its patience.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Response};
use mcphub_hub::{Remote, RemoteBody};
use tokio::time::timeout;

use super::problem::Problem;

/// How long the head of an answer may take. The hub begins to answer after 15 seconds, but for lists.
const HEAD: Duration = Duration::from_secs(120);
/// How long the end of a session may take: clients wait two seconds for the end of what they started.
const FAREWELL: Duration = Duration::from_millis(1_500);

const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Are headers of one request, beside those of all.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

/// Is the hub, as the bridge reaches it.
pub(super) struct Hub(Remote);

impl Hub {
    pub(super) const fn new(remote: Remote) -> Self {
        Self(remote)
    }

    /// Names the host and port.
    pub(super) fn place(&self) -> &str {
        self.0.origin()
    }

    /// Posts a message, and returns the answer if it is a success.
    pub(super) async fn post(
        &self,
        mut headers: Headers,
        body: Bytes,
    ) -> Result<Response<RemoteBody>, Problem> {
        headers.extend([(ACCEPT, BOTH), (CONTENT_TYPE, JSON)]);
        self.send(Method::POST, headers, body).await
    }

    /// Opens the stream of a session.
    pub(super) async fn get(&self, mut headers: Headers) -> Result<Response<RemoteBody>, Problem> {
        headers.push((ACCEPT, EVENTS));
        self.send(Method::GET, headers, Bytes::new()).await
    }

    /// Ends a session, as far as the hub can be reached.
    pub(super) async fn delete(&self, headers: Headers) {
        let deleted = timeout(FAREWELL, self.send(Method::DELETE, headers, Bytes::new())).await;
        tracing::debug!(deleted = matches!(deleted, Ok(Ok(_))), "ended the session");
    }

    async fn send(
        &self,
        method: Method,
        headers: Headers,
        body: Bytes,
    ) -> Result<Response<RemoteBody>, Problem> {
        let Ok(answer) = timeout(HEAD, self.0.send(method, headers, body)).await else {
            return Err(Problem::Broken(format!("it didn't begin within {} s", HEAD.as_secs())));
        };
        let response = answer?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Problem::of(response.status(), response.into_body()).await)
    }
}
