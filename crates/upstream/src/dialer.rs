//! How a connection is made: the host resolved here, every address checked, and one of them connected to.

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::address::{is_allowed, is_metadata};
use crate::settings::PlainHttp;

const CONNECT: Duration = Duration::from_secs(10);
const MOST_ADDRESSES: usize = 8;

/// Says that an address is not allowed, and what would allow it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// Connects to hosts whose addresses are all allowed.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) networks: Arc<[IpNet]>,
    pub(crate) plain_http: PlainHttp,
}

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(&uri).await.map(TokioIo::new) })
    }
}

impl Dialer {
    /// Connects to the host of a URL, in time or not at all.
    pub(crate) async fn dial(&self, uri: &Uri) -> Result<TcpStream, BoxError> {
        match tokio::time::timeout(CONNECT, self.find(uri)).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs()).into()),
        }
    }

    async fn find(&self, uri: &Uri) -> Result<TcpStream, BoxError> {
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
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::{Dialer, Host, MOST_ADDRESSES, Refused};
    use crate::settings::PlainHttp;

    fn allowed(host: &str, addresses: &[&str], networks: &[&str], plain_http: PlainHttp) -> bool {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 80)).collect();
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        Dialer { networks, plain_http }.check(&Host::parse(host), true, &addresses).is_ok()
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

    #[tokio::test]
    async fn so_many_addresses_of_a_name_are_tried_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // Nobody listens there.
        let closed = SocketAddr::from(([127, 0, 0, 2], open.port()));
        let networks = ["127.0.0.0/8".parse().unwrap()].into();
        let dialer = Dialer { networks, plain_http: PlainHttp::Allowed };
        for (before, good) in [(MOST_ADDRESSES - 1, true), (MOST_ADDRESSES, false)] {
            let addresses = [vec![closed; before], vec![open]].concat();
            let connected = dialer.connect(&Host::parse("a.example"), true, &addresses).await;
            assert_eq!(connected.is_ok(), good, "behind {before} others");
        }
    }
}
