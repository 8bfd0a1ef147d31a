//! Who acts.

use crate::id::{KeyId, UserId};

/// Says who acts and by which proof. Only authentication makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Principal {
    /// A person who showed a hub key of hers.
    Person {
        /// The person.
        user: UserId,
        /// The key.
        key: KeyId,
    },
    /// Somebody at the command line of the machine that holds the data. She administrates; she
    /// can't call a tool, for a call takes a person's own credential.
    Operator,
    /// The hub itself, doing what its own rules ask for, such as taking up a server's first list.
    Hub,
}

impl Principal {
    /// Names the person, where there is one.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Person { user, .. } => Some(*user),
            Self::Operator | Self::Hub => None,
        }
    }
}
