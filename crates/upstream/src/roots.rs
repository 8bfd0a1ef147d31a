//! A client's folders change between its calls, when no server could ask for them: a server that works for that person
//! alone hears of it at her next call, in whose course it can ask.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mcphub_domain::UserId;
use mcphub_wire::{Abilities, Edit, message, method};

use crate::key::{ConnectionKey, Scope};
use crate::upstreams::Upstreams;

/// Remembers of a session whether its client's folders have changed since it was told.
#[derive(Default)]
pub(crate) struct Roots(AtomicBool);

impl Roots {
    pub(crate) fn have_changed(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns what the server is told before a call of a client that can be asked for its folders, once for each change.
    pub(crate) fn to_tell(&self, abilities: Abilities) -> Option<Bytes> {
        let is_due = abilities.allow(method::ROOTS_LIST, None) && self.0.swap(false, Ordering::AcqRel);
        is_due.then(|| message::notification(method::ROOTS_CHANGED, None, &Edit::new()))
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
        self.pool().roots_changed(is_hers);
    }
}
