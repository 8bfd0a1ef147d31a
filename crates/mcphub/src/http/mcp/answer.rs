//! How an outcome becomes a message: results in the words of the client's era, refusals with their
//! code and HTTP status.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mcphub_hub::{Answer, HubError, MissingCredential};
use mcphub_wire::answer::{Cache, CacheScope, ResultType};
use mcphub_wire::{
    Edit, Fault, Id, Object, Outcome, Params, Raw, Request, RpcError, answer, error, message, method,
};
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
        HubError::HeaderMismatch(problem) => Refused::new(StatusCode::BAD_REQUEST, problem.code(), &text),
        HubError::Upstream(_)
        | HubError::Account { .. }
        | HubError::Renewed { .. }
        | HubError::NotRenewed { .. } => Refused::new(StatusCode::OK, error::UPSTREAM_UNAVAILABLE, &text),
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

/// Says that there is no such method, or that the caller has no right to it.
pub(super) fn unknown_method(method: &str, id: &Id, words: Words) -> Refused {
    let status = match words {
        Words::Modern => StatusCode::NOT_FOUND,
        Words::Legacy => StatusCode::OK,
    };
    let text = format!("Method not found: {}", short(method));
    Refused::new(status, error::METHOD_NOT_FOUND, &text).of(Some(id.clone()))
}

/// Cuts a method's name that a stranger chose.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Says that there is no such task, or none of the caller's.
pub(super) fn unknown_task(id: &Id) -> Refused {
    Refused::new(StatusCode::OK, error::INVALID_PARAMS, "Task not found").of(Some(id.clone()))
}

/// Says that a client has to declare an extension first.
pub(super) fn incapable(extension: &str) -> Refused {
    let text = format!("this needs a client that declares the extension {extension}");
    let data = Raw::json(&json!({ "requiredCapabilities": { "extensions": { extension: {} } } })).ok();
    Refused::new(StatusCode::BAD_REQUEST, error::MISSING_CLIENT_CAPABILITY, &text).with_data(data)
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
    write_result(&result, id, words)
}

/// Says that a tool failed, in the words of the client's era.
pub(super) fn tool_error(asked: &Asked, text: &str) -> Bytes {
    write_result(
        &json!({ "content": [{ "type": "text", "text": text }], "isError": true }),
        &asked.id,
        asked.words,
    )
}

/// Writes a result of the hub's own.
fn write_result(result: &serde_json::Value, id: &Id, words: Words) -> Bytes {
    let translated = Raw::json(result).and_then(|result| match words {
        Words::Modern => to_modern(&result, None),
        Words::Legacy => Ok(result),
    });
    match translated {
        Ok(result) => message::result(id, &result),
        Err(fault) => message::error(Some(id), error::INTERNAL_ERROR, &fault.to_string(), None),
    }
}

/// Is what of a request decides how its answer is written.
pub(super) struct Asked {
    pub(super) id: Id,
    pub(super) method: Box<str>,
    /// The tool, prompt or resource, as the client named it.
    pub(super) target: Option<Box<str>>,
    pub(super) arguments: Option<Raw>,
    pub(super) words: Words,
}

impl Asked {
    pub(super) fn of(request: &Request, words: Words) -> Self {
        let (id, method) = (request.id.clone(), request.method.clone());
        let params = request.params.as_ref();
        let named = method::named_param(&method);
        let target = params.zip(named).and_then(|(params, key)| params.text(key)).map(Into::into);
        let arguments = params.and_then(Params::arguments).cloned();
        Self { id, method, target, arguments, words }
    }
}

/// Writes a server's answer for the client: translated between two eras, untouched within one. But whoever may keep
/// a result, the hub gave it to this caller alone.
pub(super) fn forward(answer: &Answer, asked: &Asked) -> Last {
    let id = &asked.id;
    let result = match &answer.outcome {
        Outcome::Error(failure) => return forward_error(failure, asked),
        Outcome::Result(result) => result,
    };
    let is_cacheable = method::is_cacheable(&asked.method) && answer.expects == ResultType::Complete;
    let translated = match (asked.words, answer.version.is_modern()) {
        (Words::Modern, true) if is_cacheable => make_private(result),
        (Words::Modern, true) | (Words::Legacy, false) => Ok(result.clone()),
        (Words::Modern, false) => to_modern(result, is_cacheable.then_some(Cache::NONE)),
        (Words::Legacy, true) => answer::to_legacy(result),
    };
    Last::ok(match translated {
        Ok(result) => message::result(id, &result),
        Err(fault) => message::error(Some(id), error::UPSTREAM_UNAVAILABLE, &fault.to_string(), None),
    })
}

