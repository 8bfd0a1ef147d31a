//! Clients of 2026-07-28 and later: no session, every request complete in itself.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mcphub_hub::Client;
use mcphub_wire::answer::Cache;
use mcphub_wire::capabilities::TASKS;
use mcphub_wire::discover::Discovery;
use mcphub_wire::header::{self, HeaderError, Headers};
use mcphub_wire::list::ListKind;
use mcphub_wire::mirror::ParamHeaders;
use mcphub_wire::{Envelope, Id, Notification, Raw, Request, Version, error, message, method};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::answer::{Refused, Words, json_body, server_info, unknown_method};
use super::client;
use super::listen::listen;
use super::methods::{asks_a_server, list, may_be_a_servers};
use super::post::{malformed, refuse_method};
use super::streaming::until_disconnect;
use super::visit::Visit;

/// Answers one message of a modern client. All but a call is boxed, so that a call's state is small.
pub(super) async fn answer(
    visit: Visit,
    headers: &Headers<'_>,
    (params, stopping): (ParamHeaders, CancellationToken),
    message: Envelope,
) -> Response {
    match message {
        Envelope::Request(request) => match header::check(headers, &request) {
            Ok(_) => {
                let client = client::of_request(&request, headers, params);
                answer_request(visit, request, client, stopping).await
            }
            Err(problem) => Box::pin(malformed(&visit, refuse(&problem).of(Some(request.id)))).await,
        },
        Envelope::Notification(notification) => Box::pin(accept(visit, headers, &notification)).await,
        Envelope::Response(_) => {
            let text = "a modern client sends no responses";
            let refused = Refused::new(StatusCode::BAD_REQUEST, error::INVALID_REQUEST, text);
            Box::pin(malformed(&visit, refused)).await
        }
    }
}

async fn answer_request(
    visit: Visit,
    request: Request,
    client: Client,
    stopping: CancellationToken,
) -> Response {
    if asks_a_server(&request.method, Words::Modern) || may_be_a_servers(&visit, &request.method) {
        return until_disconnect(visit, request, client).await;
    }
    if let Some(kind) = ListKind::of_method(&request.method) {
        return Box::pin(answer_list(visit, request, kind, client)).await;
    }
    match &*request.method {
        method::DISCOVER => Box::pin(discover(&visit, &request.id)).await,
        method::LISTEN => Box::pin(listen(visit, request, client, stopping)).await,
        other => {
            let refused = unknown_method(other, &request.id, Words::Modern);
            Box::pin(malformed(&visit, refused)).await
        }
    }
}

async fn answer_list(visit: Visit, request: Request, kind: ListKind, client: Client) -> Response {
    match list(&visit, &request, kind, (&client, Words::Modern)).await {
        Ok(result) => json_body(StatusCode::OK, message::result(&request.id, &result)),
        Err(error) => refuse_method(&visit, error, &request.id, Words::Modern).await.into_response(),
    }
}

async fn discover(visit: &Visit, id: &Id) -> Response {
    let discovery = Discovery {
        supported_versions: Version::MODERN.iter().map(|version| version.as_str().into()).collect(),
        capabilities: Raw::json(&json!({
            "tools": { "listChanged": true }, "prompts": { "listChanged": true },
            "resources": { "listChanged": true, "subscribe": true }, "completions": {},
            "extensions": { TASKS: {} },
        }))
        .unwrap_or_else(|_| Raw::empty_object()),
        instructions: None,
        server_info: Raw::json(&server_info()).ok(),
        cache: Cache::NONE,
    };
    visit.hub.record_read(&visit.caller, method::DISCOVER, Some(&visit.path), 1).await;
    json_body(StatusCode::OK, message::result(id, &discovery.to_raw()))
}

async fn accept(visit: Visit, headers: &Headers<'_>, notification: &Notification) -> Response {
    match header::check_notification(headers, notification) {
        Ok(_) => StatusCode::ACCEPTED.into_response(),
        Err(problem) => malformed(&visit, refuse(&problem)).await,
    }
}

fn refuse(problem: &HeaderError) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, problem.code(), &problem.to_string()).with_data(problem.data())
}
