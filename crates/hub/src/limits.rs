//! How much each person may do at the same time and in a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::{Quota, Timestamp, UserId};
use mcphub_policy::Meter;
use parking_lot::Mutex;

/// Counts everybody's calls.
pub(crate) struct Limits {
    quota: Quota,
    people: Arc<Mutex<HashMap<UserId, Usage>>>,
}

#[derive(Default)]
struct Usage {
    meter: Meter,
    running: u32,
}

/// Is a place among a person's concurrent calls, given back when dropped.
pub(crate) struct Place {
    user: UserId,
    people: Arc<Mutex<HashMap<UserId, Usage>>>,
}

/// How long a caller with too many concurrent calls is asked to wait.
const CROWDED: Duration = Duration::from_secs(1);

/// Above this many people, those who are at rest are forgotten.
const REMEMBERED: usize = 10_000;

impl Limits {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, people: Arc::default() }
    }

    /// Charges one call, or says how long to wait.
    pub(crate) fn charge(&self, user: UserId, now: Timestamp) -> Result<Place, Duration> {
        let mut people = self.people.lock();
        if people.len() >= REMEMBERED {
            people.retain(|_, usage| usage.running > 0 || !usage.meter.is_idle(now));
        }
        let usage = people.entry(user).or_default();
        if usage.running >= self.quota.concurrent_calls() {
            return Err(CROWDED);
        }
        usage.meter.charge(self.quota, now)?;
        usage.running += 1;
        Ok(Place { user, people: Arc::clone(&self.people) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(usage) = self.people.lock().get_mut(&self.user) {
            usage.running = usage.running.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Quota, Timestamp, UserId};

    #[test]
    fn a_place_is_given_back() {
        let limits = Limits::new(Quota::new(1_000, 2).unwrap());
        let (user, now) = (UserId::from_bytes([1; 16]), Timestamp::from_micros(1));
        let one = limits.charge(user, now).ok().unwrap();
        let _two = limits.charge(user, now).ok().unwrap();
        assert!(limits.charge(user, now).is_err());
        drop(one);
        assert!(limits.charge(user, now).is_ok());
    }

    #[test]
    fn people_do_not_share_a_meter() {
        let limits = Limits::new(Quota::new(1, 5).unwrap());
        let now = Timestamp::from_micros(1);
        let _alice = limits.charge(UserId::from_bytes([1; 16]), now).ok().unwrap();
        assert!(limits.charge(UserId::from_bytes([1; 16]), now).is_err());
        assert!(limits.charge(UserId::from_bytes([2; 16]), now).is_ok());
    }
}
