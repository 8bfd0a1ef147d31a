//! Lists of tools, page by page.

use mcphub_domain::ServerName;
use mcphub_upstream::{ToolDefinition, UpstreamError};
use serde_json::{Value, json};

use crate::harness::{ALICE, Hub, access, looked, server};
use crate::web::{Web, result};

async fn list(
    page: impl Fn(&Value) -> Value + Send + Sync + 'static,
) -> Result<Vec<ToolDefinition>, UpstreamError> {
    let web = Web::modern(move |seen| result(seen, &page(&seen.body["params"]["cursor"]))).await;
    let (hub, server) = (Hub::start(), server("s", &web.definition()));
    hub.upstreams.list_tools(looked(&server, ALICE), &server, access(&server, ALICE)).await
}

#[tokio::test]
async fn all_pages_are_read_in_their_order_and_the_empty_text_is_a_cursor() {
    let tools = list(|cursor| match cursor.as_str() {
        None => json!({ "tools": [{ "name": "b" }], "nextCursor": "" }),
        Some("") => {
            json!({ "tools": [{ "name": "a", "annotations": { "readOnlyHint": true } }], "nextCursor": "z" })
        }
        Some(_) => json!({ "tools": [{ "name": "c" }] }),
    })
    .await
    .unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(tools[1].definition, r#"{"annotations":{"readOnlyHint":true},"name":"a"}"#);
    assert_eq!(tools[1].annotations.read_only_hint, Some(true));
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let error = list(|_| json!({ "tools": [], "nextCursor": "again" })).await.unwrap_err();
    assert!(error.to_string().contains("more than 100 pages"), "{error}");
}

#[tokio::test]
async fn a_list_that_is_too_long_is_given_up() {
    let page: Vec<Value> = (0..1000).map(|number| json!({ "name": format!("t{number}") })).collect();
    let error = list(move |_| json!({ "tools": page, "nextCursor": "again" })).await.unwrap_err();
    assert!(error.to_string().contains("more than 10000 tools"), "{error}");
}

#[tokio::test]
async fn an_answer_without_a_list_is_garbage() {
    let error = list(|_| json!({ "content": [] })).await.unwrap_err();
    let server: ServerName = "s".parse().unwrap();
    assert!(matches!(error, UpstreamError::Garbage { server: found, .. } if found == server));
}
