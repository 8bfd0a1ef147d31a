//! HTTP servers that misbehave, and addresses that must not be reached.

use std::time::Duration;

use mcphub_upstream::{BreakerState, PlainHttp, UpstreamError};
use serde_json::json;

use crate::harness::{ALICE, BOB, Hub, server, until};
use crate::web::{End, Plan, Web, event, events, message, raw, result, status};

/// Calls a modern server whose answers are made by `plan`, and returns what went wrong.
async fn fault(plan: impl Fn(&crate::web::Seen) -> Plan + Send + Sync + 'static) -> UpstreamError {
    let web = Web::modern(plan).await;
    let hub = Hub::with(|settings| settings.max_response = 64 * 1024);
    let mut definition = web.definition();
    definition["timeoutMs"] = json!(2000);
    hub.answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await.unwrap_err()
}

#[tokio::test]
async fn garbage_is_told_from_silence_and_from_death() {
    let json_head = "200 OK\r\ncontent-type: application/json";
    let garbage = |error: &UpstreamError| matches!(error, UpstreamError::Garbage { .. });
    let gone = |error: &UpstreamError| matches!(error, UpstreamError::Unreachable { .. });
    let error =
        fault(|_| raw("200 OK\r\ncontent-type: text/html\r\ncontent-length: 2", "hi", End::KeepAlive)).await;
    assert!(garbage(&error), "{error}");
    let error =
        fault(move |_| raw(&format!("{json_head}\r\ncontent-length: 5"), "{oops", End::KeepAlive)).await;
    assert!(garbage(&error), "{error}");
    let error = fault(|_| message(200, "", &json!({ "jsonrpc": "2.0", "id": 424_242, "result": {} }))).await;
    assert!(garbage(&error), "{error}");
    let error =
        fault(|_| events(vec![event(&json!({ "jsonrpc": "2.0", "id": "x", "result": {} }))], End::Close))
            .await;
    assert!(garbage(&error), "{error}");
    let error =
        fault(|_| events(vec![event(&json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))], End::Hang))
            .await;
    assert!(garbage(&error), "{error}");
    let error =
        fault(move |_| raw(&format!("{json_head}\r\ncontent-length: 500"), "{\"jsonrpc\"", End::Close)).await;
    assert!(gone(&error), "{error}");
    let error = fault(|_| events(vec![b"data: {\"jsonrpc".to_vec()], End::Close)).await;
    assert!(gone(&error), "{error}");
    let error = fault(|_| status(503)).await;
    assert!(matches!(&error, UpstreamError::Failing { status: 503, .. }), "{error}");
    let error = fault(|_| raw("garbage", "", End::Close)).await;
    assert!(gone(&error), "{error}");
    let error = fault(|_| status(202)).await;
    assert!(garbage(&error), "{error}");
}

#[tokio::test]
async fn a_stream_that_leads_elsewhere_or_nowhere_is_not_followed() {
    let stream = |first: &'static str| {
        move |seen: &crate::web::Seen| match seen.verb.as_str() {
            "GET" => events(vec![first.as_bytes().to_vec()], End::Hang),
            _ => status(405),
        }
    };
    for first in ["event: endpoint\ndata: http://127.0.0.2:1/m\n\n", "data: /m\n\n", ": nothing\n\n"] {
        let web = Web::start(stream(first)).await;
        let hub = Hub::start();
        let mut definition = web.definition();
        definition["timeoutMs"] = json!(1000);
        let error = hub.answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await.unwrap_err();
        let is_told = matches!(error, UpstreamError::Garbage { .. } | UpstreamError::TimedOut { .. });
        assert!(is_told, "{first}: {error}");
        assert!(web.seen().iter().all(|seen| seen.method() != "tools/call"), "{first}");
    }
}

