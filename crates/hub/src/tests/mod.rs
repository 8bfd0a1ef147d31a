//! What only shows between two steps of a use case: a hub on SQLite, two people, and servers that do
//! what a test wants.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcphub_domain::group::Standing;
use mcphub_domain::{
    Clock, Entropy, Group, Membership, Quota, Rights, Role, SecretText, Server, Timestamp, User, Verdict,
};
use mcphub_store::{DatabaseUrls, Place, Process};
use mcphub_wire::Envelope;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::web::{Seen, Web};
use crate::credentials::{SeenSlot, SlotView};
use crate::groups::NewGrant;
use crate::keys::NewKey;
use crate::users::NewUser;
use crate::{Caller, Client, Endpoint, Hub, KeySource, Settings, ToolCall};

mod accounts;
mod backup;
mod calls;
mod clock;
mod connecting;
mod keys;
mod listing;
mod refusals;
mod rounds;
#[expect(dead_code, reason = "these tests need less of it than those that it is from")]
#[path = "../../../mcphub/tests/it/harness/schema.rs"]
mod schema;
mod sessions;
mod tasks;
mod town;
mod vault;
mod watches;
#[path = "../../../upstream/tests/it/web.rs"]
#[expect(dead_code, reason = "these tests need less of it than those that it is from")]
mod web;

/// The time when a test begins, in microseconds since 1970.
const START: i64 = 1_795_000_000_000_000;

/// Is a hub with a group that may use everything.
struct House {
    hub: Arc<Hub>,
    group: Group,
    folder: TempDir,
}

impl House {
    async fn open() -> Self {
        Self::open_with(7).await
    }

    /// Opens one whose keys and ids come from a seed.
    async fn open_with(seed: u64) -> Self {
        Self::open_at(Clock::new(|| Timestamp::from_micros(START)), seed).await
    }

    /// Opens one with a clock that the test sets.
    async fn open_at(clock: Clock, seed: u64) -> Self {
        Self::open_on("http://127.0.0.1:3000", clock, seed).await
    }

    /// Opens one that people reach under an address.
    async fn open_on(public_url: &str, clock: Clock, seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let hub = Self::enter(&folder, (public_url, Process::Serve), clock, seed).await;
        let group = hub.add_group(&hub.operator(), "devs".parse().unwrap()).await.unwrap();
        Self { hub, group, folder }
    }

    /// Opens another process beside the hub, as a command is.
    async fn beside(&self) -> Arc<Hub> {
        let clock = Clock::new(|| Timestamp::from_micros(START));
        Self::enter(&self.folder, ("http://127.0.0.1:3000", Process::Command), clock, 8).await
    }

    async fn enter(
        folder: &TempDir,
        (public_url, process): (&str, Process),
        clock: Clock,
        seed: u64,
    ) -> Arc<Hub> {
        let place = |name: &str| folder.path().join(name);
        let upstream =
            crate::UpstreamSettings::new(place("none"), Default::default(), place("logs"), place("homes"));
        let settings = Settings {
            place: Place { data_dir: place("data"), database: DatabaseUrls::Sqlite },
            process,
            key: KeySource::Folder(place("keys")),
            heads: place("heads"),
            quota: Quota::new(1_000_000, 256).unwrap(),
            public_url: public_url.parse().unwrap(),
            upstream,
        };
        Hub::open(settings, clock, Entropy::fixed(seed)).await.unwrap()
    }

    /// Adds a person to the group, and lets her in.
    async fn person(&self, name: &str) -> (User, Caller) {
        let (hub, operator) = (&self.hub, self.hub.operator());
        let new = NewUser { name: name.parse().unwrap(), email: None, role: Role::User };
        let user = hub.add_user(&operator, new).await.unwrap();
        let membership = Membership {
            group: self.group.id,
            user: user.id,
            standing: Standing::Member,
            expires_at: None,
            revision: 0,
        };
        hub.join_group(&operator, membership).await.unwrap();
        let new = NewKey { owner: user.id, name: "test".parse().unwrap(), life: Duration::from_hours(24) };
        let key = hub.create_key(&operator, new).await.unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let caller = hub.authenticate(Some(key.text.as_str()), address).await.unwrap();
        (user, caller)
    }

    /// Adds a server to which each person brings a token of her own.
    async fn server(&self, name: &str, web: &Web) -> Server {
        self.server_within(name, web, 60_000).await
    }

    /// Adds one that has to answer in time.
    async fn server_within(&self, name: &str, web: &Web, millis: u64) -> Server {
        let headers = json!({ "authorization": "${USER_TOKEN}" });
        self.add(
            name,
            json!({ "type": "streamable-http", "url": web.url(), "headers": headers, "timeoutMs": millis }),
        )
        .await
    }

    /// Adds a server that the group may use.
    async fn add(&self, name: &str, definition: Value) -> Server {
        let (hub, operator) = (&self.hub, self.hub.operator());
        let definition = serde_json::from_value(definition).unwrap();
        let server = hub.add_server(&operator, name.parse().unwrap(), definition).await.unwrap();
        let grant = NewGrant {
            group: self.group.id,
            server: server.id,
            verdict: Verdict::Allow,
            rights: Rights::ALL,
            tools: Vec::new(),
            expires_at: None,
        };
        hub.add_grant(&operator, grant).await.unwrap();
        server
    }

    async fn set_token(&self, user: &User, server: &Server, token: &str) {
        let (operator, token) = (self.hub.operator(), SecretText::new(token.to_owned()));
        let seen = self.slot(user, server).await;
        self.hub.set_credential(&operator, user.id, &seen, &token).await.unwrap();
    }

    /// Looks at a person's slot.
    async fn slot(&self, user: &User, server: &Server) -> SeenSlot {
        let slots = self.hub.list_credentials(&self.hub.operator(), user.id, server.id).await.unwrap();
        let [SlotView { slot, revision, destination, .. }] = &slots[..] else { panic!("{slots:?}") };
        let slot = slot.name().clone();
        SeenSlot { server: server.id, slot, revision: *revision, destination: *destination }
    }
}

/// Makes a call of the server's only tool, as it comes in.
fn call(server: &Server) -> ToolCall {
    call_with(server, &json!({}))
}

/// Makes one with arguments.
fn call_with(server: &Server, arguments: &Value) -> ToolCall {
    let params = json!({ "name": "do", "arguments": arguments });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let envelope = Envelope::parse(&Bytes::from(body.to_string())).unwrap();
    ToolCall {
        endpoint: Endpoint::Server(server.id),
        path: format!("/mcp/{}", server.name),
        name: "do".to_owned(),
        params: envelope.params().unwrap().clone(),
        client: Client::default(),
    }
}

/// Answers a list with the tool `do`, and a call with nothing.
fn answer(seen: &Seen) -> web::Plan {
    match seen.method() {
        "tools/list" => web::result(seen, &json!({ "tools": [{ "name": "do" }] })),
        _ => web::result(seen, &json!({ "content": [] })),
    }
}
