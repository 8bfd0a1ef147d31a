//! A token that is refused where nobody calls a tool: in a list, and on a stream.

use std::time::Duration;

use mcphub_domain::{Server, User};
use mcphub_wire::list::ListKind;
use serde_json::json;
use tokio::time::timeout;

use super::answer;
use super::town::Town;
use super::web::{End, Plan, Seen, discovery, error, event, events, initialized, result, status};
use crate::{Caller, Client, Endpoint, Entrance, Heard, Watch, Wish};

/// Acknowledges a stream, and ends it at once.
fn modern(seen: &Seen) -> Plan {
    match seen.method() {
        "server/discover" => discovery(seen),
        "prompts/list" => result(seen, &json!({ "prompts": [{ "name": "p" }] })),
        "subscriptions/listen" => {
            let params = json!({ "notifications": {}, "_meta": { "io.modelcontextprotocol/subscriptionId": seen.id() } });
            let method = "notifications/subscriptions/acknowledged";
            let told = event(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
            events(vec![told], End::Close)
        }
        _ => answer(seen),
    }
}

/// Opens a session, whose stream ends at once.
fn legacy(seen: &Seen) -> Plan {
    match (seen.verb.as_str(), seen.method()) {
        ("GET", _) => events(Vec::new(), End::Close),
        ("DELETE", _) => status(200),
        (_, "server/discover") => error(seen, 400, -32600),
        (_, "initialize") => initialized(seen, "session"),
        (_, "tools/list") => answer(seen),
        _ => status(202),
    }
}

async fn connected(respond: fn(&Seen) -> Plan) -> (Town, Server, (User, Caller)) {
    let town = Town::with(respond).await;
    let (server, alice) = (town.server(json!({})).await, town.house.person("alice").await);
    town.connect(&alice, &server).await;
    (town, server, alice)
}

async fn watch(town: &Town, server: &Server, caller: &Caller) -> Watch {
    let client = Client::default();
    let entrance = Entrance { endpoint: Endpoint::Server(server.id), path: "/mcp/notes", client: &client };
    let wish = Wish { prompts: true, ..Wish::default() };
    let watch = town.house.hub.watch(caller, entrance, &wish).await.unwrap();
    assert!(watch.honoured().prompts);
    watch
}

#[tokio::test]
async fn a_list_is_whole_though_its_token_is_refused() {
    let (town, server, (_, alice)) = connected(modern).await;
    town.office.lock().forget_access();
    let client = Client::default();
    let entrance = Entrance { endpoint: Endpoint::All, path: "/mcp", client: &client };
    let offers = town.house.hub.list_offers(&alice, entrance, ListKind::Prompts).await.unwrap();
    let names: Vec<&str> = offers.items.iter().map(|offer| &*offer.name).collect();
    assert_eq!((names, offers.absent.len()), (vec!["notes__p"], 0), "{}", server.name);
    assert_eq!(town.renewals().len(), 1);
}

#[tokio::test]
async fn a_watch_hears_again_after_its_token_was_refused() {
    for (era, respond) in [("modern", modern as fn(&Seen) -> Plan), ("legacy", legacy)] {
        let (town, server, (_, alice)) = connected(respond).await;
        let mut watch = watch(&town, &server, &alice).await;
        town.office.lock().forget_access();
        let used = town.asked_with("access-1");
        // What was told meanwhile nobody knows, so all of it is told when the stream is open again.
        let heard = timeout(Duration::from_secs(20), watch.next()).await;
        assert_eq!(heard, Ok(Some(Heard::List(ListKind::Prompts))), "{era}");
        assert_eq!(town.renewals().len(), 1, "{era}");
        let refused = town.asked_with("access-1") - used;
        assert!((1..=3).contains(&refused), "{era}: {refused} requests carried a token that had ended");
    }
}

#[tokio::test]
async fn a_watch_is_opened_though_its_token_is_refused() {
    for respond in [modern as fn(&Seen) -> Plan, legacy] {
        let (town, server, (_, alice)) = connected(respond).await;
        town.office.lock().forget_access();
        drop(watch(&town, &server, &alice).await);
        assert_eq!(town.renewals().len(), 1);
    }
}
