//! The MCP front end: `/mcp` and `/mcp/{name}`, for modern and legacy clients on one endpoint.
//!
//! `visit` is who came where, `legacy` and `modern` the two protocol eras, `methods` what both share,
//! `answer` how an outcome becomes a message, `streaming` how a call's messages become a response.

mod answer;
mod get;
mod legacy;
mod live;
mod methods;
mod modern;
mod post;
mod streaming;
mod visit;

use axum::routing::post;
use axum::{Extension, Router};
use http::{Method, Uri};

use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiError, wrong_method};

/// Routes the MCP endpoints. What is open at the moment is remembered beside the routes.
pub(crate) fn router() -> Router<AppState> {
    let face = || post(post::post).get(get::get).delete(legacy::delete).fallback(other_method);
    Router::new().route("/mcp", face()).route("/mcp/{name}", face()).layer(Extension(live::Live::default()))
}

/// Refuses a method that an endpoint doesn't take, to those who may know that it is one.
async fn other_method(_: Authenticated, method: Method, uri: Uri) -> ApiError {
    wrong_method(method, uri).await
}
