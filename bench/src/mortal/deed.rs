//! What a message is answered with.

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How long the answer of `large` is.
const LARGE: usize = 200_000;
/// How often `count` and `flood` tell of their progress before they answer.
const COUNTED: u32 = 3;
const FLOODED: u32 = 500;
/// Every tool, by its name.
const TOOLS: [&str; 11] =
    ["echo", "large", "count", "flood", "hang", "cut", "garbage", "ask", "touch", "change", "expire"];
/// The tool that comes and goes.
const PASSING: &str = "passing";
/// The only resource.
const NOTE: &str = "notes://a";

/// Says which protocol a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Era {
    /// That of 2026-07-28, without sessions.
    Modern,
    /// That before, which begins with `initialize`.
    Legacy,
}

/// Is what a server does with a message.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// It was a notification.
    Nothing,
    /// It answers.
    Answer(Vec<u8>),
    /// It answers, and so opens a session where there are sessions.
    Open(Vec<u8>),
    /// It tells of its progress, slowly, and answers.
    Count(Vec<Vec<u8>>),
    /// It says as much as it can as fast as it can, and answers.
    Flood(Vec<Vec<u8>>),
    /// It never answers.
    Hang,
    /// It breaks off within its answer.
    Cut(Vec<u8>),
    /// It says what isn't a message.
    Garbage,
    /// It asks the client under an id, and answers when it has heard.
    Ask(i64, Vec<u8>, Vec<u8>),
    /// It has heard from the client what it asked under an id.
    Heard(i64),
    /// It lists its tools: without the one that comes and goes, or with it.
    List([Vec<u8>; 2]),
    /// It says so, and from then on tells whoever asked with this id what changes.
    Listen(Vec<u8>, String),
    /// It tells everybody that something has changed, and answers.
    Tell(Change, Vec<u8>),
    /// It forgets all its sessions, and answers.
    Expire(Vec<u8>),
}

/// Is something that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// The resource.
    Note,
    /// The list of tools.
    Tools,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow, default)]
    params: Params<'a>,
}

#[derive(Default, Deserialize)]
struct Params<'a> {
    name: Option<&'a str>,
    #[serde(borrow, rename = "inputResponses")]
    responses: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Meta<'a>,
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "progressToken")]
    token: Option<&'a RawValue>,
}

/// Decides what to do with a message.
pub(super) fn deed(era: Era, message: &[u8]) -> Deed {
    let Ok(Message { id, method, params }) = serde_json::from_slice(message) else { return Deed::Garbage };
    let Some(id) = id else { return Deed::Nothing };
    let Some(method) = method else { return id.get().parse().map_or(Deed::Garbage, Deed::Heard) };
    let result = |result: Value| envelope(id, "result", &complete(era, result));
    match (era, method) {
        (Era::Modern, "server/discover") => Deed::Answer(result(json!({
            "supportedVersions": ["2026-07-28"], "capabilities": capabilities(), "serverInfo": { "name": "mortal", "version": "1" },
        }))),
        (Era::Legacy, "initialize") => Deed::Open(result(json!({
            "protocolVersion": "2025-06-18", "capabilities": capabilities(), "serverInfo": { "name": "mortal", "version": "1" },
        }))),
        (_, "ping") | (Era::Legacy, "resources/subscribe" | "resources/unsubscribe") => {
            Deed::Answer(result(json!({})))
        }
        (_, "tools/list") => {
            let list = |more: &[&str]| json!({ "tools": TOOLS.iter().chain(more).map(|name| tool(name)).collect::<Vec<_>>() });
            Deed::List([&[][..], &[PASSING]].map(|more| result(list(more))))
        }
        (_, "resources/list") => {
            Deed::Answer(result(json!({ "resources": [{ "uri": NOTE, "name": "a note" }] })))
        }
        (Era::Modern, "subscriptions/listen") => Deed::Listen(acknowledgement(id), id.get().to_owned()),
        (_, "tools/call") if params.name == Some("ask") => ask(era, (id, &params), result),
        (_, "tools/call") => act(&params, |words| result(said(words))),
        _ => Deed::Answer(envelope(
            id,
            "error",
            &json!({ "code": -32601, "message": "there is no such method" }),
        )),
    }
}

fn act(params: &Params<'_>, answer: impl Fn(&str) -> Vec<u8>) -> Deed {
    let tell = |times| {
        let told = (1..=times).filter_map(|step| Some(progress(params.meta.token?, step, times)));
        told.chain([answer("told")]).collect()
    };
    match params.name.unwrap_or_default() {
        "large" => Deed::Answer(answer(&"x".repeat(LARGE))),
        "count" => Deed::Count(tell(COUNTED)),
        "flood" => Deed::Flood(tell(FLOODED)),
        "hang" => Deed::Hang,
        "cut" => Deed::Cut(answer("the end of this is never sent")),
        "garbage" => Deed::Garbage,
        "touch" => Deed::Tell(Change::Note, answer("touched")),
        "change" => Deed::Tell(Change::Tools, answer("changed")),
        "expire" => Deed::Expire(answer("expired")),
        _ => Deed::Answer(answer("what was asked")),
    }
}

