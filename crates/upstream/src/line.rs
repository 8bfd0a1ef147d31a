//! Connections for plain HTTP/1.1, kept open between requests, each with a task of its own.
//!
//! A request goes out once. Only if nothing of it was sent, because the server had just closed the
//! connection, does it take another one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::dialer::{BoxError, Dialer};
use crate::outbound::{HEADER_BYTES, POOL_IDLE};

type Sender = SendRequest<Full<Bytes>>;

/// Are the connections of one runtime into the same networks.
#[derive(Clone)]
pub(crate) struct Lines {
    dialer: Dialer,
    runtime: Handle,
    resting: Arc<Mutex<Resting>>,
}

/// Is what rests between requests, by origin; the last used is the first to be used again.
#[derive(Default)]
struct Resting {
    lines: HashMap<Authority, Vec<(Instant, Sender)>>,
    is_swept: bool,
}

/// Is a connection in use. Dropped, it is closed.
struct Line {
    sender: Sender,
    origin: Authority,
    home: Lines,
}

/// Is the body of a response. Dropped, it lets its connection rest; an answer that isn't read to its
/// end closes it.
pub(crate) struct Body {
    incoming: Incoming,
    line: Option<Line>,
}

/// Says why a request has no response.
enum Unanswered {
    /// Nothing of it was sent.
    Unsent(Box<Request<Full<Bytes>>>),
    Failed(hyper::Error),
}

impl Lines {
    /// Has no connections yet. They will be served by the runtime that this is called in.
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self { dialer, runtime: Handle::current(), resting: Arc::default() }
    }

    /// Sends a request on a connection that rests, or on a new one.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, BoxError> {
        let (origin, uri) = aim(&mut request)?;
        while let Some(line) = self.rested(&origin).await {
            match line.send(request).await {
                Ok(response) => return Ok(response),
                Err(Unanswered::Unsent(again)) => request = *again,
                Err(Unanswered::Failed(error)) => return Err(error.into()),
            }
        }
        let line = Box::pin(self.open(origin, uri)).await?;
        line.send(request).await.map_err(|unanswered| match unanswered {
            Unanswered::Unsent(_) => "the connection closed at once".into(),
            Unanswered::Failed(error) => error.into(),
        })
    }

    /// Finds a connection that rests. One whose answer has just been read is ready when its task has
    /// run once more.
    async fn rested(&self, origin: &Authority) -> Option<Line> {
        let sender = match self.take(origin) {
            Some(sender) => sender,
            None => {
                tokio::task::yield_now().await;
                self.take(origin)?
            }
        };
        Some(Line { sender, origin: origin.clone(), home: self.clone() })
    }

    fn take(&self, origin: &Authority) -> Option<Sender> {
        let mut resting = self.resting.lock();
        let lines = resting.lines.get_mut(origin)?;
        let ready = lines.iter().rposition(|(since, sender)| sender.is_ready() && !is_old(*since))?;
        Some(lines.remove(ready).1)
    }

    async fn open(&self, origin: Authority, uri: Uri) -> Result<Line, BoxError> {
        let stream = self.dialer.dial(&uri).await?;
        let (mut sender, connection) =
            Builder::new().max_buf_size(HEADER_BYTES).handshake(TokioIo::new(stream)).await?;
        self.runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a server ended badly");
            }
        });
        sender.ready().await?;
        Ok(Line { sender, origin, home: self.clone() })
    }

    fn rest(&self, origin: Authority, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut resting = self.resting.lock();
        resting.lines.entry(origin).or_default().push((Instant::now(), sender));
        if !std::mem::replace(&mut resting.is_swept, true) {
            self.runtime.spawn(sweep(Arc::clone(&self.resting)));
        }
    }
}

impl Line {
    async fn send(mut self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Unanswered> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|incoming| Body { incoming, line: Some(self) })),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => Unanswered::Unsent(Box::new(request)),
                None => Unanswered::Failed(error.into_error()),
            }),
        }
    }
}

impl Body {
    /// Wraps a body whose connection looks after itself.
    pub(crate) const fn whole(incoming: Incoming) -> Self {
        Self { incoming, line: None }
    }

    /// Waits for the next piece. Dropping the future loses nothing.
    pub(crate) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        self.incoming.frame().await
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(Line { sender, origin, home }) = self.line.take() {
            home.rest(origin, sender);
        }
    }
}

/// Closes what has rested for too long, until nothing rests.
async fn sweep(resting: Arc<Mutex<Resting>>) {
    loop {
        sleep(POOL_IDLE).await;
        let mut resting = resting.lock();
        resting.lines.retain(|_, lines| {
            lines.retain(|(since, sender)| !sender.is_closed() && !is_old(*since));
            !lines.is_empty()
        });
        if resting.lines.is_empty() {
            resting.is_swept = false;
            return;
        }
    }
}

fn is_old(since: Instant) -> bool {
    since.elapsed() >= POOL_IDLE
}

