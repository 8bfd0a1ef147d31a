//! Requests beside MCP: to where a server says that people connect their accounts. A server chooses these addresses, so that
//! less is allowed than to one that an admin wrote: no address allows itself, and without TLS nothing leaves the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use ipnet::IpNet;
use mcphub_domain::SecretText;
use mcphub_wire::header::{METHOD, PROTOCOL_VERSION};
use mcphub_wire::list::ListKind;
use mcphub_wire::{Version, method};
use tokio::time::timeout;
use url::{Host, Url};

use crate::address::is_allowed;
use crate::challenge::Challenge;
use crate::destination::{Destination, HttpRequest};
use crate::http::{JSON, Own};
use crate::outbound::{Body, SendError};
use crate::outgoing::Outgoing;
use crate::response::media;
use crate::upstreams::Upstreams;

/// How long an errand may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer.
const LARGEST: usize = 256 * 1024;
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// What the answers are; a server of MCP insists on both.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// Is one request.
pub struct Errand {
    /// Where it goes.
    pub url: Url,
    /// What it says.
    pub content: Content,
    /// Headers beside those that follow from the content.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The `Authorization` header.
    pub authorization: Option<SecretText>,
}

/// Is what a request says.
pub enum Content {
    /// Nothing: it only asks.
    Nothing,
    /// A JSON text.
    Json(Bytes),
    /// A form, in which secrets may stand.
    Form(SecretText),
}

/// Is a form on its way: the bytes of a text that is wiped when it has been sent.
struct Form(SecretText);

impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// Says where errands of a server may lead.
pub struct Vicinity {
    /// The server itself: an admin wrote its origin.
    pub server: Url,
    /// The networks that an admin allowed beside the public ones.
    pub networks: Vec<IpNet>,
}

/// Is an answer. Tokens may stand in it, so that nobody prints it.
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The body, unless it answered with events.
    pub body: Bytes,
}

/// Says why an errand brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrandError {
    /// It may not go there.
    #[error("{0} may not be asked: {1}")]
    Refused(String, String),
    /// Nobody answered, or not in time, or too much.
    #[error("{0} can't be asked: {1}")]
    Failed(String, String),
}

impl Errand {
    /// Asks for what is at an address.
    #[must_use]
    pub const fn get(url: Url) -> Self {
        Self { url, content: Content::Nothing, headers: Vec::new(), authorization: None }
    }

    /// Asks a server of MCP, or who lets people in there, to describe itself.
    #[must_use]
    pub fn describe(url: Url) -> Self {
        Self { headers: vec![(PROTOCOL_VERSION, Version::V2026_07_28.as_str())], ..Self::get(url) }
    }

    /// Asks a server something without a token: nothing has to be opened before it.
    fn probe(url: Url) -> Self {
        let body = Outgoing::list(ListKind::Tools, None).write(1, Version::V2026_07_28);
        let mut errand = Self { content: Content::Json(body), ..Self::describe(url) };
        errand.headers.push((METHOD, method::TOOLS_LIST));
        errand
    }
}

impl Vicinity {
    /// Says why an address may not be asked, if so.
    ///
    /// # Errors
    /// Names what would allow it.
    pub fn check(&self, url: &Url) -> Result<(), &'static str> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let (is_near, addresses) = match url.host() {
            Some(Host::Domain(name)) if name.eq_ignore_ascii_case("localhost") => (true, loopback.to_vec()),
            Some(Host::Domain(_)) => (false, Vec::new()),
            Some(Host::Ipv4(address)) => (address.is_loopback(), vec![address.into()]),
            Some(Host::Ipv6(address)) => (address.is_loopback(), vec![address.into()]),
            None => return Err("it has no host"),
        };
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_near);
        if !is_secure {
            return Err("it is not https");
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("it has a user or a fragment");
        }
        let is_home = url.origin() == self.server.origin();
        // A name's addresses are checked when it is resolved.
        let is_open = is_home || addresses.iter().all(|address| is_allowed(*address, &self.networks));
        if is_open { Ok(()) } else { Err("it is not a public address; add its network to `networks`") }
    }

    /// Names where an errand goes, if it may go there.
    fn place(&self, url: &Url) -> Result<String, ErrandError> {
        let place = url.origin().ascii_serialization();
        match self.check(url) {
            Ok(()) => Ok(place),
            Err(reason) => Err(ErrandError::Refused(place, reason.to_owned())),
        }
    }
}

impl Upstreams {
    /// Runs an errand for a server. Redirects are not followed.
    ///
    /// # Errors
    /// Says why it brought nothing; any answer is something.
    pub async fn run(&self, errand: Errand, vicinity: &Vicinity) -> Result<Fetched, ErrandError> {
        let place = vicinity.place(&errand.url)?;
        in_time(place, async { fetched(self.send(errand, vicinity).await?).await }).await
    }

