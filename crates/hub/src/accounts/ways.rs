//! People who are on their way to an authorization server, in memory alone: a way counts once, for ten minutes, in one browser.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use mcphub_domain::{SecretText, Server, Timestamp, UserId};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::account::{Account, Registered};
use super::metadata::Sender;
use super::pending::Whose;
use crate::caller::Caller;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// How many people may be on their way at once, and how often one of them; then her oldest way is given up.
const MOST: usize = 4096;
const MOST_OF_ONE: usize = 64;
/// Of how many registrations it is known that they are no good any more.
const GIVEN_UP: usize = 1024;

/// Knows who is on her way.
pub(crate) struct Ways {
    ways: Mutex<HashMap<[u8; 32], Way>>,
    given_up: Mutex<LruCache<[u8; 32], ()>>,
}

/// Is a person on her way, and what she may come back with.
pub(super) struct Way {
    /// She, as she began.
    pub(super) caller: Caller,
    pub(super) owner: UserId,
    /// The server, as it was.
    pub(super) server: Server,
    /// The digest of what her browser keeps.
    pub(super) browser: [u8; 32],
    pub(super) verifier: SecretText,
    pub(super) sender: Sender,
    /// The account that it becomes.
    pub(super) account: Account,
    pub(super) until: Timestamp,
}

/// Says why somebody who comes back is not taken in.
pub(super) enum Stray {
    /// Nobody is awaited with that.
    Unknown,
    /// She is, but not like this: the way is over.
    Spoiled(Box<Way>, &'static str),
}

impl Ways {
    pub(super) fn new() -> Self {
        let given_up = NonZeroUsize::new(GIVEN_UP).unwrap_or(NonZeroUsize::MIN);
        Self { ways: Mutex::default(), given_up: Mutex::new(LruCache::new(given_up)) }
    }

    /// Lets a person go who will come back with `state`. Says no if too many are on their way.
    pub(super) fn let_go(&self, state: &str, way: Way, now: Timestamp) -> bool {
        let mut all = self.ways.lock();
        all.retain(|_, other| other.until > now);
        let own = |(_, other): &(&[u8; 32], &Way)| other.owner == way.owner;
        if all.iter().filter(own).count() >= MOST_OF_ONE {
            let oldest = all.iter().filter(own).min_by_key(|(_, other)| other.until).map(|(key, _)| *key);
            oldest.and_then(|key| all.remove(&key));
        }
        if all.len() >= MOST {
            return false;
        }
        all.insert(digest(state), way);
        true
    }

    /// Takes in who comes back with `state`, once and in time, in the browser that she went with.
    pub(super) fn take_in(&self, state: &str, browser: Option<&str>, now: Timestamp) -> Result<Way, Stray> {
        let way = self.ways.lock().remove(&digest(state)).ok_or(Stray::Unknown)?;
        let spoiled = |way, reason| Err(Stray::Spoiled(Box::new(way), reason));
        if way.until <= now {
            return spoiled(way, "she took too long");
        }
        match browser.is_some_and(|browser| digest(browser) == way.browser) {
            true => Ok(way),
            false => spoiled(way, "somebody came back in another browser than the one that she went with"),
        }
    }

    /// Lists as whom the hub sent a person to an authorization server, where she isn't back yet.
    pub(super) fn clients(&self, whose: Whose, issuer: &str, now: Timestamp) -> Vec<Registered> {
        let all = self.ways.lock();
        let hers = all.values().filter(|way| (way.owner, way.server.id) == whose && way.until > now);
        hers.filter(|way| way.account.issuer == issuer).map(|way| way.account.client.clone()).collect()
    }

    /// Notes that an authorization server doesn't know a client any more, so that the hub registers anew.
    pub(super) fn give_up(&self, issuer: &str, client: &str) {
        self.given_up.lock().put(registration(issuer, client), ());
    }

    /// Says whether that was noted.
    pub(super) fn is_given_up(&self, issuer: &str, client: &str) -> bool {
        self.given_up.lock().contains(&registration(issuer, client))
    }

