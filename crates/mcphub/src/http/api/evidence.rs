//! The log as evidence: bundles that anybody can check without the hub, and the key that signs them.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream::try_unfold;
use http::header::CONTENT_TYPE;
use mcphub_domain::ChainId;
use mcphub_hub::{Bundle, Hub, HubError, Span};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Asked, In, Time};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Says which records are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those from this time on.
    #[param(schema_with = schema::time)]
    from: Option<Time>,
    /// Those before this time.
    #[param(schema_with = schema::time)]
    to: Option<Time>,
}

/// Names a record.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Place {
    /// The record's chain.
    #[param(schema_with = schema::id)]
    chain: ChainId,
    /// Its number there.
    number: u64,
}

/// Is the key that heads and bundles are signed with.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyView {
    /// The installation that it belongs to.
    #[schema(schema_with = schema::id)]
    install: String,
    /// The public key: `ed25519:` and 64 digits.
    key: String,
    /// Its fingerprint: `sha256:` and 64 digits.
    fingerprint: String,
}

/// Sends a bundle piece by piece, as fast as it is read. One that breaks off has no seal.
fn stream(bundle: Bundle) -> Response {
    let pieces = try_unfold(bundle, async |mut bundle| {
        let piece = bundle.next().await?;
        Ok::<_, HubError>(piece.map(|piece| (Bytes::from(piece), bundle)))
    });
    ([(CONTENT_TYPE, "application/jsonl")], Body::from_stream(pieces)).into_response()
}

/// Gives out the log, or a span of it, as a bundle to check without the hub. This is itself recorded.
#[utoipa::path(get, path = "/audit/export", operation_id = "export_audit", tag = "audit", params(Wanted),
    responses((status = 200, description = "A bundle as in docs/audit-format.md", body = String, content_type = "application/jsonl"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn export(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Asked(wanted): Asked<Wanted>,
) -> ApiResult<Response> {
    let time = |time: Option<Time>| time.map(|Time(time)| time);
    let span = Span { from: time(wanted.from), to: time(wanted.to) };
    Ok(stream(hub.export_audit(&caller, span).await?))
}

/// Proves that a record is in the log, by a bundle to check without the hub.
#[utoipa::path(get, path = "/audit/records/{chain}/{number}/proof", operation_id = "prove_record", tag = "audit", params(Place),
    responses((status = 200, description = "A bundle as in docs/audit-format.md", body = String, content_type = "application/jsonl"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn prove(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(Place { chain, number }): In<Place>,
) -> ApiResult<Response> {
    Ok(stream(hub.prove_record(&caller, (chain, number)).await?))
}

/// Shows the key that heads and bundles are signed with.
#[utoipa::path(get, path = "/audit/key", operation_id = "show_audit_key", tag = "audit",
    responses((status = 200, description = "The key and its fingerprint", body = KeyView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn key(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<KeyView>> {
    let key = hub.signing_key(&caller).await?;
    let (install, key, fingerprint) = (key.install.to_string(), key.key, key.fingerprint);
    Ok(Json(KeyView { install, key, fingerprint }))
}
