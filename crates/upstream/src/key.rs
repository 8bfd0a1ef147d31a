//! Who may share a connection.

use mcphub_domain::server::Isolation;
use mcphub_domain::{Server, ServerId, Transport, UserId};
use mcphub_wire::Abilities;
use sha2::{Digest, Sha256};

/// Says for whom a connection is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// For everybody.
    Shared,
    /// For one person.
    Person(UserId),
    /// For one client connection of one person; the bytes name it.
    Session(UserId, [u8; 32]),
}

/// Names the state of the values that a connection was made with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Revisions {
    /// Counts the changes of the server's shared values.
    pub shared: i64,
    /// Counts the changes of the person's values for the server.
    pub personal: i64,
}

/// Names a connection: calls share one only if all of this is equal. A changed definition or value
/// therefore never meets an old connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionKey {
    /// The server.
    pub server: ServerId,
    /// The revision of its definition.
    pub revision: i64,
    /// The revision of its shared values.
    pub shared_revision: i64,
    /// The revision of the person's values; 0 where nobody's are needed.
    pub personal_revision: i64,
    /// For whom it is.
    pub scope: Scope,
    /// What the clients can do that use it: a legacy server is told once, when the connection opens.
    pub abilities: Abilities,
    /// Which era is tried first.
    pub prefers: Prefers,
}

/// Says which era to speak with a server that speaks both: that of the client, so that nothing has to be translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Prefers {
    /// 2026-07-28 and later.
    #[default]
    Modern,
    /// The revisions with sessions.
    Legacy,
}

impl Scope {
    /// Names the person, where there is one.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Shared => None,
            Self::Person(user) | Self::Session(user, _) => Some(*user),
        }
    }

    /// Names the scope in file names: 16 hexadecimal digits that tell nothing about the person.
    pub(crate) fn short(&self) -> String {
        let mut hash = Sha256::new();
        match self {
            Self::Shared => return "shared".to_owned(),
            Self::Person(user) => hash.update(user.as_bytes()),
            Self::Session(user, session) => {
                hash.update(user.as_bytes());
                hash.update(session);
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Names the connection that a caller uses, or nothing if the server needs a person and `caller` is
/// [`Scope::Shared`], the hub itself.
///
/// `caller` is the narrowest scope there is; it is widened as far as the server's definition allows. All clients share a
/// process, which costs more than a session: it is told that everything is possible, and what a client can't do is
/// refused when it is asked.
pub fn key(
    server: &Server,
    caller: Scope,
    (abilities, prefers): (Abilities, Prefers),
    revisions: Revisions,
) -> Option<ConnectionKey> {
    let definition = &server.definition;
    let is_personal = definition.is_personal();
    let scope = match (definition.isolation, is_personal) {
        (_, false) => Scope::Shared,
        (Isolation::Session, true) => caller,
        (Isolation::Auto | Isolation::Person, true) => Scope::Person(caller.user()?),
    };
    if is_personal && scope.user().is_none() {
        return None;
    }
    let (abilities, prefers) = match definition.transport {
        Transport::Http(_) => (abilities.legacy(), prefers),
        Transport::Stdio(_) => (Abilities::ALL, Prefers::Modern),
    };
    Some(ConnectionKey {
        server: server.id,
        revision: server.revision,
        shared_revision: revisions.shared,
        personal_revision: if scope == Scope::Shared { 0 } else { revisions.personal },
        scope,
        abilities,
        prefers,
    })
}

#[cfg(test)]
impl ConnectionKey {
    /// Names a connection of a person.
    pub(crate) const fn of(person: UserId) -> Self {
        Self {
            server: ServerId::from_bytes([9; 16]),
            revision: 1,
            shared_revision: 1,
            personal_revision: 1,
            scope: Scope::Person(person),
            abilities: Abilities::NONE,
            prefers: Prefers::Modern,
        }
    }
}

#[cfg(test)]
mod tests {
    use mcphub_domain::server::ServerState;
    use mcphub_domain::{Server, ServerId, Timestamp, UserId};

    use super::{Abilities, Prefers, Revisions, Scope, key};

    const ANYBODY: (Abilities, Prefers) = (Abilities::NONE, Prefers::Modern);
    const ALICE: UserId = UserId::from_bytes([1; 16]);
    const SESSION: Scope = Scope::Session(ALICE, [7; 32]);

    fn server(definition: &str) -> Server {
        Server {
            id: ServerId::from_bytes([9; 16]),
            name: "s".parse().unwrap(),
            definition: serde_json::from_str(definition).unwrap(),
            state: ServerState::Enabled,
            revision: 3,
            created_at: Timestamp::from_micros(0),
        }
    }

    fn scope(definition: &str, caller: Scope) -> Option<Scope> {
        key(&server(definition), caller, ANYBODY, Revisions { shared: 1, personal: 2 }).map(|key| key.scope)
    }

    #[test]
    fn a_connection_is_shared_only_if_nothing_personal_is_in_it() {
        let shared = r#"{"type":"stdio","command":"x","env":{"A":"${SHARED_A}"}}"#;
        let personal = r#"{"type":"stdio","command":"x","env":{"A":"${USER_A}"}}"#;
        let identity = r#"{"type":"streamable-http","url":"https://a.example/${HUB_USER_ID}"}"#;
        let person = r#"{"type":"stdio","command":"x","isolation":"person"}"#;
        let session = r#"{"type":"stdio","command":"x","isolation":"session"}"#;
        assert_eq!(scope(shared, SESSION), Some(Scope::Shared));
        assert_eq!(scope(personal, SESSION), Some(Scope::Person(ALICE)));
        assert_eq!(scope(identity, SESSION), Some(Scope::Person(ALICE)));
        assert_eq!(scope(person, SESSION), Some(Scope::Person(ALICE)));
        assert_eq!(scope(session, SESSION), Some(SESSION));
        assert_eq!(scope(session, Scope::Person(ALICE)), Some(Scope::Person(ALICE)));
    }

    #[test]
    fn the_hub_itself_has_no_personal_connection() {
        for isolation in ["person", "session"] {
            let definition = format!(r#"{{"type":"stdio","command":"x","isolation":"{isolation}"}}"#);
            assert_eq!(scope(&definition, Scope::Shared), None);
        }
    }

    #[test]
    fn a_person_s_changes_touch_no_shared_connection() {
        let server = server(r#"{"type":"stdio","command":"x"}"#);
        let of = |personal| key(&server, Scope::Person(ALICE), ANYBODY, Revisions { shared: 1, personal });
        assert_eq!(of(1), of(2));
    }

    #[test]
    fn file_names_tell_people_apart_and_nothing_else() {
        let short = Scope::Person(ALICE).short();
        assert_eq!(short.len(), 16);
        assert_ne!(short, SESSION.short());
        assert!(!short.contains("0101"));
    }
}
