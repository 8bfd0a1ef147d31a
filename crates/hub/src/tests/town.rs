//! A server that lets each person in by an account of her own, with an authorization server that a test steers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mcphub_domain::{Clock, Server, ServerDefinition, SlotName, Timestamp, User, Verdict};
use mcphub_domain::{Rights, Slot};
use mcphub_store::credentials::SealedValue;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::web::{Plan, Seen, Web, message, status};
use super::{House, START, call};
use crate::credentials::SlotState;
use crate::credentials::find;
use crate::error::HubError;
use crate::groups::NewGrant;
use crate::running::Said;
use crate::{Callback, Caller};

/// Says how a token endpoint answers.
#[derive(Clone, Default)]
pub(super) enum Mood {
    /// It gives tokens for what is good once.
    #[default]
    Gives,
    /// It says something else.
    Says(u16, &'static str),
}

/// Is what an authorization server knows, and how it is.
#[derive(Default)]
pub(super) struct Office {
    pub(super) mood: Mood,
    /// For how long a token is said to be good, in seconds.
    pub(super) lifetime: Option<u64>,
    /// Keeps the next answer back until the other end is dropped.
    pub(super) held: Option<mpsc::Receiver<()>>,
    given: u32,
    /// The tokens that the server lets in.
    access: Vec<String>,
    refresh: Vec<String>,
}

/// Is a server with its authorization server, both on one address.
pub(super) struct Town {
    pub(super) house: House,
    pub(super) web: Web,
    pub(super) office: Arc<Mutex<Office>>,
    time: Arc<AtomicI64>,
}

impl Office {
    fn give(&mut self, asked: &BTreeMap<String, String>) -> Plan {
        if let Some(held) = self.held.take() {
            assert!(tokio::task::block_in_place(|| held.recv()).is_err());
        }
        if let Mood::Says(code, text) = self.mood {
            return message(code, "", &serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)));
        }
        let before = asked.get("refresh_token");
        if before.is_some_and(|before| !self.refresh.contains(before)) {
            return message(400, "", &json!({ "error": "invalid_grant", "error_description": "hush" }));
        }
        self.refresh.retain(|known| Some(known) != before);
        self.given += 1;
        let (access, refresh) = (format!("access-{}", self.given), format!("refresh-{}", self.given));
        self.access.push(access.clone());
        self.refresh.push(refresh.clone());
        let mut granted = json!({ "access_token": access, "token_type": "Bearer", "refresh_token": refresh, "scope": "notes" });
        if let Some(lifetime) = self.lifetime {
            granted["expires_in"] = lifetime.into();
        }
        message(200, "", &granted)
    }

    /// Lets nobody in with the tokens that were given.
    pub(super) fn forget_access(&mut self) {
        self.access.clear();
    }

    /// Answers what is asked of an authorization server, and refuses who brings no good token.
    fn answer(&mut self, seen: &Seen) -> Option<Plan> {
        let origin = format!("http://{}", seen.header("host").unwrap_or_default());
        let path = seen.path().split('?').next().unwrap_or_default().to_owned();
        Some(match path.as_str() {
            "/.well-known/oauth-protected-resource/mcp" => message(
                200,
                "",
                &json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [origin] }),
            ),
            "/.well-known/oauth-authorization-server" => message(200, "", &described(&origin)),
            "/register" => message(201, "", &json!({ "client_id": "registered" })),
            "/token" => self.give(&form(seen)),
            "/mcp" if !self.lets_in(seen) => {
                let head = "401 X\r\nwww-authenticate: Bearer error=\"invalid_token\"\r\ncontent-length: 0";
                super::web::raw(head, "", super::web::End::KeepAlive)
            }
            "/mcp" => return None,
            _ => status(404),
        })
    }

    fn lets_in(&self, seen: &Seen) -> bool {
        let token = seen.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
        token.is_some_and(|token| self.access.iter().any(|known| known == token))
    }
}

fn described(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "registration_endpoint": format!("{origin}/register"),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
    })
}

/// Reads a form that was sent.
pub(super) fn form(seen: &Seen) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(seen.text.as_bytes()).into_owned().collect()
}

/// Makes a server over an office; `respond` says what it does for those that are let in.
pub(super) async fn site(
    office: &Arc<Mutex<Office>>,
    respond: impl Fn(&Seen) -> Plan + Send + Sync + 'static,
) -> Web {
    let office = Arc::clone(office);
    Web::start(move |seen| {
        let refused = office.lock().answer(seen);
        refused.unwrap_or_else(|| respond(seen))
    })
    .await
}

