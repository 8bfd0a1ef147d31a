//! Requests of 2026-07-28 and later: each complete in itself, with headers that repeat what its body says.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use mcphub_wire::list::{ListKind, ListPage};
use mcphub_wire::mirror::{Arguments, Mirrored, mirrored};
use mcphub_wire::{
    Edit, Id, Meta, Outcome, Params, Request, Response, error, header, message, meta_key, method,
};
use parking_lot::Mutex;

use super::answers::Answers;
use super::hub::Headers;
use super::problem::Problem;
use super::{Bridge, Last};

/// How many tools with arguments that headers repeat are remembered; with more, all are forgotten.
const REMEMBERED: usize = 10_000;
/// How many pages of tools are asked for at most.
const PAGES: usize = 100;

/// Remembers which arguments headers repeat, by tool, from the lists that passed.
#[derive(Default)]
pub(super) struct Mirrors(Mutex<HashMap<Box<str>, Arc<[Mirrored]>>>);

impl Mirrors {
    /// Learns from an answer to `tools/list`, and returns where the list goes on.
    fn learn(&self, answer: &Response) -> Option<Box<str>> {
        let Outcome::Result(result) = &answer.outcome else { return None };
        let page = ListPage::parse(ListKind::Tools, result).ok()?;
        let mut known = self.0.lock();
        for tool in &page.items {
            match mirrored(tool.raw()) {
                Ok(found) if !found.is_empty() => {
                    if known.len() >= REMEMBERED && !known.contains_key(tool.name()) {
                        known.clear();
                    }
                    known.insert(tool.name().into(), found.into());
                }
                Ok(_) | Err(_) => drop(known.remove(tool.name())),
            }
        }
        page.next_cursor
    }

    fn of(&self, tool: &str) -> Option<Arc<[Mirrored]>> {
        self.0.lock().get(tool).cloned()
    }
}

/// Says whether a message carries its own metadata.
pub(super) fn is_modern(params: Option<&Params>) -> bool {
    params.is_some_and(|params| params.meta().get(meta_key::PROTOCOL_VERSION).is_some())
}

/// Gets a request its answer. A call that lacks a header, because the client never listed the tools through this bridge,
/// wasn't run: its tools are looked up, and it is sent once more.
pub(super) async fn answer(bridge: &Bridge, request: &Request, body: &Bytes) -> Result<Last, Problem> {
    let first = attempt(bridge, request, body).await;
    match first {
        Err(Problem::Refused(_, refusal))
            if lacks_header(&refusal) && *request.method == *method::TOOLS_CALL =>
        {
            look_up(bridge, request).await?;
            attempt(bridge, request, body).await
        }
        other => other,
    }
}

async fn attempt(bridge: &Bridge, request: &Request, body: &Bytes) -> Result<Last, Problem> {
    let response = bridge.hub.post(headers(request, &bridge.mirrors), body.clone()).await?;
    let last = bridge.pass_on(Answers::of(response)?, &request.id).await?;
    if *request.method == *method::TOOLS_LIST {
        drop(bridge.mirrors.learn(&last.1));
    }
    Ok(last)
}

fn lacks_header(refusal: &Response) -> bool {
    matches!(&refusal.outcome, Outcome::Error(rpc) if rpc.code == error::HEADER_MISMATCH)
}

