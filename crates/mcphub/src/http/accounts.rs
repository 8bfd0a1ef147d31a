//! Where people come back to who have connected an account, and how the hub describes itself to authorization servers.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, REFERRER_POLICY, SET_COOKIE,
};
use http::{HeaderMap, StatusCode};
use mcphub_hub::accounts::{CALLBACK, CLIENT_DOCUMENT};
use mcphub_hub::{Callback, Hub};
use serde::Deserialize;

use crate::http::AppState;
use crate::http::error::ApiError;

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
    Router::new().route(CALLBACK, get(come_back)).route(CLIENT_DOCUMENT, get(describe))
}

/// Writes the cookie that ties a person's way to her browser. Only the hub's own host gets it, and no script reads it.
pub(super) fn cookie(hub: &Hub, browser: &str) -> String {
    let (name, security) = name(hub);
    format!("{name}={browser}; Path=/; Max-Age={AGE}; HttpOnly; SameSite=Lax{security}")
}

/// Names the cookie. Without TLS there is nobody on the way, and browsers take no `__Host-`.
fn name(hub: &Hub) -> (&'static str, &'static str) {
    match hub.public_url().scheme() {
        "https" => ("__Host-mcphub-account", "; Secure"),
        _ => ("mcphub-account", ""),
    }
}

fn kept<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

async fn come_back(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    brought: Result<Query<Brought>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let (name, security) = name(&hub);
    let finished = match brought {
        Ok(Query(Brought { state, code, iss, error })) => {
            let callback = Callback { state, code, iss, error };
            hub.finish_account(callback, kept(&headers, name)).await.ok()
        }
        Err(_) => None,
    };
    let (status, title, text) = match finished {
        Some(server) => (
            StatusCode::OK,
            "Connected",
            format!(
                "Your account at {server} is connected. You can close this page and go on where you were."
            ),
        ),
        // What went wrong stands in the log; a stranger who sends people here learns nothing.
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
    let over = format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{security}");
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (SET_COOKIE, over),
    ];
    (status, headers, html).into_response()
}

async fn describe(State(hub): State<Arc<Hub>>) -> Response {
    match hub.client_description() {
        Some(description) => Json(description).into_response(),
        None => ApiError::not_found("a description of this hub: others can't reach it").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::kept;

    #[test]
    fn the_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1; xmcphub-account=2"));
        headers.append("cookie", HeaderValue::from_static("mcphub-account=3"));
        assert_eq!(kept(&headers, "mcphub-account"), Some("3"));
        assert_eq!(kept(&headers, "account"), None);
    }
}
