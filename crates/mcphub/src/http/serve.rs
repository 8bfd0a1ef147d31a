//! The listener: connections are bounded, patience is bounded, and a stop drains.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use mcphub_hub::Hub;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::descriptors;
use crate::http::face::Face;
use crate::http::head::{LARGEST as LARGEST_HEAD, MOST_HEADERS};
use crate::http::lanes::Lanes;
use crate::http::metrics::Gauges;
use crate::http::origin::Trust;
use crate::http::peer::{Connection, Ends, Proxy};
use crate::http::places::{Place, Places};
use crate::http::{AppState, router};

/// How many connections may be open: 10,000 streams and some for everybody else; fewer where the
/// system lets the process open fewer files.
const CONNECTIONS: usize = 10_000 + 512;
/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a stop waits for running requests.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How many requests one HTTP/2 connection may have open.
const STREAMS: u32 = 256;

/// Serves until `shutdown`, then lets running requests end for at most ten seconds.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    config: &Config,
    (listener, lanes): (TcpListener, &Lanes),
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let places = places(descriptors::raise());
    let trust = Trust::new(&config.public_url, &config.allowed_hosts, &config.allowed_origins);
    let proxy = if config.behind_proxy { Proxy::Loopback } else { Proxy::None };
    let runtimes = lanes.runtimes().cloned().chain([Handle::current()]).collect();
    let gauges = Gauges::new(runtimes, Arc::clone(&places));
    let state = AppState::new(hub, trust, proxy, gauges);
    let server = Server {
        router: router(state.clone()),
        protocol: protocol(),
        places,
        draining: state.stopping.clone(),
        state,
    };
    let connections = TaskTracker::new();
    server.accept((&listener, lanes), &connections, shutdown).await;
    drop(listener);
    server.drain(&connections).await;
    Ok(())
}

/// Makes as many places as there may be connections, where the system lets so many clients in.
fn places(clients: usize) -> Arc<Places> {
    Places::new(clients.min(CONNECTIONS))
}

/// Is what every connection needs.
#[derive(Clone)]
struct Server {
    state: AppState,
    router: Router,
    protocol: Builder<TokioExecutor>,
    places: Arc<Places>,
    /// No new requests; streams end.
    draining: CancellationToken,
}

impl Server {
    async fn accept(
        &self,
        (listener, lanes): (&TcpListener, &Lanes),
        connections: &TaskTracker,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            let next = async {
                // It leaves this runtime for that of its lane.
                let accepted = listener.accept().await;
                let accepted = accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
                (accepted, self.places.take().await)
            };
            let next = tokio::select! {
                () = &mut shutdown => return,
                next = next => next,
            };
            match next {
                (_, None) => return,
                (Ok((stream, peer)), Some(place)) => {
                    let (server, ride) = (self.clone(), lanes.ride());
                    let runtime = ride.runtime().clone();
                    let talk = async move {
                        server.talk(stream, peer, place).await;
                        drop(ride);
                    };
                    connections.spawn_on(talk, &runtime);
                }
                (Err(error), Some(_)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }

    /// Serves one connection to its end.
    async fn talk(&self, stream: std::net::TcpStream, peer: SocketAddr, place: Place) {
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let (Ok(()), Ok(local)) = (stream.set_nodelay(true), stream.local_addr()) else { return };
        let (ends, seat, hang_up) = (Ends { peer, local }, place.seat(), place.hang_up());
        let face = Arc::new(Face {
            state: self.state.clone(),
            router: self.router.clone(),
            connection: Arc::new(Connection { ends, seat, hang_up, greeted: OnceLock::new() }),
            heard: AtomicBool::new(false),
        });
        let entrance = Arc::clone(&face);
        let service = service_fn(move |request| Arc::clone(&entrance).answer(request));
        let mut connection = pin!(self.protocol.serve_connection(TokioIo::new(stream), service));
        let mut silent = pin!(silence(&face.heard));
        // Of its own: asking one that all connections share would make the lanes wait for each other.
        let draining = self.draining.child_token();
        let mut asked_to_end = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                    return;
                }
                () = draining.cancelled(), if !asked_to_end => {
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = place.lost() => return,
                () = &mut silent => return,
            }
        }
    }

    async fn drain(&self, connections: &TaskTracker) {
        self.draining.cancel();
        self.state.hub.wind_down();
        connections.close();
        if tokio::time::timeout(DRAIN_DEADLINE, connections.wait()).await.is_err() {
            tracing::warn!(open = connections.len(), "connections are closed that did not end in time");
            self.places.end();
            connections.wait().await;
        }
    }
}

