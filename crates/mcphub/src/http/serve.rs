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
/// The largest head of a request, in bytes.
const LARGEST_HEAD: usize = 64 << 10;
/// How many headers a request may have.
const MOST_HEADERS: usize = 100;
/// How many requests one HTTP/2 connection may have open.
const STREAMS: u32 = 256;

/// Serves until `shutdown`, then lets running requests end for at most ten seconds.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    config: &Config,
    (listener, lanes): (TcpListener, &Lanes),
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let places = Places::new(descriptors::raise().min(CONNECTIONS));
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
        .max_header_list_size(LARGEST_HEAD as u32)
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEAD_DEADLINE);
    protocol
}
