//! Builds what the tests store, each thing distinct in every field.

use std::collections::BTreeMap;

use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::group::{Author, Standing, Verdict};
use mcphub_domain::server::{HttpTarget, ServerState};
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{
    Actor, CredentialId, Effect, Entropy, Event, Grant, GrantId, Group, GroupId, HubKey, KeyId, Membership,
    Principal, RequestId, Rights, Role, Server, ServerDefinition, ServerId, Timestamp, Tool, ToolDigest,
    ToolName, ToolState, Transport, User, UserId,
};
use mcphub_policy::{Administration, AskPermit, Endpoint, Permit, PermitEntry, World, decide};
use mcphub_store::audit::{Intent, Question};
use mcphub_store::credentials::SealedValue;
use mcphub_store::servers::StoredTool;
use mcphub_store::{Store, StoreError, WriteTx};

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

pub(crate) fn user(name: &str) -> User {
    User {
        id: UserId::from_bytes(bytes(name)),
        name: name.parse().unwrap(),
        email: Some(format!("{name}@example.org")),
        role: Role::Manager,
        auditor: Auditor::Yes,
        state: UserState::Active,
        revision: 1,
        created_at: Timestamp::from_micros(12),
    }
}

pub(crate) fn group(name: &str) -> Group {
    Group {
        id: GroupId::from_bytes(bytes(name)),
        name: name.parse().unwrap(),
        revision: 1,
        created_at: Timestamp::from_micros(13),
    }
}

pub(crate) fn server(name: &str) -> Server {
    let url = format!("https://{name}.example.org/mcp").parse().unwrap();
    let headers = [("authorization".to_owned(), "Bearer ${USER_TOKEN}".parse().unwrap())].into();
    Server {
        id: ServerId::from_bytes(bytes(name)),
        name: name.parse().unwrap(),
        definition: ServerDefinition::new(Transport::Http(HttpTarget { url, headers, oauth: None })),
        state: ServerState::Enabled,
        revision: 1,
        created_at: Timestamp::from_micros(14),
    }
}

pub(crate) fn membership(group: &Group, user: &User) -> Membership {
    let expires_at = Some(Timestamp::from_micros(15));
    Membership { group: group.id, user: user.id, standing: Standing::Manager, expires_at, revision: 0 }
}

pub(crate) fn grant(name: &str, group: &Group, server: &Server) -> Grant {
    Grant {
        id: GrantId::from_bytes(bytes(name)),
        group: group.id,
        server: server.id,
        verdict: Verdict::Deny,
        author: Author::Manager,
        rights: "read,execute".parse().unwrap(),
        tools: vec!["get_*".parse().unwrap(), "é\"".parse().unwrap()],
        expires_at: Some(Timestamp::from_micros(16)),
        revision: 1,
    }
}

pub(crate) fn tool(server: &Server, name: &str) -> StoredTool {
    let definition = format!("{{\"name\":\"{name}\"}}").into_bytes();
    let tool = Tool {
        server: server.id,
        name: name.parse().unwrap(),
        effect: Effect::Write,
        state: ToolState::Pending,
        digest: ToolDigest::of(&definition),
        position: 5,
        revision: 1,
    };
    StoredTool { tool, definition }
}

pub(crate) fn key(name: &str, owner: &User) -> HubKey {
    HubKey {
        id: KeyId::from_bytes(bytes(name)),
        owner: owner.id,
        name: name.parse().unwrap(),
        mac: [7; 32],
        created_at: Timestamp::from_micros(17),
        expires_at: Timestamp::from_micros(NOW.as_micros() + 18),
        revoked_at: None,
        exposed_at: None,
        revision: 1,
    }
}

/// Builds a sealed value; without an owner it is a shared one.
pub(crate) fn sealed(name: &str, owner: Option<&User>, server: &Server) -> SealedValue {
    SealedValue {
        id: CredentialId::from_bytes(bytes(name)),
        owner: owner.map(|user| user.id),
        server: server.id,
        slot: name.parse().unwrap(),
        sealed: vec![0, 255, 1],
        destination: server.definition.destination(),
        revision: 1,
        updated_at: Timestamp::from_micros(19),
    }
}

