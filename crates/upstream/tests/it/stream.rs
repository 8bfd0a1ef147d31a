//! The stream of a session with an older server: what comes there reaches the requests that it is for, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::Server;
use mcphub_upstream::{
    Client, Interest, News, Prefers, Question, Reply, ReplyMessage, TaskProgress, ToolCall, Wanted, Watching,
};
use mcphub_wire::list::ListKind;
use mcphub_wire::{Abilities, LogLevel, Outcome, Raw, method};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, access, asked, parse_params, recorded, server, tool_call, until};
use crate::web::{End, Plan, Seen, Web, error, event, events, initialized, result, status};

/// Names the task in what is said in its course.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// Starts an older server that opens its stream, or doesn't, as `open` says, and never answers who waits for a task.
async fn telling(open: impl Fn() -> Plan + Send + Sync + 'static) -> Web {
    Web::start(move |seen| match (seen.verb.as_str(), seen.method()) {
        ("GET", _) => open(),
        ("DELETE", _) => status(200),
        (_, "server/discover") => error(seen, 400, -32600),
        (_, "initialize") => initialized(seen, "one"),
        (_, "tools/call") => result(seen, &json!({ "content": [] })),
        (_, "tasks/result") => events(Vec::new(), End::Hang),
        _ => status(202),
    })
    .await
}

/// Is a server whose sessions people share.
fn shared(web: &Web) -> Arc<Server> {
    server("shared", &json!({ "type": "streamable-http", "url": web.url() }))
}

