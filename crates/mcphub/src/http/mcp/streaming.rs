//! How a call's messages become a response: one JSON body if the answer comes first, else a stream
//! of server-sent events, each forwarded as it comes.
//!
//! A stream has a task of its own, so that the call ends with the caller's right, or when the client
//! takes nothing any more, even though nobody reads the response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use mcphub_hub::{Client, Hub, Session};
use mcphub_wire::Request;
use mcphub_wire::sse::{Event, KEEP_ALIVE, encode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::Last;
use super::live::Entry;
use super::resume::Threads;
use super::talk::{Opened, Side, open};
use super::visit::Visit;

pub(super) use super::talk::Message;
use crate::http::peer::HangUp;

/// How long a stream may be silent before a comment says that it lives.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what waits for her.
const STALLED: Duration = Duration::from_secs(60);
/// How many messages wait for a client that reads slowly; then the call waits.
pub(crate) const WAITING: usize = 64;
/// How many bytes of them wait; a longer one waits alone.
pub(crate) const WAITING_BYTES: usize = 1 << 20;

/// Is a message that waits for the client, with its share of the room for those.
struct Waiting {
    message: Message,
    _room: Option<OwnedSemaphorePermit>,
}

type Opening = Pin<Box<dyn Future<Output = Opened> + Send>>;

/// Says what ends a call before its answer.
enum Until {
    /// The client goes away.
    Disconnect,
    /// The client says so, or ends her session; going away means nothing.
    Cancelled(Arc<Entry>),
}

/// Says what became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Given {
    /// It is on its way, or the client is gone.
    Taken,
    /// The caller has no right to it any more.
    Revoked,
    /// The client takes nothing.
    Stalled,
}

/// Is the end of a stream where messages go in.
pub(super) struct Outlet {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    cut: CancellationToken,
    hang_up: Option<HangUp>,
}

/// Is the end of a stream where messages come out.
pub(super) struct Messages {
    receiver: mpsc::Receiver<Waiting>,
    /// Cancelled when nothing that waits may go out any more.
    cut: CancellationToken,
}

/// Answers a modern client: a client that goes away cancels its call.
pub(super) async fn until_disconnect(visit: Visit, request: Request, client: Client) -> Response {
    let (hub, hang_up) = (Arc::clone(&visit.hub), visit.hang_up.clone());
    let mut opening: Opening = Box::pin(open(visit, request, client, Side::Modern));
    let opening = match timeout(SILENCE, &mut opening).await {
        Ok(Opened::Over(last)) => return last.into_response(),
        Ok(talking) => Box::pin(std::future::ready(talking)),
        Err(_) => opening,
    };
    events(pump(&hub, hang_up, opening, Until::Disconnect))
}

/// Starts a call of a legacy client: it goes on without her, until it is cancelled or her session ends.
pub(super) fn until_cancelled(visit: &Visit, request: Request, client: Client, entry: Entry) -> Messages {
    let entry = Arc::new(entry);
    let side = Side::legacy(Arc::clone(&entry), request.params.clone());
    let opening = Box::pin(open(visit.clone(), request, client, side));
    pump(&visit.hub, visit.hang_up.clone(), opening, Until::Cancelled(entry))
}

/// Gives a call a task of its own.
fn pump(hub: &Hub, hang_up: Option<HangUp>, opening: Opening, until: Until) -> Messages {
    let (outlet, messages) = channel(hang_up);
    hub.spawn(async move {
        let ended = async {
            match &until {
                Until::Disconnect => outlet.closed().await,
                Until::Cancelled(entry) => entry.cancelled().await,
            }
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = run(opening, &outlet, &until) => {}
        }
    });
    messages
}

/// Makes both ends of a stream.
pub(super) fn channel(hang_up: Option<HangUp>) -> (Outlet, Messages) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let cut = CancellationToken::new();
    let room = Arc::new(Semaphore::new(WAITING_BYTES));
    (Outlet { sender, room, cut: cut.clone(), hang_up }, Messages { receiver, cut })
}

async fn run(opening: Opening, outlet: &Outlet, until: &Until) {
    let (first, mut talk) = match opening.await {
        Opened::Over(last) => return outlet.close(last).await,
        Opened::Talking(first, talk) => (first, talk),
    };
    let mut message = Message::Event(first);
    loop {
        let is_last = matches!(message, Message::Last(_));
        let given = outlet.give(message, talk.revoked()).await;
        // Over HTTP/2 nothing else ends the call of a modern client: her connection stays, for other requests share it.
        if is_last || given == Given::Stalled && matches!(until, Until::Disconnect) {
            return;
        }
        message = talk.next().await;
    }
}

impl Outlet {
    /// Hands a message on. While the client takes nothing, the call waits; but not longer than she
    /// has the right to it, nor than `STALLED`.
    async fn give(&self, message: Message, revoked: impl Future<Output = ()>) -> Given {
        let given = tokio::select! {
            biased;
            () = self.send(message) => Given::Taken,
            () = revoked => Given::Revoked,
            () = sleep(STALLED) => Given::Stalled,
        };
        if given != Given::Taken {
            self.hang_up();
        }
        given
    }

    /// Hands a message on that no right is asked for but the stream's own, which that looks after.
    pub(super) async fn tell(&self, message: Message) {
        self.give(message, std::future::pending()).await;
    }

