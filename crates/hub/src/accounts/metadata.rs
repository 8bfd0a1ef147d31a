//! How servers describe what protects them, and authorization servers themselves (RFC 9728, RFC 8414, OpenID Connect Discovery).

use serde::Deserialize;
use url::Url;

use super::bounded;

/// Describes what protects a server.
#[derive(Deserialize)]
pub(super) struct Resource {
    /// What the server calls itself: tokens are for that.
    #[serde(deserialize_with = "bounded::address")]
    pub(super) resource: String,
    /// Who lets people in.
    #[serde(default, deserialize_with = "bounded::addresses")]
    pub(super) authorization_servers: Vec<String>,
    /// What a token can be good for.
    #[serde(default, deserialize_with = "bounded::words")]
    pub(super) scopes_supported: Vec<String>,
}

/// Describes an authorization server.
#[derive(Deserialize)]
pub(super) struct Authority {
    #[serde(deserialize_with = "bounded::address")]
    pub(super) issuer: String,
    #[serde(deserialize_with = "bounded::address")]
    pub(super) authorization_endpoint: Url,
    #[serde(deserialize_with = "bounded::address")]
    pub(super) token_endpoint: Url,
    #[serde(default, deserialize_with = "bounded::some_address")]
    pub(super) registration_endpoint: Option<Url>,
    #[serde(default, deserialize_with = "bounded::words")]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default, deserialize_with = "bounded::some_words")]
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(super) client_id_metadata_document_supported: bool,
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(super) names_itself: bool,
    #[serde(default, deserialize_with = "bounded::words")]
    pub(super) scopes_supported: Vec<String>,
}

/// Is who an answer has to be from.
pub(super) struct Sender {
    pub(super) issuer: String,
    pub(super) names_itself: bool,
}

impl Resource {
    /// Describes a server that doesn't describe itself, and of which is known who lets people in.
    pub(super) const fn of(resource: String, authorization_servers: Vec<String>) -> Self {
        Self { resource, authorization_servers, scopes_supported: Vec::new() }
    }

    /// Says whether a token for what it describes is one for the server: the same place, or one above it.
    pub(super) fn covers(&self, server: &Url) -> bool {
        let Ok(resource) = Url::parse(&self.resource) else { return false };
        let (above, path) = (resource.path().trim_end_matches('/'), server.path());
        let is_above = path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_whole = resource.query().is_none() || resource.query() == server.query();
        resource.origin() == server.origin() && is_above && is_whole && resource.fragment().is_none()
    }
}

impl Authority {
    /// Assumes what 2025-03-26 does of a server that describes nothing.
    pub(super) fn assumed(server: &Url) -> Option<Self> {
        let at = |path: &str| server.join(path).ok();
        Some(Self {
            issuer: server.origin().ascii_serialization(),
            authorization_endpoint: at("/authorize")?,
            token_endpoint: at("/token")?,
            registration_endpoint: at("/register"),
            code_challenge_methods_supported: vec!["S256".to_owned()],
            token_endpoint_auth_methods_supported: None,
            client_id_metadata_document_supported: false,
            names_itself: false,
            scopes_supported: Vec::new(),
        })
    }

    /// Says whether a stolen code is of no use there (RFC 7636).
    pub(super) fn proves_keys(&self) -> bool {
        self.code_challenge_methods_supported.iter().any(|method| method == "S256")
    }

    /// Says who may answer for it.
    pub(super) fn sender(&self) -> Sender {
        Sender { issuer: self.issuer.clone(), names_itself: self.names_itself }
    }
}

impl Sender {
    /// Says whether an answer that names this issuer, or none, is from it (RFC 9207 2.4). Nothing is normalized.
    pub(super) fn is(&self, named: Option<&str>) -> bool {
        match named {
            Some(named) => named == self.issuer,
            None => !self.names_itself,
        }
    }
}

/// Names a server that doesn't say how it calls itself (RFC 8707 2, RFC 3986 6.2.3).
pub(super) fn own_name(server: &Url) -> String {
    let path = Some(server.path()).filter(|path| *path != "/").unwrap_or_default();
    format!("{}{path}", server.origin().ascii_serialization())
}

