//! The REST API: problems, revisions, what nobody may set, and what nobody may see.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::client::{Answer, send};
use crate::harness::{Installation, Serving, eventually, on_both};
use crate::isolation::nothing_secret_is_stored;

/// Is a person with her key, at the API.
pub(crate) struct Person {
    address: SocketAddr,
    bearer: String,
}

impl Person {
    pub(crate) fn new(serving: &Serving, key: &str) -> Self {
        Self { address: serving.address, bearer: format!("Bearer {key}") }
    }

    pub(crate) fn asks(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Authorization", &*self.bearer), ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.address, method, &format!("/api/v1{path}"), &headers, &body)
    }

    pub(crate) fn gets(&self, path: &str) -> Value {
        let answer = self.asks("GET", path, &Value::Null);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn makes(&self, path: &str, body: &Value) -> Value {
        let answer = self.asks("POST", path, body);
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        answer.json()
    }

    fn refused(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let answer = self.asks(method, path, body);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{method} {path}: {answer:?}"
        );
        let problem = answer.json();
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].is_string(), "{method} {path}: {problem}");
        }
        assert_eq!(problem["status"], answer.status);
        (answer.status, problem["code"].as_str().unwrap().to_owned())
    }
}

/// Says how a slot was seen, with a value for it.
fn filling(slot: &Value, value: &str) -> Value {
    json!({ "value": value, "revision": slot["revision"], "destination": slot["destination"] })
}

/// Says how a slot was seen.
fn seen(slot: &Value) -> Value {
    json!({ "revision": slot["revision"], "destination": slot["destination"] })
}

fn start(installation: &Installation) -> (Serving, Person, Person) {
    installation.ok("user add admin --role admin");
    installation.ok("user update admin --auditor yes");
    installation.ok("user add alice");
    let (admin, alice) = (installation.key("admin"), installation.key("alice"));
    let serving = installation.serve();
    let (admin, alice) = (Person::new(&serving, &admin), Person::new(&serving, &alice));
    (serving, admin, alice)
}

/// Adds a server whose credential everybody has of her own, with a grant for a group of alice's.
fn with_server(admin: &Person, alice: &Person) -> Value {
    let definition = json!({
        "type": "streamable-http",
        "url": "http://127.0.0.1:9/mcp",
        "headers": { "authorization": "Bearer ${USER_TOKEN}" },
    });
    let server = admin.makes("/servers", &json!({ "name": "github", "definition": definition }));
    let group = admin.makes("/groups", &json!({ "name": "team" }));
    let (group, alice) = (group["id"].as_str().unwrap(), alice.gets("/me"));
    let path = format!("/groups/{group}/members/{}", alice["id"].as_str().unwrap());
    assert_eq!(admin.asks("PUT", &path, &json!({})).status, 204);
    admin.makes("/grants", &json!({ "group": group, "server": server["id"], "rights": ["read"] }));
    server
}

