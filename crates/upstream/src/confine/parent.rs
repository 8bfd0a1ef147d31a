//! The proxy beyond: on a closed network, an admin declares one for all children.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use url::Url;

/// Is a proxy that everything leaves through, on a closed network. It resolves the names.
pub(crate) struct Parent {
    pub(super) host: String,
    pub(super) port: u16,
    authorization: Option<HeaderValue>,
}

impl Parent {
    /// Reads the address of an `http://` proxy, with or without a user and password.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok().filter(|url| url.scheme() == "http")?;
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        let authorization = (!url.username().is_empty()).then(|| {
            let password = decoded(url.password().unwrap_or_default());
            let pair = [decoded(url.username()), b":".to_vec(), password].concat();
            HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()
        });
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port: url.port_or_known_default()?, authorization: authorization.flatten() })
    }

    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        if let Some(authorization) = &self.authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }
}

/// Last labels that nobody has on the internet (RFC 6761, RFC 6762 appendix G, RFC 8375).
const PRIVATE: [&str; 10] = [
    ".localhost",
    ".localdomain",
    ".local",
    ".internal",
    ".intranet",
    ".private",
    ".corp",
    ".home",
    ".home.arpa",
    ".lan",
];

/// Judges a name, in small letters and without a last dot, by itself: another resolves it.
pub(super) fn seems_public(name: &str) -> bool {
    name.contains('.') && !PRIVATE.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::{Parent, seems_public};

    #[test]
    fn an_address_is_read_with_what_it_says_of_the_user() {
        let parent = Parent::parse("http://a%20b:c@[::1]:3128").unwrap();
        assert_eq!((parent.host.as_str(), parent.port), ("::1", 3128));
        assert_eq!(parent.authorization.unwrap(), "Basic YSBiOmM=");
        assert_eq!(Parent::parse("http://proxy.example").unwrap().port, 80);
        assert!(Parent::parse("http://proxy.example").unwrap().authorization.is_none());
        assert!(Parent::parse("socks5://proxy.example").is_none());
    }

    #[test]
    fn names_that_are_used_inside_seem_private() {
        for name in
            ["localhost", "intranet", "a.localhost", "localhost.localdomain", "db.internal", "printer.local"]
        {
            assert!(!seems_public(name), "{name}");
        }
        assert!(seems_public("a.example.com"));
    }
}
