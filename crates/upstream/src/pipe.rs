//! The calls that share one way in and out: a process's standard streams, or the stream of a session.
//!
//! The reader of the pipe never waits for a caller: a call whose queue is full loses notifications,
//! which are counted, and never its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mcphub_wire::{Envelope, Id, Notification, Params, Request, Response, message, meta_key, progress};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::course::{Course, Courses};
use crate::error::{Blame, UpstreamError};
use crate::events::EventSession;
use crate::http::{BEST_EFFORT, Shared};
use crate::inquiry::{Back, Inquiry, own_answer, refusal};
use crate::key::ConnectionKey;
use crate::outlet::{Inlet, Outlet};
use crate::process::Stop;
use crate::reply::Step;
use crate::response::limits;
use crate::watch::Feed;

/// A line longer than this lets go of its buffer, which what follows it would keep.
const LONG_LINE: usize = 256 << 10;
/// How many messages may wait for the process.
const MESSAGES: usize = 16;
/// How long the rest of what a process said is waited for after its end.
const REST: Duration = Duration::from_millis(500);
/// What is said of a process that is gone, with where it may have said why.
const ENDED: &str = "its process ended; `mcphub server logs` may show why";
/// How many lines in a row may be no messages.
pub(crate) const STRAYS: usize = 100;

/// Is what all calls of one process or session share.
pub(crate) struct Pipe {
    pub(crate) blame: Blame,
    pub(crate) shared: Shared,
    pub(crate) stop: Stop,
    /// Takes what the process tells by itself.
    pub(crate) feed: Arc<Feed>,
    /// Ends when the process can answer no more.
    pub(crate) gone: CancellationToken,
    key: ConnectionKey,
    outgoing: mpsc::Sender<Bytes>,
    strays: mpsc::Sender<Vec<u8>>,
    calls: Mutex<Calls>,
}

/// Holds the calls that wait for an answer, until the process is gone.
#[derive(Default)]
struct Calls {
    open: Courses<Slot>,
    end: Option<UpstreamError>,
}

struct Slot {
    outlet: Outlet,
    answer: oneshot::Sender<Result<Response, UpstreamError>>,
}

/// Are the channels out of a pipe.
pub(crate) struct Outlets {
    outgoing: mpsc::Sender<Bytes>,
    strays: mpsc::Sender<Vec<u8>>,
}

/// Reads the messages of one call. Dropping it before the answer cancels the call.
pub(crate) struct PipeReply {
    pipe: Arc<Pipe>,
    id: i64,
    notifications: Inlet,
    answer: oneshot::Receiver<Result<Response, UpstreamError>>,
    finished: bool,
    /// What is not to end before.
    session: Option<Arc<EventSession>>,
}

impl Outlets {
    /// Makes them; returns where messages come out, and where lines do that are none.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Bytes>, mpsc::Receiver<Vec<u8>>) {
        let (outgoing, messages) = mpsc::channel(MESSAGES);
        let (strays, stray_lines) = mpsc::channel(MESSAGES);
        (Self { outgoing, strays }, messages, stray_lines)
    }
}

impl Pipe {
    pub(crate) fn new(blame: Blame, shared: Shared, key: ConnectionKey, outlets: Outlets) -> Arc<Self> {
        Arc::new(Self {
            blame,
            shared,
            stop: Stop::default(),
            feed: Arc::default(),
            gone: CancellationToken::new(),
            key,
            outgoing: outlets.outgoing,
            strays: outlets.strays,
            calls: Mutex::default(),
        })
    }

    /// Says whose it is.
    pub(crate) const fn key(&self) -> &ConnectionKey {
        &self.key
    }

    /// Sends a request of the hub's own and returns what will bring its answer.
    pub(crate) async fn request(self: &Arc<Self>, id: i64, body: Bytes) -> Result<PipeReply, UpstreamError> {
        let reply = self.register(id, Course::default())?;
        self.send(body).await?;
        Ok(reply)
    }

    pub(crate) async fn send(&self, body: Bytes) -> Result<(), UpstreamError> {
        self.outgoing.send(body).await.map_err(|_| self.ended())
    }

    /// Makes a place for an answer.
    pub(crate) fn register(self: &Arc<Self>, id: i64, course: Course) -> Result<PipeReply, UpstreamError> {
        let (outlet, notifications) = Outlet::new(&self.shared.drops);
        let (answer, answer_slot) = oneshot::channel();
        let mut calls = self.calls.lock();
        if let Some(end) = &calls.end {
            return Err(end.clone());
        }
        calls.open.begin(id, course, Slot { outlet, answer });
        Ok(PipeReply {
            pipe: Arc::clone(self),
            id,
            notifications,
            answer: answer_slot,
            finished: false,
            session: None,
        })
    }

