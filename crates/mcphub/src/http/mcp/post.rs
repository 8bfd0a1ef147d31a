//! `POST`: one message, its era found, its answer written.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::LengthLimitError;
use mcphub_domain::UserId;
use mcphub_domain::audit::Refusal;
use mcphub_hub::{Hub, HubError, Readiness};
use mcphub_wire::header::{self, Era, Headers};
use mcphub_wire::{Envelope, Fault, Id, ParseError, error};

use super::answer::{
    Last, Refused, Words, changed_tool, failed, incapable, unknown_method, unknown_prompt, unknown_resource,
    unknown_task, unknown_tool,
};
use super::methods::MethodError;
use super::visit::Visit;
use super::{legacy, modern};
use crate::http::AppState;
use crate::http::bodies::Bodies;
use crate::http::caller::authenticate;
use crate::http::error::ApiError;
use crate::http::peer;

/// The largest body of a message, in bytes.
const LARGEST: usize = 4 << 20;
/// How long a known caller may take to send a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers a message that came by the router.
pub(super) async fn post(
    State(state): State<AppState>,
    name: Option<Path<String>>,
    request: Request,
) -> Response {
    answer_post(&state, name.map(|Path(name)| name), request).await
}

/// Answers a message that was posted to an endpoint. Nothing of it is read before its sender is known.
pub(in crate::http) async fn answer_post(
    state: &AppState,
    name: Option<String>,
    request: Request,
) -> Response {
    let (visit, parts, body) = match receive(state, name, request).await {
        Ok(received) => received,
        Err(response) => return response,
    };
    let live = (state.live.clone(), state.stopping.clone());
    let all = || parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let fields: Headers<'_> = all().collect();
    match Envelope::parse(&body) {
        Ok(message) => match header::era(&fields, &message) {
            Era::Modern => {
                let beside = (all().collect(), state.stopping.clone());
                modern::answer(visit, &fields, beside, message).await
            }
            Era::Initialize => Box::pin(legacy::initialize(visit, live, message)).await,
            Era::Session => Box::pin(legacy::answer(visit, live, &fields, message)).await,
            Era::Bad => Box::pin(malformed(&visit, no_era(message))).await,
        },
        Err(ParseError { fault: Fault::Batch, .. }) => {
            Box::pin(legacy::batch(visit, live, &fields, &body)).await
        }
        Err(error) => Box::pin(malformed(&visit, unreadable(error))).await,
    }
}

/// Finds out who sends a message and where to, then reads it.
pub(super) async fn receive(
    state: &AppState,
    name: Option<String>,
    request: Request,
) -> Result<(Visit, Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    let caller = match authenticate(state, &parts).await {
        Ok(caller) => caller,
        Err(error) => return Err(Box::pin(turn_away(&state.hub, error, body)).await),
    };
    let visit = match Visit::enter(Arc::clone(&state.hub), caller, name, peer::hang_up(&parts)).await {
        Ok(visit) => visit,
        Err(error) => return Err(failed(&error, Box::pin(id_in(body)).await.as_ref()).into_response()),
    };
    match read(&state.bodies, visit.caller.principal().user(), body).await {
        Ok(body) => Ok((visit, parts, body)),
        Err(refused) => Err(Box::pin(malformed(&visit, refused)).await),
    }
}

/// Reads a body of at most 4 MiB in at most 30 seconds, the wait for its turn included.
async fn read(bodies: &Bodies, person: Option<UserId>, body: Body) -> Result<Bytes, Refused> {
    let refuse = |status, text| Refused::new(status, error::INVALID_REQUEST, text);
    let read = async {
        let _turn = bodies.turn(person, body.size_hint().upper()).await;
        to_bytes(body, LARGEST).await
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.source().is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 4 MiB"))
        }
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body was cut off")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took longer than 30 seconds")),
    }
}

/// Records that a known caller sent something malformed, and says so.
pub(super) async fn malformed(visit: &Visit, refused: Refused) -> Response {
    note_malformed(visit, refused).await.into_response()
}

