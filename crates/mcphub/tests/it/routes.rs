//! Every route and every role: `routes.txt` says who may do what, and this says whether it is so.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::Person;
use crate::harness::client::send;
use crate::harness::{Database, Installation, Serving};

const TABLE: &str = include_str!("routes.txt");
const RECORD: &str = "6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e/0";
const ROLES: [&str; 6] = ["anonymous", "viewer", "user", "manager", "admin", "revoked"];

/// Is a hub with one thing of each kind.
struct Stage {
    serving: Serving,
    keys: BTreeMap<&'static str, String>,
    admin: Person,
    alice: Person,
    ids: BTreeMap<&'static str, String>,
    attempts: Cell<u8>,
    made: Cell<u32>,
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl Stage {
    fn set() -> (Installation, Self) {
        let mut installation = Installation::new(Database::Sqlite);
        installation.set("MCPHUB_BEHIND_PROXY", "true");
        let mut keys = BTreeMap::new();
        for role in ["viewer", "user", "manager", "admin"] {
            installation.ok(&format!("user add {role} --role {role}"));
            keys.insert(role, installation.key(role));
        }
        installation.ok("user add alice");
        let (revoked, alice) = (installation.json("key create admin --name old"), installation.key("alice"));
        installation.ok(&format!("key revoke {}", revoked["id"].as_str().unwrap()));
        keys.insert("revoked", revoked["key"].as_str().unwrap().to_owned());
        let serving = installation.serve();
        let (admin, alice) = (Person::new(&serving, &keys["admin"]), Person::new(&serving, &alice));
        let ids = BTreeMap::from([("user", id(&alice.gets("/me")))]);
        let mut stage = Self { serving, keys, admin, alice, ids, attempts: Cell::new(0), made: Cell::new(0) };
        stage.furnish();
        (installation, stage)
    }

    fn furnish(&mut self) {
        let group = id(&self.admin.makes("/groups", &json!({ "name": "team" })));
        let server = self.server();
        let manager = Person::new(&self.serving, &self.keys["manager"]).gets("/me");
        let path = format!("/groups/{group}/members/{}", id(&manager));
        assert_eq!(self.admin.asks("PUT", &path, &json!({ "standing": "manager" })).status, 204);
        self.ids.extend([("group", group), ("server", server)]);
        self.grant();
    }

    fn name(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("made-{}", self.made.get())
    }

    fn server(&self) -> String {
        id(&self.admin.makes("/servers", &json!({ "name": self.name(), "definition": definition() })))
    }

    fn grant(&self) -> String {
        id(&self.admin.makes("/grants", &self.grant_body()))
    }

    fn grant_body(&self) -> Value {
        json!({ "group": self.ids["group"], "server": self.ids["server"], "rights": ["read"] })
    }

    /// Writes a route with something fresh in it, so that one caller's success spoils no other's, and
    /// a body that would do.
    fn request(&self, method: &str, route: &str) -> (String, Value) {
        let fresh = match (method, route) {
            ("delete", "/api/v1/groups/{group}") => {
                Some(("group", id(&self.admin.makes("/groups", &json!({ "name": self.name() })))))
            }
            ("delete", "/api/v1/grants/{grant}") => Some(("grant", self.grant())),
            ("delete", "/api/v1/keys/{key}") => {
                let made = self.alice.makes("/users/me/keys", &json!({ "name": "more" }));
                Some(("key", id(&made["key"])))
            }
            ("patch" | "delete", "/api/v1/servers/{server}") => Some(("server", self.server())),
            _ => None,
        };
        let mut path = route
            .replace("{tool}", "unknown")
            .replace("{slot}", slot(route))
            .replace("{chain}/{number}", RECORD);
        for (name, id) in
            fresh.iter().map(|(name, id)| (*name, id)).chain(self.ids.iter().map(|(name, id)| (*name, id)))
        {
            path = path.replace(&format!("{{{name}}}"), id);
        }
        if method == "delete" && route.starts_with("/api") {
            let revision = if route.contains("/members/") { self.membership() } else { 1 };
            path.push_str(&format!("?revision={revision}"));
        }
        (path, self.body(method, route))
    }

    /// Finds the revision of alice's membership; 0 while she has none.
    fn membership(&self) -> i64 {
        let groups = self.admin.gets("/groups");
        let all = groups.as_array().unwrap().iter().flat_map(|group| group["members"].as_array().unwrap());
        let hers = all.into_iter().find(|member| member["user"] == self.ids["user"]);
        hers.map_or(0, |member| member["revision"].as_i64().unwrap())
    }

    /// Looks at a slot of the server, as a change of it says that it was seen.
    fn seen(&self, route: &str) -> Value {
        let slots = self.admin.gets(&format!("/users/me/servers/{}/credentials", self.ids["server"]));
        let found = slots.as_array().unwrap().iter().find(|found| found["slot"] == slot(route)).unwrap();
        json!({ "revision": found["revision"], "destination": found["destination"] })
    }

    fn body(&self, method: &str, route: &str) -> Value {
        match (method, route) {
            ("post", "/api/v1/users") => json!({ "name": self.name() }),
            ("patch", "/api/v1/users/{user}") => {
                let now = self.admin.gets(&format!("/users/{}", self.ids["user"]));
                json!({ "revision": now["revision"], "email": "alice@example.org" })
            }
            ("post", "/api/v1/users/{user}/keys") => json!({ "name": "new" }),
            ("post", "/api/v1/groups") => json!({ "name": self.name() }),
            ("post", "/api/v1/grants") => self.grant_body(),
            ("post", "/api/v1/servers") => json!({ "name": self.name(), "definition": definition() }),
            ("post", "/api/v1/servers/import") => json!({ "mcpServers": {} }),
            ("patch", "/api/v1/servers/{server}") => json!({ "revision": 1, "state": "disabled" }),
            ("put", route) if route.contains("/{slot}") => {
                let mut body = self.seen(route);
                body["value"] = json!("x");
                body
            }
            ("post", route) if route.contains("/{slot}") => self.seen(route),
            ("put", "/api/v1/groups/{group}/members/{user}") => json!({ "revision": self.membership() }),
            ("patch", "/api/v1/servers/{server}/tools/{tool}") => {
                json!({ "revision": 1, "digest": "0".repeat(64) })
            }
            ("put" | "patch", _) => json!({}),
            _ => Value::Null,
        }
    }

    /// Asks as a role. Each stranger comes from a place of her own, so that none runs out of attempts.
    fn status(&self, role: &str, method: &str, route: &str) -> u16 {
        let (path, body) = self.request(method, route);
        self.attempts.set(self.attempts.get().wrapping_add(1));
        let from = format!("192.0.2.{}", self.attempts.get());
        let bearer = self.keys.get(role).map(|key| format!("Bearer {key}"));
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.as_ref().map(|bearer| ("Authorization", bearer.as_str())));
        if route.starts_with("/api") || route.starts_with("/mcp") {
            headers.push(("X-Forwarded-For", &from));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.serving.address, &method.to_uppercase(), &path, &headers, &body).status
    }
}