    fn ended(&self) -> UpstreamError {
        self.calls.lock().end.clone().unwrap_or_else(|| self.blame.unreachable("it has ended"))
    }

    /// Ends all calls: the process can answer no more.
    pub(crate) fn fail(&self, error: UpstreamError) {
        let open = {
            let mut calls = self.calls.lock();
            calls.end.get_or_insert_with(|| error.clone());
            std::mem::take(&mut calls.open)
        };
        for slot in open.into_ways() {
            // A caller that left meanwhile needs no answer.
            drop(slot.answer.send(Err(error.clone())));
        }
        self.gone.cancel();
        self.feed.end();
    }

    /// Ends the pipe of a process that is gone, although something that it started, and that got
    /// away, may hold the other end. What the process said at last is read before.
    pub(crate) async fn end(&self) {
        if timeout(REST, self.gone.cancelled()).await.is_err() {
            self.fail(self.blame.unreachable(ENDED));
            self.stop.at_once.cancel();
        }
    }

    /// Reads messages until the process ends or breaks the rules, then ends it.
    pub(crate) async fn read(self: Arc<Self>, stdout: ChildStdout) {
        let read = tokio::select! {
            read = self.read_lines(stdout) => read,
            () = self.gone.cancelled() => return,
        };
        let error = match read {
            Ok(()) => self.blame.unreachable(ENDED),
            Err(error) => error,
        };
        let broke_rules = matches!(error, UpstreamError::Garbage { .. });
        self.fail(error);
        if broke_rules { self.stop.at_once.cancel() } else { self.stop.gently.cancel() }
    }

