//! Going on where a legacy server has closed the stream of a call: it says when to come back, and for what (2025-11-25).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};
use mcphub_wire::sse::Event;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::ReusableBoxFuture;

use crate::era::{Era, era_headers};
use crate::error::UpstreamError;
use crate::http::HttpConnection;
use crate::legacy::Session;
use crate::outbound::Body;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long is waited where the server doesn't say.
const USUAL: Duration = Duration::from_secs(1);
/// The shortest and the longest that a server may let a call wait.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// How many bytes the place in a stream may have.
const LONGEST_ID: usize = 1 << 10;
/// How often a stream is opened again that brings nothing.
const TRIES: usize = 5;

/// Knows where a stream can be taken up again.
#[derive(Default)]
pub(crate) struct Resume {
    last: Option<HeaderValue>,
    pause: Option<Duration>,
    tries: usize,
    due: Option<Instant>,
    /// The stream that is being opened: who reads something else meanwhile doesn't ask for it anew.
    taking_up: Option<TakingUp>,
}

/// A box that can be shared, for nobody polls it but who has it alone.
type TakingUp = ReusableBoxFuture<'static, Result<Body, UpstreamError>>;

impl Resume {
    /// Notes what an event says of it.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Some(id) = &event.id {
            let fits = (1..=LONGEST_ID).contains(&id.len());
            self.last = HeaderValue::from_str(id).ok().filter(|_| fits);
        }
        if let Some(retry) = event.retry {
            self.pause = Some(Duration::from_millis(retry).clamp(SHORTEST, LONGEST));
        }
    }

    /// Notes that it brought a message.
    pub(crate) const fn progress(&mut self) {
        self.tries = 0;
    }

    /// Notes that the stream has ended; says no if it can't be taken up.
    pub(crate) fn ended(&mut self) -> bool {
        let can = self.last.is_some() && self.tries < TRIES;
        if can && self.due.is_none() {
            self.tries += 1;
            self.due = Some(Instant::now() + self.pause.unwrap_or(USUAL));
        }
        can
    }

    /// Says whether the stream has ended and is to be taken up.
    pub(crate) const fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Waits as long as the server wants, and opens the stream again. Dropping the future loses nothing.
    pub(crate) async fn take_up(
        &mut self,
        connection: &Arc<HttpConnection>,
        session: Arc<Session>,
    ) -> Result<Body, UpstreamError> {
        let place = self.due.zip(self.last.clone());
        let taking_up = self
            .taking_up
            .get_or_insert_with(|| ReusableBoxFuture::new(take_up(Arc::clone(connection), session, place)));
        let taken_up = taking_up.await;
        self.taking_up = None;
        let body = taken_up?;
        self.due = None;
        Ok(body)
    }
}

/// Opens a stream again at a time, behind an event.
async fn take_up(
    connection: Arc<HttpConnection>,
    session: Arc<Session>,
    place: Option<(Instant, HeaderValue)>,
) -> Result<Body, UpstreamError> {
    let broken = || connection.blame.unreachable("its stream ended before the answer");
    let (due, last) = place.ok_or_else(broken)?;
    sleep_until(due).await;
    let mut own = era_headers(&Era::Legacy(session));
    own.extend([(ACCEPT, HeaderValue::from_static("text/event-stream")), (LAST_EVENT_ID, last)]);
    let response = connection.request(Method::GET, own, Bytes::new()).await?;
    if !response.status().is_success() {
        return Err(broken());
    }
    Ok(response.into_body())
}

#[cfg(test)]
mod tests {
    use mcphub_wire::sse::Event;
    use tokio::time::Instant;

    use super::{LONGEST, LONGEST_ID, Resume, SHORTEST, TRIES, USUAL};

    fn event(id: &str) -> Event {
        Event { id: Some(id.into()), ..Event::default() }
    }

    #[tokio::test]
    async fn only_a_stream_with_a_place_is_taken_up_and_not_for_ever() {
        let mut resume = Resume::default();
        assert!(!resume.ended());
        for number in 0..TRIES {
            // A place alone is nothing new.
            resume.note(&event(&number.to_string()));
            assert!(resume.ended());
            resume.due = None;
        }
        resume.note(&event("again"));
        assert!(!resume.ended());
        resume.progress();
        assert!(resume.ended() && resume.is_due());
        for unfit in [String::new(), "x".repeat(LONGEST_ID + 1)] {
            resume.note(&event("1"));
            assert!(resume.ended());
            resume.note(&event(&unfit));
            assert!(!resume.ended(), "{} bytes", unfit.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_at_once_is_waited_for_none_the_less() {
        let waits = |retry| {
            let mut resume = Resume::default();
            resume.note(&Event { retry, ..event("1") });
            assert!(resume.ended());
            resume.due.unwrap().duration_since(Instant::now())
        };
        assert_eq!(
            [None, Some(0), Some(500), Some(u64::MAX)].map(waits),
            [USUAL, SHORTEST, USUAL / 2, LONGEST]
        );
    }
}
