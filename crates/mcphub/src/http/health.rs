//! Whether the process lives, and whether it can serve.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use mcphub_hub::{Hub, Readiness};
use serde::Serialize;

use crate::http::AppState;

/// Says whether the hub can serve, and why not. It names no cause that a stranger could use.
#[derive(Serialize)]
struct ReadyView {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Routes both.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/livez", get(async || "alive\n")).route("/readyz", get(ready))
}

async fn ready(State(hub): State<Arc<Hub>>) -> (StatusCode, Json<ReadyView>) {
    let reason = match hub.readiness() {
        Readiness::Ready => return (StatusCode::OK, Json(ReadyView { ready: true, reason: None })),
        Readiness::Sealed => "sealed",
        Readiness::Unavailable(_) => "audit-unavailable",
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(ReadyView { ready: false, reason: Some(reason) }))
}
