//! Calls over HTTP, to servers of both eras.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::json;

use crate::harness::{
    ALICE, BOB, Hub, access, all, asked, connection, json as answer_json, looked, parse_params, recorded,
    server, text, token_of, tool_call, until, values,
};
use crate::web::{End, Web, error, event, events, initialized, result, status};
use mcphub_domain::{SecretText, Server};
use mcphub_upstream::{Access, Client, Content, Errand, Prefers, Question, ReplyMessage, ToolCall};
use mcphub_upstream::{UpstreamError, Vicinity, Wanted};
use mcphub_wire::list::ListKind;
use mcphub_wire::{LogLevel, Outcome, Params, Version, method};

#[tokio::test]
async fn a_modern_call_says_what_the_permit_says() {
    let web = Web::modern(|seen| result(seen, &json!({ "resultType": "complete", "content": [] }))).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let answer = hub
        .answer(&server, ALICE, r#"{"name":"s__other","arguments":{"n":12345678901234567890}}"#)
        .await
        .unwrap();
    assert_eq!(text(&answer), r#"{"content":[],"resultType":"complete"}"#);
    assert_eq!(answer.version, Version::V2026_07_28);
    let call = &web.calls()[0];
    assert_eq!(call.body["params"]["name"], "do");
    assert!(call.body["params"]["arguments"].to_string().contains("12345678901234567890"));
    for (name, value) in [
        ("mcp-method", "tools/call"),
        ("mcp-name", "do"),
        ("mcp-protocol-version", "2026-07-28"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("authorization", "Bearer alices-t0ken"),
    ] {
        assert_eq!(call.header(name), Some(value), "{name}");
    }
    assert_eq!(call.header("mcp-session-id"), None);
}

#[tokio::test]
async fn a_legacy_server_gets_a_session_of_which_leave_is_taken() {
    let web = Web::legacy(|seen| result(seen, &json!({ "content": [] }))).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    for _ in 0..2 {
        let answer = hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
        assert_eq!(answer.version, Version::V2025_11_25);
    }
    let call = &web.calls()[1];
    assert_eq!(call.header("mcp-session-id"), Some("first"));
    assert_eq!(call.header("mcp-protocol-version"), Some("2025-11-25"));
    assert_eq!((call.header("mcp-method"), call.header("mcp-name")), (None, None));
    assert!(call.body["params"].get("_meta").is_none());
    hub.upstreams.close_all().await;
    let expected =
        ["server/discover", "initialize", "notifications/initialized", "tools/call", "tools/call", "DELETE"];
    assert_eq!(web.methods(), expected);
}

#[tokio::test]
async fn a_server_that_answers_with_a_modern_error_is_modern() {
    let web = Web::start(|seen| match seen.method() {
        "server/discover" => error(seen, 400, -32021),
        _ => result(seen, &json!({})),
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    assert_eq!(hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap().version, Version::V2026_07_28);
}

#[tokio::test]
async fn an_expired_session_is_opened_once_more_and_the_call_repeated() {
    let web = Web::start(|seen| match (seen.method(), seen.header("mcp-session-id")) {
        ("server/discover", _) => status(404),
        ("initialize", _) => initialized(seen, &format!("session-{}", seen.id())),
        ("tools/call", Some("session-2")) => status(404),
        ("tools/call", _) => result(seen, &json!({ "content": [] })),
        _ => status(202),
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    assert_eq!(web.calls().len(), 2);
    assert_ne!(web.calls()[0].id(), web.calls()[1].id());
}

#[tokio::test]
async fn a_session_that_always_expires_is_not_opened_for_ever() {
    let web = Web::legacy(|_| status(404)).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    assert!(hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.is_err());
    assert_eq!(web.calls().len(), 2);
}

#[tokio::test]
async fn a_server_that_became_legacy_is_probed_again() {
    let downgraded = std::sync::atomic::AtomicBool::new(false);
    let web = Web::start(move |seen| match (seen.method(), seen.header("mcp-session-id")) {
        ("server/discover", _) if downgraded.swap(true, std::sync::atomic::Ordering::SeqCst) => status(400),
        ("server/discover", _) => crate::web::discovery(seen),
        ("initialize", _) => initialized(seen, "late"),
        ("tools/call", None) => status(400),
        ("tools/call", Some(_)) => result(seen, &json!({})),
        _ => status(202),
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    assert_eq!(hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap().version, Version::V2025_11_25);
}

#[tokio::test]
async fn progress_comes_back_under_the_clients_token_and_byte_by_byte_streams_are_read() {
    let web = Web::modern(|seen| {
        let token = &seen.body["params"]["_meta"]["progressToken"];
        let progress = |token: &serde_json::Value| json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": token, "progress": 1 } });
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info", "data": "hi" } });
        let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
        let last = json!({ "jsonrpc": "2.0", "id": seen.id(), "result": { "content": [] } });
        let foreign = progress(&json!(999_999));
        let all = [progress(token), foreign, message, changed, last];
        let bytes: Vec<u8> = all.iter().flat_map(event).collect();
        events(bytes.into_iter().map(|byte| vec![byte]).collect(), End::Close)
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let params = r#"{"name":"x","_meta":{"progressToken":"mine"}}"#;
    let client = Client { log_level: Some(LogLevel::Info), ..Client::NOBODY };
    let call = ToolCall { client, ..tool_call(&server, ALICE, params) };
    let reply = hub.upstreams.call_tool(recorded(&server, ALICE), call).await.unwrap();
    let expected = [
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"progressToken":"mine"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"hi","level":"info"}}"#,
        r#"{"content":[]}"#,
    ];
    assert_eq!(all(reply).await, expected);
    assert!(web.calls()[0].body["params"]["_meta"]["progressToken"].is_i64());
}

#[tokio::test]
async fn a_legacy_server_s_ping_is_answered_and_other_requests_are_refused() {
    let web = Web::legacy(|seen| {
        let ask = |id: &str, method: &str| event(&json!({ "jsonrpc": "2.0", "id": id, "method": method }));
        let last = event(&json!({ "jsonrpc": "2.0", "id": seen.id(), "result": {} }));
        events(vec![ask("p", "ping"), ask("q", "roots/list"), last], End::Close)
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    let answer_to =
        |id: &str| web.seen().into_iter().find(|seen| seen.id() == id && seen.method().is_empty());
    until("both are answered", || answer_to("p").is_some() && answer_to("q").is_some()).await;
    assert_eq!(answer_to("p").unwrap().body["result"], json!({}));
    assert_eq!(answer_to("q").unwrap().body["error"]["code"], -32601);
}

#[tokio::test]
async fn a_dropped_modern_call_closes_its_stream() {
    let web = Web::modern(|_| events(vec![b": wait\n\n".to_vec()], End::Hang)).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    drop(hub.call(&server, ALICE, r#"{"name":"x"}"#).await.unwrap());
    until("the server sees the end", || web.methods().last().is_some_and(|last| last == "CLOSED")).await;
    assert_eq!(web.methods(), ["server/discover", "tools/call", "CLOSED"]);
}

#[tokio::test]
async fn a_dropped_legacy_call_is_cancelled_by_its_id() {
    let web = Web::legacy(|_| events(vec![b": wait\n\n".to_vec()], End::Hang)).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    drop(hub.call(&server, ALICE, r#"{"name":"x"}"#).await.unwrap());
    let cancelled = || web.seen().into_iter().find(|seen| seen.method() == "notifications/cancelled");
    until("the server is told", || cancelled().is_some()).await;
    let cancelled = cancelled().unwrap();
    assert_eq!(&cancelled.body["params"]["requestId"], web.calls()[0].id());
    assert_eq!(cancelled.header("mcp-session-id"), Some("first"));
}

#[tokio::test]
async fn an_answered_call_is_not_cancelled() {
    let web = Web::legacy(|seen| result(seen, &json!({}))).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    hub.upstreams.close_all().await;
    assert!(!web.methods().contains(&"notifications/cancelled".to_owned()));
}

#[tokio::test]
async fn a_legacy_call_goes_on_where_its_server_closed_the_stream() {
    let call = std::sync::Mutex::new(json!(0));
    let web = Web::start(move |seen| match (seen.verb.as_str(), seen.method()) {
        ("DELETE", _) => status(200),
        ("GET", _) => {
            let last = seen.header("last-event-id");
            assert!(matches!(last, Some("first" | "second")), "{last:?}");
            let message = match last {
                // Once more it has nothing to say but where to go on.
                Some("first") => b"id: second\ndata:\n\n".to_vec(),
                _ => event(
                    &json!({ "jsonrpc": "2.0", "id": *call.lock().unwrap(), "result": { "content": [] } }),
                ),
            };
            events(vec![message], End::Close)
        }
        (_, "server/discover") => error(seen, 400, -32600),
        (_, "initialize") => initialized(seen, "session"),
        (_, "tools/call") => {
            *call.lock().unwrap() = seen.id().clone();
            events(vec![b"id: first\nretry: 0\ndata:\n\n".to_vec()], End::Close)
        }
        _ => status(202),
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let begun = tokio::time::Instant::now();
    let answer = hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    assert_eq!(text(&answer), r#"{"content":[]}"#);
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "a server that says at once is waited for none the less"
    );
    assert_eq!(web.calls().len(), 1, "it is called once");
    let again: Vec<_> = web.seen().into_iter().filter(|seen| seen.verb == "GET").collect();
    assert_eq!(again.len(), 2);
    for seen in again {
        assert_eq!(seen.header("mcp-session-id"), Some("session"));
        assert_eq!(seen.header("authorization"), Some("Bearer alices-t0ken"));
    }
}

#[tokio::test]
async fn a_form_arrives_as_it_was_written() {
    let web = Web::start(|_| status(200)).await;
    let (hub, url) = (Hub::start(), web.url().parse().unwrap());
    let form = Content::Form(SecretText::new("a=b&c=%26".to_owned()));
    let vicinity = Vicinity { server: web.url().parse().unwrap(), networks: Vec::new() };
    let errand = Errand { content: form, ..Errand::get(url) };
    assert_eq!(hub.upstreams.run(errand, &vicinity).await.unwrap().status, 200);
    let [seen] = &web.seen()[..] else { panic!("one request") };
    assert_eq!((seen.text.as_str(), seen.header("content-length")), ("a=b&c=%26", Some("9")));
}

#[tokio::test]
async fn each_person_s_calls_carry_her_own_token() {
    let web = Web::modern(|seen| {
        let token = seen.header("authorization").unwrap().to_owned();
        result(seen, &json!({ "token": token }))
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    for round in 0..50 {
        let who = if round % 3 == 0 { BOB } else { ALICE };
        let answer = hub.answer(&server, who, r#"{"name":"x"}"#).await.unwrap();
        assert_eq!(answer_json(&answer)["token"], format!("Bearer {}", token_of(who)));
    }
}

#[tokio::test]
async fn a_permit_is_good_for_its_server_revision_and_person_alone() {
    let web = Web::modern(|seen| result(seen, &json!({}))).await;
    let (hub, one) = (Hub::start(), server("one", &web.definition()));
    let other = server("other", &web.definition());
    let mut changed = (*one).clone();
    changed.revision = 2;
    let changed = std::sync::Arc::new(changed);
    let mut shared_key = tool_call(&one, ALICE, r#"{"name":"x"}"#);
    shared_key.access.key.scope = mcphub_upstream::Scope::Shared;
    let mut foreign_caller = tool_call(&one, ALICE, r#"{"name":"x"}"#);
    foreign_caller.access.caller = Some(BOB);
    let mut foreign_values = tool_call(&one, ALICE, r#"{"name":"x"}"#);
    foreign_values.access.values = Box::new(|| Ok(values(BOB)));
    let calls = [
        tool_call(&other, ALICE, r#"{"name":"x"}"#),
        tool_call(&changed, ALICE, r#"{"name":"x"}"#),
        tool_call(&one, BOB, r#"{"name":"x"}"#),
        shared_key,
        foreign_caller,
        foreign_values,
    ];
    for call in calls {
        let sent = hub.upstreams.call_tool(recorded(&one, ALICE), call).await;
        assert!(matches!(sent, Err(UpstreamError::WrongPermit { .. })));
    }
    assert!(web.seen().is_empty());
}

#[tokio::test]
async fn a_look_is_good_for_its_server_revision_and_person_alone() {
    let web = Web::modern(|seen| result(seen, &json!({ "tools": [] }))).await;
    let (hub, one) = (Hub::start(), server("one", &web.definition()));
    let other = server("other", &web.definition());
    let mut changed = (*one).clone();
    changed.revision = 2;
    let changed = std::sync::Arc::new(changed);
    let mut shared_key = access(&one, ALICE);
    shared_key.key.scope = mcphub_upstream::Scope::Shared;
    let looks = [
        (&other, access(&other, ALICE)),
        (&changed, access(&changed, ALICE)),
        (&one, access(&one, BOB)),
        (&one, shared_key),
    ];
    for (server, access) in looks {
        let looked = hub.upstreams.list_tools(looked(&one, ALICE), server, access).await;
        assert!(matches!(looked, Err(UpstreamError::WrongPermit { .. })));
    }
    assert!(web.seen().is_empty());
}

#[tokio::test]
async fn a_question_is_good_for_its_server_revision_and_person_alone() {
    let web = Web::modern(|seen| result(seen, &json!({ "prompts": [] }))).await;
    let (hub, one) = (Hub::start(), server("one", &web.definition()));
    let other = server("other", &web.definition());
    let changed = Arc::new(Server { revision: 2, ..(*one).clone() });
    let of = |server: &Arc<Server>, number: usize| {
        let mut access = access(server, if number == 2 { BOB } else { ALICE });
        match number {
            3 => access.key.scope = mcphub_upstream::Scope::Shared,
            4 => access.caller = Some(BOB),
            _ => {}
        }
        access
    };
    for (number, server) in [&other, &changed, &one, &one, &one].into_iter().enumerate() {
        let permit = asked(&one, ALICE);
        let listed = hub.upstreams.list(permit, server, of(server, number), ListKind::Prompts).await;
        assert!(matches!(listed.err(), Some(UpstreamError::WrongPermit { .. })), "list {number}");
        let (wanted, params) = (Wanted::Prompt("p".into()), Params::default());
        let question = Question {
            server: Arc::clone(server),
            access: of(server, number),
            wanted,
            params,
            client: Client::NOBODY,
        };
        let got = hub.upstreams.ask(asked(&one, ALICE), question).await;
        assert!(matches!(got.err(), Some(UpstreamError::WrongPermit { .. })), "ask {number}");
    }
    assert!(web.seen().is_empty());
}

#[tokio::test]
async fn a_modern_result_that_is_not_complete_is_no_answer() {
    for kind in [json!("input_required"), json!("task"), json!("later"), json!(7)] {
        let said = kind.clone();
        let web = Web::modern(move |seen| result(seen, &json!({ "resultType": said, "content": [] }))).await;
        let (hub, server) = (Hub::start(), server("s", &web.definition()));
        let answer = hub.answer(&server, ALICE, r#"{"name":"x"}"#).await;
        assert!(matches!(answer, Err(UpstreamError::Garbage { .. })), "{kind}: {answer:?}");
    }
}

#[tokio::test]
async fn a_question_goes_out_under_the_servers_own_name_and_a_list_to_its_end() {
    let web = Web::modern(|seen| match seen.method() {
        "prompts/list" if seen.body["params"]["cursor"].is_null() => {
            result(seen, &json!({ "prompts": [{ "name": "a" }], "nextCursor": "" }))
        }
        "prompts/list" => result(seen, &json!({ "prompts": [{ "name": "b" }] })),
        "prompts/get" => {
            let name = seen.header("mcp-name");
            result(seen, &json!({ "messages": [], "seen": seen.body["params"], "name": name }))
        }
        _ => error(seen, 404, -32601),
    })
    .await;
    let (hub, one) = (Hub::start(), server("one", &web.definition()));
    let list = async |kind| {
        let items = hub.upstreams.list(asked(&one, ALICE), &one, access(&one, ALICE), kind).await.unwrap();
        items.items.iter().map(|item| item.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(ListKind::Prompts).await, ["a", "b"]);
    assert_eq!(list(ListKind::Resources).await, [""; 0], "who doesn't know the method has none");
    let params =
        parse_params(r#"{"name":"one__own","arguments":{"x": "1.0"},"_meta":{"progressToken":"t"}}"#);
    let (server, wanted) = (Arc::clone(&one), Wanted::Prompt("own".into()));
    let question = Question { server, access: access(&one, ALICE), wanted, params, client: Client::NOBODY };
    let answer = hub.upstreams.ask(asked(&one, ALICE), question).await.unwrap().answer().await.unwrap();
    let answer = answer_json(&answer);
    assert_eq!((&answer["seen"]["name"], &answer["name"]), (&json!("own"), &json!("own")));
    assert_eq!(answer["seen"]["arguments"], json!({ "x": "1.0" }));
}

#[tokio::test]
async fn what_is_said_of_a_task_has_the_clients_name_for_it() {
    let web = Web::start(|seen| match (seen.verb.as_str(), seen.method()) {
        (_, "initialize") => initialized(seen, "one"),
        (_, "tasks/result") => {
            let told = |method: &str, params: serde_json::Value| json!({ "jsonrpc": "2.0", "method": method, "params": params });
            let related = json!({ "io.modelcontextprotocol/related-task": seen.body["params"] });
            let status = |id: &str| told("notifications/tasks/status", json!({ "taskId": id, "status": "working" }));
            let log = told("notifications/message", json!({ "level": "info", "data": 1, "_meta": related }));
            let last = json!({ "jsonrpc": "2.0", "id": seen.id(), "result": { "content": [], "_meta": related } });
            events([status("own"), status("other"), log, last].iter().map(event).collect(), End::Close)
        }
        _ => status(202),
    })
    .await;
    let (hub, one) = (Hub::start(), server("one", &web.definition()));
    let wanted = Wanted::Task { method: method::TASKS_RESULT, id: "own".into(), progress: None };
    let (server, access, params) =
        (Arc::clone(&one), access(&one, ALICE), parse_params(r#"{"taskId":"hers"}"#));
    let client = Client { log_level: Some(LogLevel::Info), prefers: Prefers::Legacy, ..Client::NOBODY };
    let question = Question { server, access, wanted, params, client };
    let heard = all(hub.upstreams.ask(asked(&one, ALICE), question).await.unwrap()).await;
    let related = r#""_meta":{"io.modelcontextprotocol/related-task":{"taskId":"hers"}}"#;
    let expected = [
        r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"status":"working","taskId":"hers"}}"#.to_owned(),
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{{related},"data":1,"level":"info"}}}}"#),
        format!(r#"{{{related},"content":[]}}"#),
    ];
    assert_eq!(heard, expected);
    assert_eq!(web.seen().last().unwrap().body["params"], json!({ "taskId": "own" }));
}

#[tokio::test]
async fn what_does_not_hold_any_more_opens_no_connection() {
    let web = Web::modern(|seen| result(seen, &json!({ "tools": [] }))).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let stale = || Access { still: Box::new(|| false), ..access(&server, ALICE) };
    let closed = UpstreamError::Closed { server: server.name.clone() };
    let call = ToolCall { access: stale(), ..tool_call(&server, ALICE, r#"{"name":"x"}"#) };
    assert_eq!(hub.upstreams.call_tool(recorded(&server, ALICE), call).await.err(), Some(closed.clone()));
    let listed = hub.upstreams.list_tools(looked(&server, ALICE), &server, stale()).await;
    assert_eq!(listed.err(), Some(closed));
    assert!(web.seen().is_empty());
}

#[tokio::test]
async fn a_close_finds_what_still_held_when_it_was_asked() {
    let web = Web::modern(|_| events(vec![], End::Hang)).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let (upstreams, key) = (Arc::clone(&hub.upstreams), connection(&server, ALICE));
    // The change comes in the worst moment: after the look, before the connection has its place. Its
    // close has to wait; if it doesn't, it finds nothing.
    let still = move || {
        let (closed, close) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            upstreams.close(|found| *found == key);
            drop(closed);
        });
        assert_eq!(close.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
        true
    };
    let access = Access { still: Box::new(still), ..access(&server, ALICE) };
    let call = ToolCall { access, ..tool_call(&server, ALICE, r#"{"name":"x"}"#) };
    let error = match hub.upstreams.call_tool(recorded(&server, ALICE), call).await {
        Ok(reply) => reply.answer().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, UpstreamError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn closing_ends_calls_in_flight_and_the_next_call_connects_anew() {
    let web = Web::legacy(|seen| match seen.body["params"]["arguments"]["hang"] {
        serde_json::Value::Bool(true) => events(vec![b": wait\n\n".to_vec()], End::Hang),
        _ => result(seen, &json!({})),
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let mut reply = hub.call(&server, ALICE, r#"{"name":"x","arguments":{"hang":true}}"#).await.unwrap();
    let (alices, bobs) = (connection(&server, ALICE), connection(&server, BOB));
    hub.upstreams.close(|key| *key == bobs);
    hub.upstreams.close(|key| *key == alices);
    assert_eq!(
        reply.next().await.unwrap().unwrap_err(),
        UpstreamError::Closed { server: server.name.clone() }
    );
    assert!(reply.next().await.is_none());
    hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    assert_eq!(web.methods().iter().filter(|method| *method == "initialize").count(), 2);
}

#[tokio::test]
async fn an_error_of_the_server_is_an_answer() {
    let web = Web::modern(|seen| error(seen, 200, -32602)).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let mut reply = hub.call(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    let Some(Ok(ReplyMessage::Final(answer))) = reply.next().await else { panic!("no answer") };
    assert!(matches!(answer.outcome, Outcome::Error(error) if error.code == -32602));
}

#[tokio::test]
async fn missing_values_are_named_and_nothing_is_sent() {
    let web = Web::modern(|seen| result(seen, &json!({}))).await;
    let mut definition = web.definition();
    definition["headers"]["x-site"] = json!("${SHARED_SITE}");
    let (hub, server) = (Hub::start(), server("s", &definition));
    let Err(error) = hub.call(&server, ALICE, r#"{"name":"x"}"#).await else { panic!("it was sent") };
    assert_eq!(error.to_string(), "s needs values that are not set: ${SHARED_SITE}");
    assert!(web.seen().is_empty());
}
