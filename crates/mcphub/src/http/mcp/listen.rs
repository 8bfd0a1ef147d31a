//! `subscriptions/listen`: the stream of a modern client, for what belongs to no call.

use std::io;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use mcphub_hub::{Client, Entrance, Heard, HubError, Lease, RESOURCES, Watch, Wish};
use mcphub_wire::list::ListKind;
use mcphub_wire::sse::KEEP_ALIVE;
use mcphub_wire::{Edit, Id, Raw, Request, error, message, meta_key, method};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::answer::{Refused, Words};
use super::changes::ToolChanges;
use super::methods::MethodError;
use super::post::{malformed, refuse_method};
use super::streaming::{SILENCE, event, event_stream};
use super::visit::Visit;

/// Is what a client writes under `notifications`; what the hub doesn't know, it doesn't honour.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
}

/// Is an open stream.
struct Open {
    visit: Visit,
    id: Id,
    watch: Watch,
    tools: ToolChanges,
    lease: Lease,
    stopping: CancellationToken,
    greeted: bool,
}

/// Opens the stream. It ends with the caller's right, and with the hub, which says so.
pub(super) async fn listen(
    visit: Visit,
    request: Request,
    client: Client,
    stopping: CancellationToken,
) -> Response {
    let wish = match read(&request) {
        Ok(wish) => wish,
        Err(text) => {
            let refused = Refused::new(StatusCode::OK, error::INVALID_PARAMS, text);
            return malformed(&visit, refused.of(Some(request.id))).await;
        }
    };
    let entrance = Entrance { endpoint: visit.endpoint, path: &visit.path, client: &client };
    match visit.hub.watch(&visit.caller, entrance, &wish).await {
        Ok(watch) => {
            let (tools, id) = (ToolChanges::since_now(&visit), request.id);
            let lease = visit.hub.lease_endpoint(&visit.caller, visit.endpoint);
            let open = Open { visit, id, watch, tools, lease, stopping, greeted: false };
            event_stream(stream::unfold(Some(open), Open::step))
        }
        Err(failure) => {
            let failure = unwatchable(failure, &wish.uris);
            refuse_method(&visit, failure, &request.id, Words::Modern).await.into_response()
        }
    }
}

/// Says why nothing can be heard: a resource that is nobody's and one that may not be read look alike.
pub(super) fn unwatchable(failure: HubError, uris: &[String]) -> MethodError {
    match failure {
        HubError::Denied(_) | HubError::NotFound { .. } => {
            MethodError::UnknownResource(uris.first().cloned().unwrap_or_default())
        }
        other => MethodError::Hub(other),
    }
}

fn read(request: &Request) -> Result<Wish, &'static str> {
    let wanted = request.params.as_ref().and_then(|params| params.get("notifications"));
    let wanted = wanted.ok_or("params.notifications must be an object")?;
    let wanted: Wanted = serde_json::from_slice(wanted)
        .map_err(|_| "params.notifications holds something else than it should")?;
    if wanted.resource_subscriptions.len() > RESOURCES {
        return Err("at most 100 resources can be listened to at once");
    }
    Ok(Wish {
        tools: wanted.tools_list_changed,
        prompts: wanted.prompts_list_changed,
        resources: wanted.resources_list_changed,
        uris: wanted.resource_subscriptions,
    })
}

impl Open {
    async fn step(open: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut open = open?;
        if !open.greeted {
            open.greeted = true;
            return Some((Ok(event(open.acknowledge())), Some(open)));
        }
        let tell = open.watch.honoured().tools;
        let heard = tokio::select! {
            biased;
            () = open.lease.revoked() => return None,
            () = open.stopping.cancelled() => return Some((Ok(event(open.farewell())), None)),
            heard = open.watch.next() => heard,
            changed = open.tools.next(&open.visit), if tell => changed.map(|()| Heard::List(ListKind::Tools)),
            () = tokio::time::sleep(SILENCE) => return Some((Ok(KEEP_ALIVE), Some(open))),
        };
        let bytes = event(heard?.to_bytes(&open.tag()));
        Some((Ok(bytes), Some(open)))
    }

    /// Says what will be told.
    fn acknowledge(&self) -> Bytes {
        let honoured = self.watch.honoured();
        let mut told = serde_json::Map::new();
        let lists = [
            (honoured.tools, "toolsListChanged"),
            (honoured.prompts, "promptsListChanged"),
            (honoured.resources, "resourcesListChanged"),
        ];
        told.extend(
            lists.into_iter().filter(|(is_told, _)| *is_told).map(|(_, name)| (name.to_owned(), true.into())),
        );
        if !honoured.uris.is_empty() {
            told.insert("resourceSubscriptions".to_owned(), json!(honoured.uris));
        }
        let told = Raw::json(&told).unwrap_or_else(|_| Raw::empty_object());
        message::notification(method::LISTEN_ACKNOWLEDGED, None, &self.tag().set("notifications", told))
    }

    fn farewell(&self) -> Bytes {
        let result = self.tag().set("resultType", Raw::string("complete")).apply(&Raw::empty_object());
        message::result(&self.id, &result.unwrap_or_else(|_| Raw::empty_object()))
    }

    fn tag(&self) -> Edit {
        Edit::new().set_meta(meta_key::SUBSCRIPTION_ID, self.id.to_raw())
    }
}

#[cfg(test)]
mod tests {
    use mcphub_wire::Envelope;

    use super::{RESOURCES, json, method, read};

    #[test]
    fn so_many_resources_can_be_listened_to_at_once_and_no_more() {
        for (number, is_read) in [(RESOURCES, true), (RESOURCES + 1, false)] {
            let uris: Vec<_> = (0..number).map(|number| format!("notes://{number}")).collect();
            let params = json!({ "notifications": { "resourceSubscriptions": uris } });
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method::LISTEN, "params": params });
            let Ok(Envelope::Request(request)) = Envelope::parse(&body.to_string().into()) else { panic!() };
            assert_eq!(read(&request).ok().map(|wish| wish.uris), is_read.then_some(uris), "{number}");
        }
    }
}
