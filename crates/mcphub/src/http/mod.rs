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
mod accounts;
mod api;
mod bodies;
mod face;
mod head;
mod health;
mod lanes;
mod metrics;
mod page;
mod places;
mod responses;
mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, MatchedPath, Request, State};
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

/// Is what every handler may use.
#[derive(Clone)]
pub(crate) struct AppState {
    /// The use cases.
    pub(crate) hub: Arc<Hub>,
    /// Is cancelled when the hub stops, so that open streams end.
    pub(crate) stopping: CancellationToken,
    /// The turns of large bodies.
    pub(crate) bodies: Arc<Bodies>,
    /// What of MCP sessions is open at the moment.
    live: mcp::Live,
    /// The streams of clients that post their messages elsewhere.
    channels: mcp::Channels,
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
        let (live, channels) = (mcp::Live::new(&hub.unguessable()), mcp::Channels::default());
        Self { hub, stopping, bodies: Arc::default(), live, channels, edge, gauges }
    }
}

impl FromRef<AppState> for Arc<Hub> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.hub)
    }
}

/// Routes everything. What is posted to an MCP endpoint mostly doesn't come this way, see `face`.
fn router(state: AppState) -> Router {
    Router::new()
        .merge(mcp::router())
        .merge(api::router(&state))
        .merge(health::router())
        .merge(metrics::router())
        .merge(page::router())
        .merge(accounts::router())
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    guarded(&state, route, request, |request| next.run(request)).await
}

/// Lets `answer` answer a request that came on a route, if it may come in at all.
async fn guarded<F: Future<Output = Response>>(
    state: &AppState,
    route: &str,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let shared = origin::shared_with(&parts, &state.edge.trust);
    let account = Account::open(&mut parts, route);
    let admitted = admit(state, &mut parts).await;
    let address = account::address(&parts);
    let mut response = match admitted {
        Ok(()) if shared.is_preflight(&parts) => responses::empty(),
        Ok(()) => answer(Request::from_parts(parts, body)).await,
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
    head::check(parts)?;
    responses::strip_own_headers(&mut parts.headers);
    origin::check(state, parts, address).await?;
    caller::refuse_key_in_url(state, &parts.uri, address).await
}