/// Spells a name into the 16 bytes of an id.
pub(crate) fn bytes(name: &str) -> [u8; 16] {
    let digest = ToolDigest::of(name.as_bytes()).to_string();
    std::array::from_fn(|place| u8::from_str_radix(&digest[2 * place..2 * place + 2], 16).unwrap())
}

/// Makes what an allowed change is committed with.
pub(crate) fn entry(event: Event) -> PermitEntry {
    let permit =
        decide::administration(&World::default(), Principal::Operator, Administration::ManageUsers, NOW)
            .unwrap();
    permit.entry(event, RequestId::from_bytes([9; 16]), BTreeMap::new())
}

/// Makes a record's content that can be told from others by `name`.
pub(crate) fn note(name: &str) -> Entry {
    note_at(name, NOW)
}

pub(crate) fn note_at(name: &str, at: Timestamp) -> Entry {
    let event = Event::Read { method: name.to_owned(), target: None, items: 1 };
    Entry { at, actor: Actor::Hub, event, request: None, personal: BTreeMap::new() }
}

/// Decides that alice may call `look` on the server `github`.
pub(crate) fn permit() -> Permit {
    let (world, principal) = granted();
    decide::call(&world, principal, Endpoint::All, "github__look", NOW).unwrap()
}

pub(crate) fn ask_permit() -> AskPermit {
    let (world, principal) = granted();
    decide::ask(&world, principal, Endpoint::All, server("github").id, NOW).unwrap()
}

/// Builds a world in which alice may do everything on one server, and says who she is there.
fn granted() -> (World, Principal) {
    let (alice, staff, github) = (user("alice"), group("staff"), server("github"));
    let key = key("laptop", &alice);
    let principal = Principal::Person { user: alice.id, key: key.id };
    let look = Tool { state: ToolState::Approved, ..tool(&github, "look").tool };
    let allow = Grant {
        verdict: Verdict::Allow,
        author: Author::Admin,
        rights: Rights::ALL,
        tools: Vec::new(),
        expires_at: None,
        ..grant("all", &staff, &github)
    };
    let member = Membership { expires_at: None, ..membership(&staff, &alice) };
    let mut world = World::default();
    world.put_members(staff.id, vec![member]);
    world.put_grants(staff.id, vec![allow]);
    world.put_user(alice);
    world.put_key(key);
    world.put_group(staff);
    let id = github.id;
    world.put_server(github);
    world.put_tools(id, vec![look]);
    (world, principal)
}

pub(crate) fn intent(request: RequestId) -> Intent {
    Intent { request, endpoint: "/mcp".to_owned(), arguments: "00".repeat(32), personal: BTreeMap::new() }
}

pub(crate) fn outcome(request: RequestId, status: CallStatus) -> Entry {
    let tool: ToolName = "look".parse().unwrap();
    let server = server("github").id;
    let event = Event::CallOutcome { server, tool, status, code: None, bytes: 1, micros: 2 };
    let alice = user("alice");
    let actor = Actor::Person { user: alice.id, key: key("laptop", &alice).id };
    Entry { at: NOW, actor, event, request: Some(request), personal: BTreeMap::new() }
}

pub(crate) const fn question(method: &'static str) -> Question {
    Question { method: std::borrow::Cow::Borrowed(method), target: None }
}

pub(crate) fn ask_outcome(request: RequestId, method: &str) -> Entry {
    let (server, method, status) = (server("github").id, method.to_owned(), CallStatus::Ok);
    let event = Event::AskOutcome { server, method, status, code: None, bytes: 1, micros: 2 };
    Entry { event, ..outcome(request, status) }
}

pub(crate) fn request(number: u64) -> RequestId {
    RequestId::random(&Entropy::fixed(number))
}

/// Commits one change.
pub(crate) async fn write(
    store: &Store,
    change: impl AsyncFnOnce(&mut WriteTx) -> Result<(), StoreError>,
) -> Result<i64, StoreError> {
    let mut tx = store.write().await?;
    change(&mut tx).await?;
    tx.commit(entry(Event::VaultUnsealed)).await
}
