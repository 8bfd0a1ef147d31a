//! `GET`: the stream of a legacy session, for what belongs to no request.

use std::io;

use axum::extract::{Path, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use mcphub_hub::{Lease, Session};
use mcphub_wire::header::Headers;
use mcphub_wire::sse::KEEP_ALIVE;
use mcphub_wire::{Edit, message};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::changes::Changes;
use super::client;
use super::legacy::find_session;
use super::live::Entry;
use super::post::malformed;
use super::streaming::{SILENCE, event, event_stream};
use super::visit::Visit;
use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;

/// Names the last event that a client has of a stream which it wants to go on with.
const LAST_EVENT_ID: &str = "last-event-id";

/// Opens a session's stream, or goes on with that of a call. It ends with the session, with the caller's right, and with
/// the hub.
pub(super) async fn get(
    State(state): State<AppState>,
    name: Option<Path<String>>,
    caller: Result<Authenticated, ApiError>,
    headers: HeaderMap,
) -> Response {
    let visit = match Visit::arrive(&state, caller, name).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let fields: Headers<'_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    if fields.is_modern() {
        let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    match find_session(&visit, &fields).await {
        Ok(session) => {
            if let Some(last) = headers.get(LAST_EVENT_ID).and_then(|last| last.to_str().ok())
                && let Some(response) = state.live.threads.resume(&visit.hub, &session, last).await
            {
                return response;
            }
            let open = Open::new(visit, &session, state.live.stream(session.id_hash), state.stopping);
            event_stream(stream::unfold(Some(open), Open::step))
        }
        Err(refused) => malformed(&visit, refused).await,
    }
}

/// Is an open stream.
struct Open {
    visit: Visit,
    entry: Entry,
    lease: Lease,
    changes: Changes,
    stopping: CancellationToken,
    greeted: bool,
}

impl Open {
    fn new(visit: Visit, session: &Session, entry: Entry, stopping: CancellationToken) -> Self {
        Self {
            lease: visit.hub.lease_endpoint(&visit.caller, visit.endpoint),
            changes: Changes::of(&visit, &client::of_session(session, None)),
            stopping,
            visit,
            entry,
            greeted: false,
        }
    }

    async fn step(open: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut open = open?;
        if !open.greeted {
            open.greeted = true;
            return Some((Ok(KEEP_ALIVE), Some(open)));
        }
        let bytes = open.next().await?;
        Some((Ok(bytes), Some(open)))
    }

    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            () = self.lease.revoked() => None,
            () = self.entry.cancelled() => None,
            () = self.stopping.cancelled() => None,
            news = self.entry.news() => Some(event(news)),
            changed = self.changes.next(&self.visit) => {
                changed.map(|kind| event(message::notification(kind.changed(), None, &Edit::new())))
            }
            () = sleep(SILENCE) => Some(KEEP_ALIVE),
        }
    }
}
