//! Servers that want to harm: what they send is refused or bounded, its caller is told, and nobody else
//! notices.

use std::sync::Arc;

use mcphub_domain::Server;
use mcphub_upstream::{Answer, UpstreamError};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Hub, all, json as answer_json, server};
use crate::web::{End, Plan, Seen, Web, event, events, raw, result};

/// The longest message in these tests.
const LONGEST: usize = 64 * 1024;

/// A process that says what a call tells it to say; `@` is the call's id.
const PROCESS: &str = r#"
import json, os, sys, time
def say(text): sys.stdout.write(text); sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "server/discover":
        found = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private"}
        say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": found}) + "\n")
    elif message["method"] == "tools/call":
        what = message["params"]["arguments"]
        text = what["say"].replace("@", str(message["id"])) * what.get("times", 1)
        for piece in (text if what.get("slowly") else [text]): say(piece)
        if what.get("then") == "die": os._exit(1)
        if what.get("then") == "hang": time.sleep(1000)
        if what.get("then") == "close": os.close(1); time.sleep(1000)
"#;

fn hub() -> Hub {
    Hub::with(|settings| settings.max_response = LONGEST)
}

fn process(timeout_ms: u64) -> Arc<Server> {
    let definition = json!({
        "type": "stdio", "command": "python3", "args": ["-c", PROCESS], "env": { "T": "${USER_T}" },
        "timeoutMs": timeout_ms,
    });
    server("s", &definition)
}

fn saying(arguments: &Value) -> String {
    json!({ "name": "s__do", "arguments": arguments }).to_string()
}

/// Writes an answer of exactly so many bytes; its id is still to come, and has the length of `@`'s.
fn answer_of(id: &Value, length: usize) -> String {
    let answer = |text: &str| json!({ "jsonrpc": "2.0", "id": id, "result": { "x": text } }).to_string();
    answer(&"x".repeat(length - answer("").len()))
}