/// Makes a request name its host in a header, and its target without (RFC 9112 3.2.1). Returns the
/// origin, and the whole URL.
fn aim(request: &mut Request<Full<Bytes>>) -> Result<(Authority, Uri), BoxError> {
    let uri = request.uri().clone();
    let origin = uri.authority().cloned().ok_or("the URL names no host")?;
    let host = match uri.port_u16() {
        Some(port) if port != 80 => HeaderValue::try_from(format!("{}:{port}", origin.host()))?,
        _ => HeaderValue::from_str(origin.host())?,
    };
    request.headers_mut().entry(HOST).or_insert(host);
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(target);
    Ok((origin, uri))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Arc, Body, BoxError, Bytes, Dialer, Full, Lines, POOL_IDLE, Request, sleep};
    use crate::settings::PlainHttp;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Is a server that counts connections and requests, and says something to each; then it goes on,
    /// or hangs up.
    struct Server {
        listener: TcpListener,
        connections: Arc<AtomicUsize>,
        requests: Arc<AtomicUsize>,
    }

    impl Server {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self { listener, connections: Arc::default(), requests: Arc::default() }
        }

        /// Serves for ever what `says` has for the request of this number; nothing hangs up.
        async fn serve(&self, says: fn(usize) -> &'static str) {
            loop {
                let (mut stream, _) = self.listener.accept().await.unwrap();
                self.connections.fetch_add(1, Ordering::Relaxed);
                while heard(&mut stream).await {
                    let text = says(self.requests.fetch_add(1, Ordering::Relaxed));
                    if text.is_empty() || stream.write_all(text.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        }

        fn counts(&self) -> (usize, usize) {
            (self.connections.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
        }

        /// Asks on lines of its own so often, and returns what came.
        async fn asked(&self, times: usize, says: fn(usize) -> &'static str) -> Vec<String> {
            let lines = lines();
            let asking = async {
                let mut came = Vec::new();
                for _ in 0..times {
                    came.push(match ask(&lines, self).await {
                        Ok(body) => read(body).await,
                        Err(error) => error.to_string(),
                    });
                }
                came
            };
            tokio::select! {
                () = self.serve(says) => unreachable!("it serves for ever"),
                came = asking => came,
            }
        }
    }

    /// Reads a request that ends with its head; says whether one came.
    async fn heard(stream: &mut TcpStream) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("GET /mcp?a=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(head.matches("host: localhost:").count(), 1, "{head}");
        true
    }

    fn lines() -> Lines {
        Lines::new(Dialer { networks: [].into(), plain_http: PlainHttp::LoopbackOnly })
    }

    async fn ask(lines: &Lines, server: &Server) -> Result<Body, BoxError> {
        let url = format!("http://localhost:{}/mcp?a=1", server.listener.local_addr().unwrap().port());
        let request = Request::get(url).body(Full::new(Bytes::new())).unwrap();
        Ok(lines.send(request).await?.into_body())
    }

    async fn read(mut body: Body) -> String {
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap(),
                Err(error) => text += &error.to_string(),
            }
        }
        text
    }

    #[tokio::test]
    async fn a_connection_is_used_again() {
        let server = Server::start().await;
        assert_eq!(server.asked(20, |_| ANSWER).await, ["ok"; 20]);
        assert_eq!(server.counts(), (1, 20));
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closes_is_replaced() {
        let server = Server::start().await;
        let closing = |_| "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(server.asked(3, closing).await, ["ok"; 3]);
        assert_eq!(server.counts(), (3, 3));
    }

    #[tokio::test]
    async fn a_request_that_may_have_been_taken_is_not_sent_again() {
        let server = Server::start().await;
        let came = server.asked(3, |number| if number == 1 { "" } else { ANSWER }).await;
        assert_eq!((came[0].as_str(), came[2].as_str()), ("ok", "ok"));
        assert_ne!(came[1], "ok");
        assert_eq!(
            server.counts(),
            (2, 3),
            "the second was sent once, though on a connection that had rested"
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_closes_its_connection() {
        let (server, lines) = (Server::start().await, lines());
        let half = |_| "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        let asking = async {
            for number in 1..4 {
                drop(ask(&lines, &server).await.unwrap());
                assert_eq!(server.counts(), (number, number));
            }
        };
        tokio::select! {
            () = server.serve(half) => unreachable!("it serves for ever"),
            () = asking => {}
        }
    }

    #[tokio::test]
    async fn what_rests_for_too_long_is_closed() {
        let (server, lines) = (Server::start().await, lines());
        let (asked, mut stream) = tokio::join!(ask(&lines, &server), async {
            let (mut stream, _) = server.listener.accept().await.unwrap();
            assert!(heard(&mut stream).await);
            stream.write_all(ANSWER.as_bytes()).await.unwrap();
            stream
        });
        assert_eq!(read(asked.unwrap()).await, "ok");
        tokio::time::pause();
        sleep(POOL_IDLE * 3).await;
        tokio::time::resume();
        assert!(!heard(&mut stream).await, "it is closed");
        assert!(lines.resting.lock().lines.is_empty());
    }
}
