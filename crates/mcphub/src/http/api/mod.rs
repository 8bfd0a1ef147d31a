//! `/api/v1`: administration for programs, described by `/api/v1/openapi.json`.
//!
//! Each handler adapts one use case of the hub and does nothing else. `admit` proves who calls before
//! anything is routed.

mod audit;
mod credentials;
mod definition;
mod evidence;
mod extract;
mod grants;
mod groups;
mod keys;
mod schema;
mod servers;
mod tools;
mod users;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, SecurityRequirement};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::AppState;
use crate::http::caller;
use crate::http::error::{self, Problem};

/// The largest body of a request to the API.
const LARGEST_BODY: usize = 1 << 20;
/// Where the API begins.
const ROOT: &str = "/api/v1";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "MCPHub",
        description = "Administration of an MCPHub: people, groups, grants, servers, credentials, keys and the audit log. \
                       Every request is authenticated by a hub key, decided and recorded."
    ),
    components(schemas(Problem)),
    modifiers(&KeyScheme)
)]
struct Description;

/// Describes how callers authenticate.
struct KeyScheme;

impl Modify for KeyScheme {
    fn modify(&self, description: &mut OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("mcphub_<id>_<secret>")
            .description(Some("A hub key, in this header and nowhere else."))
            .build();
        if let Some(components) = &mut description.components {
            components.add_security_scheme("key", SecurityScheme::Http(key));
        }
        description.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    }
}

/// Routes the API.
pub(super) fn router(state: &AppState) -> Router<AppState> {
    let (routes, _) = described().split_for_parts();
    let routes = routes
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(state.clone(), admit));
    Router::new().nest(ROOT, routes).route("/api/v1/openapi.json", get(async || Json(openapi())))
}

/// Describes the API.
pub(crate) fn openapi() -> OpenApi {
    let (_, routes) = described().split_for_parts();
    let mut description = Description::openapi();
    description.merge(OpenApi::default().nest(ROOT, routes));
    description
}

fn described() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(users::me))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::show, users::update))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(groups::list, groups::add))
        .routes(routes!(groups::remove))
        .routes(routes!(groups::join, groups::leave))
        .routes(routes!(grants::add))
        .routes(routes!(grants::remove))
        .routes(routes!(servers::list, servers::add))
        .routes(routes!(servers::import))
        .routes(routes!(servers::show, servers::update, servers::remove))
        .routes(routes!(servers::test))
        .routes(routes!(tools::list))
        .routes(routes!(tools::update))
        .routes(routes!(credentials::set_shared))
        .routes(routes!(credentials::list))
        .routes(routes!(credentials::set, credentials::remove))
        .routes(routes!(credentials::confirm))
        .routes(routes!(credentials::connect))
        .routes(routes!(audit::search))
        .routes(routes!(audit::verify))
        .routes(routes!(evidence::export))
        .routes(routes!(evidence::prove))
        .routes(routes!(evidence::key))
}

/// Proves who calls, before anything else is known of the request.
async fn admit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match caller::authenticate(&state, &parts).await {
        Ok(caller) => parts.extensions.insert(caller),
        Err(error) => return error.into_response(),
    };
    next.run(Request::from_parts(parts, body)).await
}

#[cfg(test)]
mod tests {
    use super::openapi;

    /// Where the description is checked in.
    const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_description_that_is_checked_in_is_current() {
        let checked_in = std::fs::read_to_string(CHECKED_IN).unwrap_or_default();
        let checked_in: serde_json::Value = serde_json::from_str(&checked_in).unwrap_or_default();
        assert!(
            checked_in == serde_json::to_value(openapi()).unwrap(),
            "docs/openapi.json is out of date: run `cargo run -p mcphub -- openapi > docs/openapi.json`"
        );
    }

    #[test]
    fn every_operation_says_what_it_does_and_names_itself() {
        let description = serde_json::to_value(openapi()).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            assert!(path.starts_with("/api/v1/"), "{path}");
            for (method, operation) in operations.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path}");
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name}");
                assert!(operation["responses"].get("default").is_some(), "{method} {path}");
            }
        }
        assert!(names.len() > 25);
    }
}
