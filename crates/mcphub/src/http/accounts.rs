//! Where people come back to who have connected an account, and how the hub describes itself to authorization servers.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, StatusCode, Uri};
use mcphub_domain::ServerName;
use mcphub_domain::audit::Refusal;
use mcphub_hub::accounts::{CALLBACK, CLIENT_DOCUMENT};
use mcphub_hub::{Callback, Connecting, Hub, HubError};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::http::AppState;
use crate::http::error::{ApiError, Unrecorded};

/// Where people come back to from authorization servers that don't say who they are, and the hub's documents for these.
const CALLBACK_OF_ONE: &str = "/oauth/callback/{issuer}";
const DOCUMENT_FOR_ONE: &str = "/client-metadata/{issuer}";
/// Nothing runs on the pages that people come back to, and nothing is loaded.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// How long a browser keeps what it has to come back with, in seconds.
const AGE: u32 = 600;

/// Is what a person comes back with; a member that comes twice is refused.
#[derive(Deserialize)]
struct Brought {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Routes both.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route(CALLBACK, get(come_back))
        .route(CALLBACK_OF_ONE, get(come_back))
        .route(CLIENT_DOCUMENT, get(describe))
        .route(DOCUMENT_FOR_ONE, get(describe_for_one))
}

/// Writes the cookie that ties a person's way to her browser. Only the hub's own host gets it, and no script reads it.
pub(super) fn cookie(hub: &Hub, way: &Connecting) -> String {
    write(hub.public_url().scheme(), &way.state, (&way.browser, AGE))
}

fn write(scheme: &str, state: &str, (value, age): (&str, u32)) -> String {
    let security = if scheme == "https" { "; Secure" } else { "" };
    let name = name(scheme, state);
    format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{security}")
}

/// Names the cookie of one way: a browser may be on several. Without TLS there is nobody on the way, and browsers take no `__Host-`.
fn name(scheme: &str, state: &str) -> String {
    let host = if scheme == "https" { "__Host-" } else { "" };
    let way: [u8; 32] = Sha256::digest(state.as_bytes()).into();
    let way: String = way.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{host}mcphub-account-{way}")
}

fn kept<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

async fn come_back(
    State(hub): State<Arc<Hub>>,
    uri: Uri,
    headers: HeaderMap,
    brought: Result<Query<Brought>, QueryRejection>,
) -> Response {
    let Ok(Query(Brought { state, code, iss, error })) = brought else {
        return page(None, Some(Refusal::Malformed));
    };
    let scheme = hub.public_url().scheme();
    let own = state.as_deref().map(|state| (name(scheme, state), write(scheme, state, ("", 0))));
    let browser = own.as_ref().and_then(|(name, _)| kept(&headers, name)).map(str::to_owned);
    let callback = Callback { path: uri.path().to_owned(), state, code, iss, error };
    let response = match hub.finish_account(callback, browser.as_deref()).await {
        Ok(server) => page(Some(&server), None),
        // Nobody was on her way with that: there is no owner to record it for.
        Err(HubError::NotFound { .. }) => page(None, Some(Refusal::NotFound)),
        Err(_) => page(None, None),
    };
    // The way is over, whatever came of it.
    match own.filter(|_| browser.is_some()) {
        Some((_, over)) => ([(SET_COOKIE, over)], response).into_response(),
        None => response,
    }
}

/// Shows what came of it. What went wrong stands in the log; a stranger who sends people here learns nothing.
fn page(connected: Option<&ServerName>, unrecorded: Option<Refusal>) -> Response {
    let (status, title, text) = match connected {
        Some(server) => (
            StatusCode::OK,
            "Connected",
            format!(
                "Your account at {server} is connected. You can close this page and go on where you were."
            ),
        ),
        None => (
            StatusCode::BAD_REQUEST,
            "Not connected",
            "No account was connected. Begin again on the page where you came from.".to_owned(),
        ),
    };
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} – MCPHub</title></head>\
         <body><main><h1>{title}</h1><p>{text}</p></main></body></html>\n"
    );
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)];
    let mut response = (status, headers, html).into_response();
    if let Some(reason) = unrecorded {
        response.extensions_mut().insert(Unrecorded(reason));
    }
    response
}

async fn describe(State(hub): State<Arc<Hub>>) -> Response {
    description(&hub, None)
}

async fn describe_for_one(State(hub): State<Arc<Hub>>, Path(issuer): Path<String>) -> Response {
    description(&hub, Some(&issuer))
}

fn description(hub: &Hub, issuer: Option<&str>) -> Response {
    match hub.client_description(issuer) {
        Some(description) => Json(description).into_response(),
        None => ApiError::not_found("a description of this hub: others can't reach it").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{kept, name, write};

    #[test]
    fn the_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1; xmcphub-account=2"));
        headers.append("cookie", HeaderValue::from_static("mcphub-account=3"));
        assert_eq!(kept(&headers, "mcphub-account"), Some("3"));
        assert_eq!(kept(&headers, "account"), None);
    }

    #[test]
    fn with_tls_the_cookie_is_this_hosts_alone() {
        let cookie = write("https", "state", ("value", 600));
        let (name, rest) = cookie.split_once('=').unwrap();
        assert!(name.starts_with("__Host-mcphub-account-"), "{cookie}");
        assert_eq!(rest, "value; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure");
        let cookie = write("http", "state", ("value", 600));
        assert!(cookie.starts_with("mcphub-account-") && cookie.ends_with("SameSite=Lax"), "{cookie}");
    }

    #[test]
    fn each_way_has_a_cookie_of_its_own() {
        assert_eq!(name("https", "one"), name("https", "one"));
        assert_ne!(name("https", "one"), name("https", "two"));
        assert!(!name("https", "one").contains("one"), "the state is no secret's name");
    }
}
