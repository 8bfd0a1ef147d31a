//! Refusals that come in floods, folded so that they can't fill the disk: of strangers by reason and
//! network, of people who are too fast by person. The first in ten seconds is a record of its own,
//! the rest become one count.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use mcphub_domain::audit::{Entry, Refusal};
use mcphub_domain::{Actor, Event, Timestamp, UserId};
use mcphub_policy::Denial;
use parking_lot::Mutex;

use crate::caller::Caller;
use crate::hub::Hub;

/// How long refusals of one kind are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// How many kinds are counted at the same time; more share one place.
const KINDS: usize = 4_096;

/// Counts refusals by reason and by who is refused.
#[derive(Default)]
pub(crate) struct Floods(Mutex<HashMap<(Refusal, Who), Folded>>);

/// Names who is refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Who {
    /// Strangers from a network.
    Network(String),
    /// A known person.
    Person(UserId),
    /// All others, when there are too many.
    Others,
}

struct Folded {
    actor: Actor,
    from: Timestamp,
    more: u64,
}

impl Floods {
    /// Notes a refusal of a stranger; it is recorded now if it is the first of its kind.
    pub(crate) async fn note(&self, hub: &Hub, reason: Refusal, address: IpAddr) {
        let now = hub.clock.now();
        hub.counters.refused(reason);
        let network = network(address);
        if self.is_first((reason, Who::Network(network.clone())), Actor::Stranger, now) {
            let event = Event::RefusedFolded { reason, network: Some(network), count: 1, from: now };
            hub.append(entry(Actor::Stranger, event, now)).await;
        }
    }

    /// Notes a refusal of a known person; it is recorded whole if it is the first of its kind.
    pub(crate) async fn note_known(&self, hub: &Hub, caller: &Caller, denial: Denial, method: &str) {
        let (reason, actor) = (denial.reason(), Actor::from(caller.principal));
        let who = caller.principal.user().map_or(Who::Others, Who::Person);
        if self.is_first((reason, who), actor, hub.clock.now()) {
            hub.record(caller, denial.into_event(method)).await;
        } else {
            hub.counters.refused(reason);
            caller.note_record();
        }
    }

    /// Records the counts whose time is over.
    pub(crate) async fn flush(&self, hub: &Hub) {
        let now = hub.clock.now();
        for entry in self.take(now, |folded| is_over(folded, now)) {
            hub.append(entry).await;
        }
    }

    /// Records all counts, for nobody will count on.
    pub(crate) async fn flush_all(&self, hub: &Hub) {
        for entry in self.take(hub.clock.now(), |_| true) {
            hub.append(entry).await;
        }
    }

    fn is_first(&self, mut kind: (Refusal, Who), actor: Actor, now: Timestamp) -> bool {
        let mut kinds = self.0.lock();
        let mut actor = actor;
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            (kind.1, actor) = (Who::Others, Actor::Stranger);
        }
        match kinds.get_mut(&kind) {
            Some(folded) => {
                folded.more += 1;
                false
            }
            None => {
                kinds.insert(kind, Folded { actor, from: now, more: 0 });
                true
            }
        }
    }

    fn take(&self, now: Timestamp, which: impl Fn(&Folded) -> bool) -> Vec<Entry> {
        let taken = self.0.lock().extract_if(|_, folded| which(folded)).collect::<Vec<_>>();
        let counted = taken.into_iter().filter(|(_, folded)| folded.more > 0);
        counted
            .map(|((reason, who), Folded { actor, from, more })| {
                let network = if let Who::Network(network) = who { Some(network) } else { None };
                entry(actor, Event::RefusedFolded { reason, network, count: more, from }, now)
            })
            .collect()
    }
}

fn is_over(folded: &Folded, now: Timestamp) -> bool {
    now.since(folded.from) >= WINDOW || now < folded.from
}

const fn entry(actor: Actor, event: Event, at: Timestamp) -> Entry {
    Entry { at, actor, event, request: None, personal: BTreeMap::new() }
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

    use mcphub_domain::KeyId;

    use super::{Actor, Event, Floods, KINDS, Refusal, Timestamp, UserId, Who, is_over, network};

    fn stranger(number: u32) -> (Refusal, Who) {
        let address = std::net::Ipv4Addr::from(number << 8);
        (Refusal::NoKey, Who::Network(network(address.into())))
    }

    #[test]
    fn a_flood_becomes_one_record_and_one_count() {
        let (floods, start) = (Floods::default(), Timestamp::from_micros(1_000_000));
        let first = (0..1_000).filter(|_| floods.is_first(stranger(7), Actor::Stranger, start)).count();
        assert_eq!(first, 1);
        let later = |seconds| start.plus(Duration::from_secs(seconds));
        let take = |now| floods.take(now, |folded| is_over(folded, now));
        assert!(take(later(9)).is_empty());
        let counted = take(later(10));
        let [entry] = &counted[..] else { panic!("{counted:?}") };
        assert!(matches!(&entry.event, Event::RefusedFolded { count: 999, network: Some(_), .. }));
        assert!(floods.is_first(stranger(7), Actor::Stranger, later(10)), "a new window");
    }

    #[test]
    fn people_who_are_too_fast_are_counted_one_by_one() {
        let (floods, now) = (Floods::default(), Timestamp::from_micros(1));
        let people = [1, 2].map(|number| UserId::from_bytes([number; 16]));
        for user in people {
            let actor = Actor::Person { user, key: KeyId::from_bytes([9; 16]) };
            let kind = || (Refusal::RateLimited, Who::Person(user));
            assert_eq!((0..50).filter(|_| floods.is_first(kind(), actor, now)).count(), 1);
        }
        let mut counted = floods.take(now, |_| true);
        counted.sort_by_key(|entry| entry.actor.user());
        assert_eq!(counted.iter().map(|entry| entry.actor.user()).collect::<Vec<_>>(), people.map(Some));
        let is_whole = |event: &Event| matches!(event, Event::RefusedFolded { count: 49, network: None, .. });
        assert!(counted.iter().all(|entry| is_whole(&entry.event)), "{counted:?}");
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let (floods, now) = (Floods::default(), Timestamp::from_micros(1));
        for number in 0..3 * KINDS as u32 {
            floods.is_first(stranger(number), Actor::Stranger, now);
        }
        assert_eq!(floods.0.lock().len(), KINDS + 1);
    }

    #[test]
    fn addresses_fold_by_network() {
        assert_eq!(network("192.0.2.7".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(network("::ffff:192.0.2.7".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
