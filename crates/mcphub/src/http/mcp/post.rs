//! `POST`: one message, its era found, its answer written.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mcphub_domain::audit::Refusal;
use mcphub_hub::{Hub, HubError, Readiness};
use mcphub_wire::header::{self, Era, Headers};
use mcphub_wire::{Envelope, Fault, Id, ParseError, error};

use super::answer::{Refused, failed};
use super::live::Live;
use super::visit::Visit;
use super::{legacy, modern};
use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;

/// Answers a message that was posted to an endpoint.
pub(super) async fn post(
    State(state): State<AppState>,
    Extension(live): Extension<Live>,
    name: Option<Path<String>>,
    caller: Result<Authenticated, ApiError>,
    Posted { headers, body }: Posted,
) -> Response {
    let Authenticated(caller) = match caller {
        Ok(caller) => caller,
        Err(error) => return turn_away(&state.hub, error, &body),
    };
    let visit = match Visit::enter(Arc::clone(&state.hub), caller, name.map(|Path(name)| name)).await {
        Ok(visit) => visit,
        Err(error) => return failed(&error, id_in(&body).as_ref()).into_response(),
    };
    let Ok(body) = body else {
        return malformed(
            &visit,
            Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                error::INVALID_REQUEST,
                "the body is larger than 4 MiB",
            ),
        )
        .await;
    };
    let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let fields: Headers<'_> = fields.collect();
    match Envelope::parse(&body) {
        Ok(message) => match header::era(&fields, &message) {
            Era::Modern => modern::answer(visit, &fields, message).await,
            Era::Initialize => legacy::initialize(visit, message).await,
            Era::Session => legacy::answer(visit, live, &fields, message).await,
            Era::Bad => malformed(&visit, no_era(message)).await,
        },
        Err(ParseError { fault: Fault::Batch, .. }) => legacy::batch(visit, live, &fields, &body).await,
        Err(error) => malformed(&visit, unreadable(error)).await,
    }
}

/// Records that a known caller sent something malformed, and says so.
pub(super) async fn malformed(visit: &Visit, refused: Refused) -> Response {
    visit.hub.record_refusal(&visit.caller, "mcp", Refusal::Malformed, None).await;
    refused.into_response()
}

pub(super) fn unreadable(error: ParseError) -> Refused {
    let status = if error.is_too_large() { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    Refused::new(status, error.code(), &error.to_string()).of(error.id)
}

fn no_era(message: Envelope) -> Refused {
    let id = match message {
        Envelope::Request(request) => Some(request.id),
        Envelope::Notification(_) | Envelope::Response(_) => None,
    };
    let text = "neither a modern request (params._meta with a protocolVersion), nor `initialize`, nor one of a session (Mcp-Session-Id)";
    Refused::new(StatusCode::BAD_REQUEST, error::INVALID_REQUEST, text).of(id)
}

/// Answers somebody who could not be authenticated. That the hub can't do it now is said in the
/// words of the protocol, everything else in those of HTTP.
fn turn_away(hub: &Hub, error: ApiError, body: &Result<Bytes, BytesRejection>) -> Response {
    if error.status() != StatusCode::SERVICE_UNAVAILABLE {
        return error.into_response();
    }
    let reason = match hub.readiness() {
        Readiness::Sealed => HubError::Sealed,
        Readiness::Unavailable(reason) => HubError::Unavailable { reason },
        Readiness::Ready => HubError::Unavailable { reason: "it was, a moment ago".to_owned() },
    };
    failed(&reason, id_in(body).as_ref()).into_response()
}

fn id_in(body: &Result<Bytes, BytesRejection>) -> Option<Id> {
    match Envelope::parse(body.as_ref().ok()?) {
        Ok(Envelope::Request(request)) => Some(request.id),
        _ => None,
    }
}

/// Is what was posted, read after the caller is known.
pub(super) struct Posted {
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
}

impl<S: Send + Sync> axum::extract::FromRequest<S> for Posted {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Self::Rejection> {
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, state).await;
        Ok(Self { headers, body })
    }
}
