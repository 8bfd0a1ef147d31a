//! Builds worlds out of small numbers.

use mcphub_domain::group::{Author, Standing, Verdict};
use mcphub_domain::server::{HttpTarget, ServerState};
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{
    Effect, Grant, GrantId, Group, GroupId, HubKey, KeyId, Membership, Principal, Rights, Role, Server,
    ServerDefinition, ServerId, Timestamp, Tool, ToolDigest, ToolState, Transport, User, UserId,
};

/// The time of every decision that isn't about time.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

pub(crate) const fn user_id(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

pub(crate) const fn group_id(number: u8) -> GroupId {
    GroupId::from_bytes([number; 16])
}

pub(crate) const fn server_id(number: u8) -> ServerId {
    ServerId::from_bytes([number; 16])
}

pub(crate) const fn key_id(number: u8) -> KeyId {
    KeyId::from_bytes([number; 16])
}

/// Returns the person of a number with the key of the same number.
pub(crate) const fn person(number: u8) -> Principal {
    Principal::Person { user: user_id(number), key: key_id(number) }
}

/// Returns a time some microseconds from `NOW`.
pub(crate) const fn at(offset: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + offset)
}

pub(crate) fn user(number: u8, role: Role) -> User {
    User {
        id: user_id(number),
        name: format!("user{number}").parse().unwrap(),
        email: None,
        role,
        auditor: Auditor::No,
        state: UserState::Active,
        revision: 1,
        created_at: at(-1_000),
    }
}

pub(crate) fn key(number: u8) -> HubKey {
    HubKey {
        id: key_id(number),
        owner: user_id(number),
        name: "laptop".parse().unwrap(),
        mac: [number; 32],
        created_at: at(-1_000),
        expires_at: at(1_000),
        revoked_at: None,
        exposed_at: None,
        revision: 1,
    }
}

pub(crate) fn group(number: u8) -> Group {
    let name = format!("group{number}").parse().unwrap();
    Group { id: group_id(number), name, revision: 1, created_at: at(-1_000) }
}

pub(crate) const fn member(group: u8, user: u8) -> Membership {
    Membership {
        group: group_id(group),
        user: user_id(user),
        standing: Standing::Member,
        expires_at: None,
        revision: 1,
    }
}

pub(crate) fn server(number: u8) -> Server {
    let url = "https://example.org/mcp".parse().unwrap();
    let target = HttpTarget { url, headers: Default::default(), oauth: None };
    Server {
        id: server_id(number),
        name: format!("server{number}").parse().unwrap(),
        definition: ServerDefinition::new(Transport::Http(target)),
        state: ServerState::Enabled,
        revision: 1,
        created_at: at(-1_000),
    }
}

pub(crate) fn tool(server: u8, name: &str, effect: Effect) -> Tool {
    Tool {
        server: server_id(server),
        name: name.parse().unwrap(),
        effect,
        state: ToolState::Approved,
        digest: ToolDigest::of(name.as_bytes()),
        position: 0,
        revision: 1,
    }
}

pub(crate) const fn grant(number: u8, group: u8, server: u8, verdict: Verdict, rights: Rights) -> Grant {
    Grant {
        id: GrantId::from_bytes([number; 16]),
        group: group_id(group),
        server: server_id(server),
        verdict,
        author: Author::Admin,
        rights,
        tools: Vec::new(),
        expires_at: None,
        revision: 1,
    }
}
