//! The server over HTTP.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::deed::{Deed, Era, deed};
use crate::Failure;

/// How long `count` thinks before each step.
const STEP: Duration = Duration::from_millis(30);
const SESSION: &str = "mcp-session-id";

type Body = UnsyncBoxBody<Bytes, Failure>;
/// Are the sessions of the older era.
#[derive(Default)]
struct Sessions {
    opened: u64,
    open: BTreeSet<String>,
}

type Shared = Rc<RefCell<Sessions>>;

/// Serves on one thread until the process is ended.
pub(crate) fn serve(listen: SocketAddr, era: Era) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(listen).await?;
        let sessions = Shared::default();
        println!("ready");
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let sessions = Rc::clone(&sessions);
            let service = service_fn(move |request| answer(era, Rc::clone(&sessions), request));
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // That a connection breaks off is what this server is for.
            tokio::task::spawn_local(async move { drop(serving.await) });
        }
    })
}

async fn answer(
    era: Era,
    sessions: Shared,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let session = request.headers().get(SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
    if request.method() == Method::DELETE {
        let ended = session.is_some_and(|id| sessions.borrow_mut().open.remove(&id));
        return Ok(status(if ended { StatusCode::OK } else { StatusCode::NOT_FOUND }));
    }
    if request.method() != Method::POST {
        return Ok(status(StatusCode::METHOD_NOT_ALLOWED));
    }
    let message = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let deed = deed(era, &message);
    let foreign = |id: &String| !sessions.borrow().open.contains(id);
    if era == Era::Legacy && !matches!(deed, Deed::Open(_)) && session.as_ref().is_none_or(foreign) {
        return Ok(status(StatusCode::NOT_FOUND));
    }
    Ok(perform(deed, &sessions).await)
}

async fn perform(deed: Deed, sessions: &Shared) -> Response<Body> {
    match deed {
        Deed::Nothing => status(StatusCode::ACCEPTED),
        Deed::Answer(bytes) => json(bytes),
        Deed::Open(bytes) => open(bytes, sessions),
        Deed::Count(messages) => events(messages, STEP),
        Deed::Flood(messages) => events(messages, Duration::ZERO),
        Deed::Hang => std::future::pending().await,
        Deed::Cut(bytes) => cut(bytes),
        Deed::Garbage => json(b"<html>this is not what you asked for".to_vec()),
    }
}

fn open(bytes: Vec<u8>, sessions: &Shared) -> Response<Body> {
    let mut sessions = sessions.borrow_mut();
    sessions.opened += 1;
    let id = format!("{}-{}", std::process::id(), sessions.opened);
    let mut response = json(bytes);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(SESSION, value);
    }
    sessions.open.insert(id);
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(whole(Vec::new()));
    *response.status_mut() = status;
    response
}

fn json(bytes: Vec<u8>) -> Response<Body> {
    of_kind("application/json", whole(bytes))
}

/// Promises more than it sends.
fn cut(mut bytes: Vec<u8>) -> Response<Body> {
    let promised = bytes.len();
    bytes.truncate(promised / 2);
    let body = stream(|mut sender| async move {
        if sender.send_data(Bytes::from(bytes)).await.is_ok() {
            sender.abort("this is where it ends".into());
        }
    });
    let mut response = of_kind("application/json", body);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(promised));
    response
}

fn events(messages: Vec<Vec<u8>>, pause: Duration) -> Response<Body> {
    let body = stream(move |mut sender| async move {
        for message in messages {
            tokio::time::sleep(pause).await;
            let event = [b"event: message\ndata: ", message.as_slice(), b"\n\n"].concat();
            if sender.send_data(Bytes::from(event)).await.is_err() {
                return;
            }
        }
    });
    of_kind("text/event-stream", body)
}

fn stream<F: Future<Output = ()> + 'static>(write: impl FnOnce(Sender<Bytes, Failure>) -> F) -> Body {
    let (sender, body) = Channel::new(1);
    tokio::task::spawn_local(write(sender));
    body.boxed_unsync()
}

fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

fn of_kind(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
