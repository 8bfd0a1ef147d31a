//! The floor: what axum and hyper-util cost when nothing is decided, recorded or injected.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::Failure;
use crate::stage::until_told;

type Upstream = Client<HttpConnector, Full<Bytes>>;

/// Is the envelope, its contents as they came.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    jsonrpc: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Is the envelope of an answer.
#[derive(Serialize, Deserialize)]
struct Answer<'a> {
    jsonrpc: &'a str,
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Clone)]
struct Floor {
    upstream: Upstream,
    uri: Uri,
}

/// Serves the proxy on as many threads as the machine has cores.
pub(crate) fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<(), Failure> {
    tokio::runtime::Runtime::new()?.block_on(until_told(async move {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let floor = Floor {
            upstream: Client::builder(TokioExecutor::new()).build(connector),
            uri: format!("http://{upstream}/mcp").parse()?,
        };
        let router = Router::new().route("/mcp", post(forward)).with_state(floor);
        let listener = TcpListener::bind(listen).await?;
        println!("ready");
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            if let Err(error) = stream.set_nodelay(true) {
                eprintln!("floor: {error}");
            }
        });
        Ok(axum::serve(listener, router).await?)
    }))
}

async fn forward(State(floor): State<Floor>, headers: HeaderMap, body: Bytes) -> Response {
    match relay(&floor, &headers, &body).await {
        Ok(bytes) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response(),
        Err(failure) => (StatusCode::BAD_GATEWAY, failure.to_string()).into_response(),
    }
}

async fn relay(floor: &Floor, headers: &HeaderMap, body: &[u8]) -> Result<Body, Failure> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)?;
    let mut request = Request::post(floor.uri.clone()).body(Full::from(serde_json::to_vec(&envelope)?))?;
    for (name, value) in headers {
        if name.as_str().starts_with("mcp-") || name == CONTENT_TYPE || name == "accept" {
            request.headers_mut().insert(name.clone(), value.clone());
        }
    }
    let answer = floor.upstream.request(request).await?.into_body().collect().await?.to_bytes();
    let answer: Answer<'_> = serde_json::from_slice(&answer)?;
    Ok(Body::from(serde_json::to_vec(&answer)?))
}