#[tokio::test]
async fn a_compressed_answer_is_refused_unread() {
    let head = "200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 4";
    let error = fault(move |_| raw(head, "bomb", End::KeepAlive)).await;
    assert!(error.to_string().contains("compressed"), "{error}");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_cut_off() {
    let mib = vec![b'x'; 1024 * 1024];
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n\"".to_vec();
    let (flood, head) = (mib.clone(), head);
    let error = fault(move |_| Plan { pieces: vec![head.clone(), flood.clone()], end: End::Flood }).await;
    assert!(error.to_string().contains("its answer is larger than 65536 bytes"), "{error}");
    let error = fault(move |_| events(vec![b"data: \"".to_vec(), mib.clone()], End::Flood)).await;
    assert!(error.to_string().contains("a line of the event stream is longer than 66560 bytes"), "{error}");
}

#[tokio::test]
async fn silence_ends_at_the_deadline_and_closes_the_stream() {
    let web = Web::modern(|_| raw("200 OK\r\ncontent-type: text/event-stream", ": hi\n\n", End::Hang)).await;
    let mut definition = web.definition();
    definition["timeoutMs"] = json!(300);
    let (hub, server) = (Hub::start(), server("s", &definition));
    let error = hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    assert_eq!(error.to_string(), "s did not answer within 300 ms");
    until("the stream is closed", || web.methods().contains(&"CLOSED".to_owned())).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let web = Web::modern(|_| Plan { pieces: Vec::new(), end: End::Hang }).await;
    let mut definition = web.definition();
    definition["timeoutMs"] = json!(300);
    let error = Hub::start().answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    assert!(matches!(error, UpstreamError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_only_its_origin_is_told() {
    let other = Web::modern(|seen| result(seen, &json!({}))).await;
    let to = format!("{}?token=alices-t0ken", other.url());
    let web = Web::start(move |_| {
        raw(&format!("307 X\r\nlocation: {to}\r\ncontent-length: 0"), "", End::KeepAlive)
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let error = hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "s redirects to http://{}: redirects are not followed, so change the server's URL",
            other.address
        )
    );
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_refused_credential_is_said_to_be_one_and_says_nothing_about_the_era() {
    for code in [401, 403] {
        let web = Web::start(move |_| status(code)).await;
        let (hub, server) = (Hub::start(), server("s", &web.definition()));
        let error = hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap_err();
        assert_eq!(
            error,
            UpstreamError::Unauthorized { server: server.name.clone(), status: code, challenge: None }
        );
        assert_eq!(web.methods(), ["server/discover"]);
    }
}

#[tokio::test]
async fn a_dead_server_is_left_alone_and_delays_no_other() {
    let dead = Web::start(|_| raw("200 OK", "", End::Close)).await;
    let living = Web::modern(|seen| result(seen, &json!({}))).await;
    let hub = Hub::start();
    let (dead_server, living_server) =
        (server("dead", &dead.definition()), server("living", &living.definition()));
    drop(dead);
    for _ in 0..3 {
        let error = hub.answer(&dead_server, ALICE, r#"{"name":"x"}"#).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
    }
    for who in [ALICE, BOB] {
        let error = hub.answer(&dead_server, who, r#"{"name":"x"}"#).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
    }
    let state = hub.upstreams.states().into_iter().find(|state| state.server == dead_server.id).unwrap();
    assert!(matches!(state.breaker, BreakerState::Open { .. }));
    hub.answer(&living_server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    hub.pass(Duration::from_secs(5));
    let error = hub.answer(&dead_server, ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_slow_or_broken_tool_refuses_only_the_one_who_calls_it() {
    let slow = || raw("200 OK\r\ncontent-type: text/event-stream", ": hi\n\n", End::Hang);
    let broken = || raw("200 OK\r\ncontent-type: text/html\r\ncontent-length: 2", "hi", End::KeepAlive);
    for (what, plan) in [("slow", slow as fn() -> Plan), ("broken", broken), ("limited", || status(429))] {
        let web = Web::modern(move |seen| match seen.body["params"]["arguments"]["bad"].as_bool() {
            Some(true) => plan(),
            _ => result(seen, &json!({})),
        })
        .await;
        // For everybody the same connection: nothing of it is personal.
        let definition = json!({ "type": "streamable-http", "url": web.url(), "timeoutMs": 300 });
        let (hub, server) = (Hub::start(), server("s", &definition));
        let bad = r#"{"name":"x","arguments":{"bad":true}}"#;
        for _ in 0..3 {
            let error = hub.answer(&server, ALICE, bad).await.unwrap_err();
            assert!(!matches!(error, UpstreamError::Unavailable { .. }), "{what}: {error}");
        }
        let error = hub.answer(&server, ALICE, bad).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unavailable { .. }), "{what}: {error}");
        hub.answer(&server, BOB, r#"{"name":"x"}"#).await.unwrap();
        hub.pass(Duration::from_secs(5));
        hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_silent_from_the_start_is_left_alone_by_all() {
    let web = Web::start(|_| Plan { pieces: Vec::new(), end: End::Hang }).await;
    let mut definition = web.definition();
    definition["timeoutMs"] = json!(100);
    let (hub, server) = (Hub::start(), server("s", &definition));
    for _ in 0..3 {
        hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    }
    let error = hub.answer(&server, BOB, r#"{"name":"x"}"#).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn what_the_server_says_does_not_open_its_breaker() {
    let web = Web::modern(|seen| crate::web::error(seen, 200, -32603)).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    for _ in 0..5 {
        hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    }
}

#[tokio::test]
async fn production_refuses_plain_http_to_other_machines() {
    let hub = Hub::with(|settings| settings.plain_http = PlainHttp::LoopbackOnly);
    let definition = json!({ "type": "streamable-http", "url": "http://192.0.2.1/mcp" });
    let error = hub.answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    assert!(error.to_string().contains("use https"), "{error}");
}

#[tokio::test]
async fn cloud_credentials_are_out_of_reach_even_by_their_address() {
    let definition = json!({ "type": "streamable-http", "url": "http://169.254.169.254/latest" });
    let error = Hub::start().answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    assert!(matches!(error, UpstreamError::AddressRefused { .. }), "{error}");
}

#[tokio::test]
async fn https_is_never_taken_for_http() {
    let web = Web::modern(|seen| result(seen, &json!({}))).await;
    let definition = json!({ "type": "streamable-http", "url": web.url().replace("http:", "https:") });
    let error = Hub::start().answer(&server("s", &definition), ALICE, r#"{"name":"x"}"#).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
    assert!(web.seen().is_empty());
}
