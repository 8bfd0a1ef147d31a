//! The only outgoing HTTP client. It resolves a host itself, checks every address, and connects to
//! an address that it checked; it follows no redirect and knows no proxy.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tower_service::Service;

use crate::address::{is_allowed, is_metadata};
use crate::settings::PlainHttp;

const CONNECT: Duration = Duration::from_secs(10);
/// Shorter than the shortest common keep-alive (5 s), so that no request meets a closing socket.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// How many pools are kept; with more, all are given up, which costs a connection each.
const POOLS: usize = 64;
const MOST_ADDRESSES: usize = 8;
const HEADER_BYTES: usize = 128 * 1024;
/// One call that isn't read may hold this much, and never the connection that others share.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 30;

type Pool = Client<HttpsConnector<Dialer>, Full<Bytes>>;

/// Sends requests; sockets are pooled by origin, apart for each list of allowed networks, and for each
/// runtime: a socket is served where it was opened, and whoever calls from elsewhere would wait for two.
pub(crate) struct Outbound {
    tls: ClientConfig,
    plain_http: PlainHttp,
    pools: Mutex<HashMap<Id, HashMap<Vec<IpNet>, Pool>>>,
}

/// Says why a request got no response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The address is not allowed.
    Refused(String),
    /// The connection failed.
    Failed(String),
}

/// Says why the client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A configured certificate is none.
    #[error("an extra root certificate can't be used: {0}")]
    Root(rustls::Error),
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(rustls::Error),
}

impl Outbound {
    pub(crate) fn new(extra_roots: &[Vec<u8>], plain_http: PlainHttp) -> Result<Self, SetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra_roots {
            roots.add(CertificateDer::from(root.as_slice())).map_err(SetupError::Root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls, plain_http, pools: Mutex::default() })
    }

    /// Sends a request to a host that may also be in one of `networks`.
    pub(crate) async fn send(
        &self,
        networks: &[IpNet],
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        self.pool(networks).request(request).await.map_err(|error| explain(&error))
    }

    fn pool(&self, networks: &[IpNet]) -> Pool {
        let mut runtimes = self.pools.lock();
        let pools = runtimes.entry(Handle::current().id()).or_default();
        if let Some(pool) = pools.get(networks) {
            return pool.clone();
        }
        if pools.len() >= POOLS {
            pools.clear();
        }
        let pool = self.make_pool(networks);
        pools.insert(networks.to_vec(), pool.clone());
        pool
    }

    fn make_pool(&self, networks: &[IpNet]) -> Pool {
        let dialer = Dialer { networks: networks.into(), plain_http: self.plain_http };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(dialer);
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(HEADER_BYTES)
            .http2_max_header_list_size(HEADER_BYTES as u32)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .build(connector)
    }
}

fn explain(error: &hyper_util::client::legacy::Error) -> SendError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut text = String::new();
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return SendError::Refused(refused.0.clone());
        }
        text = error.to_string();
        cause = error.source();
    }
    SendError::Failed(text)
}

/// Says that an address is not allowed, and what would allow it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Connects to hosts whose addresses are all allowed.
#[derive(Clone)]
struct Dialer {
    networks: Arc<[IpNet]>,
    plain_http: PlainHttp,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT, dialer.dial(&uri)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs()).into()),
            }
        })
    }
}

impl Dialer {
    async fn dial(&self, uri: &Uri) -> Result<TcpStream, BoxError> {
        let plain = uri.scheme_str() != Some("https");
        let host = Host::parse(uri.host().unwrap_or_default());
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let addresses = host.resolve(port).await?;
        self.connect(&host, plain, &addresses).await
    }

    async fn connect(
        &self,
        host: &Host,
        plain: bool,
        addresses: &[SocketAddr],
    ) -> Result<TcpStream, BoxError> {
        self.check(host, plain, addresses)?;
        let mut last: BoxError = "the name has no address".into();
        for address in addresses.iter().take(MOST_ADDRESSES) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// Every address must be allowed: a name that leads here and there is refused as a whole.
    fn check(&self, host: &Host, plain: bool, addresses: &[SocketAddr]) -> Result<(), Refused> {
        for address in addresses.iter().map(SocketAddr::ip) {
            if !host.allows(address, &self.networks) {
                return Err(Refused(host.refusal(address)));
            }
            if plain && self.plain_http == PlainHttp::LoopbackOnly && !address.to_canonical().is_loopback() {
                return Err(Refused(
                    "plain HTTP is allowed to loopback addresses only: use https".to_owned(),
                ));
            }
        }
        Ok(())
    }
}

/// Is the host of a URL, which an admin wrote: an address and `localhost` allow themselves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Localhost,
    Name(String),
}

