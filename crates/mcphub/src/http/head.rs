//! How large a request's head may be.
//!
//! `hyper` and `h2`, which read the protocols, refuse most of what is too large. They count headers in HTTP/1 alone, and bytes
//! there exactly only in a connection's first head.

use http::StatusCode;
use http::request::Parts;
use mcphub_domain::audit::Refusal;

use crate::http::error::ApiError;

/// The largest head of a request, in bytes.
pub(super) const LARGEST: usize = 64 << 10;
/// How many headers a request may have.
pub(super) const MOST_HEADERS: usize = 100;

/// Refuses a head with too many headers or bytes, whatever protocol it came in.
pub(super) fn check(parts: &Parts) -> Result<(), ApiError> {
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let lines = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if parts.headers.len() <= MOST_HEADERS && path + lines.sum::<usize>() <= LARGEST {
        return Ok(());
    }
    let text = format!("the request's head has more than {MOST_HEADERS} headers, or {LARGEST} bytes");
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Err(ApiError::new(status, "head.too_large", text).recorded_as(Refusal::Malformed))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::{LARGEST, MOST_HEADERS, check};

    fn passes(headers: usize, bytes: usize) -> bool {
        let mut request = Request::get("/").body(()).unwrap();
        for _ in 1..headers {
            request.headers_mut().append("a", HeaderValue::from_static(""));
        }
        let value = "y".repeat(bytes - "/".len() - headers);
        request.headers_mut().append("a", HeaderValue::try_from(value).unwrap());
        check(&request.into_parts().0).is_ok()
    }

    #[test]
    fn a_head_has_so_many_headers_and_bytes_and_no_more() {
        assert!(passes(MOST_HEADERS, 1_000) && !passes(MOST_HEADERS + 1, 1_000));
        assert!(passes(1, LARGEST) && !passes(1, LARGEST + 1));
    }
}
