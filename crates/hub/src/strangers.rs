//! Refusals of strangers, folded so that they can't fill the disk: the first for each reason and
//! network in ten seconds is a record of its own, the rest become one count.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use mcphub_domain::audit::{Entry, Refusal};
use mcphub_domain::{Actor, Event, Timestamp};
use parking_lot::Mutex;

use crate::hub::Hub;

/// How long refusals of one kind are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// How many kinds are counted at the same time; more share one place.
const KINDS: usize = 4_096;
/// Stands for all networks when there are too many.
const EVERYWHERE: &str = "many networks";

/// Counts refusals by reason and network.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<HashMap<(Refusal, String), Folded>>);

struct Folded {
    from: Timestamp,
    more: u64,
}

impl Strangers {
    /// Notes a refusal; it is recorded now if it is the first of its kind.
    pub(crate) async fn note(&self, hub: &Hub, reason: Refusal, address: IpAddr) {
        let now = hub.clock.now();
        hub.counters.refused(reason);
        if self.is_first(reason, address, now) {
            let event = Event::RefusedFolded { reason, network: network(address), count: 1, from: now };
            hub.append(stranger(event, now)).await;
        }
    }

    /// Records the counts whose time is over.
    pub(crate) async fn flush(&self, hub: &Hub) {
        let now = hub.clock.now();
        for event in self.take_old(now) {
            hub.append(stranger(event, now)).await;
        }
    }

    fn is_first(&self, reason: Refusal, address: IpAddr, now: Timestamp) -> bool {
        let mut kinds = self.0.lock();
        let mut key = (reason, network(address));
        if kinds.len() >= KINDS && !kinds.contains_key(&key) {
            key.1 = EVERYWHERE.to_owned();
        }
        match kinds.get_mut(&key) {
            Some(folded) => {
                folded.more += 1;
                false
            }
            None => {
                kinds.insert(key, Folded { from: now, more: 0 });
                true
            }
        }
    }

    fn take_old(&self, now: Timestamp) -> Vec<Event> {
        let mut old = Vec::new();
        self.0.lock().retain(|(reason, network), folded| {
            if now.since(folded.from) < WINDOW && now >= folded.from {
                return true;
            }
            if folded.more > 0 {
                old.push(Event::RefusedFolded {
                    reason: *reason,
                    network: network.clone(),
                    count: folded.more,
                    from: folded.from,
                });
            }
            false
        });
        old
    }
}

const fn stranger(event: Event, at: Timestamp) -> Entry {
    Entry { at, actor: Actor::Stranger, event, request: None, personal: std::collections::BTreeMap::new() }
}

/// Names the /24 or /64 that an address is in.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{KINDS, Refusal, Strangers, Timestamp, network};

    #[test]
    fn a_flood_becomes_one_record_and_one_count() {
        let (strangers, start) = (Strangers::default(), Timestamp::from_micros(1_000_000));
        let address = "192.0.2.7".parse().unwrap();
        let first = (0..1_000).filter(|_| strangers.is_first(Refusal::NoKey, address, start)).count();
        assert_eq!(first, 1);
        assert!(strangers.take_old(start.plus(Duration::from_secs(9))).is_empty());
        let counted = strangers.take_old(start.plus(Duration::from_secs(10)));
        assert!(matches!(&counted[..], [super::Event::RefusedFolded { count: 999, .. }]));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let (strangers, now) = (Strangers::default(), Timestamp::from_micros(1));
        for number in 0..3 * KINDS as u32 {
            strangers.is_first(Refusal::NoKey, std::net::Ipv4Addr::from(number << 8).into(), now);
        }
        assert_eq!(strangers.0.lock().len(), KINDS + 1);
    }

    #[test]
    fn addresses_fold_by_network() {
        assert_eq!(network("192.0.2.7".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(network("::ffff:192.0.2.7".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
