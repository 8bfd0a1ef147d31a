//! Clients of the revisions with sessions: one session with the hub at a time, its stream, and a new one where the hub has
//! lost it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use mcphub_hub::RESOURCES;
use mcphub_wire::legacy::{InitializeResult, initialized};
use mcphub_wire::{Envelope, Id, Outcome, Request, Version, header, method};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::answers::Answers;
use super::hub::{Headers, Hub};
use super::problem::Problem;
use super::{Bridge, Last};

/// How long after its end a session's stream is opened anew, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long after a cancellation it is said again, and how often: it may have overtaken its request.
const AGAIN: Duration = Duration::from_secs(1);
const TIMES: usize = 3;

/// Holds the client's session with the hub.
#[derive(Default)]
pub(super) struct Sessions {
    /// Locked while a session is opened.
    current: tokio::sync::Mutex<Option<Arc<Session>>>,
    hears: AtomicBool,
    wishes: Mutex<Wishes>,
}

/// Is an open session.
struct Session {
    id: Option<HeaderValue>,
    version: Version,
    /// What opened it, and opens the next one if the hub loses it.
    opening: (Id, Bytes),
}

/// Holds what the client asked for once and for all, as it asked: a restarted hub has to be asked again.
#[derive(Default)]
struct Wishes {
    level: Option<Bytes>,
    subscribed: BTreeMap<String, Bytes>,
}

impl Sessions {
    async fn current(&self) -> Option<Arc<Session>> {
        self.current.lock().await.clone()
    }

    /// Says whether the client may send arrays of messages.
    pub(super) async fn allow_batch(&self) -> bool {
        self.current().await.is_some_and(|session| session.version.allows_batch())
    }

    /// Ends the session.
    pub(super) async fn end(&self, hub: &Hub) {
        let session = self.current.lock().await.take();
        if let Some(session) = session {
            hub.delete(session.headers()).await;
        }
    }

    /// Remembers what a request asked for once and for all.
    fn remember(&self, request: &Request, body: &Bytes) {
        let uri = || request.params.as_ref().and_then(|params| params.uri().map(str::to_owned));
        let mut wishes = self.wishes.lock();
        match (&*request.method, uri()) {
            (method::SET_LEVEL, _) => wishes.level = Some(body.clone()),
            (method::RESOURCES_SUBSCRIBE, Some(uri)) if wishes.subscribed.len() < RESOURCES => {
                wishes.subscribed.insert(uri, body.clone());
            }
            (method::RESOURCES_UNSUBSCRIBE, Some(uri)) => drop(wishes.subscribed.remove(&uri)),
            _ => {}
        }
    }

    fn wishes(&self) -> Vec<Bytes> {
        let wishes = self.wishes.lock();
        wishes.level.iter().chain(wishes.subscribed.values()).cloned().collect()
    }
}

impl Session {
    fn headers(&self) -> Headers {
        let mut headers = Headers::with_capacity(4);
        if self.version >= Version::V2025_06_18 {
            let version = HeaderValue::from_static(self.version.as_str());
            headers.push((HeaderName::from_static(header::PROTOCOL_VERSION), version));
        }
        if let Some(id) = &self.id {
            headers.push((HeaderName::from_static(header::SESSION_ID), id.clone()));
        }
        headers
    }
}

/// Opens a session for the client, in the place of an earlier one.
pub(super) async fn open(bridge: &Arc<Bridge>, id: &Id, body: &Bytes) -> Result<Last, Problem> {
    let mut current = bridge.sessions.current.lock().await;
    let (session, last) = initialize(bridge, id, body).await?;
    if let Some(session) = session {
        *bridge.sessions.wishes.lock() = Wishes::default();
        if let Some(before) = current.replace(session) {
            let bridge_again = Arc::clone(bridge);
            bridge.spawn(async move { bridge_again.hub.delete(before.headers()).await });
        }
    }
    Ok(last)
}

async fn initialize(bridge: &Bridge, id: &Id, body: &Bytes) -> Result<(Option<Arc<Session>>, Last), Problem> {
    let response = bridge.hub.post(Headers::new(), body.clone()).await?;
    let session_id = response.headers().get(header::SESSION_ID).cloned();
    let last = bridge.pass_on(Answers::of(response)?, id).await?;
    let opened = match &last.1.outcome {
        Outcome::Result(result) => InitializeResult::read(result).ok(),
        Outcome::Error(_) => None,
    };
    let opening = (id.clone(), body.clone());
    let session = opened.map(|opened| Arc::new(Session { id: session_id, version: opened.version, opening }));
    Ok((session, last))
}

/// Opens another session in the place of one that the hub has lost, unless that has happened.
async fn reopen(bridge: &Bridge, lost: &Arc<Session>) -> Result<Arc<Session>, Problem> {
    let mut current = bridge.sessions.current.lock().await;
    if let Some(known) = current.as_ref().filter(|known| !Arc::ptr_eq(known, lost)) {
        return Ok(Arc::clone(known));
    }
    let (id, body) = &lost.opening;
    let (session, _) = initialize(bridge, id, body).await?;
    let session = session.ok_or_else(|| Problem::Garbage("it opens no session any more".to_owned()))?;
    bridge.hub.post(session.headers(), initialized()).await?;
    *current = Some(Arc::clone(&session));
    tracing::warn!("the hub had lost the session: there is a new one");
    Ok(session)
}