/// Calls a server whose only answer is `plan`, and then one that is well, by way of the same hub.
async fn call(plan: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Result<Answer, UpstreamError> {
    let (web, well) = (Web::modern(plan).await, Web::modern(|seen| result(seen, &json!({}))).await);
    let hub = hub();
    let mut definition = web.definition();
    definition["timeoutMs"] = json!(1_000);
    let answer = hub.answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await;
    hub.answer(&server("well", &well.definition()), BOB, r#"{"name":"x"}"#).await.unwrap();
    answer
}

/// Answers with a body that is `extra` bytes longer than it says.
fn body(seen: &Seen, length: usize, extra: &str) -> Plan {
    let body = answer_of(seen.id(), length);
    let head = format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    raw(&head, &format!("{body}{extra}"), End::KeepAlive)
}

#[tokio::test]
async fn an_answer_may_be_as_long_as_the_limit() {
    call(|seen| body(seen, LONGEST, "")).await.unwrap();
    let error = call(|seen| body(seen, LONGEST + 1, "")).await.unwrap_err();
    assert!(error.to_string().contains("larger than 65536 bytes"), "{error}");
    let streamed = |seen: &Seen, length| {
        let data = format!("data: {}\n\n", answer_of(seen.id(), length));
        events(vec![data.into_bytes()], End::Close)
    };
    call(move |seen| streamed(seen, LONGEST)).await.unwrap();
    let error = call(move |seen| streamed(seen, LONGEST + 1)).await.unwrap_err();
    assert!(error.to_string().contains("larger than 65536 bytes"), "{error}");
}

#[tokio::test]
async fn an_answer_in_pieces_of_one_byte_is_an_answer() {
    let bytes = |plan: Plan| Plan {
        pieces: plan.pieces.concat().chunks(1).map(<[u8]>::to_vec).collect(),
        end: plan.end,
    };
    call(move |seen| bytes(body(seen, 300, ""))).await.unwrap();
    let last = |seen: &Seen| event(&json!({ "jsonrpc": "2.0", "id": seen.id(), "result": {} }));
    call(move |seen| bytes(events(vec![last(seen)], End::Close))).await.unwrap();
}

#[tokio::test]
async fn what_follows_an_answer_is_nobodys() {
    let second = |seen: &Seen| json!({ "jsonrpc": "2.0", "id": seen.id(), "result": { "second": true } });
    let twice = move |seen: &Seen| {
        let first = event(&json!({ "jsonrpc": "2.0", "id": seen.id(), "result": { "first": true } }));
        events(vec![first, event(&second(seen))], End::Close)
    };
    assert_eq!(answer_json(&call(twice).await.unwrap()), json!({ "first": true }));
    let error = call(move |seen| {
        let text = format!("{}{}", second(seen), second(seen));
        raw(
            &format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", text.len()),
            &text,
            End::KeepAlive,
        )
    });
    assert!(matches!(error.await, Err(UpstreamError::Garbage { .. })));
    // A whole answer hides behind the first one: it must not become the next caller's.
    let planted = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 53\r\n\r\n\
                   {\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"planted\":true}}    ";
    let web = Web::modern(move |seen| body(seen, 100, planted)).await;
    let (hub, server) = (hub(), server("s", &web.definition()));
    for who in [ALICE, BOB, ALICE, BOB] {
        let text = hub.answer(&server, who, r#"{"name":"x"}"#).await.map(|answer| answer_json(&answer));
        assert!(!format!("{text:?}").contains("planted"), "{text:?}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let header = format!("x: {}\r\n", "y".repeat(1_000)).into_bytes();
    for start in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n"] {
        let pieces = vec![start.as_bytes().to_vec(), header.clone()];
        let error = call(move |_| Plan { pieces: pieces.clone(), end: End::Flood }).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
    }
    let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
    let error = call(move |_| Plan { pieces: vec![hints.clone()], end: End::Flood }).await.unwrap_err();
    assert!(matches!(error, UpstreamError::TimedOut { .. } | UpstreamError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_length_that_is_none_is_refused() {
    for length in ["-1", "1, 2", "99999999999999999999", "10\r\ncontent-length: 20"] {
        let head = format!("200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}");
        let error = call(move |_| raw(&head, "{}", End::Close)).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unreachable { .. }), "{length}: {error}");
    }
}

#[tokio::test]
async fn a_stream_that_only_keeps_itself_alive_ends_at_the_deadline() {
    for noise in [": x\n\n".to_owned(), "event: other\ndata: x\n\n".to_owned(), "id: 1\n\n".to_owned()] {
        let pieces = [
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec(),
            noise.clone().into_bytes(),
        ];
        let error = call(move |_| Plan { pieces: pieces.to_vec(), end: End::Flood }).await.unwrap_err();
        assert!(matches!(error, UpstreamError::TimedOut { .. }), "{noise:?}: {error}");
    }
}

#[tokio::test]
async fn a_line_may_be_as_long_as_the_limit() {
    let (hub, server) = (hub(), process(5_000));
    // The id of the call is one that the process fills in, of one digit, like the stand-in.
    let line = |length: usize| answer_of(&json!(7), length).replace("\"id\":7", "\"id\":@") + "\n";
    let sent = hub.answer(&server, ALICE, &saying(&json!({ "say": line(LONGEST) }))).await;
    sent.unwrap();
    let error = hub.answer(&server, ALICE, &saying(&json!({ "say": line(LONGEST + 1) }))).await.unwrap_err();
    assert!(error.to_string().contains("a line is longer than 65536 bytes"), "{error}");
    hub.upstreams.close_all().await;
}

#[tokio::test]
async fn what_a_process_says_wrongly_hurts_only_its_call() {
    let server = process(1_000);
    let good = r#"{"jsonrpc":"2.0","id":@,"result":{"good":true}}"#.to_owned() + "\n";
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":@,\"result\":{{\"x\":{}1{}}}}}\n",
        "[".repeat(70),
        "]".repeat(70)
    );
    let timed_out = |error: &UpstreamError| matches!(error, UpstreamError::TimedOut { .. });
    let gone = |error: &UpstreamError| matches!(error, UpstreamError::Unreachable { .. });
    let garbage = |error: &UpstreamError| matches!(error, UpstreamError::Garbage { .. });
    type Check<'a> = &'a dyn Fn(&UpstreamError) -> bool;
    let table: [(&str, Value, Option<Check<'_>>); 13] = [
        ("one byte at a time", json!({ "say": good, "slowly": true }), None),
        ("an answer twice", json!({ "say": good, "times": 2 }), None),
        ("noise before it", json!({ "say": format!("\u{0}\u{1b}[2J noise\n\n\n{good}") }), None),
        (
            "answers of others before it",
            json!({ "say": format!("{}{good}", good.replace('@', "99999")) }),
            None,
        ),
        ("an id that is a text", json!({ "say": good.replace('@', "\"@\"") }), Some(&timed_out)),
        ("an answer without a line end", json!({ "say": good.trim_end() }), Some(&timed_out)),
        ("half an answer", json!({ "say": good[..20], "then": "die" }), Some(&gone)),
        ("nothing, and it dies", json!({ "say": "", "then": "die" }), Some(&gone)),
        ("nothing, and it closes its output", json!({ "say": "", "then": "close" }), Some(&gone)),
        ("nothing for ever", json!({ "say": "", "then": "hang" }), Some(&timed_out)),
        ("too deep an answer", json!({ "say": deep }), Some(&garbage)),
        (
            "two results in one",
            json!({ "say": good.replace("\"result\"", "\"result\":{},\"result\"") }),
            Some(&garbage),
        ),
        ("a hundred mebibytes", json!({ "say": "x".repeat(1_000), "times": 100 << 10 }), Some(&garbage)),
    ];
    for (what, arguments, wrong) in table {
        let hub = hub();
        let answer = hub.answer(&server, ALICE, &saying(&arguments)).await;
        match (answer, wrong) {
            (Ok(answer), None) => assert_eq!(answer_json(&answer), json!({ "good": true }), "{what}"),
            (Err(error), Some(expected)) => assert!(expected(&error), "{what}: {error}"),
            (answer, _) => panic!("{what}: {answer:?}"),
        }
        let next = hub.answer(&server, BOB, &saying(&json!({ "say": good }))).await;
        assert!(next.is_ok(), "after {what}: {next:?}");
        hub.upstreams.close_all().await;
    }
}

#[tokio::test]
async fn notifications_that_nobody_asked_for_reach_nobody() {
    let (hub, server) = (hub(), process(5_000));
    let forged = [
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":12345,"progress":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":@}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":@,"result":{"good":true}}"#,
    ];
    let reply = hub.call(&server, ALICE, &saying(&json!({ "say": forged.join("\n") + "\n" }))).await.unwrap();
    assert_eq!(all(reply).await, [r#"{"good":true}"#]);
    hub.upstreams.close_all().await;
}
