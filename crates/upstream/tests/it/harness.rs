//! A hub with one server, two people, and a clock that the test sets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mcphub_domain::group::{Author, Standing};
use mcphub_domain::server::ServerState;
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{
    Clock, Effect, Entropy, Grant, GrantId, Group, GroupId, HubKey, KeyId, Membership, Principal, RequestId,
    Rights, Role, SecretText, Server, ServerId, Slot, Timestamp, Tool, ToolDigest, ToolState, User, UserId,
    Verdict,
};
use mcphub_policy::{AskPermit, Endpoint, LookPermit, Recorded, Recorder, World, decide};
use mcphub_upstream::{
    Access, Answer, Caller, Client, ConnectionKey, Prefers, Reply, ReplyMessage, Revisions, Scope, Settings,
    ToolCall, UpstreamError, Upstreams, Values, key,
};
use mcphub_wire::{Abilities, Envelope, Outcome, Params};
use tempfile::TempDir;

pub(crate) const ALICE: UserId = UserId::from_bytes([0xa; 16]);
pub(crate) const BOB: UserId = UserId::from_bytes([0xb; 16]);

pub(crate) struct Hub {
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) folder: TempDir,
    pub(crate) time: Arc<AtomicI64>,
}

impl Hub {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let environment = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("DECLARED".to_owned(), "yes".to_owned()),
        ]);
        let mut settings = Settings::new(
            child_program(),
            environment,
            folder.path().join("logs"),
            folder.path().join("homes"),
        );
        adjust(&mut settings);
        let time = Arc::new(AtomicI64::new(1_795_000_000_000_000));
        let told = Arc::clone(&time);
        let clock = Clock::new(move || Timestamp::from_micros(told.load(Ordering::SeqCst)));
        Self { upstreams: Upstreams::new(settings, clock).unwrap(), folder, time }
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.time.fetch_add(i64::try_from(span.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Calls the server's only tool as a person.
    pub(crate) async fn call(
        &self,
        server: &Arc<Server>,
        who: UserId,
        params: &str,
    ) -> Result<Reply, UpstreamError> {
        self.upstreams.call_tool(recorded(server, who), tool_call(server, who, params)).await
    }

    pub(crate) async fn answer(
        &self,
        server: &Arc<Server>,
        who: UserId,
        params: &str,
    ) -> Result<Answer, UpstreamError> {
        self.call(server, who, params).await?.answer().await
    }
}

/// Finds the program that stands in for the supervisor: an example of this package.
pub(crate) fn child_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/child");
    assert!(
        program.exists(),
        "`--test it` alone builds no examples: run `cargo build -p mcphub-upstream --examples`"
    );
    program
}

/// Is what a supervisor is told: a home, the default hosts, 256 MiB and 300 threads.
pub(crate) fn confinement(home: &Path, namespaces: &str) -> serde_json::Value {
    serde_json::json!({
        "home": home, "read": [], "write": [], "hosts": ["*"], "namespaces": namespaces,
        "memory": 256 << 20, "processes": 300, "cgroup": null,
    })
}

pub(crate) fn server(name: &str, definition: &serde_json::Value) -> Arc<Server> {
    let mut id = [7; 16];
    id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    let definition =
        mcphub_domain::ServerDefinition::clone(&serde_json::from_value(definition.clone()).unwrap());
    definition.check().unwrap();
    Arc::new(Server {
        id: ServerId::from_bytes(id),
        name: name.parse().unwrap(),
        definition,
        state: ServerState::Enabled,
        revision: 1,
        created_at: Timestamp::from_micros(0),
    })
}

pub(crate) fn token_of(who: UserId) -> &'static str {
    if who == ALICE { "alices-t0ken" } else { "bobs-t0ken!" }
}

pub(crate) fn values(who: UserId) -> Values {
    let slots = [("T", token_of(who))]
        .map(|(name, value)| (Slot::Personal(name.parse().unwrap()), SecretText::new(value.to_owned())));
    let name = if who == ALICE { "alice" } else { "bob" };
    let caller = Caller { id: who, name: name.parse().unwrap(), email: None };
    Values { slots: slots.into(), caller: Some(caller) }
}

pub(crate) fn connection(server: &Server, who: UserId) -> ConnectionKey {
    key(server, Scope::Person(who), (Abilities::NONE, Prefers::Modern), Revisions { shared: 1, personal: 1 })
        .unwrap()
}

pub(crate) fn access(server: &Server, who: UserId) -> Access {
    Access {
        key: connection(server, who),
        caller: Some(who),
        values: Box::new(move || Ok(values(who))),
        still: Box::new(|| true),
    }
}

pub(crate) fn tool_call(server: &Arc<Server>, who: UserId, params: &str) -> ToolCall {
    ToolCall {
        server: Arc::clone(server),
        access: access(server, who),
        params: parse_params(params),
        mirrored: None,
        client: Client::NOBODY,
    }
}

pub(crate) fn parse_params(params: &str) -> Params {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    Envelope::parse(&Bytes::from(body)).unwrap().params().unwrap().clone()
}

