//! The way out of a child's own network: an HTTP proxy (RFC 9110 9.3.6 and 7.3.3, RFC 9112 3.2.2) that
//! the supervisor runs. It resolves names itself, checks every address, and connects to what it checked.

mod destination;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use mcphub_domain::sandbox::{Contact, HostRule};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use self::destination::Destination;
use super::parent::{Parent, seems_public};
use crate::address::{is_global, is_metadata, is_metadata_name};
use crate::dialer::Host;

const CONNECT: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(30);
/// How many connections and tunnels one child may have at a time; others wait.
const CONNECTIONS: usize = 256;
/// How long it waits after a connection that can't be taken: mostly, descriptors are short for a moment.
const PAUSE: Duration = Duration::from_millis(250);
const MOST_ADDRESSES: usize = 8;
/// The port of `http://`.
const HTTP: u16 = 80;

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// Connects for a child, to where it may go.
pub(crate) struct Egress {
    rules: Vec<HostRule>,
    parent: Option<Parent>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// Is one of the child's connections; a tunnel keeps it until it ends.
type Place = Arc<OwnedSemaphorePermit>;

/// Says why there is no connection.
enum NoWay {
    /// The request names no host and port.
    Unclear,
    /// It is not allowed: what was asked for, and where that is, which is for the log alone.
    Refused(String, Option<IpAddr>),
    /// It failed.
    Failed(String),
}

/// Says where an address is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// On the public internet.
    Public,
    /// On this machine or in its networks.
    Inside,
}

impl Egress {
    pub(crate) fn new(rules: Vec<HostRule>, parent: Option<Parent>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        Arc::new(Self { rules, parent, places, tasks: TaskTracker::new() })
    }

