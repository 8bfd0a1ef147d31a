//! How long a call may take.

use std::time::Duration;

use tokio::time::Instant;

/// How many times its span a call may take that keeps telling of progress.
const HARD: u32 = 10;

/// Ends a call that is silent for too long, and every call in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    span: Duration,
    soft: Instant,
    hard: Instant,
}

impl Deadline {
    pub(crate) fn starting(span: Duration) -> Self {
        let now = Instant::now();
        Self { span, soft: now + span, hard: now + span.saturating_mul(HARD) }
    }

    /// Gives the call its span again, for it told of progress.
    pub(crate) fn extend(&mut self) {
        self.soft = Instant::now() + self.span;
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

    use super::Deadline;

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
}