fn definition() -> Value {
    let env = json!({ "TOKEN": "${USER_TOKEN}", "SITE": "${SHARED_SITE}" });
    json!({ "type": "stdio", "command": "/does/not/exist", "env": env })
}

fn slot(route: &str) -> &'static str {
    if route.contains("/shared/") { "SITE" } else { "TOKEN" }
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str, Vec<&'static str>)> {
    TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap(), words.next().unwrap(), words.collect())
    })
}

#[test]
fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let (_installation, stage) = Stage::set();
    let mut wrong = String::new();
    for (method, route, expected) in rows() {
        let found: Vec<String> =
            ROLES.iter().map(|role| stage.status(role, method, route).to_string()).collect();
        if found != expected {
            wrong.push_str(&format!("{method:<7}{route:<71} {}\n", found.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "routes.txt says otherwise of these:\n{wrong}");
}

#[test]
fn every_route_has_a_row() {
    let described: Value = serde_json::from_str(
        &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json")).unwrap(),
    )
    .unwrap();
    let rows: BTreeSet<(String, String)> =
        rows().map(|(method, route, _)| (method.to_owned(), route.to_owned())).collect();
    for (route, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            assert!(
                rows.contains(&(method.clone(), route.clone())),
                "routes.txt has no row for {method} {route}"
            );
        }
    }
}
