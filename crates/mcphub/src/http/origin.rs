//! Who may speak to the hub through somebody's browser: the Host and Origin headers.
//!
//! A page of another site can make a browser send requests here, and a name of another site can be
//! made to resolve here. Both give themselves away by these headers, so whatever is not known is
//! refused, on every route.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::response::Response;
use http::header::{HOST, HeaderName, HeaderValue, ORIGIN, VARY};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode};
use mcphub_domain::audit::Refusal;
use url::Url;

use crate::http::AppState;
use crate::http::error::ApiError;
use crate::http::peer;

/// Knows the names under which the hub is reached, and the sites whose pages may use it.
pub(crate) struct Trust {
    names: BTreeSet<String>,
    origins: BTreeSet<String>,
}

/// Is the site that a response is shared with: none, unless its page runs elsewhere and is allowed to.
pub(super) struct Shared(Option<HeaderValue>);

const ALLOW_ORIGIN: HeaderName = HeaderName::from_static("access-control-allow-origin");
const ALLOW_METHODS: HeaderName = HeaderName::from_static("access-control-allow-methods");
const ALLOW_HEADERS: HeaderName = HeaderName::from_static("access-control-allow-headers");
const EXPOSE_HEADERS: HeaderName = HeaderName::from_static("access-control-expose-headers");
const REQUEST_METHOD: HeaderName = HeaderName::from_static("access-control-request-method");

impl Trust {
    /// Trusts the public address, and what the configuration adds.
    pub(crate) fn new(public_url: &Url, hosts: &[String], origins: &[String]) -> Self {
        let public = public_url.host_str().map(str::to_owned);
        let site = public_url.origin().ascii_serialization();
        let lower = |text: &String| text.trim_end_matches('/').to_ascii_lowercase();
        Self {
            names: hosts.iter().map(lower).chain(public).collect(),
            origins: origins.iter().map(lower).chain([site]).collect(),
        }
    }

    fn knows_host(&self, host: &Authority, local: SocketAddr) -> bool {
        let name = host.host().trim_end_matches('.').to_ascii_lowercase();
        let with_port = host.port_u16().map(|port| format!("{name}:{port}"));
        self.names.contains(&name)
            || with_port.is_some_and(|name| self.names.contains(&name))
            || is_own(&name, host.port_u16(), local)
    }

    fn knows_origin(&self, origin: &str, local: SocketAddr) -> bool {
        self.origins.contains(origin) || is_own_origin(origin, local)
    }

    fn refuses(&self, parts: &Parts, local: SocketAddr) -> Option<ApiError> {
        let headers = &parts.headers;
        let mut hosts =
            headers.get_all(HOST).into_iter().filter_map(|value| value.to_str().ok()?.parse().ok());
        let known = |host: &Authority| self.knows_host(host, local);
        let named = parts.uri.authority();
        let (first, more) = (hosts.next(), headers.get_all(HOST).into_iter().count() > 1);
        if more || (named.is_none() && !headers.contains_key(HOST)) {
            return Some(no_one_host());
        }
        let good = match (&first, named) {
            (Some(host), Some(named)) => known(host) && known(named),
            (Some(host), None) => known(host),
            (None, Some(named)) => known(named) && !headers.contains_key(HOST),
            (None, None) => false,
        };
        if !good {
            return Some(foreign_host());
        }
        let site = |value: &HeaderValue| value.to_str().is_ok_and(|origin| self.knows_origin(origin, local));
        let origins = headers.get_all(ORIGIN);
        (!origins.iter().all(site) || origins.iter().count() > 1).then(foreign_origin)
    }
}

/// Refuses a request that names a foreign host, or that a foreign site's page makes.
pub(super) async fn check(state: &AppState, parts: &Parts, address: IpAddr) -> Result<(), ApiError> {
    if greets_again(parts) {
        return Ok(());
    }
    let local = peer::ends(parts)?.local;
    let Some(refused) = state.edge.trust.refuses(parts, local) else {
        note_greeting(parts);
        return Ok(());
    };
    Box::pin(state.hub.record_stranger(Refusal::ForeignOrigin, address)).await;
    Err(refused)
}

/// Says whether a request names the hub as an earlier one on its connection did, and no site: nearly all do.
fn greets_again(parts: &Parts) -> bool {
    let known = peer::connection(parts).and_then(|connection| connection.greeted.get());
    known.is_some() && known == only_host(parts) && !parts.headers.contains_key(ORIGIN)
}

fn note_greeting(parts: &Parts) {
    if let (Some(connection), Some(host)) = (peer::connection(parts), only_host(parts))
        // A copy: the value itself would hold the whole head, and the key in it, as long as the connection.
        && let Ok(host) = HeaderValue::from_bytes(host.as_bytes())
    {
        connection.greeted.get_or_init(|| host);
    }
}

/// Finds the host that a request names once, and only in the header.
fn only_host(parts: &Parts) -> Option<&HeaderValue> {
    let mut hosts = parts.headers.get_all(HOST).into_iter();
    let host = hosts.next().filter(|_| parts.uri.authority().is_none())?;
    hosts.next().is_none().then_some(host)
}

/// Says with which site the response is to be shared.
pub(super) fn shared_with(parts: &Parts, trust: &Trust) -> Shared {
    let Ok(local) = peer::ends(parts).map(|ends| ends.local) else { return Shared(None) };
    let origin = parts
        .headers
        .get(ORIGIN)
        .filter(|value| value.to_str().is_ok_and(|origin| trust.knows_origin(origin, local)));
    Shared(origin.cloned())
}

