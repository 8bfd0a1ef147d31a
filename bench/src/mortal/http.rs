//! The server over HTTP.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
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
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::deed::{Change, Deed, Era, deed, news};
use crate::Failure;

/// How long `count` thinks before each step.
const STEP: Duration = Duration::from_millis(30);
/// How long it waits for what it asked, before it goes on without.
const HEARING: Duration = Duration::from_secs(5);
/// How much news waits for who listens slowly.
const WAITING: usize = 16;
const SESSION: &str = "mcp-session-id";

type Body = UnsyncBoxBody<Bytes, Failure>;
/// Is what all connections share.
#[derive(Default)]
struct State {
    opened: u64,
    /// The sessions of the older era.
    open: BTreeSet<String>,
    /// Whether the tool that comes and goes is there.
    passing: bool,
    /// Who is asked, by the id of the question.
    asked: BTreeMap<i64, oneshot::Sender<()>>,
    listeners: Vec<Listener>,
}

/// Is an open stream for what changes.
struct Listener {
    /// The request that opened it, where that was one.
    id: Option<String>,
    sender: mpsc::Sender<Vec<u8>>,
}

type Shared = Rc<RefCell<State>>;

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
    let is_stream = request.method() == Method::GET;
    let message = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let deed = if is_stream { Deed::Nothing } else { deed(era, &message) };
    let foreign = |id: &String| !sessions.borrow().open.contains(id);
    if era == Era::Legacy && !matches!(deed, Deed::Open(_)) && session.as_ref().is_none_or(foreign) {
        return Ok(status(StatusCode::NOT_FOUND));
    }
    Ok(match is_stream {
        true if era == Era::Modern => status(StatusCode::METHOD_NOT_ALLOWED),
        true => listen(None, Vec::new(), &sessions),
        false => perform(deed, &sessions).await,
    })
}

async fn perform(deed: Deed, state: &Shared) -> Response<Body> {
    match deed {
        Deed::Nothing => status(StatusCode::ACCEPTED),
        Deed::Answer(bytes) => json(bytes),
        Deed::Open(bytes) => open(bytes, state),
        Deed::Count(messages) => events(messages, STEP),
        Deed::Flood(messages) => events(messages, Duration::ZERO),
        Deed::Hang => std::future::pending().await,
        Deed::Cut(bytes) => cut(bytes),
        Deed::Ask(id, question, answer) => ask(id, [question, answer], state),
        Deed::Heard(id) => {
            // Whoever waits for it hears that nobody is asked any more.
            state.borrow_mut().asked.remove(&id);
            status(StatusCode::ACCEPTED)
        }
        Deed::List([without, with]) => json(if state.borrow().passing { with } else { without }),
        Deed::Listen(acknowledgement, id) => listen(Some(id), acknowledgement, state),
        Deed::Tell(change, bytes) => {
            state.borrow_mut().tell(change);
            json(bytes)
        }
        Deed::Expire(bytes) => {
            state.borrow_mut().open.clear();
            json(bytes)
        }
        Deed::Garbage => json(b"<html>this is not what you asked for".to_vec()),
    }
}

impl State {
    /// Tells everybody who still listens what has changed; who listens too slowly misses it.
    fn tell(&mut self, change: Change) {
        self.passing ^= change == Change::Tools;
        self.listeners.retain(|listener| !listener.sender.is_closed());
        for Listener { id, sender } in &self.listeners {
            drop(sender.try_send(news(change, id.as_deref())));
        }
    }
}

/// Asks on the stream of a call, and answers there.
fn ask(id: i64, [question, answer]: [Vec<u8>; 2], state: &Shared) -> Response<Body> {
    let (asked, heard) = oneshot::channel();
    state.borrow_mut().asked.insert(id, asked);
    let state = Rc::clone(state);
    let body = stream(async move |mut sender| {
        if sender.send_data(event(&question)).await.is_ok() {
            drop(timeout(HEARING, heard).await);
            drop(sender.send_data(event(&answer)).await);
        }
        state.borrow_mut().asked.remove(&id);
    });
    of_kind("text/event-stream", body)
}

/// Opens a stream for what changes.
fn listen(id: Option<String>, first: Vec<u8>, state: &Shared) -> Response<Body> {
    let (told, mut news) = mpsc::channel(WAITING);
    state.borrow_mut().listeners.push(Listener { id, sender: told });
    let body = stream(async move |mut sender| {
        let mut next = Some(first);
        while let Some(message) = next {
            let bytes = if message.is_empty() { Bytes::from_static(b":\n\n") } else { event(&message) };
            if sender.send_data(bytes).await.is_err() {
                return;
            }
            next = news.recv().await;
        }
    });
    of_kind("text/event-stream", body)
}

fn event(message: &[u8]) -> Bytes {
    [b"event: message\ndata: ", message, b"\n\n"].concat().into()
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
            if sender.send_data(event(&message)).await.is_err() {
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