impl Town {
    pub(super) async fn with(respond: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Self {
        let time = Arc::new(AtomicI64::new(START));
        let shown = Arc::clone(&time);
        let house =
            House::open_at(Clock::new(move || Timestamp::from_micros(shown.load(Ordering::SeqCst))), 7);
        let office = Arc::default();
        Self { house: house.await, web: site(&office, respond).await, office, time }
    }

    /// Begins with a modern server.
    pub(super) async fn modern() -> Self {
        Self::with(|seen| match seen.method() {
            "server/discover" => super::web::discovery(seen),
            _ => super::answer(seen),
        })
        .await
    }

    pub(super) fn pass(&self, span: Duration) {
        self.time.fetch_add(i64::try_from(span.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(super) async fn server(&self, oauth: Value) -> Server {
        let (hub, operator) = (&self.house.hub, self.house.hub.operator());
        let definition = self.definition(oauth);
        let server = hub.add_server(&operator, "notes".parse().unwrap(), definition).await.unwrap();
        let (group, rights) = (self.house.group.id, Rights::ALL);
        let (tools, expires_at) = (Vec::new(), None);
        let grant = NewGrant { group, server: server.id, verdict: Verdict::Allow, rights, tools, expires_at };
        hub.add_grant(&operator, grant).await.unwrap();
        server
    }

    pub(super) fn definition(&self, oauth: Value) -> ServerDefinition {
        let networks = ["127.0.0.0/8"];
        let definition =
            json!({ "type": "streamable-http", "url": self.web.url(), "networks": networks, "oauth": oauth });
        serde_json::from_value(definition).unwrap()
    }

    /// Connects a person's account, and lists the server.
    pub(super) async fn connect(&self, (user, caller): &(User, Caller), server: &Server) {
        let hub = &self.house.hub;
        let begun = hub.connect_account(caller, user.id, server.id).await.unwrap();
        let url: url::Url = begun.url.parse().unwrap();
        let back = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
        let path = back.parse::<url::Url>().unwrap().path().to_owned();
        let (state, code) = (Some(begun.state.clone()), Some("code".into()));
        let callback = Callback { path, state, code, ..Callback::default() };
        hub.finish_account(callback, Some(&begun.browser)).await.unwrap();
        hub.list_tools(caller, crate::Endpoint::All).await.unwrap();
    }

    pub(super) async fn call(&self, caller: &Caller, server: &Server) -> Result<(), HubError> {
        let mut running = self.house.hub.call_tool(caller, call(server)).await?;
        match running.next().await {
            Some(Said::Answer(_)) => Ok(()),
            Some(Said::Failed(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// Says how a person's account stands on her page.
    pub(super) async fn state(&self, (user, caller): &(User, Caller), server: &Server) -> SlotState {
        let slots = self.house.hub.list_credentials(caller, user.id, server.id).await.unwrap();
        slots.iter().find(|view| view.slot.is_account()).unwrap().state
    }

    /// Reads the row of a person's account.
    pub(super) async fn row(&self, user: &User, server: &Server) -> SealedValue {
        let rows = self.house.hub.store.credentials(user.id, server.id).await.unwrap();
        find(&rows, Slot::account().name()).unwrap()
    }

    pub(super) async fn remove(&self, (user, caller): &(User, Caller), server: &Server) {
        let (slot, revision): (SlotName, i64) =
            (Slot::account().name().clone(), self.row(user, server).await.revision);
        self.house.hub.remove_credential(caller, user.id, (server.id, slot), revision).await.unwrap();
    }

    /// Lists the forms that came to the token endpoint to renew something.
    pub(super) fn renewals(&self) -> Vec<BTreeMap<String, String>> {
        let forms = self.web.seen();
        let forms = forms.iter().filter(|seen| seen.path() == "/token").map(form);
        forms.filter(|form| form["grant_type"] == "refresh_token").collect()
    }

    /// Counts what was asked of the server with a token.
    pub(super) fn asked_with(&self, token: &str) -> usize {
        let header = format!("Bearer {token}");
        self.web.seen().iter().filter(|seen| seen.header("authorization") == Some(&header)).count()
    }
}
