//! Streamable HTTP without sessions: every answer is a stream of events that ends with it.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::StreamExt;
use mcphub_wire::sse::{Event, encode};
use mcphub_wire::{Envelope, message};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Notes, Tools, answer};

/// Answers until the process is ended.
pub(super) async fn run(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "the demo server listens");
    axum::serve(listener, Router::new().route("/mcp", post(receive)).with_state(Notes::default())).await
}

async fn receive(State(notes): State<Notes>, headers: HeaderMap, body: Bytes) -> Response {
    match Envelope::parse(&body) {
        Ok(Envelope::Request(request)) => {
            let tools = Tools::new(bearer(&headers), notes);
            let (sender, receiver) = mpsc::channel(16);
            let work = futures_util::stream::once(async move { answer(&tools, request, &sender).await });
            let messages = futures_util::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|bytes| (Some(bytes), receiver))
            });
            let both = futures_util::stream::select(work.map(|()| None), messages);
            events(both.filter_map(|bytes| async move { bytes }))
        }
        Ok(Envelope::Notification(_) | Envelope::Response(_)) => StatusCode::ACCEPTED.into_response(),
        Err(error) => {
            let bytes = message::error(error.id.as_ref(), error.code(), &error.to_string(), None);
            (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/json")], bytes).into_response()
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

fn events(messages: impl futures_util::Stream<Item = Bytes> + Send + 'static) -> Response {
    let event = |data| encode(&Event { event: Some("message".to_owned()), id: None, data, retry: None });
    let body = Body::from_stream(messages.map(move |data| Ok::<_, std::convert::Infallible>(event(data))));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}
