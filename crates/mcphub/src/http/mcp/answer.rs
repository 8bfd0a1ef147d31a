//! How an outcome becomes a message: results in the words of the client's era, refusals with their
//! code and HTTP status.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mcphub_hub::{Answer, HubError, MissingCredential};
use mcphub_wire::answer::Cache;
use mcphub_wire::{Id, Outcome, Raw, answer, error, message, method};
use serde_json::json;

/// Says in whose words to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Words {
    /// Those of 2026-07-28 and later.
    Modern,
    /// Those of the revisions with sessions.
    Legacy,
}

/// Is a JSON-RPC error with the HTTP status that goes with it.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: i64,
    text: String,
    data: Option<Raw>,
    id: Option<Id>,
    retry_after: Option<Duration>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, code: i64, text: &str) -> Self {
        Self { status, code, text: text.to_owned(), data: None, id: None, retry_after: None }
    }

    /// Says which request is refused.
    pub(super) fn of(self, id: Option<Id>) -> Self {
        Self { id, ..self }
    }

    pub(super) fn with_data(self, data: Option<Raw>) -> Self {
        Self { data, ..self }
    }

    /// Answers as HTTP 200: within a legacy session a client takes any other status for the end of
    /// the session.
    pub(super) fn with_ok_status(self) -> Self {
        Self { status: StatusCode::OK, ..self }
    }

    /// Writes the JSON-RPC message alone.
    fn message(&self) -> Bytes {
        message::error(self.id.as_ref(), self.code, &self.text, self.data.as_ref())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Last::from(self).into_response()
    }
}

/// Is the last message of a response, and how it goes out if it comes alone.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    retry_after: Option<Duration>,
}

impl Last {
    /// Answers with a message that is no refusal.
    pub(super) const fn ok(body: Bytes) -> Self {
        Self { status: StatusCode::OK, body, retry_after: None }
    }
}

impl From<Refused> for Last {
    fn from(refused: Refused) -> Self {
        Self { status: refused.status, body: refused.message(), retry_after: refused.retry_after }
    }
}

