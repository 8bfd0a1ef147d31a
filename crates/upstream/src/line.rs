//! Connections for plain HTTP/1.1, kept open between requests. A call drives its connection itself, so that
//! it needs no task of its own and nobody is woken for somebody else.
//!
//! A request goes out once. Only if nothing of it was sent, because the server had just closed the
//! connection, does it take another one.

mod framing;
mod head;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::buf::Chain;
use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use self::framing::{Framing, Piece};
use self::head::Head;
use crate::destination::{Destination, HttpRequest};
use crate::dialer::{BoxError, Dialer};
use crate::outbound::POOL_IDLE;

pub(crate) use self::head::LONGEST as LONGEST_HEAD;

/// How much room is made for what comes at once, in bytes, when there is less than the least.
const ROOM: usize = 16 * 1024;
const LEAST_ROOM: usize = 2 * 1024;
/// How many heads may come that say that the answer is still to come.
const MOST_INTERIM: u32 = 16;

/// Are the connections of one runtime into the same networks.
pub(crate) struct Lines {
    dialer: Dialer,
    runtime: Handle,
    resting: Arc<Mutex<Resting>>,
}

/// Is what rests between requests, by origin; the last used is the first to be used again.
#[derive(Default)]
struct Resting {
    lines: HashMap<Arc<str>, Vec<(Instant, Line)>>,
    is_swept: bool,
}

/// Is an open connection. Dropped, it is closed.
struct Line {
    stream: TcpStream,
    /// What has come and isn't read yet.
    came: BytesMut,
}

/// Is the body of a response. Dropped, it lets its connection rest; an answer that wasn't read to its
/// end closes it.
pub(crate) struct Body {
    framing: Framing,
    stays_open: bool,
    line: Option<Line>,
    origin: Arc<str>,
    home: Arc<Lines>,
}

/// Says what a server sent that isn't HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
struct Malformed(&'static str);

/// Says why a request has no response.
enum Unanswered {
    /// Nothing of it was sent.
    Unsent,
    Failed(BoxError),
}

/// Says how far a request got.
#[derive(PartialEq, Eq)]
enum Progress {
    Unsent,
    Begun,
    /// The server takes no more of it.
    CutOff,
}

/// Is a request under way: what of it isn't sent yet.
struct Exchange<'a> {
    line: &'a mut Line,
    left: Chain<&'a [u8], &'a [u8]>,
    progress: Progress,
    interim: u32,
    /// How much of what has come was looked at and is no whole head.
    looked: usize,
    /// The head of an answer that came before everything was sent.
    early: Option<Head>,
}

impl Lines {
    /// Has no connections yet. They will be served by the runtime that this is called in.
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self { dialer, runtime: Handle::current(), resting: Arc::default() }
    }

    /// Sends a request on a connection that rests, or on a new one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: &HttpRequest<'_>,
    ) -> Result<Response<Body>, BoxError> {
        let head = request.head();
        while let Some(mut line) = self.rested(request.destination.origin()) {
            match line.exchange(&head, &request.body).await {
                Ok(head) => return Ok(self.answer(line, head, request.destination)),
                Err(Unanswered::Unsent) => {}
                Err(Unanswered::Failed(error)) => return Err(error),
            }
        }
        let mut line = Box::pin(self.open(request.destination)).await?;
        match line.exchange(&head, &request.body).await {
            Ok(head) => Ok(self.answer(line, head, request.destination)),
            Err(Unanswered::Unsent) => Err("the connection closed at once".into()),
            Err(Unanswered::Failed(error)) => Err(error),
        }
    }

    /// Finds a connection that rests and is still open.
    fn rested(&self, origin: &str) -> Option<Line> {
        let mut resting = self.resting.lock();
        let lines = resting.lines.get_mut(origin)?;
        while let Some((since, line)) = lines.pop() {
            if !is_old(since) && line.is_quiet() {
                return Some(line);
            }
        }
        None
    }

    async fn open(&self, destination: &Destination) -> Result<Line, BoxError> {
        let stream = self.dialer.dial(destination.uri()).await?;
        Ok(Line { stream, came: BytesMut::new() })
    }

    fn answer(self: &Arc<Self>, line: Line, head: Head, destination: &Destination) -> Response<Body> {
        let Head { status, headers, framing, stays_open } = head;
        let origin = Arc::clone(destination.origin());
        let body = Body { framing, stays_open, line: Some(line), origin, home: Arc::clone(self) };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn rest(&self, origin: Arc<str>, line: Line) {
        let mut resting = self.resting.lock();
        resting.lines.entry(origin).or_default().push((Instant::now(), line));
        if !std::mem::replace(&mut resting.is_swept, true) {
            self.runtime.spawn(sweep(Arc::clone(&self.resting)));
        }
    }
}