impl Shared {
    /// Says whether a browser only asks what it may do.
    pub(super) fn is_preflight(&self, parts: &Parts) -> bool {
        self.0.is_some() && parts.method == Method::OPTIONS && parts.headers.contains_key(&REQUEST_METHOD)
    }

    /// Lets the site read the response.
    pub(super) fn allow(self, response: &mut Response) {
        let Some(origin) = self.0 else { return };
        let headers: &mut HeaderMap = response.headers_mut();
        let text = HeaderValue::from_static;
        headers.insert(ALLOW_ORIGIN, origin);
        headers.append(VARY, text("Origin"));
        headers.insert(ALLOW_METHODS, text("GET, POST, PUT, PATCH, DELETE"));
        headers.insert(
            ALLOW_HEADERS,
            text(
                "authorization, content-type, accept, last-event-id, mcp-protocol-version, mcp-session-id, \
                 mcp-method, mcp-name, x-mcphub-key",
            ),
        );
        headers.insert(
            EXPOSE_HEADERS,
            text("mcp-session-id, mcp-protocol-version, retry-after, www-authenticate"),
        );
    }
}

/// Says whether a host is the listener itself.
fn is_own(name: &str, port: Option<u16>, local: SocketAddr) -> bool {
    if port.unwrap_or(80) != local.port() {
        return false;
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let ip = local.ip().to_canonical();
    match bare.parse::<IpAddr>() {
        Ok(named) => named.to_canonical() == ip || (named.is_loopback() && ip.is_loopback()),
        Err(_) => name == "localhost" && ip.is_loopback(),
    }
}

fn is_own_origin(origin: &str, local: SocketAddr) -> bool {
    local.ip().to_canonical().is_loopback()
        && origin
            .strip_prefix("http://")
            .and_then(|host| host.parse::<Authority>().ok())
            .is_some_and(|host| is_own(host.host(), host.port_u16(), local))
}

/// Refuses a request that doesn't say which host it is for, or says it twice (RFC 9112 3.2).
fn no_one_host() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "host.missing", "send one Host header")
}

fn foreign_host() -> ApiError {
    let detail =
        "the Host header names another host: use the hub's public address, or add the name to allowed_hosts";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host.foreign", detail)
}

fn foreign_origin() -> ApiError {
    let detail =
        "a page of another site made this request: add its origin to allowed_origins if that is wanted";
    ApiError::new(StatusCode::FORBIDDEN, "origin.foreign", detail)
}

#[cfg(test)]
mod tests {
    use super::Trust;

    fn status(local: &str, lines: &[(&str, &str)]) -> u16 {
        let trust = Trust::new(
            &"https://hub.example.org".parse().unwrap(),
            &["proxy.internal:8080".to_owned(), "Other.Example".to_owned()],
            &["https://console.example".to_owned()],
        );
        let (mut parts, ()) = http::Request::new(()).into_parts();
        for (name, value) in lines {
            let name: http::HeaderName = name.parse().unwrap();
            parts.headers.append(name, value.parse().unwrap());
        }
        trust.refuses(&parts, local.parse().unwrap()).map_or(200, |error| error.status().as_u16())
    }

    #[test]
    fn a_host_is_known_or_refused() {
        let own = "127.0.0.1:3000";
        let table = [
            (own, "127.0.0.1:3000", 200),
            (own, "localhost:3000", 200),
            (own, "LOCALHOST:3000", 200),
            (own, "[::1]:3000", 200),
            (own, "localhost", 421),
            (own, "localhost:3001", 421),
            (own, "hub.example.org", 200),
            (own, "hub.example.org.", 200),
            (own, "hub.example.org:443", 200),
            (own, "other.example", 200),
            (own, "proxy.internal:8080", 200),
            (own, "proxy.internal", 421),
            (own, "evil.example", 421),
            (own, "evil.example:3000", 421),
            (own, "hub.example.org.evil.example", 421),
            (own, "192.0.2.1:3000", 421),
            (own, "a b", 421),
            (own, "", 421),
            ("192.0.2.1:3000", "192.0.2.1:3000", 200),
            ("192.0.2.1:3000", "localhost:3000", 421),
            ("192.0.2.1:80", "192.0.2.1", 200),
        ];
        for (local, host, expected) in table {
            assert_eq!(status(local, &[("host", host)]), expected, "{host} at {local}");
        }
        assert_eq!(status(own, &[]), 400);
        assert_eq!(status(own, &[("host", "localhost:3000"), ("host", "localhost:3000")]), 400);
    }

    #[test]
    fn an_origin_is_absent_known_or_refused() {
        let own = "127.0.0.1:3000";
        let table = [
            (own, "http://127.0.0.1:3000", 200),
            (own, "http://localhost:3000", 200),
            (own, "http://[::1]:3000", 200),
            (own, "https://hub.example.org", 200),
            (own, "https://console.example", 200),
            (own, "https://localhost:3000", 403),
            (own, "http://localhost:3001", 403),
            (own, "http://hub.example.org", 403),
            (own, "https://hub.example.org:8443", 403),
            (own, "https://evil.example", 403),
            (own, "null", 403),
            (own, "", 403),
            ("192.0.2.1:3000", "http://192.0.2.1:3000", 403),
        ];
        for (local, origin, expected) in table {
            let lines = [("host", "hub.example.org"), ("origin", origin)];
            assert_eq!(status(local, &lines), expected, "{origin} at {local}");
        }
        let twice = [("host", "hub.example.org"), ("origin", "https://hub.example.org"), ("origin", "null")];
        assert_eq!(status(own, &twice), 403);
    }
}
