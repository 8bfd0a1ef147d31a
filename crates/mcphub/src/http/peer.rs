//! Where a request comes from: the connection's other end, or, behind a proxy, what the proxy says.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};
use tokio_util::sync::CancellationToken;

use crate::http::error::ApiError;
use crate::http::places::Seat;

/// Is the connection that a request came on.
pub(crate) struct Connection {
    /// Both its ends.
    pub(crate) ends: Ends,
    /// Its place among all.
    pub(crate) seat: Seat,
    /// What closes it.
    pub(crate) hang_up: HangUp,
    /// The first `Host` on it that was found to name the hub.
    pub(crate) greeted: OnceLock<HeaderValue>,
}

/// Is both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The hub's end.
    pub(crate) local: SocketAddr,
}

/// Closes the connection that a request came on.
#[derive(Clone, Debug)]
pub(crate) struct HangUp(CancellationToken);

impl HangUp {
    /// Takes what ends the connection.
    pub(super) const fn new(end: CancellationToken) -> Self {
        Self(end)
    }

    /// Closes it now, whatever waits to be sent.
    pub(crate) fn now(&self) {
        self.0.cancel();
    }
}

/// Is the address that a request is charged to and recorded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// Says whose word about the client's address counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proxy {
    /// Nobody's: the connection's other end is the client.
    None,
    /// That of a proxy on this machine.
    Loopback,
}

/// The header by which a proxy says where a request came from.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// The headers that mean that a proxy stands between.
const FORWARDED: [&str; 3] = [FORWARDED_FOR, "x-forwarded-host", "forwarded"];

impl Proxy {
    fn trusts(self, address: IpAddr) -> bool {
        self == Self::Loopback && address.is_loopback()
    }

    /// Finds the client: the right-most address that no trusted proxy has.
    fn client(self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, ApiError> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Ok(peer);
        }
        let mut client = peer;
        for value in headers.get_all(FORWARDED_FOR).into_iter().rev() {
            for hop in value.to_str().map_err(|_| unreadable())?.rsplit(',') {
                client = hop_address(hop.trim())?;
                if !self.trusts(client) {
                    return Ok(client);
                }
            }
        }
        Ok(client)
    }
}

/// Notes the client's address beside the request, and returns it.
pub(super) fn note(parts: &mut Parts, proxy: Proxy) -> Result<IpAddr, ApiError> {
    let ends = ends(parts)?;
    let client = proxy.client(ends.peer.ip(), &parts.headers)?;
    parts.extensions.insert(ClientAddress(client));
    Ok(client)
}

/// Returns both ends of the connection.
pub(super) fn ends(parts: &Parts) -> Result<Ends, ApiError> {
    let ends = connection(parts).map(|connection| connection.ends);
    ends.ok_or_else(|| ApiError::internal("a request came without its connection"))
}

/// Returns the connection.
pub(super) fn connection(parts: &Parts) -> Option<&Connection> {
    parts.extensions.get::<Arc<Connection>>().map(AsRef::as_ref)
}

/// Returns what closes the connection, if no other request shares it.
pub(super) fn hang_up(parts: &Parts) -> Option<HangUp> {
    let is_alone = parts.version < Version::HTTP_2;
    connection(parts).filter(|_| is_alone).map(|connection| connection.hang_up.clone())
}

/// Says whether a program on this machine asks, with no proxy between.
pub(super) fn is_local(address: ClientAddress, headers: &HeaderMap) -> bool {
    address.0.is_loopback() && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// Reads an address as proxies write it: with or without a port.
fn hop_address(hop: &str) -> Result<IpAddr, ApiError> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip()));
    address.map(|address| address.to_canonical()).map_err(|_| unreadable())
}

fn unreadable() -> ApiError {
    ApiError::bad_request("forwarded.unreadable", "X-Forwarded-For holds something that is not an address")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{ClientAddress, HeaderMap, Proxy, is_local};

    fn client(proxy: Proxy, peer: &str, forwarded: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxy.client(peer.parse().unwrap(), &headers).ok().map(|address| address.to_string())
    }

    #[test]
    fn only_the_proxy_is_believed_and_only_its_own_hop() {
        let table: [(Proxy, &str, &[&str], Option<&str>); 12] = [
            (Proxy::None, "127.0.0.1", &["192.0.2.1"], Some("127.0.0.1")),
            (Proxy::Loopback, "198.51.100.7", &["192.0.2.1"], Some("198.51.100.7")),
            (Proxy::Loopback, "127.0.0.1", &[], Some("127.0.0.1")),
            (Proxy::Loopback, "127.0.0.1", &["192.0.2.1"], Some("192.0.2.1")),
            (Proxy::Loopback, "127.0.0.1", &["203.0.113.9, 192.0.2.1"], Some("192.0.2.1")),
            (Proxy::Loopback, "127.0.0.1", &["203.0.113.9", "192.0.2.1"], Some("192.0.2.1")),
            (Proxy::Loopback, "127.0.0.1", &["192.0.2.1, 127.0.0.1"], Some("192.0.2.1")),
            (Proxy::Loopback, "::1", &["2001:db8::7"], Some("2001:db8::7")),
            (Proxy::Loopback, "::ffff:127.0.0.1", &["192.0.2.1:8080"], Some("192.0.2.1")),
            (Proxy::Loopback, "127.0.0.1", &["[2001:db8::7]:80"], Some("2001:db8::7")),
            (Proxy::Loopback, "127.0.0.1", &["unknown"], None),
            (Proxy::Loopback, "127.0.0.1", &["192.0.2.1, "], None),
        ];
        for (proxy, peer, forwarded, expected) in table {
            assert_eq!(client(proxy, peer, forwarded).as_deref(), expected, "{proxy:?} {peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_request_that_a_proxy_brought_is_never_local() {
        let local = ClientAddress(IpAddr::from([127, 0, 0, 1]));
        let mut headers = HeaderMap::new();
        assert!(is_local(local, &headers));
        assert!(!is_local(ClientAddress(IpAddr::from([192, 0, 2, 1])), &headers));
        headers.insert("x-forwarded-for", "127.0.0.1".parse().unwrap());
        assert!(!is_local(local, &headers));
    }
}