impl IntoResponse for Last {
    fn into_response(self) -> Response {
        let mut response = json_body(self.status, self.body);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// Says why a use case failed, as the protocol and DESIGN's table of codes have it.
pub(super) fn failed(failure: &HubError, id: Option<&Id>) -> Refused {
    let text = failure.to_string();
    let refused = match failure {
        HubError::Unauthenticated(_) => {
            Refused::new(StatusCode::UNAUTHORIZED, error::CONDITION_NOT_MET, &text)
                .with_data(reason("unauthenticated"))
        }
        HubError::Revoked => {
            Refused::new(StatusCode::FORBIDDEN, error::CONDITION_NOT_MET, &text).with_data(reason("revoked"))
        }
        HubError::Denied(_) | HubError::NotFound { .. } => {
            Refused::new(StatusCode::NOT_FOUND, error::INVALID_REQUEST, "no such endpoint")
        }
        HubError::RateLimited { after } => {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
            let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, error::RATE_LIMITED, &text);
            let data = Raw::json(&json!({ "retryAfterMs": millis })).ok();
            Refused { retry_after: Some(*after), ..refused.with_data(data) }
        }
        HubError::MissingCredential(missing) => {
            Refused::new(StatusCode::OK, error::CREDENTIAL_MISSING, &text).with_data(missing_data(missing))
        }
        HubError::Sealed => unavailable(error::SEALED, &text),
        HubError::Unavailable { .. } => unavailable(error::AUDIT_UNAVAILABLE, &text),
        HubError::Upstream(_) => Refused::new(StatusCode::OK, error::UPSTREAM_UNAVAILABLE, &text),
        HubError::Invalid(_) | HubError::Conflict(_) | HubError::Stale(_) => {
            Refused::new(StatusCode::OK, error::INVALID_PARAMS, &text)
        }
        HubError::Internal(_) => {
            tracing::error!(error = %text, "a request failed inside the hub");
            Refused::new(StatusCode::OK, error::INTERNAL_ERROR, "the hub failed; its log says why")
        }
    };
    refused.of(id.cloned())
}

/// How much of a name that a stranger chose is repeated, in characters.
const LONGEST_NAME: usize = 128;
/// How much of a URI that a stranger chose is repeated, in characters.
const LONGEST_URI: usize = 2_048;

/// Says that a tool can't be called: the same for one that doesn't exist and one that the caller has
/// no right to.
pub(super) fn unknown_tool(name: &str, id: &Id) -> Refused {
    unknown("tool", name, id)
}

/// Says that a prompt can't be had, in the same way.
pub(super) fn unknown_prompt(name: &str, id: &Id) -> Refused {
    unknown("prompt", name, id)
}

/// Says that a resource can't be read, in the same way.
pub(super) fn unknown_resource(uri: &str, id: &Id, words: Words) -> Refused {
    let code = match words {
        Words::Modern => error::INVALID_PARAMS,
        Words::Legacy => error::RESOURCE_NOT_FOUND,
    };
    let uri: String = uri.chars().take(LONGEST_URI).collect();
    let data = Raw::json(&json!({ "uri": uri })).ok();
    Refused::new(StatusCode::OK, code, "Resource not found").with_data(data).of(Some(id.clone()))
}

fn unknown(kind: &str, name: &str, id: &Id) -> Refused {
    let name: String = name.chars().take(LONGEST_NAME).collect();
    let text = format!("Unknown {kind}: {name}");
    Refused::new(StatusCode::OK, error::INVALID_PARAMS, &text).of(Some(id.clone()))
}

/// Says that a tool waits for an approval, because it isn't what was approved any more.
pub(super) fn changed_tool(name: &str, id: &Id) -> Refused {
    let text = format!("The tool {name} has changed since it was approved: an admin has to approve it again");
    Refused::new(StatusCode::OK, error::TOOL_CHANGED, &text).of(Some(id.clone()))
}

/// Tells the person in the chat which credential is missing and where she sets it.
pub(super) fn missing_credential(missing: &MissingCredential, id: &Id, words: Words) -> Bytes {
    let error = json!({ "code": error::CREDENTIAL_MISSING, "data": missing_json(missing) });
    let result = json!({
        "content": [{ "type": "text", "text": missing.to_string() }],
        "isError": true,
        "_meta": { "mcphub/error": error },
    });
    let translated = Raw::json(&result).and_then(|result| match words {
        Words::Modern => to_modern(&result, None),
        Words::Legacy => Ok(result),
    });
    match translated {
        Ok(result) => message::result(id, &result),
        Err(fault) => message::error(Some(id), error::INTERNAL_ERROR, &fault.to_string(), None),
    }
}

/// Writes a server's answer for the client: untouched within one era, translated between two.
pub(super) fn forward(answer: &Answer, (id, method): (&Id, &str), words: Words) -> Bytes {
    let result = match &answer.outcome {
        Outcome::Error(failure) => {
            let code = match (words, failure.code) {
                (Words::Modern, error::RESOURCE_NOT_FOUND) => error::INVALID_PARAMS,
                (_, code) => code,
            };
            return message::error(Some(id), code, &failure.message, failure.data.as_ref());
        }
        Outcome::Result(result) => result,
    };
    let translated = match (words, answer.version.is_modern()) {
        (Words::Modern, true) | (Words::Legacy, false) => Ok(result.clone()),
        (Words::Modern, false) => to_modern(result, method::is_cacheable(method).then_some(Cache::NONE)),
        (Words::Legacy, true) => answer::to_legacy(result),
    };
    match translated {
        Ok(result) => message::result(id, &result),
        Err(fault) => message::error(Some(id), error::UPSTREAM_UNAVAILABLE, &fault.to_string(), None),
    }
}

/// Writes a legacy result for a modern client.
fn to_modern(result: &Raw, cache: Option<Cache>) -> Result<Raw, mcphub_wire::Fault> {
    answer::to_modern(result, cache, &Raw::json(&server_info())?)
}

/// Names the hub where a server names itself.
pub(super) fn server_info() -> serde_json::Value {
    json!({ "name": "mcphub", "title": "MCPHub", "version": env!("CARGO_PKG_VERSION") })
}

/// Answers with one JSON message.
pub(super) fn json_body(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn unavailable(code: i64, text: &str) -> Refused {
    Refused {
        retry_after: Some(Duration::from_secs(1)),
        ..Refused::new(StatusCode::SERVICE_UNAVAILABLE, code, text)
    }
}

fn reason(reason: &str) -> Option<Raw> {
    Raw::json(&json!({ "reason": reason })).ok()
}

fn missing_data(missing: &MissingCredential) -> Option<Raw> {
    Raw::json(&missing_json(missing)).ok()
}

fn missing_json(missing: &MissingCredential) -> serde_json::Value {
    json!({
        "server": missing.server,
        "missing": missing.missing,
        "suspended": missing.suspended,
        "url": missing.url,
    })
}
