//! What goes wrong around the hub: no key, no log, a kill, too many calls, a dead server.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::{begin, call, call_headers, list, modern, open, send};
use crate::harness::database::Session;
use crate::harness::peer::{CredentialServer, program};
use crate::harness::{Installation, Serving, eventually, eventually_within, on_both, tool};

on_both! {
    fn without_its_key_the_hub_is_sealed_and_unseals_by_itself(installation) {
        let key = set_up(&installation);
        let file = key_file(&installation);
        let away = installation.folder().join("away.key");
        std::fs::rename(&file, &away).unwrap();
        let hub = installation.serve();
        assert_eq!(send(hub.address, "GET", "/livez", &[], "").status, 200);
        assert_eq!(send(hub.address, "GET", "/readyz", &[], "").status, 503);
        let answer = call(hub.address, "/mcp", &key, "local__fingerprint", json!({}));
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (503, json!(-31005)), "{answer:?}");
        assert!(!file.exists(), "a lost key is never made anew");
        std::fs::rename(&away, &file).unwrap();
        eventually("it unseals", || (send(hub.address, "GET", "/readyz", &[], "").status == 200).then_some(()));
        let answer = call(hub.address, "/mcp", &key, "local__fingerprint", json!({}));
        assert_eq!(answer.json()["result"]["content"][0]["text"].as_str().map(str::len), Some(64), "{answer:?}");
    }

    fn processes_that_start_at_once_on_nothing_make_one_key(installation) {
        let start = std::sync::Barrier::new(4);
        let outputs: Vec<_> = std::thread::scope(|scope| {
            let begin = || {
                start.wait();
                installation.run(&["user", "list"], "")
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for output in outputs {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let file = key_file(&installation);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "one key and no draft of one");
        let key = set_up(&installation);
        let hub = installation.serve();
        assert_eq!(list(hub.address, "/mcp", &key).status, 200, "what one process sealed, another opens");
    }

    fn nobody_else_reads_what_the_hub_writes(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        assert_eq!(call(hub.address, "/mcp", &key, "local__fingerprint", json!({})).status, 200);
        let open: Vec<_> = std::fs::read_dir(installation.data_dir())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o077 != 0)
            .collect();
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(installation.data_dir().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    fn a_key_that_others_can_read_is_refused(installation) {
        set_up(&installation);
        let file = key_file(&installation);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
        let hub = installation.serve();
        assert_eq!(send(hub.address, "GET", "/readyz", &[], "").status, 503);
        assert!(installation.logged().contains("chmod"), "{}", installation.logged());
    }

    fn a_killed_hub_leaves_no_orphan_and_no_open_intent(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        list(hub.address, "/mcp", &key);
        let _running = start_hanging(&hub, &key);
        let child = eventually("the server's process runs", || process_with(&installation));
        eventually("the intent is durable", || {
            let found = installation.json("audit list --outcome intent");
            (found.as_array().map(Vec::len) == Some(1)).then_some(())
        });
        hub.kill();
        eventually("the process is gone", || (!std::path::Path::new(&format!("/proc/{child}")).exists()).then_some(()));
        let hub = installation.serve();
        let answer = call(hub.address, "/mcp", &key, "local__fingerprint", json!({}));
        assert_eq!(answer.json()["result"]["content"][0]["text"].as_str().map(str::len), Some(64), "no credential is lost");
        eventually_within(Duration::from_secs(60), "the open call is closed as unknown", || {
            let found = installation.json("audit list --outcome unknown");
            (found.as_array().map(Vec::len) == Some(1)).then_some(())
        });
        hub.stop();
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
    }

    fn a_stop_lets_a_running_call_end(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        list(hub.address, "/mcp", &key);
        let mut params = json!({ "name": "local__slow", "arguments": { "times": 10, "interval_ms": 100 } });
        params["_meta"]["progressToken"] = json!("p");
        let bearer = format!("Bearer {key}");
        let body = modern(1, "tools/call", params);
        let mut running = open(hub.address, "POST", "/mcp", &call_headers(&bearer, "local__slow"), &body);
        eventually("progress comes", || running.line().filter(|line| line.contains("progress")));
        hub.stop();
        let rest: String = std::iter::from_fn(|| running.line()).collect();
        assert!(rest.contains("done after 10"), "{rest}");
        let found = installation.json("audit list --outcome ok");
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    }

    fn a_log_that_cannot_be_written_stops_everything_until_it_can(installation) {
        let record = installation.folder().join("record.jsonl");
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", Some(&record));
        let file = json!({ "mcpServers": { "remote": { "url": server.url } } });
        installation.grant_all("alice", "remote", &file);
        let key = installation.key("alice");
        let hub = installation.serve();
        let write = |text: &str| call(hub.address, "/mcp", &key, "remote__write_note", json!({ "text": text }));
        list(hub.address, "/mcp", &key);
        assert_eq!(write("before").json()["result"]["isError"], json!(false));
        let mut session = Session::of(&installation);
        session.hold_log();
        let held = Instant::now();
        let answer = write("meanwhile");
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (503, json!(-31003)), "{answer:?}");
        assert_eq!(send(hub.address, "GET", "/readyz", &[], "").status, 503);
        assert!(held.elapsed() < Duration::from_secs(2), "{:?}", held.elapsed());
        session.release();
        eventually_within(Duration::from_secs(5), "service returns", || {
            (send(hub.address, "GET", "/readyz", &[], "").status == 200).then_some(())
        });
        assert_eq!(write("after").json()["result"]["isError"], json!(false));
        hub.stop();
        let received = std::fs::read_to_string(&record).unwrap();
        assert_eq!(["before", "meanwhile", "after"].map(|text| received.contains(text)), [true, false, true]);
        let log = installation.ok("audit list --json --limit 1000");
        assert!(log.contains("audit.resumed"), "{log}");
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
    }

    fn a_database_that_takes_no_more_is_noticed_though_nobody_calls(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        assert_eq!(call(hub.address, "/mcp", &key, "local__fingerprint", json!({})).status, 200);
        let mut session = Session::of(&installation);
        let ready = |status| {
            let asked = || (send(hub.address, "GET", "/readyz", &[], "").status == status).then_some(());
            eventually_within(Duration::from_secs(5), "readiness follows", asked);
        };
        session.run("ALTER TABLE nodes RENAME TO away");
        ready(503);
        session.run("ALTER TABLE away RENAME TO nodes");
        ready(200);
    }

    fn a_damaged_personal_field_hides_no_record(installation) {
        set_up(&installation);
        let alice = installation.json("user show alice")["id"].as_str().unwrap().to_owned();
        let records = || installation.json("audit list --limit 1000").as_array().unwrap().clone();
        let added = |records: &[Value]| records.iter().find(|record| record["event"]["type"] == "user.added").unwrap().clone();
        let before = records();
        assert_eq!(added(&before)["personal"][&alice]["name"], "alice");
        Session::of(&installation).run("UPDATE person_keys SET sealed = 'damaged'");
        let after = records();
        assert!(after.len() >= before.len(), "{} of {}", after.len(), before.len());
        assert_eq!(added(&after)["personal"], json!({}));
        assert_eq!(added(&after)["unreadable"], json!([alice]));
    }

    fn a_person_has_a_rate_of_her_own(installation) {
        let mut installation = installation;
        let key = set_up(&installation);
        installation.ok("user add bob --role user");
        installation.ok("group join devs bob");
        installation.ok_with("credential set bob local TOKEN", "token-of-bob");
        let other = installation.key("bob");
        installation.set("MCPHUB_LIMITS__CALLS_PER_MINUTE", "3");
        let hub = installation.serve();
        let answers: Vec<_> = (0..4).map(|_| call(hub.address, "/mcp", &key, "local__fingerprint", json!({}))).collect();
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200, 200, 429]);
        let refused = answers[3].json();
        assert_eq!(refused["error"]["code"], -31029);
        assert!(refused["error"]["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0));
        assert!(answers[3].header("retry-after").is_some());
        let lists: Vec<_> = (0..40).map(|_| list(hub.address, "/mcp", &key)).collect();
        let answered = lists.iter().filter(|answer| answer.status == 200).count();
        assert!((26..30).contains(&answered), "ten requests of any kind for each call: {answered}");
        assert_eq!(lists[39].json()["error"]["code"], -31029);
        assert_eq!(call(hub.address, "/mcp", &other, "local__fingerprint", json!({})).status, 200);
    }

    fn refusals_of_one_who_is_too_fast_are_one_record_and_a_count(installation) {
        let mut installation = installation;
        let key = set_up(&installation);
        installation.set("MCPHUB_LIMITS__CALLS_PER_MINUTE", "1");
        let hub = installation.serve();
        let statuses = (0..40).map(|_| call(hub.address, "/mcp", &key, "local__fingerprint", json!({})).status);
        let refused = statuses.filter(|status| *status == 429).count() as u64;
        hub.stop();
        let records = installation.json("audit list --person alice --outcome rate-limited --limit 1000");
        let events: Vec<&Value> = records.as_array().unwrap().iter().map(|record| &record["event"]).collect();
        let of_type = |name: &str| events.iter().filter(|event| event["type"] == name).collect::<Vec<_>>();
        let (whole, folded) = (of_type("refused"), of_type("refused.folded"));
        assert!(refused > 30 && events.len() <= 6, "{refused}: {events:?}");
        let counted: u64 = folded.iter().map(|event| event["count"].as_u64().unwrap()).sum();
        assert_eq!(whole.len() as u64 + counted, refused, "each refusal is counted");
        assert_eq!(whole[0]["target"], "local__fingerprint");
    }

    fn the_last_head_covers_the_last_record_and_leaves_the_machine(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        assert_eq!(list(hub.address, "/mcp", &key).status, 200);
        hub.stop();
        let heads = file_in(&installation.folder().join("state/mcphub"), "heads");
        let text = std::fs::read_to_string(heads).unwrap();
        let head = text.lines().last().unwrap();
        let told = installation.logged();
        let told = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut streamed = told.filter(|line| line["target"] == "mcphub::head");
        assert!(streamed.any(|line| line["fields"]["message"] == head), "the log stream has the head too");
        let head: Value = serde_json::from_str(head).unwrap();
        let records = installation.json("audit list --limit 1000");
        let last = records.as_array().unwrap().iter().find(|record| record["event"]["type"] == "chain.closed");
        let last = last.expect("the newest end of a chain, which is the hub's");
        let named = head["chains"].as_array().unwrap().iter().find(|named| named["chain"] == last["chain"]);
        assert_eq!(named.unwrap()["size"], last["number"].as_u64().unwrap() + 1);
        assert_eq!(installation.json("audit verify")["findings"], json!([]));
    }

    fn the_hub_looks_after_what_it_keeps(installation) {
        let key = set_up(&installation);
        let left = installation.data_dir().join("homes/01010101-0101-4101-8101-010101010101/shared");
        let log = installation.data_dir().join("logs/removed");
        for folder in [&left, &log] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let mut session = Session::of(&installation);
        session.run("UPDATE nodes SET seen_at = 1");
        let hub = installation.serve();
        assert_eq!(list(hub.address, "/mcp", &key).status, 200);
        eventually("the folders of removed servers go", || (!left.exists() && !log.exists()).then_some(()));
        eventually("processes that ended long ago are forgotten", || {
            (session.run("SELECT COUNT(*) FROM nodes WHERE seen_at = 1") == ["0"]).then_some(())
        });
        let behind = "SELECT COUNT(*) FROM audit_segments s WHERE s.first >= COALESCE(
            (SELECT upto FROM audit_indexed i WHERE i.chain = s.chain), 0)".replace('\n', " ");
        eventually("the index catches up", || (session.run(&behind) == ["0"]).then_some(()));
    }

    fn a_client_says_only_so_much_of_itself(installation) {
        let key = set_up(&installation);
        let hub = installation.serve();
        let initialize = |extra: usize| {
            let capabilities = json!({ "experimental": { "x": { "text": "y".repeat(extra) } } });
            let params = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "clientInfo": { "name": "test", "version": "1" } });
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
            let bearer = format!("Bearer {key}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
            send(hub.address, "POST", "/mcp", &headers, &body)
        };
        let most = (16 << 10) - r#"{"experimental":{"x":{"text":""}}}"#.len();
        assert!(initialize(most).header("mcp-session-id").is_some());
        let refused = initialize(most + 1);
        assert!(refused.header("mcp-session-id").is_none(), "{refused:?}");
        assert!(refused.body.contains("capabilities"), "{refused:?}");
    }

    fn a_dead_server_hides_and_delays_no_other(installation) {
        let key = set_up(&installation);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = json!({ "mcpServers": {
            "dead": { "url": format!("http://{closed}/mcp") },
            "silent": { "url": format!("http://{}/mcp", silent.local_addr().unwrap()), "timeoutMs": 1000 },
            "needy": { "url": format!("http://{closed}/mcp"), "headers": { "X-Token": "${USER_TOKEN}" } },
        } });
        let path = installation.file("more.json", &file.to_string());
        installation.ok(&format!("server import {}", path.display()));
        installation.ok("grant add devs dead --rights read,write,execute");
        installation.ok("grant add devs silent --rights read,write,execute");
        installation.ok("grant add devs needy --rights read,write,execute");
        installation.ok("user add bob --role user");
        let stranger = installation.key("bob");
        let hub = installation.serve();
        let called = |key: &str, tool: &str| call(hub.address, "/mcp", key, tool, json!({})).json();
        assert_eq!(called(&key, "dead__any")["error"]["code"], -31010, "its tools are not known, nor that it has none");
        assert_eq!(called(&key, "needy__any")["result"]["_meta"]["mcphub/error"]["data"]["missing"], json!(["TOKEN"]));
        for tool in ["dead__any", "needy__any", "none__any"] {
            assert_eq!(called(&stranger, tool)["error"]["message"], format!("Unknown tool: {tool}"));
        }
        let listed = list(hub.address, "/mcp", &key).json();
        let names: Vec<&str> = listed["result"]["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
        assert!(names.contains(&"local__fingerprint"), "{names:?}");
        let absent: Vec<&str> = listed["result"]["_meta"]["mcphub/absent"].as_array().unwrap().iter().filter_map(|entry| entry["server"].as_str()).collect();
        assert_eq!(absent, ["dead", "needy", "silent"], "{listed}");
        let started = Instant::now();
        assert_eq!(call(hub.address, "/mcp", &key, "local__fingerprint", json!({})).status, 200);
        assert!(started.elapsed() < Duration::from_secs(2), "a call of another server waited");
    }
}

pub(crate) fn set_up(installation: &Installation) -> String {
    // What it may write must be there.
    let record = installation.file("local.jsonl", "");
    let file = json!({ "mcpServers": { "local": {
        "command": tool("MCPHUB_TEST_PYTHON_2"),
        "args": [program("credential_server.py"), "--stdio", "--record", &record],
        "sandbox": { "write": [&record] },
        "env": { "CREDENTIAL": "${USER_TOKEN}" },
    } } });
    installation.grant_all("alice", "local", &file);
    installation.ok_with("credential set alice local TOKEN", "token-of-alice");
    installation.key("alice")
}

fn start_hanging(hub: &Serving, key: &str) -> crate::harness::client::Stream {
    let bearer = format!("Bearer {key}");
    let body = modern(1, "tools/call", json!({ "name": "local__hang", "arguments": {} }));
    begin(hub.address, "POST", "/mcp", &call_headers(&bearer, "local__hang"), &body)
}

pub(crate) fn key_file(installation: &Installation) -> PathBuf {
    file_in(&installation.folder().join("config/mcphub"), "key")
}

/// Finds the file in a folder whose name ends like this.
pub(crate) fn file_in(folder: &Path, ending: &str) -> PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    files.find(|path| path.extension().is_some_and(|end| end == ending)).expect(ending)
}

/// Finds the process of the installation's own server: the one that names its record file.
pub(crate) fn process_with(installation: &Installation) -> Option<u32> {
    let mark = installation.folder().join("local.jsonl").to_str()?.to_owned();
    let processes = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut named = processes.filter(|id| {
        let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.contains(&mark) && !line.contains("__child")
    });
    named.next()
}