/// Lists the tools for the bridge itself, in the words of a request of the client.
async fn look_up(bridge: &Bridge, request: &Request) -> Result<(), Problem> {
    let meta = request.params.as_ref().map(Params::meta);
    let mut cursor: Option<Box<str>> = None;
    for page in 0..PAGES {
        let mut edit = Edit::new();
        for key in [meta_key::PROTOCOL_VERSION, meta_key::CLIENT_CAPABILITIES, meta_key::CLIENT_INFO] {
            if let Some(value) = meta.and_then(|meta| meta.get(key)) {
                edit = edit.set_meta(key, value.clone());
            }
        }
        if let Some(cursor) = &cursor {
            edit = edit.cursor(cursor);
        }
        let id = Id::String(format!("mcphub-connect-{page}").into());
        let body = message::request(&id, method::TOOLS_LIST, None, &edit);
        let list = common_headers(meta, method::TOOLS_LIST);
        let mut answers = Answers::of(bridge.hub.post(list, body).await?)?;
        let mut answer = None;
        while let Some((_, message)) = answers.next().await? {
            if let mcphub_wire::Envelope::Response(response) = message {
                answer = Some(response);
            }
        }
        cursor = answer.and_then(|answer| bridge.mirrors.learn(&answer));
        if cursor.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// Makes the headers that repeat a request. What fits into none is left out, and the hub says so.
fn headers(request: &Request, mirrors: &Mirrors) -> Headers {
    let params = request.params.as_ref();
    let mut headers = common_headers(params.map(Params::meta), &request.method);
    let named = method::named_param(&request.method).and_then(|key| params?.text(key));
    if let Some(name) = named {
        push(&mut headers, header::NAME, &name);
    }
    let tool = params.and_then(Params::name).filter(|_| *request.method == *method::TOOLS_CALL);
    if let Some(mirrored) = tool.and_then(|tool| mirrors.of(tool)) {
        let arguments = Arguments::read(params.and_then(Params::arguments));
        for one in mirrored.iter() {
            let value = one.value(&arguments).and_then(|value| HeaderValue::try_from(value).ok());
            if let (Ok(name), Some(value)) = (HeaderName::try_from(one.header()), value) {
                headers.push((name, value));
            }
        }
    }
    headers
}

fn common_headers(meta: Option<&Meta>, method: &str) -> Headers {
    let mut headers = Headers::with_capacity(8);
    if let Some(version) = meta.and_then(Meta::protocol_version) {
        push(&mut headers, header::PROTOCOL_VERSION, &version);
    }
    push(&mut headers, header::METHOD, method);
    headers
}

fn push(headers: &mut Headers, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(header::encode_value(value).as_ref()) {
        headers.push((HeaderName::from_static(name), value));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Json;
    use axum::response::IntoResponse as _;
    use mcphub_wire::{Envelope, Request, Response};
    use serde_json::{Value, json};

    use super::super::answers::LIMITS;
    use super::super::stand_in::hub_that_answers;
    use super::{Arc, Bridge, Mirrors, PAGES, REMEMBERED, headers, look_up};
    use crate::connect::lines;

    /// Writes a page of tools, each with an argument that a header repeats.
    fn page(tools: Range<usize>, next: Option<&str>) -> Value {
        let schema = json!({
            "type": "object", "properties": { "a": { "type": "string", "x-mcp-header": "A" } },
        });
        let tool = |number: usize| json!({ "name": format!("t{number}"), "inputSchema": schema });
        let mut page = json!({ "tools": tools.map(tool).collect::<Vec<_>>() });
        if let Some(next) = next {
            page["nextCursor"] = json!(next);
        }
        json!({ "jsonrpc": "2.0", "id": 1, "result": page })
    }

    fn listed(tools: Range<usize>) -> Response {
        match Envelope::parse_with(&page(tools, None).to_string().into(), &LIMITS) {
            Ok(Envelope::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn so_many_tools_are_remembered_and_with_one_more_all_are_forgotten() {
        let mirrors = Mirrors::default();
        let learn = |tools| {
            assert_eq!(mirrors.learn(&listed(tools)), None);
            mirrors.0.lock().len()
        };
        assert_eq!(learn(0..REMEMBERED), REMEMBERED);
        assert_eq!(learn(0..1), REMEMBERED, "it was known");
        assert_eq!(learn(REMEMBERED..REMEMBERED + 1), 1);
    }

    /// Looks up the tools of a hub with so many pages of one tool each; counts the pages that were asked for, and the tools
    /// that are known then.
    async fn look_up_of(pages: usize) -> (usize, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let (remote, _standing) = hub_that_answers(move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let next = (number + 1 < pages).then_some("next");
            Json(page(number..number + 1, next)).into_response()
        })
        .await;
        let (out, _written) = lines::write(io::sink()).unwrap();
        let (bridge, _telling) = Bridge::new(remote, out);
        look_up(&bridge, &request("tools/call", json!({ "name": "t0" }))).await.unwrap();
        let known = bridge.mirrors.0.lock().len();
        (asked.load(Ordering::Relaxed), known)
    }

    #[tokio::test]
    async fn so_many_pages_of_tools_are_looked_up_and_no_more() {
        assert_eq!(look_up_of(PAGES).await, (PAGES, PAGES));
        assert_eq!(look_up_of(PAGES + 1).await, (PAGES, PAGES));
    }

    fn parse(message: &Value) -> Envelope {
        Envelope::parse(&message.to_string().into()).unwrap()
    }

    fn request(method: &str, mut params: Value) -> Request {
        params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
        match parse(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })) {
            Envelope::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn written(request: &Request, mirrors: &Mirrors) -> Vec<(String, String)> {
        let headers = headers(request, mirrors).into_iter();
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn headers_repeat_what_the_body_says() {
        let mirrors = Mirrors::default();
        let tool = json!({ "name": "t", "inputSchema": { "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
        } } });
        let call = request("tools/call", json!({ "name": "t", "arguments": { "region": "Köln" } }));
        let common = [
            pair("mcp-protocol-version", "2026-07-28"),
            pair("mcp-method", "tools/call"),
            pair("mcp-name", "t"),
        ];
        assert_eq!(written(&call, &mirrors), common);
        let list = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [tool], "nextCursor": "2" } });
        let Envelope::Response(list) = parse(&list) else { panic!("a response") };
        assert_eq!(mirrors.learn(&list).as_deref(), Some("2"));
        let region = pair("mcp-param-region", "=?base64?S8O2bG4=?=");
        assert_eq!(written(&call, &mirrors), [&common[..], &[region]].concat());
        let read = request("resources/read", json!({ "uri": "a://b c\u{e9}" }));
        assert_eq!(written(&read, &mirrors)[2], pair("mcp-name", "=?base64?YTovL2IgY8Op?="));
        assert_eq!(written(&request("tools/list", json!({})), &mirrors).len(), 2);
    }

    #[test]
    fn a_tool_that_lost_its_header_is_forgotten() {
        let mirrors = Mirrors::default();
        for (schema, known) in
            [(json!({ "a": { "type": "string", "x-mcp-header": "A" } }), true), (json!({}), false)]
        {
            let tool = json!({ "name": "t", "inputSchema": { "type": "object", "properties": schema } });
            let list = json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [tool] } });
            let Envelope::Response(list) = parse(&list) else { panic!("a response") };
            assert_eq!(mirrors.learn(&list), None);
            assert_eq!(mirrors.of("t").is_some(), known);
        }
    }
}
