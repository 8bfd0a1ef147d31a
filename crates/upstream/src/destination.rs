//! Where the HTTP requests of a connection go, what they all carry, and how one is written.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use ipnet::IpNet;
use url::Url;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("mcphub/", env!("CARGO_PKG_VERSION")));

/// Is a server's place with the headers of every request to it.
pub(crate) struct Destination {
    uri: Uri,
    headers: HeaderMap,
    networks: Vec<IpNet>,
    origin: Arc<str>,
    /// What stands in every head behind the method: the target, the version, and those headers.
    head: Vec<u8>,
}

/// Is a request as it is sent, beside what its destination adds to it.
pub(crate) struct HttpRequest<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) method: Method,
    /// None of them is one of the destination's.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Destination {
    /// Takes a URL and the headers of a definition, with which the host may also be in one of `networks`.
    pub(crate) fn new(url: &str, mut headers: HeaderMap, networks: Vec<IpNet>) -> Option<Self> {
        let uri = Uri::try_from(url).ok()?;
        let authority = uri.authority()?;
        let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let origin = match authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        headers.entry(USER_AGENT).or_insert(AGENT);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut head = format!(" {target} HTTP/1.1\r\n").into_bytes();
        write(&mut head, &HOST, &HeaderValue::try_from(&origin).ok()?);
        headers.iter().for_each(|(name, value)| write(&mut head, name, value));
        Some(Self { uri, headers, networks, origin: origin.to_ascii_lowercase().into(), head })
    }

    /// Takes another address of the same origin, which may be written relative to this one.
    pub(crate) fn beside(&self, address: &str) -> Option<Self> {
        let here = Url::parse(&self.uri.to_string()).ok()?;
        let there = here.join(address).ok()?;
        let is_own =
            there.origin() == here.origin() && there.username().is_empty() && there.password().is_none();
        is_own.then(|| Self::new(there.as_str(), self.headers.clone(), self.networks.clone())).flatten()
    }

    /// Is the whole URL.
    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Names the host and port, in lower case.
    pub(crate) const fn origin(&self) -> &Arc<str> {
        &self.origin
    }

    /// Lists the networks that the host may be in, beside the public ones.
    pub(crate) fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Says whether the way there is without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTP)
    }
}

impl HttpRequest<'_> {
    /// Writes the head of an HTTP/1.1 request (RFC 9112 3).
    pub(crate) fn head(&self) -> Vec<u8> {
        let common = &self.destination.head;
        let own: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let mut head = Vec::with_capacity(common.len() + own + 64);
        head.extend_from_slice(self.method.as_str().as_bytes());
        head.extend_from_slice(common);
        self.headers.iter().for_each(|(name, value)| write(&mut head, name, value));
        if !self.body.is_empty() {
            // A vector takes whatever is written.
            drop(write!(head, "{CONTENT_LENGTH}: {}\r\n", self.body.len()));
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Makes it a request for the library.
    pub(crate) fn to_request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.destination.uri.clone();
        *request.headers_mut() = self.destination.headers.clone();
        request.headers_mut().extend(self.headers.iter().cloned());
        request
    }
}

fn write(head: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        head.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, AUTHORIZATION, USER_AGENT};
    use http::{HeaderMap, HeaderValue, Method};

    use super::{Destination, HttpRequest};

    fn destination(url: &str) -> Destination {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer t"))]);
        Destination::new(url, headers, Vec::new()).unwrap()
    }

    fn head(url: &str, method: Method, body: &'static str) -> String {
        let destination = destination(url);
        let headers = vec![(ACCEPT, HeaderValue::from_static("*/*"))];
        let request = HttpRequest { destination: &destination, method, headers, body: body.into() };
        String::from_utf8(request.head()).unwrap()
    }

    #[test]
    fn a_request_is_written_as_http_wants_it() {
        let agent = concat!("user-agent: mcphub/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            head("http://Example.com:8080/mcp?a=1", Method::POST, "{}"),
            format!(
                "POST /mcp?a=1 HTTP/1.1\r\nhost: Example.com:8080\r\nauthorization: Bearer t\r\n{agent}\r\naccept: */*\r\ncontent-length: 2\r\n\r\n"
            )
        );
        assert_eq!(
            head("http://[::1]", Method::DELETE, ""),
            format!(
                "DELETE / HTTP/1.1\r\nhost: [::1]\r\nauthorization: Bearer t\r\n{agent}\r\naccept: */*\r\n\r\n"
            )
        );
    }

    #[test]
    fn an_origin_is_a_host_with_a_port_that_is_unusual() {
        for (url, origin) in [
            ("http://Example.com:80/x", "example.com"),
            ("http://example.com:443", "example.com:443"),
            ("https://example.com:443", "example.com"),
            ("https://example.com:80", "example.com:80"),
            ("http://127.0.0.1:3000/mcp", "127.0.0.1:3000"),
        ] {
            assert_eq!(&**destination(url).origin(), origin, "{url}");
        }
    }

    #[test]
    fn only_an_address_of_the_same_origin_is_taken() {
        let here = destination("https://example.com:8443/a/sse?k=1");
        for (address, there) in [
            ("/messages/?session_id=1", "https://example.com:8443/messages/?session_id=1"),
            ("messages", "https://example.com:8443/a/messages"),
            ("https://EXAMPLE.com:8443/m", "https://example.com:8443/m"),
        ] {
            assert_eq!(here.beside(address).unwrap().uri().to_string(), there);
        }
        for foreign in [
            "https://example.com/m",
            "http://example.com:8443/m",
            "https://example.org:8443/m",
            "//example.org:8443/m",
            "https://a:b@example.com:8443/m",
            "file:///etc/passwd",
        ] {
            assert!(here.beside(foreign).is_none(), "{foreign}");
        }
        assert!(here.beside("/m").unwrap().head.windows(8).any(|bytes| bytes == b"Bearer t"));
    }

    #[test]
    fn the_library_is_told_the_same() {
        let destination = destination("https://example.com/mcp");
        let headers = vec![(ACCEPT, HeaderValue::from_static("*/*"))];
        let request =
            HttpRequest { destination: &destination, method: Method::POST, headers, body: "{}".into() };
        let request = request.to_request();
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/mcp"));
        for name in [ACCEPT, AUTHORIZATION, USER_AGENT] {
            assert_eq!(request.headers().get_all(&name).iter().count(), 1, "{name}");
        }
    }
}
