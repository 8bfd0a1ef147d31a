//! Clients of the revisions with sessions: `initialize`, then requests that name the session.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mcphub_hub::{Client, HubError, NewSession, Session};
use mcphub_wire::header::{Headers, SESSION_ID};
use mcphub_wire::legacy::{InitializeParams, InitializeResult};
use mcphub_wire::list::ListKind;
use mcphub_wire::{
    Edit, Envelope, Fault, Id, LogLevel, Notification, Params, Raw, Request, Trace, Version, error, message,
    method, progress,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::answer::{Last, Refused, Words, failed, json_body, server_info, unknown_method};
use super::client;
use super::live::Live;
use super::methods::{asks_a_server, list, may_be_a_servers};
use super::post::{malformed, note_malformed, refuse_method, unreadable};
use super::streaming::{Messages, until_cancelled};
use super::subscribe::subscribe;
use super::visit::Visit;
use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;

/// How large the answers of a batch may get before the rest of it is not run.
const BATCH_ANSWERS: usize = 16 << 20;

/// Is what is open at the moment, and what ends it all.
pub(super) type Ongoing = (Live, CancellationToken);

/// Is the answers of a batch, which are held until the last is there.
#[derive(Default)]
struct Answers {
    all: Vec<Bytes>,
    bytes: usize,
}

impl Answers {
    fn add(&mut self, answer: Bytes) {
        self.bytes += answer.len();
        self.all.push(answer);
    }

    /// Says whether the rest of the batch is not to be run.
    const fn are_too_large(&self) -> bool {
        self.bytes > BATCH_ANSWERS
    }
}

/// Opens a session, and names it in a header.
pub(super) async fn initialize(visit: Visit, (live, _): Ongoing, message: Envelope) -> Response {
    let Envelope::Request(request) = message else {
        return StatusCode::ACCEPTED.into_response();
    };
    let id = request.id.clone();
    let (session, answer) = match open_session(&visit, &live, request).await {
        Ok(opened) => opened,
        Err(last) => return last.into_response(),
    };
    match HeaderValue::from_str(&session) {
        Ok(session) => {
            let mut response = json_body(StatusCode::OK, answer);
            response.headers_mut().insert(SESSION_ID, session);
            response
        }
        Err(_) => failed(&unnameable(), Some(&id)).into_response(),
    }
}

fn unnameable() -> HubError {
    HubError::Internal("the session can't be named".to_owned())
}

/// Opens a session; gives its id, and the answer to `initialize`, or says why not.
pub(super) async fn open_session(
    visit: &Visit,
    live: &Live,
    request: Request,
) -> Result<(String, Bytes), Last> {
    let params = match InitializeParams::read(request.params.as_ref()) {
        Ok(params) => params,
        Err(fault) => {
            let refused = Refused::new(StatusCode::BAD_REQUEST, error::INVALID_PARAMS, &fault.to_string());
            return Err(note_malformed(visit, refused.of(Some(request.id))).await);
        }
    };
    let new = NewSession {
        endpoint: visit.path.clone(),
        version: params.negotiated().as_str().to_owned(),
        capabilities: String::from_utf8_lossy(params.capabilities.as_bytes()).into_owned(),
    };
    let session = match visit.hub.open_session(&visit.caller, new).await {
        Ok(session) => session,
        Err(error) => return Err(failed(&error, Some(&request.id)).into()),
    };
    session.ended.iter().for_each(|ended| live.end(ended));
    match welcome(params.negotiated()) {
        Ok(result) => Ok((session.id, message::result(&request.id, &result))),
        Err(_) => Err(failed(&unnameable(), Some(&request.id)).into()),
    }
}

fn welcome(version: Version) -> Result<Raw, Fault> {
    let mut capabilities = json!({
        "tools": { "listChanged": true }, "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": true },
        "completions": {}, "logging": {},
    });
    if version == Version::V2025_11_25
        && let Some(capabilities) = capabilities.as_object_mut()
    {
        let tasks = json!({ "cancel": {}, "requests": { "tools": { "call": {} } } });
        capabilities.insert("tasks".to_owned(), tasks);
    }
    Ok(InitializeResult {
        version,
        capabilities: Raw::json(&capabilities)?,
        server_info: Raw::json(&server_info())?,
        instructions: None,
    }
    .to_raw())
}