/// Moves a server that has a revision.
fn moves(admin: &Person, server: &Value, revision: i64, url: &str) {
    let mut definition = server["definition"].clone();
    definition["url"] = json!(url);
    let path = format!("/servers/{}", text(server, "id"));
    let moved = admin.asks("PATCH", &path, &json!({ "revision": revision, "definition": definition }));
    assert_eq!(moved.status, 200, "{moved:?}");
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

on_both! {
    fn the_first_thing_that_a_person_does_may_be_a_change(installation) {
        let (_serving, admin, _alice) = start(&installation);
        admin.makes("/users", &json!({ "name": "carol", "role": "user" }));
        let found = installation.json("audit list --person carol");
        let records = found.as_array().unwrap();
        assert_eq!(records.len(), 1, "the record that adds her is about her: {found}");
    }

    fn a_problem_is_a_document_with_a_stable_code(installation) {
        let (_serving, admin, alice) = start(&installation);
        let nobody = "6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e";
        let none = Value::Null;
        let table = [
            (&admin, "GET", format!("/users/{nobody}"), &none, 404, "user.not_found"),
            (&admin, "GET", format!("/servers/{nobody}"), &none, 404, "server.not_found"),
            (&admin, "GET", "/servers/no-id".to_owned(), &none, 404, "not_found"),
            (&admin, "GET", "/nowhere".to_owned(), &none, 404, "path.not_found"),
            (&admin, "DELETE", "/users".to_owned(), &none, 405, "method.not_allowed"),
            (&admin, "POST", "/groups".to_owned(), &json!({ "name": "No Name" }), 422, "malformed"),
            (&admin, "POST", "/users".to_owned(), &json!({ "name": "x", "email": "no" }), 422, "invalid"),
            (&admin, "POST", "/users".to_owned(), &json!({ "name": "alice" }), 409, "conflict"),
            (&admin, "GET", "/audit?limit=x".to_owned(), &none, 422, "malformed"),
            (&alice, "GET", "/users".to_owned(), &none, 403, "forbidden"),
        ];
        for (person, method, path, body, status, code) in table {
            assert_eq!(person.refused(method, &path, body), (status, code.to_owned()), "{method} {path}");
        }
        let refused = admin.gets("/audit?outcome=malformed");
        assert!(refused["records"].to_string().contains("POST /api/v1/groups"), "{refused}");
    }

    fn a_change_on_an_old_revision_is_refused(installation) {
        let (_serving, admin, alice) = start(&installation);
        let server = with_server(&admin, &alice);
        let path = format!("/servers/{}", text(&server, "id"));
        let disable = json!({ "revision": 1, "state": "disabled" });
        let changed = admin.asks("PATCH", &path, &disable);
        assert_eq!((changed.status, changed.json()["revision"].as_i64()), (200, Some(2)), "{changed:?}");
        assert_eq!(admin.refused("PATCH", &path, &disable), (409, "conflict.stale".to_owned()));
        assert_eq!(admin.refused("DELETE", &format!("{path}?revision=1"), &Value::Null).0, 409);
        assert_eq!(admin.refused("DELETE", &path, &Value::Null).0, 422);
        assert_eq!(admin.asks("DELETE", &format!("{path}?revision=2"), &Value::Null).status, 204);
        assert!(admin.gets("/audit?outcome=stale")["records"].as_array().unwrap().len() >= 2);
    }

    fn nobody_sets_what_is_not_hers_to_set(installation) {
        let (_serving, admin, alice) = start(&installation);
        for extra in ["id", "auditor", "state", "revision", "created_at", "is_admin"] {
            let mut body = json!({ "name": "mallory" });
            body[extra] = json!("admin");
            assert_eq!(admin.refused("POST", "/users", &body), (422, "malformed".to_owned()), "{extra}");
        }
        assert_eq!(alice.refused("PATCH", "/users/me", &json!({ "revision": 1, "role": "admin" })).0, 403);
        assert_eq!(alice.refused("PATCH", "/users/me", &json!({ "revision": 1, "name": "admin" })).0, 422);
        let key = json!({ "name": "mine", "owner": "admin" });
        assert_eq!(alice.refused("POST", "/users/me/keys", &key).0, 422);
        let definition = json!({ "type": "stdio", "command": "sh", "shell": true });
        let server = json!({ "name": "shell", "definition": definition });
        assert_eq!(admin.refused("POST", "/servers", &server).0, 422);
        assert_eq!(alice.gets("/me")["role"], "user");
    }

    fn a_credential_comes_in_and_never_out(installation) {
        let (_serving, admin, alice) = start(&installation);
        with_server(&admin, &alice);
        let (slots, slot) = ("/users/me/servers/github/credentials", "/users/me/servers/github/credentials/TOKEN");
        let before = alice.gets(slots)[0].clone();
        let destination = before["destination"].clone();
        assert_eq!(before, json!({
            "slot": "TOKEN", "kind": "personal", "state": "missing", "revision": 0,
            "goes_to": "http://127.0.0.1:9", "destination": destination,
        }));
        let stored = alice.asks("PUT", slot, &filling(&before, "s3cret-canary"));
        assert_eq!((stored.status, stored.body.as_str()), (204, ""));
        assert_eq!(alice.gets(slots)[0]["state"], "ready");
        let now = alice.gets(slots)[0].clone();
        assert_eq!(now["revision"], 1);
        let nowhere = json!({ "value": "s3cret-canary", "revision": 1 });
        let wrongs = [json!("s3cret-canary"), json!({ "value": ["s3cret-canary"] }), nowhere, filling(&now, "s3cret-canary\n")];
        for wrong in wrongs {
            let refused = alice.asks("PUT", slot, &wrong);
            assert_eq!(refused.status, 422, "{wrong}");
            assert!(!refused.body.contains("canary"), "{refused:?}");
        }
        let whole = admin.gets("/audit?limit=1000").to_string();
        assert!(whole.contains("credential.set") && !whole.contains("canary"));
        assert!(!installation.logged().contains("canary"));
    }

    fn a_server_that_moved_waits_for_each_owner(installation) {
        let (_serving, admin, alice) = start(&installation);
        let server = with_server(&admin, &alice);
        let (slots, slot) = ("/users/me/servers/github/credentials", "/users/me/servers/github/credentials/TOKEN");
        assert_eq!(alice.asks("PUT", slot, &filling(&alice.gets(slots)[0], "s3cret")).status, 204);
        moves(&admin, &server, 1, "http://127.0.0.2:9/mcp");
        let now = alice.gets(slots)[0].clone();
        assert_eq!((&now["state"], &now["goes_to"]), (&json!("suspended"), &json!("http://127.0.0.2:9")));
        let confirm = format!("/users/{}/servers/github/credentials/TOKEN/confirm", text(&alice.gets("/me"), "id"));
        assert_eq!(admin.refused("POST", &confirm, &seen(&now)).0, 403);
        assert_eq!(alice.refused("POST", &confirm, &json!({ "revision": 1 })).0, 422, "nobody confirms blind");
        assert_eq!(alice.asks("POST", &confirm, &seen(&now)).status, 204);
        assert_eq!(alice.gets(slots)[0]["state"], "ready");
    }

    fn who_looked_before_the_server_moved_sends_nothing_there(installation) {
        let (_serving, admin, alice) = start(&installation);
        let server = with_server(&admin, &alice);
        let (slots, slot) = ("/users/me/servers/github/credentials", "/users/me/servers/github/credentials/TOKEN");
        let confirm = format!("{slot}/confirm");
        assert_eq!(alice.asks("PUT", slot, &filling(&alice.gets(slots)[0], "s3cret")).status, 204);
        moves(&admin, &server, 1, "http://127.0.0.2:9/mcp");
        let looked = alice.gets(slots)[0].clone();
        moves(&admin, &server, 2, "http://127.0.0.3:9/mcp");
        let stale = (409, "conflict.stale".to_owned());
        assert_eq!(alice.refused("POST", &confirm, &seen(&looked)), stale);
        assert_eq!(alice.refused("PUT", slot, &filling(&looked, "another")), stale);
        let now = alice.gets(slots)[0].clone();
        assert_eq!((&now["state"], &now["revision"]), (&json!("suspended"), &json!(1)));
        assert_eq!(now["goes_to"], "http://127.0.0.3:9");
        assert_eq!(alice.asks("POST", &confirm, &seen(&now)).status, 204);
        assert_eq!(alice.gets(slots)[0]["state"], "ready");
    }

    fn every_change_names_the_revision_that_it_is_based_on(installation) {
        let (_serving, admin, alice) = start(&installation);
        let definition = json!({
            "type": "stdio", "command": env!("CARGO_BIN_EXE_mcphub"), "args": ["demo-server"],
            "env": { "SITE": "${SHARED_SITE}" },
        });
        let open = admin.makes("/servers", &json!({ "name": "open", "definition": definition }));
        let open = text(&open, "id");
        let slots = format!("/users/me/servers/{open}/credentials");
        let site = format!("/servers/{open}/shared/SITE");
        assert_eq!(admin.asks("PUT", &site, &filling(&admin.gets(&slots)[0], "a.example")).status, 204);
        assert_eq!(admin.asks("POST", &format!("/servers/{open}/test"), &json!({})).status, 200);
        let server = with_server(&admin, &alice);
        let her_slots = "/users/me/servers/github/credentials";
        let token = format!("{her_slots}/TOKEN");
        assert_eq!(alice.asks("PUT", &token, &filling(&alice.gets(her_slots)[0], "s3cret")).status, 204);
        let (group, shared) = (admin.gets("/groups")[0].clone(), admin.gets(&slots)[0].clone());
        let (hers, tool) = (alice.gets(her_slots)[0].clone(), admin.gets(&format!("/servers/{open}/tools"))[0].clone());
        let key = alice.makes("/users/me/keys", &json!({ "name": "spare" }))["key"].clone();
        let id = |thing: &Value| text(thing, "id").to_owned();
        let (member, grant) = (&group["members"][0], &group["grants"][0]);
        let destination = |seen: &Value| seen["destination"].clone();
        let table = [
            (&admin, "PATCH", format!("/users/{}", id(&alice.gets("/me"))), json!({ "role": "viewer" }), 1),
            (&admin, "PATCH", format!("/servers/{}", id(&server)), json!({ "state": "disabled" }), 1),
            (&admin, "PUT", site, json!({ "value": "x", "destination": destination(&shared) }), 1),
            (&admin, "PATCH", format!("/servers/{open}/tools/{}", text(&tool, "name")),
                json!({ "effect": "write", "digest": tool["digest"] }), 1),
            (&alice, "PUT", token.clone(), json!({ "value": "x", "destination": destination(&hers) }), 1),
            (&alice, "POST", format!("{token}/confirm"), json!({ "destination": destination(&hers) }), 2),
            (&alice, "DELETE", token, Value::Null, 3),
            (&alice, "DELETE", format!("/keys/{}", id(&key)), Value::Null, 1),
            (&admin, "PUT", format!("/groups/{}/members/{}", id(&group), text(member, "user")),
                json!({ "standing": "manager" }), 2),
            (&admin, "DELETE", format!("/groups/{}/members/{}", id(&group), text(member, "user")), Value::Null, 4),
            (&admin, "DELETE", format!("/grants/{}", id(grant)), Value::Null, 1),
            (&admin, "DELETE", format!("/groups/{}", id(&group)), Value::Null, 6),
            (&admin, "DELETE", format!("/servers/{}", id(&server)), Value::Null, 2),
        ];
        for (person, method, path, body, revision) in table {
            let at = |revision: i64| {
                let mut body = body.clone();
                if body.is_object() {
                    body["revision"] = json!(revision);
                    return person.asks(method, &path, &body);
                }
                person.asks(method, &format!("{path}?revision={revision}"), &body)
            };
            for stale in [0, revision - 1, revision + 1] {
                let refused = at(stale);
                assert_eq!(refused.status, 409, "{method} {path} at {stale}: {refused:?}");
                assert_eq!(refused.json()["code"], "conflict.stale");
            }
            let done = at(revision);
            assert!([200, 204].contains(&done.status), "{method} {path} at {revision}: {done:?}");
        }
    }

    fn what_an_admin_granted_a_manager_neither_removes_nor_outlives(installation) {
        let (serving, admin, alice) = start(&installation);
        with_server(&admin, &alice);
        installation.ok("user add mary --role manager");
        installation.ok("group join team mary --manager");
        let mary = Person::new(&serving, &installation.key("mary"));
        eventually("mary's key counts", || (mary.asks("GET", "/me", &Value::Null).status == 200).then_some(()));
        let group = admin.gets("/groups")[0].clone();
        let server = text(&group["grants"][0], "server").to_owned();
        let body = |verdict: &str| json!({ "group": group["id"], "server": server, "rights": ["write"], "verdict": verdict });
        let (given, denied) = (admin.makes("/grants", &body("allow")), admin.makes("/grants", &body("deny")));
        for grant in [&given, &denied] {
            assert_eq!(grant["author"], "admin");
            let path = format!("/grants/{}?revision=1", text(grant, "id"));
            assert_eq!(mary.refused("DELETE", &path, &Value::Null), (403, "forbidden".to_owned()));
        }
        for verdict in ["allow", "deny"] {
            let own = mary.makes("/grants", &body(verdict));
            assert_eq!(own["author"], "manager");
            let path = format!("/grants/{}?revision=1", text(&own, "id"));
            assert_eq!(mary.asks("DELETE", &path, &Value::Null).status, 204);
        }
        mary.makes("/grants", &body("allow"));
        for grant in admin.gets("/groups")[0]["grants"].as_array().unwrap() {
            if grant["author"] == "admin" {
                let path = format!("/grants/{}?revision=1", text(grant, "id"));
                assert_eq!(admin.asks("DELETE", &path, &Value::Null).status, 204);
            }
        }
        assert_eq!(mary.refused("POST", "/grants", &body("allow")).0, 403, "her own grant opens nothing");
        assert_eq!(alice.asks("GET", "/users/me/servers/github/credentials", &Value::Null).status, 404);
    }

    fn a_literal_secret_in_a_definition_is_refused_and_stored_nowhere(installation) {
        let (serving, admin, alice) = start(&installation);
        let server = with_server(&admin, &alice);
        let http = |url: &str, headers: Value| json!({ "type": "streamable-http", "url": url, "headers": headers });
        let stdio = |args: Value, env: Value| json!({ "type": "stdio", "command": "x", "args": args, "env": env });
        let path = format!("/servers/{}", text(&server, "id"));
        // Its own in each run: the cluster outlives a run in which the control was missing.
        let secret = format!("c4n4ry-secret-{}", std::process::id());
        for (definition, place) in [
            (http("https://a.example/mcp", json!({ "authorization": format!("Bearer {secret}") })), "${SHARED_AUTHORIZATION}"),
            (http(&format!("https://a.example/mcp?api_key={secret}"), json!({})), "${SHARED_API_KEY}"),
            (stdio(json!([]), json!({ "API_TOKEN": secret })), "${SHARED_API_TOKEN}"),
            (stdio(json!(["--token", secret]), json!({})), "--token"),
        ] {
            let added = admin.asks("POST", "/servers", &json!({ "name": "leaky", "definition": definition }));
            let changed = admin.asks("PATCH", &path, &json!({ "revision": 1, "definition": definition }));
            for refused in [added, changed] {
                assert_eq!((refused.status, &refused.json()["code"]), (422, &json!("invalid")), "{refused:?}");
                assert!(refused.body.contains(place) && !refused.body.contains("c4n4ry"), "{refused:?}");
            }
        }
        serving.stop();
        nothing_secret_is_stored(&installation, &[&secret]);
    }

    fn what_belongs_to_another_looks_like_nothing(installation) {
        let (serving, admin, alice) = start(&installation);
        with_server(&admin, &alice);
        installation.ok("user add bob");
        let bob = Person::new(&serving, &installation.key("bob"));
        eventually("bob's key counts", || (bob.asks("GET", "/me", &Value::Null).status == 200).then_some(()));
        let hers = text(&alice.gets("/me"), "id").to_owned();
        let key = alice.gets("/users/me/keys")[0]["id"].as_str().unwrap().to_owned();
        let nobody = "6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e";
        let place = json!({ "revision": 0, "destination": "0".repeat(64) });
        let value = filling(&place, "x");
        for (method, path, body) in [
            ("GET", "/users/USER", &Value::Null),
            ("GET", "/users/USER/keys", &Value::Null),
            ("DELETE", "/keys/KEY?revision=1", &Value::Null),
            ("GET", "/users/USER/servers/github/credentials", &Value::Null),
            ("PUT", "/users/USER/servers/github/credentials/TOKEN", &value),
            ("DELETE", "/users/USER/servers/github/credentials/TOKEN?revision=1", &Value::Null),
            ("POST", "/users/USER/servers/github/credentials/TOKEN/confirm", &place),
        ] {
            let there = bob.asks(method, &path.replace("USER", &hers).replace("KEY", &key), body);
            let not_there = bob.asks(method, &path.replace("USER", nobody).replace("KEY", nobody), body);
            assert!([403, 404].contains(&there.status), "{method} {path}: {there:?}");
            assert_eq!((there.status, there.body), (not_there.status, not_there.body), "{method} {path}");
        }
        let unseen = bob.asks("GET", "/users/me/servers/github/credentials", &Value::Null);
        let unknown = bob.asks("GET", "/users/me/servers/gitlab/credentials", &Value::Null);
        assert_eq!((unseen.status, unknown.status), (404, 404));
        assert_eq!(unseen.body.replace("github", "gitlab"), unknown.body);
        assert_eq!(alice.gets("/users/me/keys").as_array().unwrap().len(), 1);
    }

    fn pages_of_the_log_have_no_gap(installation) {
        let (_serving, admin, alice) = start(&installation);
        with_server(&admin, &alice);
        let hers = text(&alice.gets("/me"), "id").to_owned();
        for _ in 0..9 {
            assert_eq!(alice.asks("GET", "/users", &Value::Null).status, 403);
        }
        let ids = |page: &Value| -> Vec<String> {
            let place = |record: &Value| format!("{}/{}", record["record"]["chain"], record["record"]["number"]);
            page["records"].as_array().unwrap().iter().map(place).collect()
        };
        // Nobody waits for the record of a refusal, so it may become durable after its answer.
        let mut whole = eventually("the last refusal", || {
            let page = admin.gets(&format!("/audit?person={hers}&limit=1000"));
            let refused = page.to_string().matches(r#""reason":"role""#).count();
            (refused == 9).then(|| ids(&page))
        });
        let (mut paged, mut before) = (Vec::new(), String::new());
        for _ in 0..100 {
            let page = admin.gets(&format!("/audit?person={hers}&limit=2{before}"));
            paged.extend(ids(&page));
            let Some(next) = page["before"].as_str() else { break };
            before = format!("&before={next}");
        }
        whole.sort();
        paged.sort();
        assert!(whole.len() > 9);
        assert_eq!(paged, whole);
        let report = admin.asks("POST", "/audit/verify", &Value::Null).json();
        assert_eq!(report["intact"], true, "{report}");
    }
}