    async fn read_lines(self: &Arc<Self>, mut stdout: impl AsyncRead + Unpin) -> Result<(), UpstreamError> {
        let longest = self.shared.max_response;
        let mut buffer = BytesMut::new();
        let (mut searched, mut strays) = (0, 0);
        loop {
            let rest = buffer.get(searched..).unwrap_or_default();
            let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|found| searched + found) else {
                searched = buffer.len();
                if searched > longest {
                    return Err(self.blame.garbage(format!("a line is longer than {longest} bytes")));
                }
                buffer.reserve(64 * 1024);
                match stdout.read_buf(&mut buffer).await {
                    Ok(1..) => continue,
                    Ok(0) | Err(_) => return Ok(()),
                }
            };
            if end > longest {
                return Err(self.blame.garbage(format!("a line is longer than {longest} bytes")));
            }
            let line = buffer.split_to(end).freeze();
            buffer.advance(1);
            searched = 0;
            if end > LONG_LINE {
                buffer = BytesMut::from(&*buffer);
            }
            strays = if self.message(line) { 0 } else { strays + 1 };
            if strays > STRAYS {
                return Err(self.blame.garbage("its standard output holds no messages"));
            }
        }
    }

    /// Hands a line to whom it concerns, or says that it is no message.
    pub(crate) fn message(self: &Arc<Self>, line: Bytes) -> bool {
        if line.trim_ascii().is_empty() {
            return true;
        }
        match Envelope::parse_with(&line, &limits(self.shared.max_response)) {
            Ok(Envelope::Response(response)) => self.answer(response),
            Ok(Envelope::Notification(notification)) => self.notify(notification, line.len()),
            Ok(Envelope::Request(request)) => self.serve(request, line.len()),
            Err(error) => {
                if let Some(Id::Integer(id)) = error.id
                    && let Some(slot) = self.calls.lock().open.end(id)
                {
                    drop(slot.answer.send(Err(self.blame.garbage(error.to_string()))));
                }
                if self.strays.try_send(line.to_vec()).is_err() {
                    tracing::debug!(server = %self.blame.0, "a stray line is not logged");
                }
                return false;
            }
        }
        true
    }

    fn answer(&self, response: Response) {
        let slot = match &response.id {
            Some(Id::Integer(id)) => self.calls.lock().open.end(*id),
            _ => None,
        };
        match slot {
            Some(slot) => drop(slot.answer.send(Ok(response))),
            None => tracing::debug!(server = %self.blame.0, "an answer comes late, or to no request"),
        }
    }

    fn notify(&self, notification: Notification, size: usize) {
        let stream = notification.params.as_ref().and_then(subscription);
        self.shared.bus.tell(&self.key, &notification);
        if stream.is_none() {
            self.feed.tell(&notification);
        }
        let calls = self.calls.lock();
        let slot = match stream {
            Some(id) => calls.open.of_stream(id),
            None => calls.open.told(self.key.scope, &notification),
        };
        if let Some(slot) = slot {
            slot.outlet.offer(Step::Notification(notification), size);
        }
    }

    /// Takes what the server asks. Dropped where nobody takes it, a question is answered.
    fn serve(self: &Arc<Self>, request: Request, size: usize) {
        if let Some(answer) = own_answer(&request) {
            return self.send_or_drop(answer);
        }
        let asked = self.calls.lock().open.asked(self.key.scope, &request).map(|slot| slot.outlet.clone());
        match asked {
            Ok(outlet) => {
                let inquiry = Inquiry::new(request, Back::Pipe(Arc::clone(self)));
                outlet.offer(Step::Inquiry(inquiry), size);
            }
            Err(reason) => self.send_or_drop(refusal(&request, reason)),
        }
    }

    /// Sends an answer to a process that asks; one that asks much and reads little gets none.
    fn send_or_drop(&self, body: Bytes) {
        if self.outgoing.try_send(body).is_err() {
            tracing::debug!(server = %self.blame.0, "a request of the server stays unanswered: it reads too slowly");
        }
    }

    /// Sends what nobody waits for.
    pub(crate) fn send_soon(self: &Arc<Self>, body: Bytes) {
        if let Err(mpsc::error::TrySendError::Full(body)) = self.outgoing.try_send(body) {
            let pipe = Arc::clone(self);
            self.shared.spawn(async move {
                if timeout(BEST_EFFORT, pipe.send(body)).await.is_err() {
                    tracing::debug!(server = %pipe.blame.0, "a message was not taken: it reads too slowly");
                }
            });
        }
    }

    /// Writes messages, one line each, until the process is to end.
    pub(crate) async fn write(self: Arc<Self>, mut stdin: ChildStdin, mut messages: mpsc::Receiver<Bytes>) {
        loop {
            let message = tokio::select! {
                biased;
                () = self.stop.gently.cancelled() => return,
                () = self.stop.at_once.cancelled() => return,
                message = messages.recv() => message,
            };
            let Some(message) = message else { return };
            let written = tokio::select! {
                written = write_line(&mut stdin, message) => written,
                () = self.stop.gently.cancelled() => return,
                () = self.stop.at_once.cancelled() => return,
            };
            if written.is_err() {
                self.fail(self.blame.unreachable("its process reads no more"));
                self.stop.gently.cancel();
                return;
            }
        }
    }
}

/// Returns the id of the request whose stream a notification belongs to.
fn subscription(params: &Params) -> Option<i64> {
    params.meta().get(meta_key::SUBSCRIPTION_ID)?.as_integer()
}

async fn write_line(stdin: &mut ChildStdin, message: Bytes) -> std::io::Result<()> {
    stdin.write_all(&message::line(message)).await?;
    stdin.write_all(b"\n").await?;
    stdin.flush().await
}

impl PipeReply {
    /// Waits for the next message. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Step, UpstreamError> {
        if let Some(step) = self.notifications.next().await {
            return Ok(step);
        }
        let answer = (&mut self.answer).await;
        self.finished = true;
        match answer {
            Ok(answer) => answer.map(Step::Final),
            Err(_) => Err(self.pipe.ended()),
        }
    }

    /// Keeps a session open until the answer.
    pub(crate) fn within(mut self, session: Arc<EventSession>) -> Self {
        self.session = Some(session);
        self
    }

    /// Gives up a request that the server did not take: there is nothing to cancel.
    pub(crate) fn forget(mut self) {
        self.finished = true;
    }

    /// Waits for the answer and drops the notifications before it.
    pub(crate) async fn response(&mut self) -> Result<Response, UpstreamError> {
        loop {
            if let Step::Final(response) = self.next().await? {
                return Ok(response);
            }
        }
    }
}

impl Drop for PipeReply {
    fn drop(&mut self) {
        let was_open = self.pipe.calls.lock().open.end(self.id).is_some();
        if self.finished || !was_open {
            return;
        }
        self.pipe.send_soon(progress::cancelled(&Id::Integer(self.id), "the caller gave up"));
    }
}

#[cfg(test)]
mod tests;