    /// Waits until nobody takes messages any more.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Waits until there is room for a message, and sends it; to nobody, if the client is gone.
    async fn send(&self, message: Message) {
        let share = match &message {
            Message::Event(bytes) => bytes.len().min(WAITING_BYTES),
            Message::Last(_) => 0,
        };
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(share).await.ok();
        if self.sender.send(Waiting { message, _room: room }).await.is_err() {
            tracing::debug!("a client went away before her answer");
        }
    }

    async fn close(&self, last: Last) {
        self.send(Message::Last(last)).await;
    }

    /// Lets nothing more out, and closes the connection of a client that doesn't read: nothing else
    /// would tell her, and the system would hold what she was sent for as long as she likes.
    pub(super) fn hang_up(&self) {
        self.cut.cancel();
        if let Some(hang_up) = &self.hang_up {
            hang_up.now();
        }
    }
}

impl Messages {
    /// Waits for the answer alone; nothing if the call was cancelled.
    pub(super) async fn last(mut self) -> Option<Last> {
        loop {
            match self.receive().await? {
                Message::Event(_) => {}
                Message::Last(last) => return Some(last),
            }
        }
    }

    /// Answers with one JSON body if the answer comes first and soon, else with a stream that can be resumed.
    pub(super) async fn respond(
        mut self,
        visit: &Visit,
        (threads, session): (&Threads, &Session),
    ) -> Response {
        match timeout(SILENCE, self.receive()).await {
            Ok(Some(Message::Last(last))) => last.into_response(),
            Ok(Some(Message::Event(first))) => threads.begin(&visit.hub, session, (self, Some(first))),
            Ok(None) => StatusCode::ACCEPTED.into_response(),
            Err(_) => threads.begin(&visit.hub, session, (self, None)),
        }
    }

    /// Waits for the next message; an error means that nothing more may go out.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, io::Error> {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            waiting = self.receiver.recv() => Ok(waiting.map(|waiting| waiting.message)),
        }
    }

    async fn receive(&mut self) -> Option<Message> {
        self.receiver.recv().await.map(|waiting| waiting.message)
    }
}

fn events(messages: Messages) -> Response {
    event_stream(stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        match timeout(SILENCE, messages.next()).await {
            Err(_) => Some((Ok(KEEP_ALIVE), Some(messages))),
            Ok(Err(error)) => Some((Err(error), None)),
            Ok(Ok(None)) => None,
            Ok(Ok(Some(Message::Event(bytes)))) => Some((Ok(event(bytes)), Some(messages))),
            Ok(Ok(Some(Message::Last(last)))) => Some((Ok(event(last.body)), None)),
        }
    }))
}

/// Makes a message an event. It has no id: it can't be had again.
pub(super) fn event(data: Bytes) -> Bytes {
    encode(&Event { event: Some("message".to_owned()), id: None, data, retry: None })
}

/// Answers with a stream of server-sent events.
pub(super) fn event_stream(events: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{
        CancellationToken, Duration, Given, HangUp, Message, STALLED, WAITING, WAITING_BYTES, channel, sleep,
        timeout,
    };

    fn event(bytes: usize) -> Message {
        Message::Event(vec![b'x'; bytes].into())
    }

    #[test]
    fn so_many_messages_wait_for_a_client_and_then_the_call_does() {
        let (outlet, mut messages) = channel(None);
        let goes = |message| outlet.send(message).now_or_never().is_some();
        for number in 1..=WAITING {
            assert!(goes(event(1)), "message {number}");
        }
        assert!(!goes(event(1)));
        assert!(messages.receive().now_or_never().is_some());
        assert!(goes(event(1)), "there is room again");
    }

    #[test]
    fn so_many_bytes_wait_for_a_client_and_a_longer_message_alone() {
        let (outlet, mut messages) = channel(None);
        let goes = |message| outlet.send(message).now_or_never().is_some();
        let mut taken = || match messages.receive().now_or_never().flatten() {
            Some(Message::Event(bytes)) => bytes.len(),
            _ => 0,
        };
        assert!(goes(event(WAITING_BYTES - 1)) && goes(event(1)), "as many as there is room for");
        assert!(!goes(event(1)), "one more");
        assert_eq!((taken(), taken(), taken()), (WAITING_BYTES - 1, 1, 0));
        assert!(goes(event(1)) && !goes(event(WAITING_BYTES + 1)), "a longer one waits for all the room");
        assert_eq!(taken(), 1);
        assert!(goes(event(WAITING_BYTES + 1)) && !goes(event(1)), "and nothing beside it");
        assert_eq!(taken(), WAITING_BYTES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_for_so_long_loses_her_connection() {
        let (connection, never) = (CancellationToken::new(), || std::future::pending());
        let (outlet, mut messages) = channel(Some(HangUp::new(connection.clone())));
        for _ in 0..WAITING {
            outlet.tell(event(1)).await;
        }
        let moment = Duration::from_millis(1);
        let just_in_time = async {
            sleep(STALLED - moment).await;
            messages.next().await.is_ok()
        };
        assert_eq!(tokio::join!(outlet.give(event(1), never()), just_in_time), (Given::Taken, true));
        assert!(timeout(STALLED - moment, outlet.tell(event(1))).await.is_err(), "who takes something stays");
        assert!(!connection.is_cancelled());
        let given = timeout(STALLED, outlet.give(event(1), never())).await;
        assert_eq!((given, connection.is_cancelled()), (Ok(Given::Stalled), true));
        assert!(messages.next().await.is_err(), "nothing that waits goes out any more");
    }
}