    /// Asks a server something without a token, for what it wants of those who do. Only the head of its answer is waited for.
    ///
    /// # Errors
    /// Says why no answer came.
    pub async fn probe(&self, vicinity: &Vicinity) -> Result<Option<Challenge>, ErrandError> {
        let errand = Errand::probe(vicinity.server.clone());
        let place = vicinity.place(&errand.url)?;
        let answer = in_time(place, self.send(errand, vicinity)).await?;
        Ok(Challenge::read(answer.headers()))
    }

    async fn send(&self, errand: Errand, vicinity: &Vicinity) -> Result<Response<Body>, SendError> {
        let unfit = || SendError::Failed("the request can't be sent over HTTP".to_owned());
        let mut headers = HeaderMap::new();
        if let Some(text) = &errand.authorization {
            let mut value = HeaderValue::from_str(text.expose()).map_err(|_| unfit())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let networks = vicinity.networks.clone();
        let destination = Destination::new(errand.url.as_str(), headers, networks).ok_or_else(unfit)?;
        let (method, kind, body) = match errand.content {
            Content::Nothing => (Method::GET, None, Bytes::new()),
            Content::Json(text) => (Method::POST, Some(JSON), text),
            Content::Form(text) => (Method::POST, Some(FORM), Bytes::from_owner(Form(text))),
        };
        let own = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers: Own = errand.headers.into_iter().map(own).collect();
        headers.push((ACCEPT, ACCEPTED));
        headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        self.outbound().send(&HttpRequest { destination: &destination, method, headers, body }).await
    }
}

/// Waits for an errand, and not for ever.
async fn in_time<T>(
    place: String,
    running: impl Future<Output = Result<T, SendError>>,
) -> Result<T, ErrandError> {
    match timeout(PATIENCE, running).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(SendError::Refused(reason))) => Err(ErrandError::Refused(place, reason)),
        Ok(Err(SendError::Failed(reason))) => Err(ErrandError::Failed(place, reason)),
        Err(_) => Err(ErrandError::Failed(place, "it did not answer in time".to_owned())),
    }
}

/// Reads an answer whole; events have no end, and are none that anybody waits for.
async fn fetched(response: Response<Body>) -> Result<Fetched, SendError> {
    let status = response.status().as_u16();
    let (_, is_events) = media(&response);
    let (mut from, mut body) = (response.into_body(), BytesMut::new());
    while !is_events && let Some(piece) = from.next().await {
        body.extend_from_slice(&piece.map_err(|error| SendError::Failed(error.to_string()))?);
        if body.len() > LARGEST {
            return Err(SendError::Failed(format!("its answer is larger than {LARGEST} bytes")));
        }
    }
    Ok(Fetched { status, body: body.freeze() })
}

#[cfg(test)]
mod tests {
    use super::Vicinity;

    #[test]
    fn only_public_places_and_what_an_admin_named_are_asked() {
        let check = |server: &str, networks: &[&str], url: &str| {
            let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
            Vicinity { server: server.parse().unwrap(), networks }.check(&url.parse().unwrap()).is_ok()
        };
        let table: &[(&str, &[&str], &str, bool)] = &[
            ("https://a.example/mcp", &[], "https://b.example/x", true),
            ("https://a.example/mcp", &[], "http://b.example/x", false),
            ("https://a.example/mcp", &[], "https://127.0.0.1/x", false),
            ("https://a.example/mcp", &[], "https://10.0.0.1/x", false),
            ("https://a.example/mcp", &["10.0.0.0/8"], "https://10.0.0.1/x", true),
            ("https://a.example/mcp", &["10.0.0.0/8"], "http://10.0.0.1/x", false),
            ("https://a.example/mcp", &[], "http://localhost/x", false),
            ("https://a.example/mcp", &["127.0.0.0/8", "::1/128"], "http://localhost/x", true),
            ("https://a.example/mcp", &[], "https://169.254.169.254/x", false),
            ("http://localhost:3000/mcp", &[], "http://localhost:3000/x", true),
            ("http://localhost:3000/mcp", &[], "http://localhost:3001/x", false),
            ("http://10.0.0.1/mcp", &[], "http://10.0.0.1/x", false),
            ("https://a.example/mcp", &[], "https://u:p@b.example/x", false),
            ("https://a.example/mcp", &[], "file:///etc/passwd", false),
        ];
        for (server, networks, url, good) in table {
            assert_eq!(check(server, networks, url), *good, "{server} {networks:?} {url}");
        }
    }
}
