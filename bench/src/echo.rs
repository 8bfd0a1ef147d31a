//! The server behind every proxy: an MCP server of the modern era whose tools answer at once.

use std::convert::Infallible;
use std::io::{BufRead, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::Failure;
use crate::stage::until_told;

/// Is a request as far as the server reads it.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
}

/// Serves `tools` tools, named `echo`, `echo-1`, …, on one thread.
pub(crate) fn serve(listen: SocketAddr, tools: usize) -> Result<(), Failure> {
    let listing: &'static str = Box::leak(listing(tools).into_boxed_str());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(until_told(async move {
        let listener = TcpListener::bind(listen).await?;
        println!("ready");
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = service_fn(move |request| answer_http(request, listing));
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            #[expect(clippy::disallowed_methods, reason = "the process ends with its connections")]
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    eprintln!("echo: {error}");
                }
            });
        }
    }))
}

/// Serves one tool over the standard input and output.
pub(crate) fn serve_stdio() -> Result<(), Failure> {
    let listing = listing(1);
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        if let Some(answer) = answer(line?.as_bytes(), &listing) {
            output.write_all(&answer)?;
            output.write_all(b"\n")?;
            output.flush()?;
        }
    }
    Ok(())
}

async fn answer_http(request: Request<Incoming>, listing: &str) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let answer = answer(&body, listing).unwrap_or_default();
    let status = if answer.is_empty() { 202 } else { 200 };
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Answers a message; nothing answers a notification.
fn answer(body: &[u8], listing: &str) -> Option<Vec<u8>> {
    const CALLED: &str = r#"{"resultType":"complete","content":[{"type":"text","text":"the answer of a tool that does nothing"}]}"#;
    const DISCOVERED: &str = r#"{"resultType":"complete","ttlMs":60000,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}"#;
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let id = message.id?.get();
    let result = match message.method {
        "tools/call" => CALLED,
        "tools/list" => listing,
        "server/discover" => DISCOVERED,
        _ => {
            let error = r#""error":{"code":-32601,"message":"Method not found"}"#;
            return Some(format!(r#"{{"jsonrpc":"2.0","id":{id},{error}}}"#).into_bytes());
        }
    };
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into_bytes())
}

fn listing(tools: usize) -> String {
    let tool = |number: usize| {
        let name = if number == 0 { "echo".to_owned() } else { format!("echo-{number}") };
        serde_json::json!({
            "name": name,
            "description": "Answers at once, whatever it is asked. Its description is about as long as those of real tools are.",
            "inputSchema": {
                "type": "object",
                "properties": { "text": { "type": "string", "description": "Anything." } },
                "required": ["text"],
            },
            "annotations": { "readOnlyHint": true },
        })
    };
    let tools: Vec<_> = (0..tools).map(tool).collect();
    let listing = serde_json::json!({ "resultType": "complete", "ttlMs": 60000, "cacheScope": "public", "tools": tools });
    listing.to_string()
}