/// Ends when nobody has said anything in time. Before the first request, the protocol isn't known
/// yet, and its own deadline doesn't run.
async fn silence(heard: &AtomicBool) {
    tokio::time::sleep(HEAD_DEADLINE).await;
    if heard.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn protocol() -> Builder<TokioExecutor> {
    let mut protocol = Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LARGEST_HEAD);
    protocol
        .http2()
        .timer(TokioTimer::new())
        // The library refuses what is equal to its limit.
        .max_header_list_size(LARGEST_HEAD as u32 + 1)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEAD_DEADLINE);
    protocol
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::response::Response;
    use futures_util::FutureExt as _;
    use http::{HeaderValue, Request, StatusCode};
    use hyper::body::Incoming;
    use hyper::client::conn::http2::{SendRequest, handshake};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::sync::{Semaphore, mpsc};
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::{
        Arc, CONNECTIONS, Duration, LARGEST_HEAD, Place, STREAMS, TokioExecutor, TokioIo, pin, places,
        protocol, service_fn,
    };

    const SOON: Duration = Duration::from_secs(1);

    /// Says that everything is well.
    async fn well(_: Request<Incoming>) -> Result<Response, Infallible> {
        Ok(Response::default())
    }

    /// Connects a client of HTTP/2 with a service.
    async fn connect<F>(
        tasks: &mut JoinSet<()>,
        service: impl Fn(Request<Incoming>) -> F + Send + 'static,
    ) -> SendRequest<Body>
    where
        F: Future<Output = Result<Response, Infallible>> + Send + 'static,
    {
        let (client, server) = duplex(4 * LARGEST_HEAD);
        tasks.spawn(async move {
            let protocol = protocol();
            drop(protocol.serve_connection(TokioIo::new(server), service_fn(service)).await);
        });
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tasks.spawn(async move { drop(connection.await) });
        sender
    }

    /// Makes a request whose head has so many bytes, as HTTP/2 counts them (RFC 9113 6.5.2).
    fn with_head(bytes: usize) -> Request<Body> {
        let size = |name: &str, value: &str| name.len() + value.len() + 32;
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "hub"), (":path", "/")];
        let rest = bytes - pseudo.iter().map(|(name, value)| size(name, value)).sum::<usize>();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut request = Request::get("http://hub/").body(Body::empty()).unwrap();
        for (number, name) in names.into_iter().enumerate() {
            let share = rest / names.len() + if number == 0 { rest % names.len() } else { 0 };
            let value = "y".repeat(share - size(name, ""));
            request.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        }
        request
    }

    #[test]
    fn so_many_connections_are_open_and_the_next_one_ends_the_oldest() {
        for (clients, most) in [(CONNECTIONS + 1, CONNECTIONS), (150, 150)] {
            let places = places(clients);
            let mut taken: Vec<_> =
                (0..most).map(|_| places.take().now_or_never().flatten().unwrap()).collect();
            let ends = |place: &Place| place.lost().now_or_never().is_some();
            assert!(!taken.iter().any(ends), "there is room for {most}");
            assert!(places.take().now_or_never().is_none(), "it waits until the oldest has left");
            assert!(ends(&taken[0]) && !taken[1..].iter().any(ends));
            drop(taken.swap_remove(0));
            assert!(places.take().now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn a_head_may_be_as_large_as_the_limit_and_no_larger() {
        let (start, end) = ("GET / HTTP/1.1\r\nconnection: close\r\nx: ", "\r\n\r\n");
        for (length, status) in [(LARGEST_HEAD, "200"), (LARGEST_HEAD + 1, "431")] {
            let (mut client, server) = duplex(2 * LARGEST_HEAD);
            let value = "y".repeat(length - start.len() - end.len());
            client.write_all(format!("{start}{value}{end}").as_bytes()).await.unwrap();
            let protocol = protocol();
            drop(protocol.serve_connection(TokioIo::new(server), service_fn(well)).await);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.get(9..12), Some(status), "{length} bytes: {answer}");
        }
    }

    #[tokio::test]
    async fn a_head_of_http2_may_be_as_large_as_the_limit_and_no_larger() {
        let mut tasks = JoinSet::new();
        let mut sender = connect(&mut tasks, well).await;
        for (length, status) in
            [(LARGEST_HEAD, StatusCode::OK), (LARGEST_HEAD + 1, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)]
        {
            let answer = sender.send_request(with_head(length)).await.unwrap();
            assert_eq!(answer.status(), status, "{length} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_requests_of_a_connection_run_and_the_next_one_waits() {
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let may_answer = Arc::clone(&answers);
        let service = move |_| {
            let (arrived, may_answer) = (arrived.clone(), Arc::clone(&may_answer));
            async move {
                arrived.send(()).unwrap();
                may_answer.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::default())
            }
        };
        let mut tasks = JoinSet::new();
        let sender = connect(&mut tasks, service).await;
        for _ in 0..=STREAMS {
            let mut sender = sender.clone();
            tasks.spawn(async move {
                let request = Request::get("http://hub/").body(Body::empty()).unwrap();
                drop(sender.send_request(request).await);
            });
        }
        for number in 1..=STREAMS {
            assert_eq!(timeout(SOON, arrivals.recv()).await, Ok(Some(())), "request {number}");
        }
        let mut next = pin!(arrivals.recv());
        assert!(timeout(SOON, &mut next).await.is_err(), "the next one waits");
        answers.add_permits(1);
        assert_eq!(timeout(SOON, next).await, Ok(Some(())), "until one is answered");
    }
}