/// Answers one message of a session.
pub(super) async fn answer(
    visit: Visit,
    ongoing: Ongoing,
    headers: &Headers<'_>,
    message: Envelope,
) -> Response {
    let session = match find_session(&visit, headers).await {
        Ok(session) => session,
        Err(refused) => return malformed(&visit, refused.of(id_of(&message))).await,
    };
    match message {
        Envelope::Request(request) => {
            let trace = Trace::of(request.params.as_ref(), headers);
            let client = client::of_session(&session, trace);
            match answer_request(&visit, &ongoing, &session, request, client).await {
                Answering::Over(last) => last.into_response(),
                Answering::Going(messages) => messages.respond(&visit, (&ongoing.0.threads, &session)).await,
            }
        }
        Envelope::Notification(notification) => {
            take_note(&visit, &ongoing.0, &session, &notification);
            StatusCode::ACCEPTED.into_response()
        }
        Envelope::Response(response) => {
            ongoing.0.answer(&session.id_hash, response);
            StatusCode::ACCEPTED.into_response()
        }
    }
}

/// Answers an array of messages, which only sessions of 2025-03-26 may send.
pub(super) async fn batch(visit: Visit, ongoing: Ongoing, headers: &Headers<'_>, body: &Bytes) -> Response {
    let session = match find_session(&visit, headers).await {
        Ok(session) => session,
        Err(refused) => return malformed(&visit, refused).await,
    };
    let messages = match Version::parse(&session.version).filter(|version| version.allows_batch()) {
        Some(_) => Envelope::parse_batch(body),
        None => Err(Fault::Batch.into()),
    };
    let messages = match messages {
        Ok(messages) => messages,
        Err(error) => return malformed(&visit, unreadable(error)).await,
    };
    let mut answers = Answers::default();
    for message in messages {
        let answer = match message {
            Envelope::Request(request) if answers.are_too_large() => Some(left_out(&visit, request.id).await),
            Envelope::Request(request) => answer_one(&visit, &ongoing, &session, request).await,
            Envelope::Notification(notification) => {
                take_note(&visit, &ongoing.0, &session, &notification);
                None
            }
            Envelope::Response(response) => {
                ongoing.0.answer(&session.id_hash, response);
                None
            }
        };
        if let Some(answer) = answer {
            answers.add(answer);
        }
    }
    if answers.all.is_empty() {
        return StatusCode::ACCEPTED.into_response();
    }
    json_body(StatusCode::OK, [&b"["[..], &answers.all.join(&b","[..]), b"]"].concat().into())
}

/// Refuses a request of a batch whose answers are too many to be held until the last is there.
async fn left_out(visit: &Visit, id: Id) -> Bytes {
    let text =
        format!("not run: the answers of this batch are larger than {BATCH_ANSWERS} bytes, so send fewer");
    let refused = Refused::new(StatusCode::OK, error::INVALID_REQUEST, &text);
    note_malformed(visit, refused.of(Some(id))).await.body
}

/// Answers one request of a batch, which counts like one that comes alone. Notifications about it
/// have no place there.
async fn answer_one(visit: &Visit, ongoing: &Ongoing, session: &Session, request: Request) -> Option<Bytes> {
    if let Err(error) = visit.hub.take_in_message(&visit.caller).await {
        return Some(Last::from(failed(&error, Some(&request.id))).body);
    }
    // Nobody can be asked anything in an answer that comes whole.
    let client = client::unable(client::of_session(session, in_itself(&request)));
    match answer_request(visit, ongoing, session, request, client).await {
        Answering::Over(last) => Some(last.body),
        Answering::Going(messages) => messages.last().await.map(|last| last.body),
    }
}

/// Reads the trace that a request says itself that it belongs to.
pub(super) fn in_itself(request: &Request) -> Option<Trace> {
    Trace::of(request.params.as_ref(), &Headers::default())
}

/// Is a request that is answered, or being answered.
pub(super) enum Answering {
    Over(Last),
    Going(Messages),
}

/// Answers a request of a session, however it came.
pub(super) async fn answer_request(
    visit: &Visit,
    (live, stopping): &Ongoing,
    session: &Session,
    request: Request,
    client: Client,
) -> Answering {
    let version = Version::parse(&session.version);
    let request = within_version(request, version);
    if let Some(kind) = ListKind::of_method(&request.method) {
        return Answering::Over(match list(visit, &request, kind, (&client, Words::Legacy)).await {
            Ok(result) => Last::ok(message::result(&request.id, &result)),
            Err(error) => refuse_method(visit, error, &request.id, Words::Legacy).await,
        });
    }
    let last = match &*request.method {
        method::PING => {
            visit.hub.record_read(&visit.caller, method::PING, None, 0).await;
            Last::ok(message::result(&request.id, &Raw::empty_object()))
        }
        method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => {
            subscribe(visit, (live, stopping), session, &request, &client).await
        }
        method::SET_LEVEL => set_level(visit, session, &request).await,
        method if version < Some(Version::V2025_11_25) && method::is_about_legacy_task(method) => {
            note_malformed(visit, unknown_method(method, &request.id, Words::Legacy)).await
        }
        method if asks_a_server(method, Words::Legacy) || may_be_a_servers(visit, method) => {
            match live.call(session.id_hash, &request.id) {
                Some(entry) => {
                    return Answering::Going(until_cancelled(visit, request, client, entry));
                }
                None => {
                    let text = "a request with this id is still running";
                    let refused = Refused::new(StatusCode::OK, error::INVALID_REQUEST, text);
                    note_malformed(visit, refused.of(Some(request.id))).await
                }
            }
        }
        other => note_malformed(visit, unknown_method(other, &request.id, Words::Legacy)).await,
    };
    Answering::Over(last)
}

