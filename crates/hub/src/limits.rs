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
    calls: Meter,
    requests: Meter,
    running: u32,
}

impl Usage {
    fn is_idle(&self, now: Timestamp) -> bool {
        self.running == 0 && self.calls.is_idle(now) && self.requests.is_idle(now)
    }
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
        let usage = usage(&mut people, user, now);
        if usage.running >= self.quota.concurrent_calls() {
            return Err(CROWDED);
        }
        usage.calls.charge(self.quota, now)?;
        usage.running += 1;
        Ok(Place { user, people: Arc::clone(&self.people) })
    }

    /// Charges one request of any kind, or says how long to wait.
    pub(crate) fn charge_request(&self, user: UserId, now: Timestamp) -> Result<(), Duration> {
        usage(&mut self.people.lock(), user, now).requests.charge(self.quota.of_requests(), now)
    }
}

fn usage(people: &mut HashMap<UserId, Usage>, user: UserId, now: Timestamp) -> &mut Usage {
    if people.len() >= REMEMBERED && !people.contains_key(&user) {
        people.retain(|_, usage| !usage.is_idle(now));
    }
    people.entry(user).or_default()
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
    use super::{Duration, Limits, Quota, REMEMBERED, Timestamp, UserId};

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
    fn requests_have_a_meter_of_their_own() {
        let limits = Limits::new(Quota::new(2, 5).unwrap());
        let (user, now) = (UserId::from_bytes([1; 16]), Timestamp::from_micros(1));
        assert_eq!((0..100).filter(|_| limits.charge_request(user, now).is_ok()).count(), 20);
        assert!(limits.charge(user, now).is_ok(), "calls are counted apart");
    }

    #[test]
    fn people_do_not_share_a_meter() {
        let limits = Limits::new(Quota::new(1, 5).unwrap());
        let now = Timestamp::from_micros(1);
        let _alice = limits.charge(UserId::from_bytes([1; 16]), now).ok().unwrap();
        assert!(limits.charge(UserId::from_bytes([1; 16]), now).is_err());
        assert!(limits.charge(UserId::from_bytes([2; 16]), now).is_ok());
    }

    #[test]
    fn so_many_people_are_remembered_and_then_those_who_rest_are_forgotten() {
        let (limits, start) = (Limits::new(Quota::new(1, 5).unwrap()), Timestamp::from_micros(1));
        let person = |number: usize| UserId::from_bytes((number as u128).to_be_bytes());
        let _calling = limits.charge(person(0), start).ok().unwrap();
        (1..REMEMBERED).for_each(|number| limits.charge_request(person(number), start).unwrap());
        let rested = start.plus(Duration::from_mins(1));
        limits.charge_request(person(1), rested).unwrap();
        assert_eq!(limits.people.lock().len(), REMEMBERED);
        limits.charge_request(person(REMEMBERED), rested).unwrap();
        let people = limits.people.lock();
        let is_remembered = [0, 1, 2, REMEMBERED].map(|number| people.contains_key(&person(number)));
        assert_eq!((people.len(), is_remembered), (3, [true, true, false, true]));
    }
}