    /// Serves the child's connections for ever.
    pub(crate) async fn serve(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<Infallible> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
            let stream = accept(&listener).await;
            self.tasks.spawn(Arc::clone(&self).serve_one(stream, Arc::new(place)));
        }
    }

    async fn serve_one(self: Arc<Self>, stream: TcpStream, place: Place) {
        let service = service_fn(|request| {
            let (egress, place) = (Arc::clone(&self), Arc::clone(&place));
            async move { Ok::<_, Infallible>(egress.answer(request, place).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // How it ends concerns the child alone.
        connection.await.unwrap_or(());
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, place: Place) -> Answer {
        let done = match (request.method() == Method::CONNECT, request.uri().scheme_str()) {
            (true, _) => self.tunnel(request, place).await,
            (false, Some("http")) => self.forward(request).await,
            _ => Err(NoWay::Unclear),
        };
        done.unwrap_or_else(|no| match no {
            NoWay::Unclear => {
                say(StatusCode::BAD_REQUEST, "this is a proxy: CONNECT host:port, or http:// in full")
            }
            NoWay::Refused(to, address) => {
                let reason = format!("{to} is not among the `hosts` of the server's `sandbox`");
                // Where it leads is told to the log of the server alone.
                let why = |address| match is_metadata(address) {
                    true => format!(": it leads to {address}, which hands out credentials"),
                    false => format!(": it leads to {address}, and addresses inside are listed one by one"),
                };
                let found = address.map(why).unwrap_or_default();
                eprintln!("mcphub: no connection for the server: {reason}{found}");
                say(StatusCode::FORBIDDEN, &reason)
            }
            NoWay::Failed(reason) => say(StatusCode::BAD_GATEWAY, &reason),
        })
    }

    async fn tunnel(&self, request: Request<Incoming>, place: Place) -> Result<Answer, NoWay> {
        let to = destination(&request, None)?;
        let stream = self.connect(&to).await?;
        match &self.parent {
            None => self.relay(request, stream, place),
            Some(parent) => {
                let there = self.pass_parent(parent, &to, stream).await?;
                self.relay(request, TokioIo::new(there), place);
            }
        }
        Ok(Response::new(Either::Left(Full::default())))
    }

    fn relay(
        &self,
        request: Request<Incoming>,
        mut there: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        place: Place,
    ) {
        self.tasks.spawn(async move {
            if let Ok(here) = hyper::upgrade::on(request).await {
                // Either side may break off: that is how tunnels end.
                tokio::io::copy_bidirectional(&mut TokioIo::new(here), &mut there).await.unwrap_or_default();
            }
            drop(place);
        });
    }

    /// Asks the proxy beyond for a tunnel of its own.
    async fn pass_parent(
        &self,
        parent: &Parent,
        to: &Destination,
        stream: TcpStream,
    ) -> Result<Upgraded, NoWay> {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = to.to_string().parse().map_err(failed)?;
        parent.sign(request.headers_mut());
        let response = self.send(request, stream).await?;
        match response.status() {
            StatusCode::OK => hyper::upgrade::on(response).await.map_err(failed),
            status => Err(NoWay::Failed(format!("the proxy beyond answers {status}"))),
        }
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Answer, NoWay> {
        let to = destination(&request, Some(HTTP))?;
        let stream = self.connect(&to).await?;
        for name in ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"] {
            request.headers_mut().remove(name);
        }
        request.headers_mut().remove(PROXY_AUTHORIZATION);
        let host = to.to_string();
        let host = host.strip_suffix(":80").unwrap_or(&host);
        request.headers_mut().insert(HOST, HeaderValue::from_str(host).map_err(failed)?);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = match &self.parent {
            Some(parent) => {
                let full = format!("http://{host}{path}");
                parent.sign(request.headers_mut());
                full.parse().map_err(failed)?
            }
            None => path.parse().map_err(failed)?,
        };
        Ok(self.send(request, stream).await?.map(Either::Right))
    }

    async fn send<B>(&self, request: Request<B>, stream: TcpStream) -> Result<Response<Incoming>, NoWay>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // How it ends is told by the request or the body that it carries.
        self.tasks.spawn(async move { connection.with_upgrades().await.unwrap_or(()) });
        sender.send_request(request).await.map_err(failed)
    }

    async fn connect(&self, to: &Destination) -> Result<TcpStream, NoWay> {
        match tokio::time::timeout(CONNECT, self.dial(to)).await {
            Ok(connected) => connected,
            Err(_) => Err(NoWay::Failed(format!("no connection within {} s", CONNECT.as_secs()))),
        }
    }

    /// Connects to an address that was judged, or to the proxy beyond.
    async fn dial(&self, to: &Destination) -> Result<TcpStream, NoWay> {
        if to.name().is_some_and(is_metadata_name) {
            return Err(NoWay::Refused(to.to_string(), None));
        }
        if let Some(parent) = &self.parent {
            self.judge(to, to.address())?;
            return connect_to_any(&resolve(&parent.host, parent.port).await?).await;
        }
        let stream = connect_to_any(&self.look_up(to).await?).await?;
        if leads_back(&stream).map_err(failed)? {
            let address = stream.peer_addr().map_err(failed)?.ip();
            self.judge_as(Reach::Inside, to, Some(address))?;
        }
        Ok(stream)
    }

    /// Finds the addresses, which all must be allowed: a name that leads here and there is refused as a
    /// whole. A name that no rule is about is not looked up, for the question itself tells its owner.
    async fn look_up(&self, to: &Destination) -> Result<Vec<SocketAddr>, NoWay> {
        let addresses = match to.name() {
            Some(name) if self.rules.iter().any(|rule| rule.names(name, to.port())) => {
                resolve(name, to.port()).await?
            }
            Some(_) => return Err(NoWay::Refused(to.to_string(), None)),
            None => to.address().map(|address| SocketAddr::new(address, to.port())).into_iter().collect(),
        };
        addresses.iter().try_for_each(|address| self.judge(to, Some(address.ip())))?;
        Ok(addresses)
    }

    /// Refuses what no rule allows, and addresses that hand out credentials.
    fn judge(&self, to: &Destination, address: Option<IpAddr>) -> Result<(), NoWay> {
        let public = address.map_or_else(|| to.name().is_some_and(seems_public), is_global);
        self.judge_as(if public { Reach::Public } else { Reach::Inside }, to, address)
    }

    fn judge_as(&self, reach: Reach, to: &Destination, address: Option<IpAddr>) -> Result<(), NoWay> {
        let host = to.name().unwrap_or_default();
        let contact = Contact { host, address, port: to.port(), public: reach == Reach::Public };
        let is_allowed = self.rules.iter().any(|rule| rule.allows(contact));
        match is_allowed && !address.is_some_and(is_metadata) {
            true => Ok(()),
            false => Err(NoWay::Refused(to.to_string(), address)),
        }
    }
}

/// Says whether a connection ends at this machine, whose own address may be a public one: what listens
/// there may count on a firewall outside.
fn leads_back(stream: &TcpStream) -> io::Result<bool> {
    let (here, there) = (stream.local_addr()?.ip().to_canonical(), stream.peer_addr()?.ip().to_canonical());
    Ok(here == there || here.is_loopback())
}

async fn connect_to_any(addresses: &[SocketAddr]) -> Result<TcpStream, NoWay> {
    let mut last = "it has no address".to_owned();
    for address in addresses.iter().take(MOST_ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.to_string(),
        }
    }
    Err(NoWay::Failed(last))
}

/// Takes the next connection. One that can't be taken is no reason to take no more.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut is_told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if !is_told => eprintln!("mcphub: the server's connections wait: {error}"),
            Err(_) => {}
        }
        is_told = true;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, NoWay> {
    Host::parse(host).resolve(port).await.map_err(|error| NoWay::Failed(error.to_string()))
}

fn failed(error: impl ToString) -> NoWay {
    NoWay::Failed(error.to_string())
}

fn destination(request: &Request<Incoming>, port: Option<u16>) -> Result<Destination, NoWay> {
    let read = request.uri().authority().and_then(|authority| Destination::read(authority, port));
    read.ok_or(NoWay::Unclear)
}

fn say(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(format!("mcphub: {text}\n"))));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests;
