//! An MCP server to try the hub with: over stdio or Streamable HTTP, for clients of both eras.
//!
//! It shows what the hub does with credentials without showing a credential: `fingerprint` answers
//! with a digest of the one that it received.

mod http;
mod stdio;
mod tools;

use std::net::SocketAddr;

use bytes::Bytes;
use mcphub_wire::answer::{Cache, to_modern};
use mcphub_wire::discover::Discovery;
use mcphub_wire::legacy::{InitializeParams, InitializeResult};
use mcphub_wire::{Fault, Raw, Request, Version, error, message, method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use tools::{Notes, Tools};

/// Says how the demo server is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// On standard input and output.
    Stdio,
    /// Over Streamable HTTP, at `/mcp` of this address.
    Http(SocketAddr),
}

/// Runs the demo server until its client is gone, or it is ended. `token` is the credential that came
/// in the environment.
pub(crate) async fn run(transport: Transport, token: Option<String>) -> std::io::Result<()> {
    match transport {
        Transport::Stdio => stdio::run(Tools::new(token, Notes::default())).await,
        Transport::Http(address) => http::run(address).await,
    }
}

/// Answers one request; progress goes into `sender` before the answer does.
async fn answer(tools: &Tools, request: Request, sender: &mpsc::Sender<Bytes>) {
    let modern = request.params.as_ref().is_some_and(|params| params.meta().protocol_version().is_some());
    let outcome = match &*request.method {
        method::INITIALIZE => initialize(&request),
        method::DISCOVER => discover(),
        method::PING => Ok(Raw::empty_object()),
        method::TOOLS_LIST => {
            complete(&json!({ "tools": tools::definitions() }), modern.then_some(Cache::NONE), modern)
        }
        method::TOOLS_CALL => match tools.call(&request, sender).await {
            Some(result) => complete(&result, None, modern),
            None => Err(Failure::new(error::INVALID_PARAMS, "no such tool")),
        },
        _ => Err(Failure::new(error::METHOD_NOT_FOUND, "no such method")),
    };
    let bytes = match outcome {
        Ok(result) => message::result(&request.id, &result),
        Err(failure) => message::error(Some(&request.id), failure.code, failure.text, None),
    };
    if sender.send(bytes).await.is_err() {
        tracing::debug!("the client went away before its answer");
    }
}

struct Failure {
    code: i64,
    text: &'static str,
}

impl Failure {
    const fn new(code: i64, text: &'static str) -> Self {
        Self { code, text }
    }
}

impl From<Fault> for Failure {
    fn from(_: Fault) -> Self {
        Self::new(error::INVALID_PARAMS, "the parameters can't be used")
    }
}

fn complete(result: &Value, cache: Option<Cache>, modern: bool) -> Result<Raw, Failure> {
    let result = Raw::json(result)?;
    if modern { Ok(to_modern(&result, cache, &Raw::json(&server_info())?)?) } else { Ok(result) }
}

fn initialize(request: &Request) -> Result<Raw, Failure> {
    let params = InitializeParams::read(request.params.as_ref())?;
    let result = InitializeResult {
        version: params.negotiated(),
        capabilities: Raw::json(&json!({ "tools": {} }))?,
        server_info: Raw::json(&server_info())?,
        instructions: None,
    };
    Ok(result.to_raw())
}

fn discover() -> Result<Raw, Failure> {
    let discovery = Discovery {
        supported_versions: Version::MODERN.iter().map(|version| version.as_str().into()).collect(),
        capabilities: Raw::json(&json!({ "tools": {} }))?,
        instructions: None,
        server_info: Some(Raw::json(&server_info())?),
        cache: Cache::NONE,
    };
    Ok(discovery.to_raw())
}

fn server_info() -> Value {
    json!({ "name": "mcphub-demo", "title": "MCPHub demo server", "version": env!("CARGO_PKG_VERSION") })
}