/// Writes a server's error; that a resource doesn't exist has a code of its own in legacy words only.
fn forward_error(failure: &RpcError, asked: &Asked) -> Last {
    let (id, text) = (Some(&asked.id), &failure.message);
    match (asked.words, failure.code) {
        (Words::Modern, error::RESOURCE_NOT_FOUND) => {
            let data = asked.target.as_ref().and_then(|uri| Raw::json(&json!({ "uri": uri })).ok());
            let data = data.as_ref().or(failure.data.as_ref());
            Last::ok(message::error(id, error::INVALID_PARAMS, text, data))
        }
        (words, code) => {
            let body = message::error(id, code, text, failure.data.as_ref());
            let is_refusal = matches!(code, error::HEADER_MISMATCH | error::MISSING_CLIENT_CAPABILITY);
            match words {
                Words::Modern if is_refusal => Last { status: StatusCode::BAD_REQUEST, ..Last::ok(body) },
                Words::Modern if code == error::METHOD_NOT_FOUND && !method::is_known(&asked.method) => {
                    Last { status: StatusCode::NOT_FOUND, ..Last::ok(body) }
                }
                Words::Modern | Words::Legacy => Last::ok(body),
            }
        }
    }
}

/// Lets a result be kept for this caller alone, as long as the server says.
fn make_private(result: &Raw) -> Result<Raw, Fault> {
    let Cache { ttl_ms, .. } = Cache::read(&Object::parse(result)?);
    Cache { ttl_ms, scope: CacheScope::Private }.write(Edit::new()).apply(result)
}

/// Writes a legacy result for a modern client.
fn to_modern(result: &Raw, cache: Option<Cache>) -> Result<Raw, Fault> {
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

#[cfg(test)]
mod tests {
    use mcphub_hub::Answer;
    use mcphub_wire::{Id, Outcome, Raw, RpcError, Version};
    use serde_json::{Value, json};

    use super::{Asked, ResultType, Words, forward};

    fn written(outcome: Outcome, version: Version, words: Words) -> Value {
        let (method, target) = ("resources/read".into(), Some("s+a:b".into()));
        let asked = Asked { id: Id::Integer(1), method, target, arguments: None, words };
        let answer = Answer { outcome, version, expects: ResultType::Complete };
        serde_json::from_slice(&forward(&answer, &asked).body).unwrap()
    }

    fn read(result: &Value, version: Version, words: Words) -> Value {
        written(Outcome::Result(Raw::json(result).unwrap()), version, words)["result"].clone()
    }

    #[test]
    fn nobody_else_may_keep_what_a_caller_read() {
        let (modern, legacy) = (Version::V2026_07_28, Version::V2025_11_25);
        for (said, ttl) in [
            (json!({ "resultType": "complete", "ttlMs": 9, "cacheScope": "public" }), 9),
            (json!({ "resultType": "complete", "ttlMs": 9, "cacheScope": "private" }), 9),
            (json!({ "resultType": "complete" }), 0),
        ] {
            let result = read(&said, modern, Words::Modern);
            assert_eq!((&result["cacheScope"], &result["ttlMs"]), (&json!("private"), &json!(ttl)), "{said}");
        }
        let result = read(&json!({ "contents": [] }), legacy, Words::Modern);
        assert_eq!((&result["cacheScope"], &result["ttlMs"]), (&json!("private"), &json!(0)));
        assert_eq!(read(&json!({ "contents": [] }), legacy, Words::Legacy), json!({ "contents": [] }));
    }

    #[test]
    fn that_a_resource_is_not_there_is_said_in_the_words_of_the_client() {
        let missing = || Outcome::Error(RpcError { code: -32002, message: "no".into(), data: None });
        let modern = written(missing(), Version::V2025_11_25, Words::Modern)["error"].clone();
        assert_eq!((&modern["code"], &modern["data"]), (&json!(-32602), &json!({ "uri": "s+a:b" })));
        let legacy = written(missing(), Version::V2025_11_25, Words::Legacy)["error"].clone();
        assert_eq!((&legacy["code"], &legacy["data"]), (&json!(-32002), &Value::Null));
    }
}
