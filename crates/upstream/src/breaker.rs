//! When a failing server is left alone: a state machine over time, without a clock of its own.

use std::time::Duration;

use mcphub_domain::Timestamp;

/// How many failures in a row open a breaker.
const FAILURES: u32 = 3;
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(1);

/// Says what a breaker lets through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// One call, whose end decides.
    HalfOpen,
    /// None, until the given time.
    Open {
        /// When one call is let through.
        until: Timestamp,
    },
}

/// Counts a server's failures in a row and decides who may ask it.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: BreakerState,
    failures: u32,
    wait: Duration,
}

/// Says how a call that was let through ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The server answered, whatever it said.
    Answered,
    /// The server failed.
    Failed,
    /// The caller went away first, so nothing was learnt.
    Abandoned,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: BreakerState::Closed, failures: 0, wait: SHORTEST }
    }
}

impl Breaker {
    /// Shows the state, as of the last call.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// Says whether it remembers nothing, so that it needn't be kept.
    pub const fn is_fresh(&self) -> bool {
        matches!(self.state, BreakerState::Closed) && self.failures == 0
    }

    /// Lets a call through, or says until when none is.
    pub fn admit(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        match self.state {
            BreakerState::Closed => Ok(()),
            // Farther away than it was set, it was set by a clock that has stepped back since.
            BreakerState::Open { until } if now < until && until.since(now) <= self.wait => Err(until),
            BreakerState::Open { .. } => {
                self.state = BreakerState::HalfOpen;
                Ok(())
            }
            BreakerState::HalfOpen => Err(now.plus(Duration::from_secs(1))),
        }
    }

    /// Takes note of how a call ended.
    pub fn record(&mut self, ended: Ended, now: Timestamp) {
        match (ended, self.state) {
            (Ended::Answered, _) => *self = Self::default(),
            (Ended::Abandoned, BreakerState::HalfOpen) => self.state = BreakerState::Open { until: now },
            (Ended::Failed, BreakerState::HalfOpen) => {
                self.wait = (self.wait * 2).min(LONGEST);
                self.open(now);
            }
            (Ended::Failed, BreakerState::Closed) => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.open(now);
                }
            }
            // A call from before the opening ends late: it says nothing new.
            (Ended::Failed | Ended::Abandoned, _) => {}
        }
    }

    fn open(&mut self, now: Timestamp) {
        self.state = BreakerState::Open { until: now.plus(self.wait) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcphub_domain::Timestamp;

    use super::{Breaker, BreakerState, Ended};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.admit(at(0)).unwrap();
            breaker.record(Ended::Failed, at(0));
        }
        breaker
    }

    #[test]
    fn three_failures_in_a_row_open_it_for_five_seconds() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(4)), Err(at(5)));
        assert_eq!(breaker.admit(at(5)), Ok(()));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }

    #[test]
    fn a_clock_that_steps_back_keeps_it_open_no_longer() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(-3_600)), Ok(()));
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(3_600)), Ok(()));
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        for ended in [Ended::Failed, Ended::Failed, Ended::Answered, Ended::Failed, Ended::Failed] {
            breaker.record(ended, at(0));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.record(Ended::Failed, at(0));
        assert!(matches!(breaker.state(), BreakerState::Open { .. }));
    }

    #[test]
    fn half_open_lets_one_call_through() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(5)), Ok(()));
        assert!(breaker.admit(at(5)).is_err());
        breaker.record(Ended::Answered, at(6));
        assert!(breaker.is_fresh());
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_an_answer_resets_it() {
        let mut breaker = opened();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let BreakerState::Open { until } = breaker.state() else { panic!("open") };
            waits.push(until.since(now).as_secs());
            now = until;
            breaker.admit(now).unwrap();
            breaker.record(Ended::Failed, now);
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        now = now.plus(Duration::from_mins(1));
        breaker.admit(now).unwrap();
        breaker.record(Ended::Answered, now);
        assert!(breaker.is_fresh());
    }

    #[test]
    fn an_abandoned_trial_lets_the_next_call_try() {
        let mut breaker = opened();
        breaker.admit(at(5)).unwrap();
        breaker.record(Ended::Abandoned, at(6));
        assert_eq!(breaker.admit(at(6)), Ok(()));
    }

    #[test]
    fn late_failures_do_not_prolong_the_wait() {
        let mut breaker = opened();
        breaker.record(Ended::Failed, at(4));
        assert_eq!(breaker.admit(at(5)), Ok(()));
    }
}