/// Takes from a request what its session's revision doesn't know: tasks came with 2025-11-25.
fn within_version(mut request: Request, version: Option<Version>) -> Request {
    if version < Some(Version::V2025_11_25) && &*request.method == method::TOOLS_CALL {
        let without = |params: Params| params.edited(&Edit::new().remove("task")).unwrap_or(params);
        request.params = request.params.map(without);
    }
    request
}

/// Notes which log messages the client wants to hear.
async fn set_level(visit: &Visit, session: &Session, request: &Request) -> Last {
    let level = request.params.as_ref().and_then(|params| params.text("level"));
    let Some(level) = level.and_then(|level| LogLevel::parse(&level)) else {
        let text =
            "params.level must be one of debug, info, notice, warning, error, critical, alert, emergency";
        let refused = Refused::new(StatusCode::OK, error::INVALID_PARAMS, text);
        return note_malformed(visit, refused.of(Some(request.id.clone()))).await;
    };
    match visit.hub.set_log_level(&visit.caller, session, level.as_str()).await {
        Ok(()) => Last::ok(message::result(&request.id, &Raw::empty_object())),
        Err(error) => failed(&error, Some(&request.id)).with_ok_status().into(),
    }
}

/// Takes a notification of a session.
pub(super) fn take_note(visit: &Visit, live: &Live, session: &Session, notification: &Notification) {
    match &*notification.method {
        method::CANCELLED => {
            if let Some(id) = progress::cancelled_id(notification) {
                live.cancel(&session.id_hash, &id);
            }
        }
        method::ROOTS_CHANGED => visit.hub.roots_changed(&visit.caller, session),
        _ => {}
    }
}

/// Ends a session.
pub(super) async fn delete(
    State(state): State<AppState>,
    name: Option<Path<String>>,
    caller: Result<Authenticated, ApiError>,
    headers: HeaderMap,
) -> Response {
    let visit = match Visit::arrive(&state, caller, name).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    let fields: Headers<'_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let session = match find_session(&visit, &fields).await {
        Ok(session) => session,
        Err(refused) => return malformed(&visit, refused).await,
    };
    state.live.end(&session.id_hash);
    match visit.hub.close_session(&visit.caller, &session).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error, None).into_response(),
    }
}

/// Finds the session that the headers name. One that ended, is somebody else's or belongs to another
/// endpoint is as unknown as one that never was.
pub(super) async fn find_session(visit: &Visit, headers: &Headers<'_>) -> Result<Session, Refused> {
    let bad = |text: &str| Refused::new(StatusCode::BAD_REQUEST, error::INVALID_REQUEST, text);
    let id = headers.session_id().map_err(|problem| bad(&problem.to_string()))?;
    let id = id.ok_or_else(|| bad("the header Mcp-Session-Id is missing: send `initialize` first"))?;
    headers.session_version().map_err(|problem| bad(&problem.to_string()))?;
    match visit.hub.find_session(&visit.caller, &visit.path, id).await {
        Ok(session) => Ok(session),
        Err(HubError::NotFound { .. }) => {
            let text = "no such session: send `initialize` again";
            Err(Refused::new(StatusCode::NOT_FOUND, error::INVALID_REQUEST, text))
        }
        Err(error) => Err(failed(&error, None)),
    }
}

pub(super) fn id_of(message: &Envelope) -> Option<Id> {
    match message {
        Envelope::Request(request) => Some(request.id.clone()),
        Envelope::Notification(_) | Envelope::Response(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Answers, BATCH_ANSWERS};

    #[test]
    fn a_batch_is_run_on_until_its_answers_are_larger_than_the_limit() {
        let mut answers = Answers::default();
        answers.add(vec![b'x'; BATCH_ANSWERS - 1].into());
        answers.add("y".into());
        assert!(!answers.are_too_large());
        answers.add("z".into());
        assert!(answers.are_too_large());
    }
}
