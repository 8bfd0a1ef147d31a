//! A client's folders change between its calls, when no server could ask for them: a server that works for that person
//! alone hears of it at the client's next call, in whose course it can ask.

use std::collections::VecDeque;

use bytes::Bytes;
use mcphub_domain::UserId;
use mcphub_wire::{Edit, message, method};
use parking_lot::Mutex;

use crate::client::Client;
use crate::key::{ConnectionKey, Scope};
use crate::upstreams::Upstreams;

/// How many of a person's clients are remembered whose folders have changed.
const CHANGED: usize = 64;

/// Remembers of a session with a server which of its clients have other folders now than when it was told. Each is known by
/// its own session with the hub.
#[derive(Default)]
pub(crate) struct Roots(Mutex<VecDeque<[u8; 32]>>);

impl Roots {
    pub(crate) fn have_changed(&self, client: [u8; 32]) {
        let mut changed = self.0.lock();
        if changed.contains(&client) {
            return;
        }
        if changed.len() == CHANGED {
            changed.pop_front();
        }
        changed.push_back(client);
    }

    /// Says that the server is to be told before a call of a client that can be asked for its folders, once for each change.
    pub(crate) fn to_tell(&self, client: &Client) -> Option<Telling<'_>> {
        let whose = client.session.filter(|_| client.abilities.allow(method::ROOTS_LIST, None))?;
        let mut changed = self.0.lock();
        let place = changed.iter().position(|one| *one == whose)?;
        changed.remove(place);
        Some(Telling { roots: self, whose: Some(whose) })
    }
}

/// Is a change that a server is being told of. Dropped before the server heard of it, it is told before the next call.
pub(crate) struct Telling<'a> {
    roots: &'a Roots,
    whose: Option<[u8; 32]>,
}

impl Telling<'_> {
    /// Writes what is told.
    pub(crate) fn message() -> Bytes {
        message::notification(method::ROOTS_CHANGED, None, &Edit::new())
    }

    pub(crate) fn heard(mut self) {
        self.whose = None;
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.whose {
            self.roots.have_changed(client);
        }
    }
}

impl Upstreams {
    /// Lets servers hear that the folders of a client of this person have changed: those alone that no other client uses,
    /// or at least no other person.
    pub fn roots_changed(&self, user: UserId, session: [u8; 32]) {
        let is_hers = |key: &ConnectionKey| match key.scope {
            Scope::Shared => false,
            Scope::Person(person) => person == user,
            Scope::Session(person, of) => person == user && of == session,
        };
        self.pool().roots_changed(is_hers, session);
    }
}

#[cfg(test)]
mod tests {
    use mcphub_wire::Abilities;

    use super::{CHANGED, Client, Roots, Telling};

    #[test]
    fn a_change_is_told_once_at_a_call_of_the_client_whose_it_is() {
        let of = |client, abilities| Client { session: Some([client; 32]), ..Client::able(abilities) };
        let told = |roots: &Roots, client: &Client| roots.to_tell(client).map(Telling::heard);
        let (one, other) = (of(1, Abilities::ALL), of(2, Abilities::ALL));
        let roots = Roots::default();
        roots.have_changed([1; 32]);
        roots.have_changed([1; 32]);
        assert_eq!(told(&roots, &other), None);
        assert_eq!(told(&roots, &Client::able(Abilities::ALL)), None);
        assert_eq!(told(&roots, &of(1, Abilities::NONE)), None, "it can't be asked");
        drop(roots.to_tell(&one));
        assert_eq!(told(&roots, &one), Some(()), "it was not heard");
        assert_eq!(told(&roots, &one), None);
        (1..=u8::try_from(CHANGED).unwrap() + 1).for_each(|client| roots.have_changed([client; 32]));
        assert_eq!((told(&roots, &one), told(&roots, &other)), (None, Some(())));
    }
}
