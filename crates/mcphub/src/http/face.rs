//! Where the requests of one connection come in, and which way they go.
//!
//! Nearly all that comes is a message to an MCP endpoint. It is answered without the router, whose layers
//! cost as much as the decision on a call: by the same gate and the same handler, as a test compares.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use crate::http::mcp::{ENDPOINT, NAMED_ENDPOINT, answer_post};
use crate::http::peer::Connection;
use crate::http::{AppState, guarded};

/// Is what the requests of one connection share.
pub(super) struct Face {
    pub(super) state: AppState,
    pub(super) router: Router,
    pub(super) connection: Arc<Connection>,
    /// Whether anything has come.
    pub(super) heard: AtomicBool,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Face {
    /// Answers a request.
    pub(super) fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answering {
        self.heard.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.connection));
        match posted_to(&request) {
            Some(name) => Box::pin(async move {
                let route = if name.is_some() { NAMED_ENDPOINT } else { ENDPOINT };
                let state = &self.state;
                Ok(guarded(state, route, request, |request| answer_post(state, name, request)).await)
            }),
            None => Box::pin(self.router.clone().oneshot(request)),
        }
    }
}

/// Finds the MCP endpoint that something is posted to. A name that is written in another way than as it
/// is, is for the router to read.
fn posted_to(request: &Request<Body>) -> Option<Option<String>> {
    let path = request.uri().path().strip_prefix(ENDPOINT).filter(|_| request.method() == Method::POST)?;
    if path.is_empty() {
        return Some(None);
    }
    let name = path.strip_prefix('/').filter(|name| !name.is_empty())?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_plain.then(|| Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;

    use super::posted_to;

    #[test]
    fn only_a_plain_message_goes_past_the_router() {
        let table: &[(&str, &str, Option<Option<&str>>)] = &[
            ("POST", "/mcp", Some(None)),
            ("POST", "/mcp?a=b", Some(None)),
            ("POST", "/mcp/git-hub_1", Some(Some("git-hub_1"))),
            ("POST", "/mcp/github?a=b", Some(Some("github"))),
            ("GET", "/mcp", None),
            ("OPTIONS", "/mcp/github", None),
            ("DELETE", "/mcp/github", None),
            ("POST", "/mcp/", None),
            ("POST", "/mcpx", None),
            ("POST", "/MCP", None),
            ("POST", "/mcp//github", None),
            ("POST", "/mcp/github/", None),
            ("POST", "/mcp/github/x", None),
            ("POST", "/mcp/..", None),
            ("POST", "/mcp/git%68ub", None),
            ("POST", "/api/mcp", None),
        ];
        for (method, uri, expected) in table {
            let request = Request::builder().method(*method).uri(*uri).body(Body::empty()).unwrap();
            let found = posted_to(&request);
            assert_eq!(found.as_ref().map(Option::as_deref), *expected, "{method} {uri}");
        }
    }
}
