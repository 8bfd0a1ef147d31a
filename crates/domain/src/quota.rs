//! How much one person may do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits the calls of one person. There is no "off".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawQuota")]
pub struct Quota {
    calls_per_minute: u32,
    concurrent_calls: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuota {
    calls_per_minute: u32,
    concurrent_calls: u32,
}

/// Says that a limit is outside its bounds.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidQuota {
    /// The rate is zero or absurd.
    #[error("calls_per_minute is {0}: expected 1 to 10000000")]
    CallsPerMinute(u32),
    /// The number of concurrent calls is zero or absurd.
    #[error("concurrent_calls is {0}: expected 1 to 100000")]
    ConcurrentCalls(u32),
}

impl Quota {
    /// Checks the bounds: 1 to 10,000,000 calls per minute, 1 to 100,000 at the same time.
    pub const fn new(calls_per_minute: u32, concurrent_calls: u32) -> Result<Self, InvalidQuota> {
        if calls_per_minute == 0 || calls_per_minute > 10_000_000 {
            return Err(InvalidQuota::CallsPerMinute(calls_per_minute));
        }
        if concurrent_calls == 0 || concurrent_calls > 100_000 {
            return Err(InvalidQuota::ConcurrentCalls(concurrent_calls));
        }
        Ok(Self { calls_per_minute, concurrent_calls })
    }

    /// Returns how many calls may run at the same time.
    pub const fn concurrent_calls(self) -> u32 {
        self.concurrent_calls
    }

    /// Returns how many calls may start in a minute.
    pub const fn calls_per_minute(self) -> u32 {
        self.calls_per_minute
    }

    /// Limits requests of any kind: ten for each call, so that whoever calls can also list and ask.
    pub const fn of_requests(self) -> Self {
        let requests = self.calls_per_minute.saturating_mul(10);
        let most = if requests > 10_000_000 { 10_000_000 } else { requests };
        Self { calls_per_minute: most, concurrent_calls: self.concurrent_calls }
    }

    /// Returns the time between two calls at the full rate.
    pub const fn interval(self) -> Duration {
        Duration::from_nanos(60_000_000_000 / self.calls_per_minute as u64)
    }
}

impl Default for Quota {
    /// Allows 600 calls per minute and 256 at the same time.
    fn default() -> Self {
        Self { calls_per_minute: 600, concurrent_calls: 256 }
    }
}

impl TryFrom<RawQuota> for Quota {
    type Error = InvalidQuota;

    fn try_from(raw: RawQuota) -> Result<Self, InvalidQuota> {
        Self::new(raw.calls_per_minute, raw.concurrent_calls)
    }
}

#[cfg(test)]
mod tests {
    use super::Quota;

    #[test]
    fn a_quota_has_bounds_and_no_off() {
        for (calls, good) in [(0, false), (1, true), (10_000_000, true), (10_000_001, false)] {
            assert_eq!(Quota::new(calls, 1).is_ok(), good, "{calls}");
        }
        for (concurrent, good) in [(0, false), (1, true), (100_000, true), (100_001, false)] {
            assert_eq!(Quota::new(1, concurrent).is_ok(), good, "{concurrent}");
        }
    }
}
