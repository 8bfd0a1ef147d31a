//! A hub elsewhere, as a client of it sees one: what `mcphub connect` sends over. Whoever starts that says where the hub is,
//! so it may be in any network; without TLS it has to be on this machine. Nothing is decided or recorded here: that hub does.

use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mcphub_domain::SecretText;

use crate::destination::{Destination, HttpRequest};
use crate::outbound::{Body, Outbound, SendError, SetupError};
use crate::settings::PlainHttp;

/// Is a hub elsewhere, with the key that it is reached with.
pub struct Remote {
    outbound: Outbound,
    destination: Destination,
}

/// Is the body of an answer of it.
pub struct RemoteBody(Body);

/// Says why a hub elsewhere can't be spoken to at all.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The key has characters that no header may have.
    #[error("the key has characters that no hub key has")]
    Key,
    /// The address is none.
    #[error("the address can't be reached over HTTP")]
    Address,
    /// There is no TLS.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Says why a request got no answer, or not the whole of one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreached(String);

impl Remote {
    /// Takes the URL of an endpoint and a hub key.
    ///
    /// # Errors
    /// Refuses what fits into no request.
    pub fn new(url: &str, key: &SecretText) -> Result<Self, RemoteError> {
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|_| RemoteError::Key)?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        let everywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let destination = Destination::new(url, headers, everywhere.into()).ok_or(RemoteError::Address)?;
        Ok(Self { outbound: Outbound::new(&[], PlainHttp::LoopbackOnly)?, destination })
    }

    /// Names the host and port.
    #[must_use]
    pub fn origin(&self) -> &Arc<str> {
        self.destination.origin()
    }

    /// Sends a request, and waits for the head of its answer.
    ///
    /// # Errors
    /// Says why none came.
    pub async fn send(
        &self,
        method: Method,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Response<RemoteBody>, Unreached> {
        let request = HttpRequest { destination: &self.destination, method, headers, body };
        match self.outbound.send(&request).await {
            Ok(response) => Ok(response.map(RemoteBody)),
            Err(SendError::Refused(reason) | SendError::Failed(reason)) => Err(Unreached(reason)),
        }
    }
}

impl RemoteBody {
    /// Waits for the next piece; nothing follows the last one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Says why the rest doesn't come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Unreached> {
        self.0.next().await.transpose().map_err(|error| Unreached(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use mcphub_domain::SecretText;

    use super::{Remote, RemoteError};

    #[tokio::test]
    async fn without_tls_nothing_leaves_the_machine() {
        let key = SecretText::new("k".to_owned());
        let remote = Remote::new("http://192.0.2.1:9/mcp", &key).unwrap();
        let refused = remote.send(Method::POST, Vec::new(), Bytes::from_static(b"{}")).await;
        let reason = refused.err().unwrap().to_string();
        assert_eq!(reason, "plain HTTP is allowed to loopback addresses only: use https");
        assert_eq!(&**remote.origin(), "192.0.2.1:9");
    }

    #[test]
    fn a_key_that_would_break_a_header_is_refused() {
        let key = SecretText::new("a\r\nx: y".to_owned());
        assert!(matches!(Remote::new("http://127.0.0.1/", &key), Err(RemoteError::Key)));
    }
}
