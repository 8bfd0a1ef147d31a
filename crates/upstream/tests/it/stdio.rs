//! Servers that are child processes.

use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::Server;
use mcphub_upstream::{ReplyMessage, UpstreamError, log};
use mcphub_wire::Version;
use serde_json::{Value, json};

use crate::harness::{
    ALICE, BOB, Hub, access, all, connection, is_alive, json as answer_json, looked, outside, parent, server,
    token_of, until,
};
use crate::schema;

/// A server that does what the arguments of a call say.
const SERVER: &str = r#"
import json, os, subprocess, sys, time
era = sys.argv[1]
space = os.readlink("/proc/self/ns/pid")
seen = []
def send(message):
    sys.stdout.write(json.dumps(message) + "\n"); sys.stdout.flush()
def result(message, value): send({"jsonrpc": "2.0", "id": message["id"], "result": value})
def error(message, code): send({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": "no"}})
def note(method, params): send({"jsonrpc": "2.0", "method": method, "params": params})
for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    seen.append(message)
    if method == "server/discover":
        if era == "unlucky" and not os.path.exists("died"): open("died", "w").close(); sys.exit(3)
        if era in ("modern", "unlucky"): result(message, {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private"})
        elif era == "fragile": sys.exit(3)
        elif era != "silent": error(message, -32601)
    elif method == "initialize" and era == "unlucky": error(message, -32601)
    elif method == "initialize": result(message, {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "p", "version": "1"}})
    elif method == "tools/list": result(message, {"tools": [{"name": "do"}]})
    elif method == "tools/call":
        what = message["params"].get("arguments", {})
        do = what.get("do")
        if do == "hang": continue
        if do == "echo": result(message, {"number": what["number"]}); continue
        if do == "die": os._exit(1)
        if do == "seen": result(message, {"seen": seen}); continue
        if do == "whoami": result(message, {"env": dict(os.environ), "space": space, "pid": os.getpid(), "cwd": os.getcwd()}); continue
        if do == "spawn":
            inner = "import subprocess,sys,os,signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); p = subprocess.Popen(['sleep','1000'], start_new_session=True); print(p.pid, flush=True); sys.stdin.read(); import time; time.sleep(1000)"
            child = subprocess.Popen([sys.executable, "-c", inner], stdout=subprocess.PIPE, stdin=subprocess.PIPE, start_new_session=True)
            result(message, {"space": space, "pids": [1, os.getpid(), child.pid, int(child.stdout.readline())]}); continue
        if do == "leave":
            left = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            result(message, {"space": space, "supervisor": os.getppid(), "left": left.pid}); continue
        if do == "complain":
            sys.stderr.write(what["text"].replace("@", os.environ.get("T", "")) + "\n"); sys.stderr.flush()
        if do == "stray":
            sys.stdout.write("hello, I am " + os.environ["T"] + "\n"); sys.stdout.flush()
        if do == "chatter":
            for _ in range(100000): sys.stdout.write("chatter\n")
            sys.stdout.flush()
        if do == "long": sys.stdout.write("x" * (1 << 20)); sys.stdout.flush(); time.sleep(1000)
        if do == "progress":
            for number in range(what["count"]): note("notifications/progress", {"progressToken": message["params"]["_meta"]["progressToken"], "progress": number, "message": "x" * what.get("size", 0)})
        if do == "ping":
            send({"jsonrpc": "2.0", "id": "p", "method": "ping"}); seen.append(json.loads(sys.stdin.readline()))
        result(message, {"content": []})
"#;

fn python(name: &str, era: &str, extra: &Value) -> Arc<Server> {
    let mut definition = json!({
        "type": "stdio",
        "command": "python3",
        "args": ["-c", SERVER, era],
        "env": { "T": "${USER_T}" },
    });
    for (key, value) in extra.as_object().unwrap() {
        definition[key] = value.clone();
    }
    // The script's own braces are no placeholders.
    server(name, &definition)
}

/// Lets the server start processes of several sessions, and finds them all, its first one first.
async fn spawned(hub: &Hub, server: &Arc<Server>) -> Vec<u64> {
    let found = do_it(hub, server, &json!({ "do": "spawn" })).await;
    found["pids"].as_array().unwrap().iter().map(|pid| outside(&found, pid)).collect()
}

/// Finds the server's process.
async fn running(hub: &Hub, server: &Arc<Server>) -> u64 {
    let found = do_it(hub, server, &json!({ "do": "whoami" })).await;
    outside(&found, &found["pid"])
}

fn kill(pid: u64) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn modern(name: &str) -> Arc<Server> {
    python(name, "modern", &json!({}))
}

fn doing(arguments: &Value) -> String {
    json!({ "name": "s__do", "arguments": arguments }).to_string()
}

/// Checks all that a server has seen.
fn valid(seen: &Value, version: Version) {
    let seen = seen.as_array().unwrap();
    seen.iter().for_each(|message| schema::check_received(Some(version.as_str()), message));
}

async fn do_it(hub: &Hub, server: &Arc<Server>, arguments: &Value) -> Value {
    answer_json(&hub.answer(server, ALICE, &doing(arguments)).await.unwrap())
}

#[tokio::test]
async fn both_eras_are_found_by_asking() {
    let hub = Hub::start();
    for (era, version) in [
        ("modern", Version::V2026_07_28),
        ("legacy", Version::V2025_06_18),
        ("fragile", Version::V2025_06_18),
    ] {
        let server = python(era, era, &json!({}));
        let answer = hub.answer(&server, ALICE, &doing(&json!({ "do": "seen" }))).await.unwrap();
        assert_eq!(answer.version, version, "{era}");
        let seen = answer_json(&answer)["seen"].clone();
        valid(&seen, version);
        let call = seen.as_array().unwrap().last().unwrap();
        assert_eq!(call["params"]["name"], "do");
        assert_eq!(call["params"].get("_meta").is_some(), version.is_modern(), "{era}");
    }
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_modern_process_that_dies_at_its_start_is_started_again() {
    let (hub, server) = (Hub::start(), python("s", "unlucky", &json!({})));
    let answer = hub.answer(&server, ALICE, &doing(&json!({ "do": "x" }))).await.unwrap();
    assert_eq!((answer.version, hub.upstreams.counts().starts), (Version::V2026_07_28, 2));
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_process_that_is_silent_about_discovery_is_legacy() {
    let (hub, server) = (Hub::start(), python("silent", "silent", &json!({})));
    let answer = hub.answer(&server, ALICE, &doing(&json!({ "do": "x" }))).await.unwrap();
    assert_eq!(answer.version, Version::V2025_06_18);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn two_people_have_two_processes_and_each_sees_only_what_is_hers() {
    let (hub, server) = (Hub::start(), modern("s"));
    let mut seen = Vec::new();
    for who in [ALICE, BOB, ALICE] {
        let answer =
            answer_json(&hub.answer(&server, who, &doing(&json!({ "do": "whoami" }))).await.unwrap());
        assert_eq!(answer["env"]["T"], token_of(who));
        let environ = std::fs::read(format!("/proc/{}/environ", outside(&answer, &answer["pid"]))).unwrap();
        let mut names: Vec<String> = environ
            .split(|byte| *byte == 0)
            .filter(|entry| !entry.is_empty())
            .map(|entry| String::from_utf8_lossy(entry).split('=').next().unwrap().to_owned())
            .collect();
        names.sort();
        names.retain(|name| !name.to_lowercase().contains("proxy"));
        assert_eq!(names, ["DECLARED", "HOME", "PATH", "T", "TMPDIR"]);
        assert_eq!(answer["env"]["HOME"], answer["cwd"]);
        seen.push((outside(&answer, &answer["pid"]), answer["cwd"].clone()));
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0].0, seen[1].0);
    assert_ne!(seen[0].1, seen[1].1);
    assert_eq!(hub.upstreams.counts().starts, 2);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_the_process_goes_on() {
    let (hub, server) = (Hub::start(), modern("s"));
    drop(hub.call(&server, ALICE, &doing(&json!({ "do": "hang" }))).await.unwrap());
    let seen = do_it(&hub, &server, &json!({ "do": "seen" })).await["seen"].clone();
    valid(&seen, Version::V2026_07_28);
    let first = |method: &str| seen.as_array().unwrap().iter().find(|one| one["method"] == method).unwrap();
    let (call, cancelled) = (first("tools/call"), first("notifications/cancelled"));
    assert_eq!(cancelled["params"]["requestId"], call["id"]);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn closing_ends_the_whole_tree_and_the_calls_in_it() {
    let (hub, server) = (Hub::start(), modern("s"));
    let pids = spawned(&hub, &server).await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let mut reply = hub.call(&server, ALICE, &doing(&json!({ "do": "hang" }))).await.unwrap();
    let start = tokio::time::Instant::now();
    hub.upstreams.close(|key| *key == connection(&server, ALICE));
    assert!(matches!(reply.next().await, Some(Err(UpstreamError::Closed { .. }))));
    until("all processes are gone", || !pids.iter().any(|pid| is_alive(*pid))).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_leaves_no_process() {
    let (hub, server) = (Hub::start(), modern("s"));
    let pids = spawned(&hub, &server).await;
    hub.upstreams.drain(Duration::from_secs(5)).await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let refused = hub.call(&server, ALICE, &doing(&json!({ "do": "x" }))).await;
    assert!(matches!(refused, Err(UpstreamError::Stopping)));
}

#[tokio::test]
async fn a_process_that_dies_fails_its_calls_and_is_started_again() {
    let (hub, server) = (Hub::start(), modern("s"));
    let error = hub.answer(&server, ALICE, &doing(&json!({ "do": "die" }))).await.unwrap_err();
    assert_eq!(error.to_string(), "s can't be reached: its process ended; `mcphub server logs` may show why");
    do_it(&hub, &server, &json!({ "do": "x" })).await;
    assert_eq!(hub.upstreams.counts().starts, 2);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_killed_supervisor_ends_its_calls_its_connection_and_what_it_started() {
    let (hub, server) = (Hub::start(), modern("s"));
    let pids = spawned(&hub, &server).await;
    // It sleeps, and so doesn't notice that its input ends.
    let mut reply = hub.call(&server, ALICE, &doing(&json!({ "do": "long" }))).await.unwrap();
    kill(parent(pids[0]));
    assert!(matches!(reply.next().await, Some(Err(UpstreamError::Unreachable { .. }))));
    until("the connection is closed", || hub.upstreams.states().iter().all(|state| state.connections == 0))
        .await;
    until("all processes are gone", || !pids.iter().any(|pid| is_alive(*pid))).await;
    do_it(&hub, &server, &json!({ "do": "x" })).await;
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn what_got_away_from_a_killed_supervisor_holds_no_call() {
    let (hub, server) = (Hub::start(), python("s", "modern", &json!({ "sandbox": "off" })));
    let found = do_it(&hub, &server, &json!({ "do": "leave" })).await;
    let mut reply = hub.call(&server, ALICE, &doing(&json!({ "do": "hang" }))).await.unwrap();
    kill(found["supervisor"].as_u64().unwrap());
    assert!(matches!(reply.next().await, Some(Err(UpstreamError::Unreachable { .. }))));
    assert!(is_alive(found["left"].as_u64().unwrap()), "it still holds the pipe");
    kill(found["left"].as_u64().unwrap());
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn an_idle_process_stops_and_a_busy_one_does_not() {
    let (hub, server) = (Hub::start(), modern("s"));
    let pid = running(&hub, &server).await;
    let reply = hub.call(&server, ALICE, &doing(&json!({ "do": "hang" }))).await.unwrap();
    hub.pass(Duration::from_mins(6));
    let now = mcphub_domain::Timestamp::from_micros(hub.time.load(std::sync::atomic::Ordering::SeqCst));
    assert!(hub.upstreams.idle_keys(now).is_empty());
    drop(reply);
    assert!(hub.upstreams.idle_keys(now).is_empty());
    hub.pass(Duration::from_mins(6));
    until("the process is gone", || !is_alive(pid)).await;
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn an_idle_process_makes_room_and_a_busy_one_does_not() {
    let hub = Hub::with(|settings| settings.processes_per_person = 1);
    let (one, two) = (modern("one"), modern("two"));
    let pid = running(&hub, &one).await;
    let busy = hub.call(&two, ALICE, &doing(&json!({ "do": "hang" }))).await.unwrap();
    until("the idle one is gone", || !is_alive(pid)).await;
    let Err(error) = hub.call(&one, ALICE, &doing(&json!({ "do": "x" }))).await else { panic!("no limit") };
    assert!(matches!(error, UpstreamError::TooManyProcesses { limit: 1, .. }), "{error}");
    hub.answer(&one, BOB, &doing(&json!({ "do": "x" }))).await.unwrap();
    drop(busy);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn there_is_a_limit_for_all() {
    let hub = Hub::with(|settings| settings.processes = 1);
    let server = modern("s");
    let busy = hub.call(&server, ALICE, &doing(&json!({ "do": "hang" }))).await.unwrap();
    let Err(error) = hub.call(&server, BOB, &doing(&json!({ "do": "x" }))).await else { panic!("no limit") };
    assert!(matches!(error, UpstreamError::TooManyProcesses { limit: 1, .. }), "{error}");
    drop(busy);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn secrets_do_not_reach_the_log() {
    let (hub, server) = (Hub::start(), modern("s"));
    let long = format!("{}@", "x".repeat(8 * 1024 - 5));
    for text in ["token=@", "\u{1b}[31mred", &long] {
        do_it(&hub, &server, &json!({ "do": "complain", "text": text })).await;
    }
    do_it(&hub, &server, &json!({ "do": "stray" })).await;
    hub.upstreams.close_all().await;
    let lines = || log::read(&hub.logs(), &server.name, 100).unwrap();
    until("everything is written", || lines().len() == 4).await;
    let all = lines().join("\n");
    assert!(!all.contains("alices") && !all.contains("t0ken"), "{all}");
    assert!(all.contains("stderr token=[REDACTED]"), "{all}");
    assert!(all.contains("stdout hello, I am [REDACTED]"), "{all}");
    assert!(all.contains("stderr \u{fffd}[31mred"), "{all}");
    assert_eq!(log::read(&hub.logs(), &server.name, 1).unwrap().len(), 1);
    let unknown = "unknown".parse().unwrap();
    assert!(log::read(&hub.logs(), &unknown, 1).unwrap().is_empty());
}

#[tokio::test]
async fn a_log_is_bounded() {
    let (hub, server) = (Hub::start(), modern("s"));
    let text = "y".repeat(8 * 1024);
    for _ in 0..100 {
        do_it(&hub, &server, &json!({ "do": "complain", "text": text })).await;
    }
    hub.upstreams.close_all().await;
    let folder = hub.logs().join("s");
    let sizes: Vec<u64> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|size| *size < 270 * 1024), "{sizes:?}");
}

#[tokio::test]
async fn a_line_beyond_the_limit_ends_the_process() {
    let hub = Hub::with(|settings| settings.max_response = 64 * 1024);
    let server = modern("s");
    let pid = running(&hub, &server).await;
    let error = hub.answer(&server, ALICE, &doing(&json!({ "do": "long" }))).await.unwrap_err();
    assert_eq!(error.to_string(), "s answered something that is not MCP: a line is longer than 65536 bytes");
    until("the process is gone", || !is_alive(pid)).await;
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_process_that_only_chatters_is_ended() {
    let (hub, server) = (Hub::start(), modern("s"));
    let error = hub.answer(&server, ALICE, &doing(&json!({ "do": "chatter" }))).await.unwrap_err();
    assert!(error.to_string().contains("holds no messages"), "{error}");
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_slows_nobody_and_loses_only_notifications() {
    let (hub, server) = (Hub::start(), modern("s"));
    let params = json!({ "name": "x", "arguments": { "do": "progress", "count": 500 }, "_meta": { "progressToken": 7 } });
    let slow = hub.call(&server, ALICE, &params.to_string()).await.unwrap();
    do_it(&hub, &server, &json!({ "do": "x" })).await;
    let messages = all(slow).await;
    assert_eq!(messages.len(), 65);
    assert_eq!(
        messages[0],
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":0,"message":""}}"#
    );
    assert_eq!(messages[64], r#"{"content": []}"#);
    assert_eq!(hub.upstreams.counts().dropped_notifications, 500 - 64);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn large_notifications_wait_up_to_a_mebibyte() {
    let (hub, server) = (Hub::start(), modern("s"));
    // The rest of such a line is about 130 bytes.
    for (size, waiting) in [((1 << 20) / 4 - 200, 4), ((1 << 20) / 4, 3), (2 << 20, 1)] {
        let before = hub.upstreams.counts().dropped_notifications;
        let arguments = json!({ "do": "progress", "count": 10, "size": size });
        let params = json!({ "name": "x", "arguments": arguments, "_meta": { "progressToken": 7 } });
        let slow = hub.call(&server, ALICE, &params.to_string()).await.unwrap();
        do_it(&hub, &server, &json!({ "do": "x" })).await;
        assert_eq!(all(slow).await.len(), waiting + 1, "of {size} bytes each, and the answer");
        assert_eq!(hub.upstreams.counts().dropped_notifications - before, 10 - waiting as u64);
    }
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (hub, server) = (Hub::start(), python("s", "legacy", &json!({})));
    do_it(&hub, &server, &json!({ "do": "ping" })).await;
    let seen = do_it(&hub, &server, &json!({ "do": "seen" })).await;
    valid(&seen["seen"], Version::V2025_06_18);
    assert!(seen["seen"].as_array().unwrap().contains(&json!({ "jsonrpc": "2.0", "id": "p", "result": {} })));
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn many_calls_share_a_process_and_get_their_own_answers() {
    let (hub, server) = (Hub::start(), modern("s"));
    let mut replies = Vec::new();
    for number in 0..40 {
        let arguments = doing(&json!({ "do": "echo", "number": number }));
        replies.push((number, hub.call(&server, ALICE, &arguments).await.unwrap()));
    }
    for (number, mut reply) in replies.into_iter().rev() {
        let Some(Ok(ReplyMessage::Final(answer))) = reply.next().await else { panic!("no answer") };
        assert_eq!(answer_json(&answer), json!({ "number": number }));
    }
    assert_eq!(hub.upstreams.counts().starts, 1);
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_is_said_to_be_missing() {
    let hub = Hub::start();
    let server =
        server("s", &json!({ "type": "stdio", "command": "no-such-program", "isolation": "person" }));
    let error = hub.answer(&server, ALICE, &doing(&json!({}))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "s can't be started: no-such-program is not on the PATH that is declared for children"
    );
}

#[tokio::test]
async fn a_silent_process_does_not_hold_the_caller() {
    let definition = json!({ "type": "stdio", "command": "sleep", "args": ["1000"], "isolation": "person", "timeoutMs": 300 });
    let (hub, server) = (Hub::start(), server("s", &definition));
    let error = hub.answer(&server, ALICE, &doing(&json!({}))).await.unwrap_err();
    assert!(matches!(error, UpstreamError::TimedOut { .. }), "{error}");
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn tools_are_listed_over_a_pipe_too() {
    let hub = Hub::start();
    let server = modern("s");
    let tools =
        hub.upstreams.list_tools(looked(&server, ALICE), &server, access(&server, ALICE)).await.unwrap();
    assert_eq!(tools[0].definition, r#"{"name": "do"}"#);
    hub.upstreams.close_all().await;
}