/// Gets a permit to look at the server the way the hub does, and vouches that it is recorded.
#[expect(clippy::disallowed_methods, reason = "there is no audit queue here to make the recorder for")]
pub(crate) fn looked(server: &Server, who: UserId) -> Recorded<LookPermit> {
    let (world, now) = (world(server, who), Timestamp::from_micros(1));
    let permit = decide::look(&world, Principal::Hub, server.id, Some(who), now).unwrap();
    Recorder::new().vouch(permit, RequestId::random(&Entropy::fixed(1)))
}

/// Gets a permit for a question the way the hub does, and vouches that it is recorded.
#[expect(clippy::disallowed_methods, reason = "there is no audit queue here to make the recorder for")]
pub(crate) fn asked(server: &Server, who: UserId) -> Recorded<AskPermit> {
    let (world, person, now) = (world(server, who), person(who), Timestamp::from_micros(1));
    let permit = decide::ask(&world, person, Endpoint::Server(server.id), server.id, now).unwrap();
    Recorder::new().vouch(permit, RequestId::random(&Entropy::fixed(1)))
}

/// Gets a permit for the tool `do` the way the hub does, and vouches that it is recorded.
#[expect(clippy::disallowed_methods, reason = "there is no audit queue here to make the recorder for")]
pub(crate) fn recorded(server: &Server, who: UserId) -> Recorded {
    let (world, person, now) = (world(server, who), person(who), Timestamp::from_micros(1));
    let permit = decide::call(&world, person, Endpoint::Server(server.id), "do", now).unwrap();
    Recorder::new().vouch(permit, RequestId::random(&Entropy::fixed(1)))
}

fn person(user: UserId) -> Principal {
    Principal::Person { user, key: KeyId::from_bytes([1; 16]) }
}

fn world(server: &Server, who: UserId) -> World {
    let (start, group) = (Timestamp::from_micros(0), GroupId::from_bytes([3; 16]));
    let mut world = World::default();
    let name = if who == ALICE { "alice" } else { "bob" };
    world.put_user(User {
        id: who,
        name: name.parse().unwrap(),
        email: None,
        role: Role::User,
        auditor: Auditor::No,
        state: UserState::Active,
        revision: 1,
        created_at: start,
    });
    world.put_key(HubKey {
        id: KeyId::from_bytes([1; 16]),
        owner: who,
        name: "laptop".parse().unwrap(),
        mac: [0; 32],
        created_at: start,
        expires_at: Timestamp::from_micros(i64::MAX),
        revoked_at: None,
        exposed_at: None,
        revision: 1,
    });
    world.put_group(Group { id: group, name: "team".parse().unwrap(), revision: 1, created_at: start });
    world.put_members(
        group,
        vec![Membership { group, user: who, standing: Standing::Member, expires_at: None, revision: 1 }],
    );
    world.put_grants(
        group,
        vec![Grant {
            id: GrantId::from_bytes([4; 16]),
            group,
            server: server.id,
            verdict: Verdict::Allow,
            author: Author::Admin,
            rights: Rights::ALL,
            tools: Vec::new(),
            expires_at: None,
            revision: 1,
        }],
    );
    world.put_server(server.clone());
    let tool = Tool {
        server: server.id,
        name: "do".parse().unwrap(),
        effect: Effect::Read,
        state: ToolState::Approved,
        digest: ToolDigest::of(b"{}"),
        position: 0,
        revision: 1,
    };
    world.put_tools(server.id, vec![tool]);
    world
}

/// Returns the text of an answer's result.
pub(crate) fn text(answer: &Answer) -> String {
    let Outcome::Result(result) = &answer.outcome else { panic!("{:?}", answer.outcome) };
    String::from_utf8(result.as_bytes().to_vec()).unwrap()
}

pub(crate) fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&text(answer)).unwrap()
}

/// Reads a reply to its end: notifications, then the answer's text.
pub(crate) async fn all(mut reply: Reply) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(message) = reply.next().await {
        found.push(match message.unwrap() {
            ReplyMessage::Notification(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            ReplyMessage::Inquiry(inquiry) => inquiry.method.to_string(),
            ReplyMessage::Final(answer) => text(&answer),
        });
    }
    found
}

/// Waits until something outside of the test has happened.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this did not happen within 10 s: {what}");
}

/// Finds a process that a confined server names: the number that the machine knows it by. The answer names
/// the server's `space`, which is what `/proc/self/ns/pid` leads to.
pub(crate) fn outside(answer: &serde_json::Value, pid: &serde_json::Value) -> u64 {
    let processes = std::fs::read_dir("/proc").unwrap();
    let known = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_it = |known: &u64| {
        let space = std::fs::read_link(format!("/proc/{known}/ns/pid"));
        let inside = status(*known, "NSpid").and_then(|pids| pids.last().copied());
        space.is_ok_and(|space| space.to_str() == answer["space"].as_str()) && inside == pid.as_u64()
    };
    let Some(found) = known.into_iter().find(is_it) else { panic!("{pid} does not run") };
    found
}

/// Finds what started a process.
pub(crate) fn parent(pid: u64) -> u64 {
    status(pid, "PPid").unwrap()[0]
}

/// Reads the numbers of a field of a process's status.
pub(crate) fn status(pid: u64, field: &str) -> Option<Vec<u64>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect())
}

pub(crate) fn is_alive(pid: u64) -> bool {
    // A zombie is dead, but its number may not be free yet.
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'),
        Err(_) => false,
    }
}