/// Asks who it is: in a result, or in a request of the same id, which is the hub's and so the only one.
fn ask(era: Era, (id, params): (&RawValue, &Params<'_>), result: impl Fn(Value) -> Vec<u8>) -> Deed {
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    let form = json!({ "message": "Who are you?", "requestedSchema": schema });
    let answer = result(said("what was asked"));
    match (era, params.responses) {
        (Era::Modern, Some(_)) => Deed::Answer(answer),
        (Era::Modern, None) => {
            let asked = json!({ "name": { "method": "elicitation/create", "params": form } });
            let required =
                json!({ "resultType": "input_required", "inputRequests": asked, "requestState": "asked" });
            Deed::Answer(envelope(id, "result", &required))
        }
        (Era::Legacy, _) => {
            let Ok(number) = id.get().parse() else { return Deed::Garbage };
            let question =
                json!({ "jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": form });
            Deed::Ask(number, question.to_string().into_bytes(), answer)
        }
    }
}

fn acknowledgement(id: &RawValue) -> Vec<u8> {
    let params = format!(r#"{{"notifications":{{}},{}}}"#, subscription(id.get()));
    notification("notifications/subscriptions/acknowledged", &params)
}

fn subscription(id: &str) -> String {
    format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#)
}

fn notification(method: &str, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#).into_bytes()
}

/// Tells what has changed: a session, or whoever asked with an id.
pub(super) fn news(change: Change, listener: Option<&str>) -> Vec<u8> {
    let meta = listener.map(subscription);
    match change {
        Change::Note => {
            let uri = Some(format!(r#""uri":"{NOTE}""#));
            let params: Vec<String> = uri.into_iter().chain(meta).collect();
            notification("notifications/resources/updated", &format!("{{{}}}", params.join(",")))
        }
        Change::Tools => {
            notification("notifications/tools/list_changed", &format!("{{{}}}", meta.unwrap_or_default()))
        }
    }
}

fn capabilities() -> Value {
    json!({ "tools": { "listChanged": true }, "resources": { "subscribe": true } })
}

fn envelope(id: &RawValue, kind: &str, content: &Value) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{},"{kind}":{content}}}"#, id.get()).into_bytes()
}

fn progress(token: &RawValue, step: u32, total: u32) -> Vec<u8> {
    let params = format!(r#"{{"progressToken":{},"progress":{step},"total":{total}}}"#, token.get());
    notification("notifications/progress", &params)
}

/// Adds what a result has in the modern era alone.
fn complete(era: Era, mut result: Value) -> Value {
    if let (Era::Modern, Some(fields)) = (era, result.as_object_mut()) {
        let more =
            [("resultType", json!("complete")), ("ttlMs", json!(60_000)), ("cacheScope", json!("public"))];
        fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    result
}

fn said(words: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": words }] })
}

fn tool(name: &str) -> Value {
    json!({
        "name": name,
        "description": "Does what its name says.",
        "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
        "annotations": { "readOnlyHint": true },
    })
}

#[cfg(test)]
mod tests {
    use super::{Deed, Era, deed};

    fn call(tool: &str) -> Deed {
        let params = format!(r#"{{"name":"{tool}","_meta":{{"progressToken":7}}}}"#);
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        deed(Era::Modern, message.as_bytes())
    }

    #[test]
    fn a_tool_does_what_its_name_says() {
        assert!(matches!(call("echo"), Deed::Answer(_)));
        assert!(matches!(call("count"), Deed::Count(said) if said.len() == 4));
        assert!(matches!(call("cut"), Deed::Cut(_)));
        assert_eq!((call("hang"), call("garbage")), (Deed::Hang, Deed::Garbage));
    }

    #[test]
    fn each_era_asks_in_its_own_way() {
        let ask = |era, more: &str| {
            let params = format!(r#"{{"name":"ask"{more}}}"#);
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
            deed(era, message.as_bytes())
        };
        assert!(matches!(ask(Era::Legacy, ""), Deed::Ask(1, ..)));
        assert_eq!(deed(Era::Legacy, br#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Deed::Heard(1));
        let required = |deed: Deed| matches!(deed, Deed::Answer(bytes) if String::from_utf8_lossy(&bytes).contains("input_required"));
        assert!(required(ask(Era::Modern, "")));
        assert!(!required(ask(Era::Modern, r#","inputResponses":{}"#)));
    }

    #[test]
    fn each_era_has_its_beginning() {
        let begin = |era, method: &str| deed(era, format!(r#"{{"id":1,"method":"{method}"}}"#).as_bytes());
        let knows = |deed: Deed| match deed {
            Deed::Answer(bytes) | Deed::Open(bytes) => String::from_utf8_lossy(&bytes).contains("result"),
            _ => false,
        };
        assert!(knows(begin(Era::Modern, "server/discover")) && knows(begin(Era::Legacy, "initialize")));
        assert!(!knows(begin(Era::Legacy, "server/discover")) && !knows(begin(Era::Modern, "initialize")));
    }

    #[test]
    fn nobody_answers_a_notification() {
        let message = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(deed(Era::Legacy, message), Deed::Nothing);
    }
}
