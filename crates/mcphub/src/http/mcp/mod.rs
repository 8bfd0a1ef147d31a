//! The MCP front end: `/mcp` and `/mcp/{name}`, for modern and legacy clients on one endpoint, and for the oldest
//! ones `/sse` and `/messages`.
//!
//! `visit` is who came where, `legacy` and `modern` the two protocol eras, `events` the oldest way to speak the former,
//! `methods` and `pages` what both share,
//! `answer` how an outcome becomes a message, `talk` what a call says, `streaming` how that becomes a response, `resume` one
//! that can be taken up again.

mod answer;
mod changes;
mod client;
mod events;
mod get;
mod legacy;
mod listen;
mod live;
mod methods;
mod modern;
mod pages;
mod post;
mod resume;
mod streaming;
mod subscribe;
mod talk;
mod visit;

use axum::Router;
use axum::routing::{get, post};
use http::{Method, Uri};

use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiError, wrong_method};

pub(super) use events::Channels;
pub(super) use live::Live;
pub(super) use post::answer_post;

/// The endpoint of all servers.
pub(super) const ENDPOINT: &str = "/mcp";
/// The endpoint of one server.
pub(super) const NAMED_ENDPOINT: &str = "/mcp/{name}";

/// Routes the MCP endpoints.
pub(crate) fn router() -> Router<AppState> {
    let face = || post(post::post).get(self::get::get).delete(legacy::delete).fallback(other_method);
    let stream = || get(events::open).fallback(other_method);
    let messages = || post(events::post).fallback(other_method);
    Router::new()
        .route(ENDPOINT, face())
        .route(NAMED_ENDPOINT, face())
        .route(events::STREAM, stream())
        .route(events::NAMED_STREAM, stream())
        .route(events::MESSAGES, messages())
        .route(events::NAMED_MESSAGES, messages())
}

/// Refuses a method that an endpoint doesn't take, to those who may know that it is one.
async fn other_method(_: Authenticated, method: Method, uri: Uri) -> ApiError {
    wrong_method(method, uri).await
}