/// Lists where a server may describe what protects it, if it doesn't say where: for its path, then for all of it.
pub(super) fn resource_places(server: &Url) -> Vec<Url> {
    let root = "/.well-known/oauth-protected-resource";
    let path = server.path().trim_end_matches('/');
    let own = (!path.is_empty()).then(|| format!("{root}{path}"));
    own.into_iter().chain([root.to_owned()]).filter_map(|place| server.join(&place).ok()).collect()
}

/// Lists where an authorization server may describe itself.
pub(super) fn authority_places(issuer: &Url) -> Vec<Url> {
    let (oauth, openid) = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration");
    let path = issuer.path().trim_end_matches('/');
    let places = match path {
        "" => vec![oauth.to_owned(), openid.to_owned()],
        path => vec![format!("{oauth}{path}"), format!("{openid}{path}"), format!("{path}{openid}")],
    };
    places.iter().filter_map(|place| issuer.join(place).ok()).collect()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::{Resource, Sender, authority_places, own_name, resource_places};

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn texts(urls: &[Url]) -> Vec<&str> {
        urls.iter().map(Url::as_str).collect()
    }

    #[test]
    fn well_known_places_are_those_of_the_standards() {
        let resource = "https://a.example/.well-known/oauth-protected-resource";
        assert_eq!(
            texts(&resource_places(&url("https://a.example/x/mcp?y"))),
            [&format!("{resource}/x/mcp"), resource]
        );
        assert_eq!(texts(&resource_places(&url("https://a.example"))), [resource]);
        assert_eq!(
            texts(&authority_places(&url("https://a.example"))),
            [
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            texts(&authority_places(&url("https://a.example/t/1"))),
            [
                "https://a.example/.well-known/oauth-authorization-server/t/1",
                "https://a.example/.well-known/openid-configuration/t/1",
                "https://a.example/t/1/.well-known/openid-configuration"
            ]
        );
    }

    #[test]
    fn a_resource_is_the_server_or_what_it_is_part_of() {
        let covers = |resource: &str, server: &str| {
            let (authorization_servers, scopes_supported) = (Vec::new(), Vec::new());
            Resource { resource: resource.to_owned(), authorization_servers, scopes_supported }
                .covers(&url(server))
        };
        for (resource, good) in [
            ("https://a.example/x/mcp", true),
            ("https://a.example/x/mcp/", true),
            ("https://a.example/x", true),
            ("https://a.example", true),
            ("https://a.example/", true),
            ("https://a.example/x/mc", false),
            ("https://a.example/x/mcp/more", false),
            ("https://b.example/x/mcp", false),
            ("http://a.example/x/mcp", false),
            ("https://a.example:8443/x/mcp", false),
            ("https://a.example/x/mcp#y", false),
            ("a.example", false),
        ] {
            assert_eq!(covers(resource, "https://a.example/x/mcp"), good, "{resource}");
        }
    }

    #[test]
    fn a_server_that_does_not_name_itself_is_named_without_what_it_does_not_need() {
        for (server, name) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example:443/?k=1", "https://a.example"),
            ("https://a.example:8443/x/mcp?k=1", "https://a.example:8443/x/mcp"),
            ("https://a.example/x/", "https://a.example/x/"),
        ] {
            assert_eq!(own_name(&url(server)), name, "{server}");
        }
    }

    #[test]
    fn who_answers_is_compared_letter_by_letter() {
        for (advertised, named, good) in [
            (true, Some("https://a.example"), true),
            (true, None, false),
            (true, Some("https://a.example/"), false),
            (true, Some("https://A.example"), false),
            (true, Some("https://b.example"), false),
            (false, None, true),
            (false, Some("https://a.example"), true),
            (false, Some("https://b.example"), false),
        ] {
            let sender = Sender { issuer: "https://a.example".into(), names_itself: advertised };
            assert_eq!(sender.is(named), good, "{advertised} {named:?}");
        }
    }
}