/// Records that a known caller sent something malformed.
pub(super) async fn note_malformed(visit: &Visit, refused: Refused) -> Last {
    visit.hub.record_refusal(&visit.caller, "mcp", Refusal::Malformed, None).await;
    refused.into()
}

/// Says why a method has no result, in the words of the client's era.
pub(super) async fn refuse_method(visit: &Visit, failure: MethodError, id: &Id, words: Words) -> Last {
    match failure {
        MethodError::UnknownTool(name) => unknown_tool(&name, id).into(),
        MethodError::UnknownPrompt(name) => unknown_prompt(&name, id).into(),
        MethodError::UnknownResource(uri) => unknown_resource(&uri, id, words).into(),
        MethodError::UnknownTask => unknown_task(id).into(),
        MethodError::UnknownMethod(method) => unknown_method(&method, id, words).into(),
        MethodError::Incapable(extension) => {
            note_malformed(visit, incapable(extension).of(Some(id.clone()))).await
        }
        MethodError::ChangedTool(name) => changed_tool(&name, id).into(),
        MethodError::Params(text) => {
            let refused = Refused::new(StatusCode::OK, error::INVALID_PARAMS, text);
            note_malformed(visit, refused.of(Some(id.clone()))).await
        }
        MethodError::Hub(error) => match words {
            Words::Modern => failed(&error, Some(id)).into(),
            Words::Legacy => failed(&error, Some(id)).with_ok_status().into(),
        },
    }
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
async fn turn_away(hub: &Hub, error: ApiError, body: Body) -> Response {
    if error.status() != StatusCode::SERVICE_UNAVAILABLE {
        return error.into_response();
    }
    let reason = match hub.readiness() {
        Readiness::Sealed => HubError::Sealed,
        Readiness::Unavailable(reason) => HubError::Unavailable { reason },
        Readiness::Ready => HubError::Unavailable { reason: "it was, a moment ago".to_owned() },
    };
    failed(&reason, id_in(body).await.as_ref()).into_response()
}

/// Finds the id of a request that is refused as a whole, if its first 64 KiB come within a second.
async fn id_in(body: Body) -> Option<Id> {
    const SHORT: usize = 64 * 1024;
    let body = to_bytes(body, SHORT);
    let body = tokio::time::timeout(Duration::from_secs(1), body).await.ok()?.ok()?;
    match Envelope::parse(&body) {
        Ok(Envelope::Request(request)) => Some(request.id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use tokio::time::sleep;

    use super::{Bodies, Body, Bytes, Duration, LARGEST, Last, PATIENCE, read};

    /// Reads a body; says how long it is, or with which status it is refused.
    async fn received(body: Body) -> Result<usize, u16> {
        let read = read(&Bodies::default(), None, body).await;
        read.map(|bytes| bytes.len()).map_err(|refused| Last::from(refused).status.as_u16())
    }

    async fn received_after(span: Duration) -> Result<usize, u16> {
        let body = stream::once(async move {
            sleep(span).await;
            Ok::<_, Infallible>("{}")
        });
        received(Body::from_stream(body)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_may_take_as_long_as_the_limit_and_no_longer() {
        assert_eq!(received_after(PATIENCE).await, Ok(2));
        assert_eq!(received_after(PATIENCE + Duration::from_millis(1)).await, Err(408));
    }

    #[tokio::test]
    async fn a_message_may_be_as_large_as_the_limit_and_no_larger() {
        for (length, received_as) in [(LARGEST, Ok(LARGEST)), (LARGEST + 1, Err(413))] {
            let whole = Bytes::from(vec![b' '; length]);
            assert_eq!(received(Body::from(whole.clone())).await, received_as);
            let pieces = [whole.slice(..length / 2), whole.slice(length / 2..)].map(Ok::<_, Infallible>);
            let unsaid = Body::from_stream(stream::iter(pieces));
            assert_eq!(received(unsaid).await, received_as, "its length isn't said before");
        }
    }
}
