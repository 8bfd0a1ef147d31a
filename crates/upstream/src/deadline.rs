//! How long a call may take.

use std::time::Duration;

use tokio::time::Instant;

use crate::outgoing::Outgoing;

/// How many times its span a call may take that keeps telling of progress.
const HARD: u32 = 10;
/// How long a client has to answer what a server asks in the middle of a call: a person may have to think.
pub const ANSWER: Duration = Duration::from_mins(10);

/// Ends a call that is silent for too long, and every call in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    span: Duration,
    soft: Instant,
    hard: Instant,
    waited: bool,
}

impl Deadline {
    /// Begins for a request: who waits for a task to end has as long as a person has who thinks.
    pub(crate) fn of(request: &Outgoing, span: Duration) -> Self {
        Self::starting(if request.waits_for_task() { span.max(ANSWER) } else { span })
    }

    pub(crate) fn starting(span: Duration) -> Self {
        let now = Instant::now();
        Self { span, soft: now + span, hard: now + span.saturating_mul(HARD), waited: false }
    }

    /// Gives the call its span again, for it told of progress.
    pub(crate) fn extend(&mut self) {
        self.soft = self.soft.max(Instant::now() + self.span);
    }

    /// Waits for the client as well, whom the server asked something: once more for each question, but for the
    /// whole call not longer than one answer may take.
    pub(crate) fn wait_for_client(&mut self) {
        if !self.waited {
            self.waited = true;
            self.hard += ANSWER;
        }
        self.soft = self.soft.max(Instant::now() + ANSWER + self.span);
    }

    pub(crate) fn at(&self) -> Instant {
        self.soft.min(self.hard)
    }

    pub(crate) const fn span(&self) -> Duration {
        self.span
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{ANSWER, Deadline};

    #[tokio::test(start_paused = true)]
    async fn progress_prolongs_it_to_ten_times_its_span_at_most() {
        let start = Instant::now();
        let mut deadline = Deadline::starting(Duration::from_secs(10));
        assert_eq!(deadline.at(), start + Duration::from_secs(10));
        for _ in 0..20 {
            advance(Duration::from_secs(9)).await;
            deadline.extend();
        }
        assert_eq!(deadline.at(), start + Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_who_is_asked_has_time_to_think_but_not_for_ever() {
        let (start, span) = (Instant::now(), Duration::from_secs(10));
        let mut deadline = Deadline::starting(span);
        deadline.wait_for_client();
        assert_eq!(deadline.at(), start + ANSWER + span);
        for _ in 0..20 {
            advance(Duration::from_secs(9)).await;
            deadline.extend();
            deadline.wait_for_client();
        }
        assert_eq!(deadline.at(), start + ANSWER + 10 * span);
    }
}
