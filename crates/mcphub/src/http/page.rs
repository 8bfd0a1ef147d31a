//! `/credentials/{server}`: the page where people fill in what a server needs from them.
//!
//! It is the same for everybody and every name. What it shows it gets from the API, with the key that
//! the person types in.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::http::AppState;

const HTML: &str = include_str!("credentials/page.html");
const SCRIPT: &str = include_str!("credentials/page.js");
const STYLE: &str = include_str!("credentials/page.css");
/// Only the hub's own script and style, and only requests to the hub.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Routes the page and what belongs to it.
pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/credentials/{server}", get(async || file("text/html; charset=utf-8", HTML)))
        .route("/credentials.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/credentials.css", get(async || file("text/css; charset=utf-8", STYLE)))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, POLICY)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::{HTML, SCRIPT};

    #[test]
    fn nothing_runs_inline() {
        let lower = HTML.to_lowercase();
        for forbidden in [" on", "style=", "javascript:", "<style", "http:", "https:"] {
            let found = lower.lines().filter(|line| line.contains('<')).find(|line| line.contains(forbidden));
            assert_eq!(found.filter(|line| forbidden != " on" || is_handler(line)), None, "{forbidden}");
        }
        assert_eq!(lower.matches("<script").count(), 1);
        assert!(lower.contains(r#"<script src="/credentials.js" defer></script>"#));
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "localStorage",
            "sessionStorage",
            "cookie",
        ] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_person_sees_where_a_value_goes_and_every_change_says_what_she_saw() {
        assert!(SCRIPT.contains(r#"make("code", slot.goes_to)"#));
        assert!(SCRIPT.contains("({ revision: slot.revision, destination: slot.destination })"));
        let changes: Vec<&str> = SCRIPT
            .lines()
            .filter(|line| ["\"PUT\"", "\"POST\"", "\"DELETE\""].iter().any(|method| line.contains(method)))
            .collect();
        assert_eq!(changes.len(), 4, "{changes:?}");
        // To go to a server's authorization server changes nothing: the hub sees what is there when she goes.
        let (goes, changes): (Vec<&str>, _) = changes.into_iter().partition(|line| line.contains("/account"));
        assert_eq!(goes.len(), 1);
        assert!(changes.iter().all(|line| line.contains("seen(slot)") || line.contains("?revision=")));
    }

    fn is_handler(line: &str) -> bool {
        line.split(" on").skip(1).any(|rest| {
            rest.split_once('=').is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_lowercase()))
        })
    }

    #[test]
    fn every_field_has_a_label() {
        for id in
            HTML.split("<input").skip(1).filter_map(|rest| rest.split("id=\"").nth(1)?.split('"').next())
        {
            assert!(HTML.contains(&format!("for=\"{id}\"")), "{id}");
        }
    }
}
