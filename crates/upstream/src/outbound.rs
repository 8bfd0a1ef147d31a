//! The only outgoing HTTP client. It resolves a host itself, checks every address, and connects to
//! an address that it checked; it follows no redirect and knows no proxy.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Handle, Id};

use crate::destination::HttpRequest;
use crate::dialer::{BoxError, Dialer, Refused};
use crate::line::{self, LONGEST_HEAD, Lines};
use crate::settings::PlainHttp;

/// Shorter than the shortest common keep-alive (5 s), so that no request meets a closing socket.
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(4);
/// How many pools are kept; with more, all are given up, which costs a connection each.
const POOLS: usize = 64;
/// One call that isn't read may hold this much, and never the connection that others share.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Are the connections of one runtime into the same networks.
struct Pool {
    tls: Client<HttpsConnector<Dialer>, Full<Bytes>>,
    plain: Arc<Lines>,
}

/// Are all of one runtime, by the networks that they may lead into.
type Pools = HashMap<Vec<IpNet>, Arc<Pool>>;

/// Is the body of a response.
pub(crate) enum Body {
    Line(line::Body),
    /// The library looks after its connection.
    Whole(Incoming),
}

/// Sends requests; sockets are pooled by origin, apart for each list of allowed networks, and for each
/// runtime: a socket is served where it was opened, and whoever calls from elsewhere would wait for two.
pub(crate) struct Outbound {
    tls: ClientConfig,
    plain_http: PlainHttp,
    pools: Mutex<HashMap<Id, Pools>>,
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

    /// Sends a request.
    pub(crate) async fn send(&self, request: &HttpRequest<'_>) -> Result<Response<Body>, SendError> {
        let pool = self.pool(request.destination.networks());
        if request.destination.is_plain() {
            let sent = pool.plain.send(request).await;
            return sent.map(|response| response.map(Body::Line)).map_err(|error| explain(&*error));
        }
        // Boxed: its state is large, and what it costs beside the rest of TLS is little.
        let response =
            Box::pin(pool.tls.request(request.to_request())).await.map_err(|error| explain(&error))?;
        Ok(response.map(Body::Whole))
    }

    fn pool(&self, networks: &[IpNet]) -> Arc<Pool> {
        let mut runtimes = self.pools.lock();
        let pools = runtimes.entry(Handle::current().id()).or_default();
        if let Some(pool) = pools.get(networks) {
            return Arc::clone(pool);
        }
        if pools.len() >= POOLS {
            pools.clear();
        }
        let pool = Arc::new(self.make_pool(networks));
        pools.insert(networks.to_vec(), Arc::clone(&pool));
        pool
    }

    fn make_pool(&self, networks: &[IpNet]) -> Pool {
        let dialer = Dialer { networks: networks.into(), plain_http: self.plain_http };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_only()
            .enable_http1()
            .enable_http2()
            .wrap_connector(dialer.clone());
        let tls = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(LONGEST_HEAD)
            .http2_max_header_list_size(LONGEST_HEAD as u32)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .build(connector);
        Pool { tls, plain: Arc::new(Lines::new(dialer)) }
    }
}

impl Body {
    /// Waits for the next piece. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        match self {
            Self::Line(body) => body.next().await,
            Self::Whole(body) => loop {
                match body.frame().await? {
                    Ok(frame) => match frame.into_data() {
                        Ok(bytes) => return Some(Ok(bytes)),
                        Err(_) => continue,
                    },
                    Err(error) => return Some(Err(error.into())),
                }
            },
        }
    }
}

fn explain(error: &(dyn Error + 'static)) -> SendError {
    let mut cause = Some(error);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Outbound, POOLS};
    use crate::settings::PlainHttp;

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
}