    /// Says until when a person may take.
    pub(super) fn until(now: Timestamp) -> Timestamp {
        now.plus(PATIENCE)
    }
}

/// Digests what is compared: nothing is kept that somebody could come back with.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn registration(issuer: &str, client: &str) -> [u8; 32] {
    digest(&format!("{issuer} {client}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcphub_domain::server::ServerState;
    use mcphub_domain::{Principal, RequestId, SecretText, Server, ServerId, Timestamp, UserId};

    use super::{GIVEN_UP, MOST, MOST_OF_ONE, PATIENCE, Stray, Way, Ways, digest};
    use crate::accounts::account::{Account, Registered};
    use crate::accounts::metadata::Authority;
    use crate::caller::Caller;

    const START: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn way(person: u32, now: Timestamp) -> Way {
        let definition = r#"{"type":"streamable-http","url":"https://a.example/mcp","oauth":{}}"#;
        let server = Server {
            id: ServerId::from_bytes([9; 16]),
            name: "notes".parse().unwrap(),
            definition: serde_json::from_str(definition).unwrap(),
            state: ServerState::Enabled,
            revision: 1,
            created_at: START,
        };
        let authority = Authority::assumed(&"https://a.example".parse().unwrap()).unwrap();
        Way {
            caller: Caller::new(Principal::Operator, None, RequestId::from_bytes([1; 16])),
            owner: user(person),
            server,
            browser: digest("browser"),
            verifier: SecretText::new("v".into()),
            sender: authority.sender(),
            account: Account::begin(
                &authority,
                String::new(),
                Registered::known(&person.to_string()),
                Vec::new(),
            ),
            until: Ways::until(now),
        }
    }

    fn user(number: u32) -> UserId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        UserId::from_bytes(bytes)
    }

    fn took(ways: &Ways, state: &str, browser: &str, now: Timestamp) -> &'static str {
        match ways.take_in(state, Some(browser), now) {
            Ok(_) => "in",
            Err(Stray::Unknown) => "unknown",
            Err(Stray::Spoiled(_, reason)) => reason,
        }
    }

    #[test]
    fn a_way_counts_once_in_time_and_in_one_browser() {
        let (ways, just) = (Ways::new(), START.plus(PATIENCE - Duration::from_micros(1)));
        let go = |state: &str| assert!(ways.let_go(state, way(1, START), START));
        go("s");
        assert_eq!(took(&ways, "t", "browser", START), "unknown");
        assert_eq!(took(&ways, "s", "browser", just), "in");
        assert_eq!(took(&ways, "s", "browser", just), "unknown");
        go("s");
        assert_eq!(took(&ways, "s", "browser", START.plus(PATIENCE)), "she took too long");
        assert_eq!(took(&ways, "s", "browser", START), "unknown");
        go("s");
        assert!(took(&ways, "s", "other", START).contains("another browser"));
        assert_eq!(took(&ways, "s", "browser", START), "unknown");
        go("s");
        assert!(matches!(ways.take_in("s", None, START), Err(Stray::Spoiled(..))));
    }

    #[test]
    fn one_person_is_on_so_many_ways_and_then_gives_up_her_oldest() {
        let ways = Ways::new();
        let at = |number: usize| START.plus(Duration::from_secs(number as u64));
        for number in 0..=MOST_OF_ONE {
            assert!(ways.let_go(&number.to_string(), way(1, at(number)), at(number)));
        }
        let now = at(MOST_OF_ONE);
        assert!(ways.let_go("bob", way(2, now), now), "others are not in her way");
        assert_eq!(took(&ways, "0", "browser", now), "unknown");
        assert_eq!(took(&ways, "1", "browser", now), "in");
        assert_eq!(took(&ways, &MOST_OF_ONE.to_string(), "browser", now), "in");
        assert_eq!(took(&ways, "bob", "browser", now), "in");
    }

    #[test]
    fn so_many_people_are_on_their_way_until_their_time_is_over() {
        let ways = Ways::new();
        for person in 0..MOST as u32 {
            assert!(ways.let_go(&person.to_string(), way(person, START), START));
        }
        let more = MOST as u32;
        assert!(!ways.let_go("more", way(more, START), START));
        assert_eq!(took(&ways, "more", "browser", START), "unknown");
        let later = START.plus(PATIENCE);
        assert!(ways.let_go("more", way(more, later), later));
    }

    #[test]
    fn whom_the_hub_was_known_as_is_found_while_she_is_away() {
        let ways = Ways::new();
        ways.let_go("s", way(1, START), START);
        let found = |person, issuer, now| {
            let clients = ways.clients((user(person), ServerId::from_bytes([9; 16])), issuer, now);
            clients.iter().map(|client| client.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(1, "https://a.example", START), ["1"]);
        assert!(found(2, "https://a.example", START).is_empty());
        assert!(found(1, "https://b.example", START).is_empty());
        assert!(found(1, "https://a.example", START.plus(PATIENCE)).is_empty());
        ways.give_up("https://a.example", "1");
        assert!(ways.is_given_up("https://a.example", "1"));
        assert!(!ways.is_given_up("https://b.example", "1"));
    }

    #[test]
    fn so_many_registrations_are_known_to_be_no_good_and_then_the_oldest_is_tried_again() {
        let ways = Ways::new();
        let give_up = |number: usize| ways.give_up("https://a.example", &number.to_string());
        let is_known = |number: usize| ways.is_given_up("https://a.example", &number.to_string());
        (0..GIVEN_UP).for_each(give_up);
        assert!((0..GIVEN_UP).all(is_known));
        give_up(GIVEN_UP);
        assert_eq!([0, 1, GIVEN_UP].map(is_known), [false, true, true]);
    }
}