/// Waits for a task that a call with the token 77 became.
async fn wait(hub: &Hub, server: &Arc<Server>) -> Reply {
    let progress = Some(TaskProgress { here: Raw::string("hers"), there: 77 });
    let wanted = Wanted::Task { method: method::TASKS_RESULT, id: "own".into(), progress };
    let client = Client { prefers: Prefers::Legacy, ..Client::able(Abilities::ALL) };
    let (access, params) = (access(server, ALICE), parse_params(r#"{"taskId":"sealed"}"#));
    let question = Question { server: Arc::clone(server), access, wanted, params, client };
    hub.upstreams.ask(asked(server, ALICE), question).await.unwrap()
}

async fn told(reply: &mut Reply) -> Value {
    match reply.next().await.unwrap().unwrap() {
        ReplyMessage::Notification(bytes) => serde_json::from_slice(&bytes).unwrap(),
        other => panic!("no notification: {other:?}"),
    }
}

fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

fn ping(number: usize) -> Value {
    json!({ "jsonrpc": "2.0", "id": format!("p{number}"), "method": "ping" })
}

/// Starts an older server that says all this at once when its stream is opened.
async fn saying(said: impl Iterator<Item = Value>) -> Web {
    let said: Vec<u8> = said.flat_map(|one| event(&one)).collect();
    telling(move || events(vec![said.clone()], End::Hang)).await
}

async fn watch(hub: &Hub, web: &Web) -> Watching {
    let server = shared(web);
    let interest = Interest { tools: true, prompts: true, ..Interest::default() };
    hub.upstreams.watch(asked(&server, ALICE), &server, access(&server, ALICE), interest).await.unwrap()
}

/// Waits for news of a list.
async fn changed(watching: &mut Watching) -> ListKind {
    match tokio::time::timeout(Duration::from_secs(5), watching.next()).await {
        Ok(Some(News::List(kind))) => kind,
        other => panic!("no news of a list: {other:?}"),
    }
}

fn gets(web: &Web) -> usize {
    web.seen().iter().filter(|seen| seen.verb == "GET").count()
}

#[tokio::test]
async fn who_waits_for_a_task_hears_and_is_asked_what_comes_in_its_course_and_nothing_else() {
    let web = telling(|| {
        let status = |id: &str| notification("notifications/tasks/status", &json!({ "taskId": id, "status": "working" }));
        let progress = |token: u8| notification("notifications/progress", &json!({ "progressToken": token, "progress": 1 }));
        let log = notification("notifications/message", &json!({ "level": "error", "data": 1 }));
        let ask = |id: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params });
        let form = json!({ "message": "?", "requestedSchema": { "type": "object", "properties": {} } });
        let mut related = form.clone();
        related["_meta"] = json!({ RELATED: { "taskId": "own" } });
        let said = [
            status("other"), status("own"), progress(78), progress(77), log, ask("anybody", form), ask("hers", related),
        ];
        events(said.iter().map(event).collect(), End::Hang)
    })
    .await;
    let (hub, server) = (Hub::start(), shared(&web));
    let mut reply = wait(&hub, &server).await;
    assert_eq!(told(&mut reply).await["params"]["taskId"], "sealed");
    assert_eq!(told(&mut reply).await["params"]["progressToken"], "hers");
    let Some(Ok(ReplyMessage::Inquiry(inquiry))) = reply.next().await else { panic!("no question") };
    let related = inquiry.params.as_ref().unwrap().meta().get(RELATED).unwrap();
    assert_eq!(related.as_bytes(), br#"{"taskId":"sealed"}"#);
    inquiry.answer(&Outcome::Result(Raw::json(&json!({ "action": "decline" })).unwrap()));
    let answer_to = |id: &str| web.seen().into_iter().find(|seen| seen.id() == id).map(|seen| seen.body);
    until("both are answered", || answer_to("hers").is_some() && answer_to("anybody").is_some()).await;
    assert_eq!(answer_to("hers").unwrap()["result"]["action"], "decline");
    assert_eq!(answer_to("anybody").unwrap()["error"]["code"], -32601, "nobody knows whom it concerns");
}

#[tokio::test]
async fn progress_and_log_messages_on_a_persons_stream_reach_her_call() {
    let call = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&call);
    let web = Web::start(move |seen: &Seen| match (seen.verb.as_str(), seen.method()) {
        ("GET", _) => match &*noted.lock() {
            // It is opened before anything is called, and opened anew when it ends.
            None => events(Vec::new(), End::Close),
            Some(id) => {
                let progress =
                    notification("notifications/progress", &json!({ "progressToken": id, "progress": 1 }));
                let log = notification("notifications/message", &json!({ "level": "info", "data": "x" }));
                events([progress, log].iter().map(event).collect(), End::Hang)
            }
        },
        (_, "server/discover") => error(seen, 400, -32600),
        (_, "initialize") => initialized(seen, "one"),
        (_, "tools/call") => {
            *noted.lock() = Some(seen.id().clone());
            events(Vec::new(), End::Hang)
        }
        _ => status(202),
    })
    .await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    let client =
        Client { log_level: Some(LogLevel::Info), prefers: Prefers::Legacy, ..Client::able(Abilities::ALL) };
    let mut call =
        ToolCall { client, ..tool_call(&server, ALICE, r#"{"name":"x","_meta":{"progressToken":"hers"}}"#) };
    call.access.key.abilities = Abilities::ALL.legacy();
    let mut reply = hub.upstreams.call_tool(recorded(&server, ALICE), call).await.unwrap();
    assert_eq!(told(&mut reply).await["params"]["progressToken"], "hers");
    assert_eq!(told(&mut reply).await["params"]["data"], "x");
}

#[tokio::test]
async fn a_stream_stays_open_for_who_waits_for_a_task_whoever_opened_it() {
    let web = telling(|| events(Vec::new(), End::Hang)).await;
    let (hub, server) = (Hub::start(), shared(&web));
    let interest = Interest { tools: true, ..Interest::default() };
    let watching =
        hub.upstreams.watch(asked(&server, ALICE), &server, access(&server, ALICE), interest).await.unwrap();
    until("the stream is asked for", || gets(&web) == 1).await;
    let first = wait(&hub, &server).await;
    drop(watching);
    hub.answer(&server, ALICE, r#"{"name":"x"}"#).await.unwrap();
    let second = wait(&hub, &server).await;
    assert!(!web.methods().contains(&"CLOSED".to_owned()), "{:?}", web.methods());
    assert_eq!(gets(&web), 1);
    drop((first, second));
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_no_stream_from_others_that_was_being_opened() {
    let web = telling(|| Plan { pieces: Vec::new(), end: End::Hang }).await;
    let (hub, server) = (Hub::start(), shared(&web));
    tokio::select! {
        _ = wait(&hub, &server) => panic!("it waits for the stream"),
        () = until("the stream is asked for", || gets(&web) == 1) => {}
    }
    // A server that says nothing is waited for, but not for long, and goes on being asked.
    drop(wait(&hub, &server).await);
    assert!(!web.methods().contains(&"CLOSED".to_owned()), "{:?}", web.methods());
    assert_eq!(gets(&web), 1);
}

#[tokio::test]
async fn a_server_that_opens_no_stream_for_calls_is_asked_once_and_keeps_its_session() {
    for code in [202, 404, 405, 501] {
        let web = telling(move || status(code)).await;
        let (hub, server) = (Hub::start(), shared(&web));
        drop((wait(&hub, &server).await, wait(&hub, &server).await));
        assert_eq!(gets(&web), 1, "{code}");
        assert_eq!(web.methods().iter().filter(|method| *method == "initialize").count(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_server_asks_so_often_on_one_stream_and_no_more() {
    const MOST: usize = 100;
    let news = notification("notifications/tools/list_changed", &json!({}));
    let pinging = |count: usize| saying((0..count).map(ping).chain([news.clone()]));
    let (hub, web) = (Hub::start(), pinging(MOST).await);
    assert_eq!(changed(&mut watch(&hub, &web).await).await, ListKind::Tools);
    let (hub, web) = (Hub::start(), pinging(MOST + 1).await);
    let _watching = watch(&hub, &web).await;
    until("the stream is closed", || web.methods().contains(&"CLOSED".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_a_line_or_an_event_without_end_is_closed() {
    for piece in ["x".repeat(64 << 10), "data: x\n".repeat(8 << 10)] {
        let web =
            telling(move || events(vec![b"data: ".to_vec(), piece.clone().into_bytes()], End::Flood)).await;
        let hub = Hub::start();
        let _watching = watch(&hub, &web).await;
        until("the stream is closed", || web.methods().contains(&"CLOSED".to_owned())).await;
    }
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_as_if_everything_had_changed() {
    const WAITING: usize = 64;
    for (more, first, lost) in
        [(0, [ListKind::Tools, ListKind::Tools], 0), (1, [ListKind::Tools, ListKind::Prompts], 1)]
    {
        let news = notification("notifications/tools/list_changed", &json!({}));
        let (hub, web) =
            (Hub::start(), saying(vec![news; WAITING + more].into_iter().chain([ping(1)])).await);
        let mut watching = watch(&hub, &web).await;
        until("all was heard", || web.seen().iter().any(|seen| seen.id() == "p1")).await;
        assert_eq!([changed(&mut watching).await, changed(&mut watching).await], first);
        assert_eq!(hub.upstreams.counts().dropped_notifications, lost);
    }
}