impl Host {
    pub(crate) fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            Ok(address) => Self::Address(address),
            Err(_) if bare.eq_ignore_ascii_case("localhost") => Self::Localhost,
            Err(_) => Self::Name(bare.to_owned()),
        }
    }

    pub(crate) async fn resolve(&self, port: u16) -> Result<Vec<SocketAddr>, BoxError> {
        match self {
            Self::Address(address) => Ok(vec![SocketAddr::new(*address, port)]),
            Self::Localhost => Ok(tokio::net::lookup_host(("localhost", port)).await?.collect()),
            Self::Name(name) => match tokio::net::lookup_host((name.as_str(), port)).await {
                Ok(addresses) => Ok(addresses.collect()),
                Err(error) => Err(format!("{name} can't be resolved: {error}").into()),
            },
        }
    }

    fn allows(&self, address: IpAddr, networks: &[IpNet]) -> bool {
        match self {
            Self::Address(_) => !is_metadata(address),
            Self::Localhost => address.is_loopback(),
            Self::Name(_) => is_allowed(address, networks),
        }
    }

    fn refusal(&self, address: IpAddr) -> String {
        match self {
            _ if is_metadata(address) => format!("{address} hands out this machine's cloud credentials"),
            Self::Name(name) => {
                format!("{name} is {address}, which is not a public address; add its network to `networks`")
            }
            Self::Address(_) | Self::Localhost => format!("localhost is {address}, which is elsewhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::{Dialer, Host, Outbound, POOLS, Refused};
    use crate::settings::PlainHttp;

    fn allowed(host: &str, addresses: &[&str], networks: &[&str], plain_http: PlainHttp) -> bool {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 80)).collect();
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        Dialer { networks, plain_http }.check(&Host::parse(host), true, &addresses).is_ok()
    }

    #[tokio::test]
    async fn so_many_pools_are_kept_and_no_more() {
        let outbound = Outbound::new(&[], PlainHttp::Allowed).unwrap();
        for number in 0..=u32::try_from(POOLS).unwrap() {
            let network = ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(number << 8), 24).unwrap();
            drop(outbound.pool(&[network.into()]));
            drop(outbound.pool(&[network.into()]));
            let kept = if number < 64 { number as usize + 1 } else { 1 };
            assert_eq!(outbound.pools.lock().values().map(HashMap::len).sum::<usize>(), kept);
        }
    }

    #[test]
    fn every_address_of_a_name_is_checked() {
        let table: &[(&str, &[&str], &[&str], bool)] = &[
            ("a.example", &["8.8.8.8"], &[], true),
            ("a.example", &["8.8.8.8", "127.0.0.1"], &[], false),
            ("a.example", &["127.0.0.1", "8.8.8.8"], &[], false),
            ("a.example", &["10.0.0.1"], &[], false),
            ("a.example", &["10.0.0.1"], &["10.0.0.0/24"], true),
            ("a.example", &["10.0.1.1"], &["10.0.0.0/24"], false),
            ("a.example", &["169.254.169.254"], &["0.0.0.0/0"], false),
            ("localhost.", &["127.0.0.1"], &[], false),
            ("x.localhost", &["127.0.0.1"], &[], false),
            ("localhost", &["127.0.0.1", "::1"], &[], true),
            ("localhost", &["10.0.0.1"], &["10.0.0.0/8"], false),
            ("10.0.0.1", &["10.0.0.1"], &[], true),
            ("[::1]", &["::1"], &[], true),
            ("169.254.169.254", &["169.254.169.254"], &[], false),
            ("[::ffff:169.254.169.254]", &["::ffff:169.254.169.254"], &[], false),
        ];
        for (host, addresses, networks, expected) in table {
            let found = allowed(host, addresses, networks, PlainHttp::Allowed);
            assert_eq!(found, *expected, "{host} {addresses:?} {networks:?}");
        }
    }

    #[test]
    fn production_speaks_plain_http_with_loopback_only() {
        let strict = PlainHttp::LoopbackOnly;
        assert!(allowed("127.0.0.1", &["127.0.0.1"], &[], strict));
        assert!(allowed("localhost", &["::1"], &[], strict));
        assert!(!allowed("8.8.8.8", &["8.8.8.8"], &[], strict));
        assert!(!allowed("a.example", &["10.0.0.1"], &["10.0.0.0/8"], strict));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [listener.local_addr().unwrap()];
        let dialer =
            |networks: &[ipnet::IpNet]| Dialer { networks: networks.into(), plain_http: PlainHttp::Allowed };
        let inside = Host::parse("a.example");
        let error = dialer(&[]).connect(&inside, true, &addresses).await.unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
        dialer(&["127.0.0.0/8".parse().unwrap()]).connect(&inside, true, &addresses).await.unwrap();
    }
}