impl Line {
    /// Says whether nothing has come since the last answer: neither an end nor what nobody asked for.
    fn is_quiet(&self) -> bool {
        let nothing = |read: io::Result<usize>| read.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        self.came.is_empty() && nothing(self.stream.try_read(&mut [0]))
    }

    /// Sends a request, and reads the answer's head.
    async fn exchange(&mut self, head: &[u8], body: &[u8]) -> Result<Head, Unanswered> {
        let (left, progress) = (head.chain(body), Progress::Unsent);
        let mut exchange = Exchange { line: self, left, progress, interim: 0, looked: 0, early: None };
        poll_fn(|context| exchange.poll(context)).await
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.came.capacity() - self.came.len() < LEAST_ROOM {
            self.came.reserve(ROOM);
        }
        poll_read_buf(Pin::new(&mut self.stream), context, &mut self.came)
    }
}

impl Exchange<'_> {
    /// Sends and reads at the same time: a server may answer before it has read everything. A success is then sent the
    /// rest; any other answer counts as it is.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Unanswered>> {
        self.poll_send(context)?;
        if self.early.is_none() {
            self.early = Some(ready!(self.poll_head(context))?);
        }
        let is_sending = self.is_sending();
        match self.early.take_if(|head| !head.status.is_success() || !is_sending) {
            Some(mut head) => {
                head.stays_open &= !self.left.has_remaining();
                Poll::Ready(Ok(head))
            }
            None => Poll::Pending,
        }
    }

    fn is_sending(&self) -> bool {
        self.progress != Progress::CutOff && self.left.has_remaining()
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), Unanswered> {
        while self.is_sending() {
            match poll_write_buf(Pin::new(&mut self.line.stream), context, &mut self.left) {
                Poll::Ready(Ok(_)) => self.progress = Progress::Begun,
                Poll::Ready(Err(_)) if self.progress == Progress::Unsent => return Err(Unanswered::Unsent),
                Poll::Ready(Err(_)) => self.progress = Progress::CutOff,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Reads up to the head of the answer itself.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Unanswered>> {
        loop {
            match ready!(self.line.poll_read(context)) {
                Ok(0) => return failed("the connection closed before the answer"),
                Ok(_) => {}
                Err(error) => return failed(error),
            }
            while let Some(head) = self.head()? {
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return failed("it says again and again that the answer is still to come");
                }
            }
        }
    }

    /// Takes a head out of what has come, if all of it is there. It is parsed when it begins and when it may have
    /// ended, not anew with each piece.
    fn head(&mut self) -> Result<Option<Head>, Unanswered> {
        let came = &mut self.line.came;
        let looked = std::mem::replace(&mut self.looked, came.len());
        if looked > 0 && came.len() <= head::LONGEST && !head::may_end(came, looked) {
            return Ok(None);
        }
        let head = Head::take(came).map_err(|error| Unanswered::Failed(error.into()))?;
        if head.is_some() {
            self.looked = 0;
        }
        Ok(head)
    }
}

fn failed(error: impl Into<BoxError>) -> Poll<Result<Head, Unanswered>> {
    Poll::Ready(Err(Unanswered::Failed(error.into())))
}

impl Body {
    /// Waits for the next piece; nothing follows the last one, or an error. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        let Some(line) = &mut self.line else { return Poll::Ready(None) };
        let error: BoxError = loop {
            match self.framing.take(&mut line.came) {
                Ok(Piece::Data(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::Missing) => {}
                Err(error) => break error.into(),
            }
            match ready!(line.poll_read(context)) {
                Ok(0) if self.framing == Framing::UntilClose => {
                    self.line = None;
                    return Poll::Ready(None);
                }
                Ok(0) => break "the connection closed in the middle of it".into(),
                Ok(_) => {}
                Err(error) => break error.into(),
            }
        };
        self.line = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take()
            && self.stays_open
            && matches!(self.framing.take(&mut line.came), Ok(Piece::End))
        {
            self.home.rest(Arc::clone(&self.origin), line);
        }
    }
}

/// Closes what has rested for too long, until nothing rests.
async fn sweep(resting: Arc<Mutex<Resting>>) {
    loop {
        sleep(POOL_IDLE).await;
        let mut resting = resting.lock();
        resting.lines.retain(|_, lines| {
            lines.retain(|(since, line)| !is_old(*since) && line.is_quiet());
            !lines.is_empty()
        });
        if resting.lines.is_empty() {
            resting.is_swept = false;
            return;
        }
    }
}

fn is_old(since: Instant) -> bool {
    since.elapsed() >= POOL_IDLE
}

#[cfg(test)]
mod tests;
