//! `mcphub connect --stdio`: a bridge for clients that only speak stdio. Each line that they write goes to a hub over HTTP, and
//! what comes back becomes lines. Messages stay the bytes that they are; nothing is decided here, and nothing kept.

mod answers;
mod hub;
mod legacy;
mod lines;
mod modern;
mod problem;
mod running;
#[cfg(test)]
mod stand_in;

use std::future::Future;
use std::io::{self, BufReader};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcphub_hub::Remote;
use mcphub_wire::{
    Edit, Envelope, Fault, Id, Notification, Outcome, ParseError, Request, Response, error, message, method,
    progress,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use answers::Answers;
use hub::Hub;
use legacy::Sessions;
use lines::{Line, Out};
use modern::{Mirrors, is_modern};
use problem::Problem;
use running::{Running, Turn};

/// How many notifications and answers of the client wait to be handed over; what comes then is lost.
const TOLD: usize = 64;
/// How long what was answered may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Is the answer to a request, as it came and as it is understood.
type Last = (Bytes, Response);

/// Is what all messages share.
struct Bridge {
    hub: Hub,
    out: Out,
    running: Running,
    mirrors: Mirrors,
    sessions: Sessions,
    told: mpsc::Sender<Bytes>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

/// Bridges until standard input ends, the client reads no more, or something else wants the end.
pub(crate) async fn run(remote: Remote, ending: impl Future<Output = ()>) -> io::Result<()> {
    let (out, written) = lines::write(io::stdout())?;
    let lines = lines::read(BufReader::new(io::stdin()))?;
    let (bridge, telling) = Bridge::new(remote, out);
    bridge.spawn(Arc::clone(&bridge).tell_all(telling));
    tokio::select! {
        () = ending => {}
        () = bridge.out.closed() => {}
        () = bridge.read(lines) => {}
    }
    bridge.end().await;
    drop(bridge);
    if timeout(LAST_LINES, written).await.is_err() {
        tracing::debug!("the client doesn't read the last lines");
    }
    Ok(())
}

impl Bridge {
    /// Begins with nothing; returns what is told, too, and has to be handed over.
    fn new(remote: Remote, out: Out) -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (told, telling) = mpsc::channel(TOLD);
        let bridge = Self {
            hub: Hub::new(remote),
            out,
            running: Running::default(),
            mirrors: Mirrors::default(),
            sessions: Sessions::default(),
            told,
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
        };
        (Arc::new(bridge), telling)
    }

    /// Runs something until the end.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Gives up what runs, and ends the session.
    async fn end(&self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.sessions.end(&self.hub).await;
    }

    async fn read(self: &Arc<Self>, mut lines: mpsc::Receiver<Line>) {
        while let Some(line) = lines.recv().await {
            match line {
                Line::Text(text) => self.take(text).await,
                Line::TooLong => {
                    self.refuse(None, error::INVALID_REQUEST, "the message is larger than 4 MiB").await;
                }
            }
        }
    }

    async fn take(self: &Arc<Self>, line: Bytes) {
        let text = line.trim_ascii();
        if text.is_empty() {
            return;
        }
        let body = line.slice_ref(text);
        match Envelope::parse(&body) {
            Ok(message) => self.dispatch(message, body).await,
            Err(ParseError { fault: Fault::Batch, .. }) if self.sessions.allow_batch().await => {
                self.take_batch(&body).await;
            }
            Err(error) => self.refuse(error.id.as_ref(), error.code(), &error.to_string()).await,
        }
    }

    /// Takes the messages of an array one by one: their answers may come in any order.
    async fn take_batch(self: &Arc<Self>, body: &Bytes) {
        let messages = match Envelope::parse_batch(body) {
            Ok(messages) => messages,
            Err(error) => return self.refuse(error.id.as_ref(), error.code(), &error.to_string()).await,
        };
        for one in messages {
            let (params, edit) = (one.params(), Edit::new());
            let body = match &one {
                Envelope::Request(request) => message::request(&request.id, &request.method, params, &edit),
                Envelope::Notification(notification) => {
                    message::notification(&notification.method, params, &edit)
                }
                Envelope::Response(response) => match &response.id {
                    Some(id) => message::reid(response, id),
                    None => continue,
                },
            };
            self.dispatch(one, body).await;
        }
    }

    async fn dispatch(self: &Arc<Self>, message: Envelope, body: Bytes) {
        match message {
            Envelope::Request(request) => match self.running.enter(&request.id) {
                Ok(turn) => self.spawn(Arc::clone(self).exchange(request, body, turn)),
                Err(problem) => self.out.send(problem.answer(&request.id, self.hub.place())).await,
            },
            Envelope::Notification(notification) => self.note(&notification, body),
            Envelope::Response(_) => self.tell(body),
        }
    }

    /// Gets a request its answer, unless it is cancelled before. On HTTP a closed stream is a modern cancellation.
    async fn exchange(self: Arc<Self>, request: Request, body: Bytes, mut turn: Turn) {
        let modern = is_modern(request.params.as_ref());
        let answering = async {
            match &*request.method {
                _ if modern => modern::answer(&self, &request, &body).await,
                method::INITIALIZE => legacy::open(&self, &request.id, &body).await,
                _ => legacy::answer(&self, &request, &body).await,
            }
        };
        tokio::pin!(answering);
        let answer = tokio::select! {
            biased;
            notice = &mut turn.cancelled => match notice {
                Ok(notice) if !modern => return legacy::cancel(&self, notice, answering).await,
                Ok(_) | Err(_) => return,
            },
            answer = &mut answering => answer,
        };
        let line = answer.map(|(bytes, _)| bytes).unwrap_or_else(|problem| {
            tracing::warn!(method = %request.method, id = %request.id, ?problem, "a request has no answer of the hub's");
            problem.answer(&request.id, self.hub.place())
        });
        self.out.send(line).await;
    }

    /// Hands on what comes before the answer to a request, and returns the answer.
    async fn pass_on(&self, mut answers: Answers, id: &Id) -> Result<Last, Problem> {
        while let Some((bytes, message)) = answers.next().await? {
            match message {
                Envelope::Response(response) if response.id.as_ref() == Some(id) => {
                    return Ok((bytes, response));
                }
                Envelope::Response(response @ Response { id: None, outcome: Outcome::Error(_) }) => {
                    return Ok((message::reid(&response, id), response));
                }
                Envelope::Response(_) => tracing::debug!("the hub answers what was not asked"),
                Envelope::Notification(_) | Envelope::Request(_) => self.out.send(bytes).await,
            }
        }
        Err(Problem::Broken("it ended early".to_owned()))
    }

    fn note(self: &Arc<Self>, notification: &Notification, body: Bytes) {
        match progress::cancelled_id(notification) {
            Some(id) => self.running.cancel(&id, body),
            None => self.tell(body),
        }
    }

    /// Lets the hub know of something that has no answer.
    fn tell(&self, body: Bytes) {
        if self.told.try_send(body).is_err() {
            tracing::warn!("a notification or answer of the client is lost: too many wait for the hub");
        }
    }

    /// Hands over what has no answer, one after the other.
    async fn tell_all(self: Arc<Self>, mut telling: mpsc::Receiver<Bytes>) {
        while let Some(body) = telling.recv().await {
            legacy::tell(&self, body).await;
        }
    }

    async fn refuse(&self, id: Option<&Id>, code: i64, text: &str) {
        self.out.send(message::error(id, code, text, None)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{Bridge, Bytes, TOLD, io, lines, stand_in};

    #[test]
    fn so_much_that_is_told_waits_for_the_hub_and_the_rest_is_lost() {
        let (out, _written) = lines::write(io::sink()).unwrap();
        let (bridge, mut telling) = Bridge::new(stand_in::remote("127.0.0.1:9"), out);
        for number in 0..=TOLD {
            bridge.tell(number.to_string().into());
        }
        let waiting: Vec<Bytes> = std::iter::from_fn(|| telling.try_recv().ok()).collect();
        let first: Vec<Bytes> = (0..TOLD).map(|number| number.to_string().into()).collect();
        assert_eq!(waiting, first);
        bridge.tell("more".into());
        assert_eq!(telling.try_recv().unwrap(), "more", "there is room again");
    }
}
