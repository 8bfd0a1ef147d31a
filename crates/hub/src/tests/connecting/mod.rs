//! People connect accounts at servers whose authorization servers say what a test wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mcphub_domain::{Event, Server, Slot, User};
use mcphub_store::audit::search::Search;
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use super::web::{self, Plan, Seen, Web};
use super::{House, answer};
use crate::credentials::SlotState;
use crate::error::HubError;
use crate::{Callback, Caller, Connecting};

mod arriving;
mod finding;
mod registration;

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const AUTHORITY: &str = "/.well-known/oauth-authorization-server";
const REGISTER: &str = "/register";
const TOKEN: &str = "/token";
/// What nobody may find anywhere but at the server.
const CANARY: &str = "canary";

/// Is what is answered at a path instead of what usually is.
type Answers = Arc<Mutex<BTreeMap<&'static str, (u16, Value)>>>;

/// Is a server of MCP and its authorization server, on one address.
struct Realm {
    web: Web,
    answers: Answers,
}

impl Realm {
    async fn start() -> Self {
        let (answers, count) = (Answers::default(), AtomicUsize::new(0));
        let own = Arc::clone(&answers);
        let web = Web::start(move |seen| {
            let said = own
                .lock()
                .iter()
                .find(|(path, _)| seen.path().starts_with(**path))
                .map(|(_, said)| said.clone());
            match said {
                Some((status, body)) => web::message(status, "", &body),
                None => usual(seen, count.fetch_add(1, Ordering::Relaxed)),
            }
        });
        Self { web: web.await, answers }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.web.address)
    }

    /// Answers something else from here on.
    fn says(&self, path: &'static str, status: u16, body: Value) {
        self.answers.lock().insert(path, (status, body));
    }

    /// Lists what was sent to a path.
    fn sent(&self, path: &str) -> Vec<Seen> {
        self.web.seen().into_iter().filter(|seen| seen.path().starts_with(path)).collect()
    }

    /// Lets it describe itself without a member, or with another.
    fn describes_itself(&self, member: &str, value: Value) {
        let mut description = description(&self.origin());
        description[member] = value;
        self.says(AUTHORITY, 200, description);
    }
}

/// Answers as a usual server does.
fn usual(seen: &Seen, number: usize) -> Plan {
    let origin = format!("http://{}", seen.header("host").unwrap());
    let path = seen.path().split('?').next().unwrap();
    match path {
        _ if path.starts_with(RESOURCE) => {
            let name = format!("{origin}{}", path.strip_prefix(RESOURCE).unwrap());
            web::message(200, "", &json!({ "resource": name, "authorization_servers": [origin] }))
        }
        AUTHORITY => web::message(200, "", &description(&origin)),
        REGISTER => web::message(201, "", &json!({ "client_id": format!("client-{number}") })),
        TOKEN => {
            let (access, refresh) = (format!("{CANARY}-{number}"), format!("{CANARY}-r-{number}"));
            let granted = json!({ "access_token": access, "token_type": "Bearer", "refresh_token": refresh });
            web::message(200, "", &granted)
        }
        _ if path.contains(".well-known") => web::status(404),
        _ if seen.header("authorization").is_none() => web::raw(
            "401 X\r\nwww-authenticate: Bearer scope=\"notes\"\r\ncontent-length: 0",
            "",
            web::End::KeepAlive,
        ),
        _ if seen.method() == "server/discover" => web::discovery(seen),
        _ => answer(seen),
    }
}

fn description(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}{TOKEN}"),
        "registration_endpoint": format!("{origin}{REGISTER}"),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    })
}

/// Is alice, who connects her account at a server.
struct Scene {
    house: House,
    realm: Realm,
    server: Server,
    alice: User,
    caller: Caller,
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(|_| json!({})).await
    }

    async fn set_with(oauth: impl FnOnce(&Realm) -> Value) -> Self {
        Self::set_in(House::open().await, oauth).await
    }

    async fn set_in(house: House, oauth: impl FnOnce(&Realm) -> Value) -> Self {
        let realm = Realm::start().await;
        let definition = json!({
            "type": "streamable-http", "url": realm.web.url(), "oauth": oauth(&realm), "networks": ["127.0.0.0/8"],
        });
        let server = house.add("notes", definition).await;
        let (alice, caller) = house.person("alice").await;
        Self { house, realm, server, alice, caller }
    }

    async fn go(&self) -> Result<Connecting, HubError> {
        self.house.hub.connect_account(&self.caller, self.alice.id, self.server.id).await
    }

    async fn gone(&self) -> Connecting {
        self.go().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Says why she can't go, and that this has its record.
    async fn refused(&self) -> String {
        let error = self.go().await.err().expect("nobody goes there").to_string();
        let recorded = self.failures().await;
        assert!(recorded.iter().any(|reason| reason.starts_with(&error)), "{error}: {recorded:?}");
        error
    }

    async fn arrive(&self, way: &Connecting) -> Result<(), HubError> {
        let callback = self.callback(way);
        self.house.hub.finish_account(callback, Some(&way.browser)).await.map(drop)
    }

    fn callback(&self, way: &Connecting) -> Callback {
        Callback {
            path: Url::parse(&asked(way, "redirect_uri")).unwrap().path().to_owned(),
            state: Some(way.state.clone()),
            code: Some("code".to_owned()),
            iss: Some(self.realm.origin()),
            error: None,
        }
    }

    async fn connect(&self) -> Connecting {
        let way = self.gone().await;
        self.arrive(&way).await.unwrap();
        way
    }

    async fn state(&self) -> SlotState {
        let operator = self.house.hub.operator();
        let slots = self.house.hub.list_credentials(&operator, self.alice.id, self.server.id).await.unwrap();
        slots.iter().find(|slot| slot.slot == Slot::account()).unwrap().state
    }

    /// Lists why no account was connected, the newest first.
    async fn failures(&self) -> Vec<String> {
        let search = Search { server: Some(self.server.id), limit: 100, ..Search::default() };
        let records = self.house.hub.search_audit(&self.house.hub.operator(), &search).await.unwrap();
        let reasons = records.into_iter().filter_map(|read| match read.record.entry.event {
            Event::AccountFailed { owner, reason, .. } => Some((owner, reason)),
            _ => None,
        });
        reasons
            .map(|(owner, reason)| {
                assert_eq!(owner, self.alice.id);
                reason
            })
            .collect()
    }
}

/// Reads what is asked for where she goes.
fn asked(way: &Connecting, name: &str) -> String {
    let url = Url::parse(&way.url).unwrap();
    let found = url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    found.unwrap_or_else(|| panic!("no {name} in {url}"))
}
