//! How fast one person may call: the generic cell rate algorithm (GCRA), as arithmetic.

use std::time::Duration;

use mcphub_domain::{Quota, Timestamp};

/// Remembers how much of a quota is used up: one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meter {
    /// The theoretical arrival time of the next call, in nanoseconds since 1970.
    next: i128,
}

impl Meter {
    /// Charges one call, or says how long to wait for the next.
    ///
    /// From rest, a whole minute's calls may come at once; then one each interval. What lies farther
    /// ahead than a minute was counted by a clock that has stepped back since, and is forgotten.
    pub fn charge(&mut self, quota: Quota, now: Timestamp) -> Result<(), Duration> {
        let now = i128::from(now.as_micros()) * 1_000;
        let interval = quota.interval().as_nanos() as i128;
        let window = interval * i128::from(quota.calls_per_minute());
        let used = if self.next > now + window { now } else { self.next.max(now) };
        let next = used + interval;
        if next > now + window {
            let wait = u64::try_from(next - now - window).unwrap_or(u64::MAX);
            return Err(Duration::from_nanos(wait));
        }
        self.next = next;
        Ok(())
    }

    /// Says whether nothing is used up, so that the meter can be forgotten.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.next <= i128::from(now.as_micros()) * 1_000
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcphub_domain::{Quota, Timestamp};
    use proptest::prelude::{prop, prop_assert, proptest};

    use super::Meter;

    #[test]
    fn a_minutes_calls_come_at_once_and_then_one_each_interval() {
        let (quota, mut meter) = (Quota::new(60, 1).unwrap(), Meter::default());
        let start = Timestamp::from_micros(1_000_000_000);
        for _ in 0..60 {
            assert_eq!(meter.charge(quota, start), Ok(()));
        }
        assert_eq!(meter.charge(quota, start), Err(Duration::from_secs(1)));
        let later = start.plus(Duration::from_secs(1));
        assert_eq!(meter.charge(quota, later), Ok(()));
        assert!(meter.charge(quota, later).is_err());
    }

    #[test]
    fn a_clock_that_steps_back_does_not_lock_anybody_out() {
        let (quota, mut meter) = (Quota::new(60, 1).unwrap(), Meter::default());
        let late = Timestamp::from_micros(7_200_000_000);
        for _ in 0..30 {
            meter.charge(quota, late).unwrap();
        }
        let earlier = Timestamp::from_micros(3_600_000_000);
        for _ in 0..60 {
            meter.charge(quota, earlier).unwrap();
        }
        assert_eq!(meter.charge(quota, earlier), Err(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(
            rate in 1_u32..5_000,
            gaps in prop::collection::vec(0_u64..200_000, 1..400),
        ) {
            let (quota, mut meter) = (Quota::new(rate, 1).unwrap(), Meter::default());
            let start = Timestamp::from_micros(1_000_000_000);
            let (mut now, mut passed) = (start, 0_u64);
            for gap in gaps {
                now = now.plus(Duration::from_micros(gap));
                passed += u64::from(meter.charge(quota, now).is_ok());
            }
            let earned = now.since(start).as_nanos() / quota.interval().as_nanos();
            prop_assert!(u128::from(passed) <= u128::from(rate) + earned + 1);
        }
    }
}