/// Gets a request its answer. One that the hub refused because it has lost the session was not run, so it is sent once more.
pub(super) async fn answer(bridge: &Bridge, request: &Request, body: &Bytes) -> Result<Last, Problem> {
    let session = bridge.sessions.current().await;
    let last = match (attempt(bridge, session.as_deref(), request, body).await, session) {
        (Err(problem), Some(lost)) if problem.status() == Some(StatusCode::NOT_FOUND) => {
            let session = reopen(bridge, &lost).await?;
            attempt(bridge, Some(&session), request, body).await?
        }
        (attempted, _) => attempted?,
    };
    if matches!(last.1.outcome, Outcome::Result(_)) {
        bridge.sessions.remember(request, body);
    }
    Ok(last)
}

async fn attempt(
    bridge: &Bridge,
    session: Option<&Session>,
    request: &Request,
    body: &Bytes,
) -> Result<Last, Problem> {
    let headers = session.map(Session::headers).unwrap_or_default();
    let response = bridge.hub.post(headers, body.clone()).await?;
    bridge.pass_on(Answers::of(response)?, &request.id).await
}

/// Cancels a request: here a closed stream alone says nothing.
pub(super) async fn cancel<F: Future>(bridge: &Arc<Bridge>, notice: Bytes, request: Pin<&mut F>) {
    say_again(|| tell(bridge, notice.clone()), request).await;
}

/// Says that a request is cancelled until it ends, but not without end.
async fn say_again<S: Future, F: Future>(say: impl Fn() -> S, mut request: Pin<&mut F>) {
    for _ in 0..TIMES {
        // The request goes on meanwhile: the notice may wait for what it holds.
        let told = async {
            say().await;
            sleep(AGAIN).await;
        };
        tokio::select! {
            _ = &mut request => return,
            () = told => {}
        }
    }
}

/// Lets the hub know of something that has no answer. The first that a client tells is that the session is open, and then
/// its stream is opened.
pub(super) async fn tell(bridge: &Arc<Bridge>, body: Bytes) {
    let Some(session) = bridge.sessions.current().await else {
        return tracing::debug!("a message of the client belongs to no session");
    };
    if let Err(problem) = bridge.hub.post(session.headers(), body).await {
        tracing::warn!(?problem, "a notification or answer of the client is lost");
    }
    if !bridge.sessions.hears.swap(true, Ordering::AcqRel) {
        bridge.spawn(hear(Arc::clone(bridge)));
    }
}

/// Hears what the hub tells by itself, and opens the stream anew whenever it ends.
async fn hear(bridge: Arc<Bridge>) {
    let (mut pause, mut opened) = (PAUSE, false);
    loop {
        let Some(session) = bridge.sessions.current().await else { return };
        match bridge.hub.get(session.headers()).await.and_then(Answers::of) {
            Ok(answers) => {
                pause = PAUSE;
                if std::mem::replace(&mut opened, true) {
                    let bridge_again = Arc::clone(&bridge);
                    bridge.spawn(async move { wish_again(&bridge_again, &session).await });
                }
                hear_out(&bridge, answers).await;
            }
            Err(problem) if problem.status() == Some(StatusCode::METHOD_NOT_ALLOWED) => return,
            Err(problem) if problem.status() == Some(StatusCode::NOT_FOUND) => {
                if let Err(problem) = reopen(&bridge, &session).await {
                    tracing::debug!(?problem, "the session can't be opened anew");
                }
            }
            Err(problem) => tracing::debug!(?problem, "the session's stream can't be opened"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn hear_out(bridge: &Bridge, mut answers: Answers) {
    loop {
        match answers.next().await {
            Ok(Some((_, Envelope::Response(_)))) => tracing::debug!("the session's stream holds an answer"),
            Ok(Some((bytes, _))) => bridge.out.send(bytes).await,
            Ok(None) => return,
            Err(problem) => return tracing::debug!(?problem, "the session's stream broke off"),
        }
    }
}

/// Asks a hub that may have been restarted once more for what the client wants to hear.
async fn wish_again(bridge: &Bridge, session: &Session) {
    for wish in bridge.sessions.wishes() {
        if let Err(problem) = bridge.hub.post(session.headers(), wish).await {
            tracing::warn!(?problem, "the hub may tell the client less than it asked for");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use tokio::time::Instant;

    use super::{AGAIN, Duration, Future, Ordering, TIMES, say_again, sleep};

    /// Cancels a request, and returns how often that was said, and how long it took.
    async fn cancelled(request: impl Future) -> (usize, Duration) {
        let (begun, said) = (Instant::now(), AtomicUsize::new(0));
        let say = || {
            said.fetch_add(1, Ordering::Relaxed);
            ready(())
        };
        say_again(say, pin!(request)).await;
        (said.into_inner(), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_is_said_so_often_and_then_its_request_is_given_up() {
        let all = AGAIN * TIMES as u32;
        assert_eq!(cancelled(pending::<()>()).await, (TIMES, all));
        let last = all - AGAIN / 2;
        assert_eq!(cancelled(sleep(last)).await, (TIMES, last), "it ends in time");
        assert_eq!(cancelled(sleep(AGAIN / 2)).await, (1, AGAIN / 2), "nobody has to be told again");
    }
}
