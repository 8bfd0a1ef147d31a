//! The hub's HTTP face: what is routed where, and what every request and response must keep to.
//!
//! `guard` is the one gate: it names the client's address, refuses foreign hosts, foreign origins and
//! keys in URLs, sees to it that every request is recorded, and hardens every response, errors included.

pub(crate) mod caller;
pub(crate) mod error;
pub(crate) mod mcp;
pub(crate) mod origin;
pub(crate) mod peer;

mod account;
mod api;
mod bodies;
mod health;
mod lanes;
mod metrics;
mod page;
mod places;
mod responses;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use mcphub_hub::Hub;
use tokio_util::sync::CancellationToken;

pub(crate) use api::openapi;
pub(crate) use lanes::Lanes;
pub(crate) use serve::serve;

use crate::http::account::{Account, Outcome};
use crate::http::bodies::Bodies;
use crate::http::caller::Failures;
use crate::http::error::ApiError;
use crate::http::metrics::Gauges;
use crate::http::origin::Trust;
use crate::http::peer::Proxy;

/// The largest body of an MCP request.
const LARGEST_MCP_BODY: usize = 4 << 20;

/// Is what every handler may use.
#[derive(Clone)]
pub(crate) struct AppState {
    /// The use cases.
    pub(crate) hub: Arc<Hub>,
    /// Is cancelled when the hub stops, so that open streams end.
    pub(crate) stopping: CancellationToken,
    /// The turns of large bodies.
    pub(crate) bodies: Arc<Bodies>,
    edge: Arc<Edge>,
    gauges: Arc<Gauges>,
}

/// Is what decides on a request before anybody knows who makes it.
struct Edge {
    trust: Trust,
    proxy: Proxy,
    failures: Failures,
}

impl AppState {
    fn new(hub: Arc<Hub>, trust: Trust, proxy: Proxy, gauges: Gauges) -> Self {
        let edge = Arc::new(Edge { trust, proxy, failures: Failures::default() });
        let (stopping, gauges) = (CancellationToken::new(), Arc::new(gauges));
        Self { hub, stopping, bodies: Arc::default(), edge, gauges }
    }
}

impl FromRef<AppState> for Arc<Hub> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.hub)
    }
}

impl FromRef<AppState> for Arc<Gauges> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.gauges)
    }
}

/// Routes everything.
fn router(state: AppState) -> Router {
    Router::new()
        .merge(mcp::router().layer(DefaultBodyLimit::max(LARGEST_MCP_BODY)))
        .merge(api::router(&state))
        .merge(health::router())
        .merge(metrics::router())
        .merge(page::router())
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let shared = origin::shared_with(&parts, &state.edge.trust);
    let account = Account::open(&mut parts);
    let admitted = admit(&state, &mut parts).await;
    let address = account::address(&parts);
    let mut response = match admitted {
        Ok(()) if shared.is_preflight(&parts) => responses::empty(),
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => error.into_response(),
    };
    account.settle(&state.hub, address, Outcome::of(&response)).await;
    responses::harden(&mut response);
    shared.allow(&mut response);
    response
}

/// Decides whether a request may come in at all.
async fn admit(state: &AppState, parts: &mut Parts) -> Result<(), ApiError> {
    let address = peer::note(parts, state.edge.proxy)?;
    responses::strip_own_headers(&mut parts.headers);
    origin::check(state, parts, address).await?;
    caller::refuse_key_in_url(state, &parts.uri, address).await
}
