//! What every response carries, and what no request brings in.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

use crate::http::caller::KEY_HEADER;

/// The policy of everything that isn't a page: nothing may load, nothing may frame it.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// The prefix of the headers that only the hub writes.
const OWN: &str = "x-mcphub-";

/// Sets the headers that every response carries. A page's own policy stays.
pub(super) fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NOTHING);
}

/// Takes away what looks like the hub's own word; only the key may come in from outside.
pub(super) fn strip_own_headers(headers: &mut HeaderMap) {
    let foreign = |name: &&HeaderName| name.as_str().starts_with(OWN) && **name != KEY_HEADER;
    let names: Vec<HeaderName> = headers.keys().filter(foreign).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Answers with nothing.
pub(super) fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::strip_own_headers;

    #[test]
    fn only_the_key_comes_in_from_outside() {
        let mut headers = HeaderMap::new();
        for name in ["x-mcphub-user", "x-mcphub-key", "x-mcphub-user", "x-other", "x-mcphub-"] {
            headers.append(name, "1".parse().unwrap());
        }
        strip_own_headers(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-mcphub-key", "x-other"]);
    }
}
