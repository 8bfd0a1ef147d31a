//! The requests that go to servers: the hub's own id, token and metadata around the client's parameters.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use mcphub_domain::ToolName;
use mcphub_wire::discover::{legacy_meta, modern_meta};
use mcphub_wire::legacy::InitializeParams;
use mcphub_wire::list::ListKind;
use mcphub_wire::mirror::{Arguments, Mirrored};
use mcphub_wire::trace::trace_meta;
use mcphub_wire::{Abilities, Edit, Id, Params, Raw, Version, message, meta_key, method, progress, task};

use crate::client::Client;
use crate::key::{ConnectionKey, Prefers, Scope};
use crate::related::{TaskNames, TaskProgress};
use crate::watch::Interest;

/// The parameter by which a call is to become a task (2025-11-25).
const TASK: &str = "task";

/// Names what a server is asked for, as the server names it.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A prompt.
    Prompt(Box<str>),
    /// A resource, by its URI.
    Resource(Box<str>),
    /// A completion, by the reference of its request.
    Completion(Raw),
    /// A task, by its id.
    Task {
        /// What is to be done: the method.
        method: &'static str,
        /// The id that its server gave.
        id: Box<str>,
        /// The tokens of the call that became it.
        progress: Option<TaskProgress>,
    },
    /// Something that the hub doesn't know: the method.
    Other(Box<str>),
}

impl Wanted {
    /// Names the method that asks for it.
    pub fn method(&self) -> Cow<'static, str> {
        match self {
            Self::Prompt(_) => Cow::Borrowed(method::PROMPTS_GET),
            Self::Resource(_) => Cow::Borrowed(method::RESOURCES_READ),
            Self::Completion(_) => Cow::Borrowed(method::COMPLETE),
            Self::Task { method, .. } => Cow::Borrowed(method),
            Self::Other(method) => Cow::Owned(method.to_string()),
        }
    }
}

/// Is a request, before it has an id and an era.
pub(crate) struct Outgoing {
    pub(crate) method: Cow<'static, str>,
    /// What the `Mcp-Name` header repeats.
    pub(crate) name: Option<Box<str>>,
    /// The client's own progress token, to be put back into what comes.
    pub(crate) token: Option<Raw>,
    /// Whom a server may ask something in return.
    pub(crate) client: Client,
    /// What both ends call the task that the request is about, if it is about one.
    pub(crate) task: Option<TaskNames>,
    params: Option<Params>,
    mirrored: Option<Arc<[Mirrored]>>,
    edit: Edit,
}

impl Outgoing {
    /// Calls the tool that the permit names; what the client called it doesn't leave the hub.
    pub(crate) fn call(tool: &ToolName, params: Params, client: Client) -> Self {
        Self {
            method: Cow::Borrowed(method::TOOLS_CALL),
            name: Some(tool.as_str().into()),
            token: progress::requested_token(&params).ok().flatten(),
            edit: Edit::new().name(tool.as_str()),
            params: Some(params),
            mirrored: None,
            task: None,
            client,
        }
    }

    /// Says whether the client wants a call to become a task, in words that a server of this version knows: those of
    /// 2025-11-25.
    pub(crate) fn wants_task(&self, version: Version) -> bool {
        !version.is_modern() && self.has_task_member() && self.is_within_one_era(version)
    }

    /// Says whether the answer comes only when a task has ended.
    pub(crate) fn waits_for_task(&self) -> bool {
        self.method == method::TASKS_RESULT
    }

    fn has_task_member(&self) -> bool {
        self.method == method::TOOLS_CALL
            && self.params.as_ref().is_some_and(|params| params.get(TASK).is_some())
    }

    /// Says whether client and server are of one era, so that what the hub doesn't know means the same to both.
    const fn is_within_one_era(&self, version: Version) -> bool {
        version.is_modern() == matches!(self.client.prefers, Prefers::Modern)
    }

    /// Says what a server may ask of whoever makes the request; nothing if that is the hub itself.
    pub(crate) fn asks(&self) -> Option<Abilities> {
        self.params.as_ref().map(|_| self.client.abilities)
    }

    /// Repeats arguments in headers.
    pub(crate) fn mirroring(self, mirrored: Option<Arc<[Mirrored]>>) -> Self {
        Self { mirrored, ..self }
    }

    /// Lists the headers that repeat arguments, with their values.
    pub(crate) fn param_headers(&self) -> Vec<(String, String)> {
        let Some(mirrored) = &self.mirrored else { return Vec::new() };
        let arguments = Arguments::read(self.params.as_ref().and_then(Params::arguments));
        let written = mirrored.iter().map(|one| Some((one.header().to_owned(), one.value(&arguments)?)));
        written.flatten().collect()
    }

    /// Asks for a page of a list.
    pub(crate) fn list(kind: ListKind, cursor: Option<&str>) -> Self {
        let edit = cursor.map_or_else(Edit::new, |cursor| Edit::new().cursor(cursor));
        Self { edit, ..Self::bare(kind.method()) }
    }

    /// Asks for a prompt, a resource or a completion, by the server's own name for it.
    pub(crate) fn ask(wanted: &Wanted, params: Params, client: Client) -> Self {
        let (name, edit) = match wanted {
            Wanted::Prompt(name) => (Some(name.clone()), Edit::new().name(name)),
            Wanted::Resource(uri) => (Some(uri.clone()), Edit::new().uri(uri)),
            Wanted::Completion(reference) => (None, Edit::new().set("ref", reference.clone())),
            Wanted::Task { id, .. } => (Some(id.clone()), Edit::new().set("taskId", Raw::string(id))),
            Wanted::Other(_) => (None, Edit::new()),
        };
        let token = progress::requested_token(&params).ok().flatten();
        let task = match wanted {
            Wanted::Task { id, progress, .. } => task::named(&params).map(|here| {
                let (here, there) = (here.into(), id.clone());
                TaskNames { here, there, progress: progress.clone() }
            }),
            _ => None,
        };
        let (method, params, mirrored) = (wanted.method(), Some(params), None);
        Self { method, name, token, client, task, edit, params, mirrored }
    }

    /// Asks a modern server to tell what changes.
    pub(crate) fn listen(interest: &Interest) -> Self {
        let mut wanted = serde_json::Map::new();
        for kind in interest.lists() {
            let name = format!("{}ListChanged", kind.member());
            wanted.insert(name, true.into());
        }
        if !interest.uris.is_empty() {
            wanted.insert(
                "resourceSubscriptions".to_owned(),
                interest.uris.iter().map(|uri| uri.to_string()).collect(),
            );
        }
        let wanted = Raw::json(&wanted).unwrap_or_else(|_| Raw::empty_object());
        Self { edit: Edit::new().set("notifications", wanted), ..Self::bare(method::LISTEN) }
    }

    /// Asks a legacy server to tell, or not to tell, when a resource changes.
    pub(crate) fn subscription(method: &'static str, uri: &str) -> Self {
        Self { edit: Edit::new().uri(uri), ..Self::bare(method) }
    }

    /// Asks what a modern server speaks.
    pub(crate) fn discover() -> Self {
        Self::bare(method::DISCOVER)
    }

    fn bare(method: &'static str) -> Self {
        // The server may know that everything is possible, but nobody is there to be asked.
        let client = Client { abilities: Abilities::NONE, ..Client::able(Abilities::ALL) };
        Self {
            method: Cow::Borrowed(method),
            name: None,
            token: None,
            client,
            task: None,
            params: None,
            mirrored: None,
            edit: Edit::new(),
        }
    }

    /// Writes the request. The progress token is the request's own id, which no other request has.
    pub(crate) fn write(&self, id: i64, version: Version) -> Bytes {
        let edit = self.edit.clone();
        let edit = match self.token {
            Some(_) => edit.set_meta(meta_key::PROGRESS_TOKEN, Raw::integer(id)),
            None => edit.remove_meta(meta_key::PROGRESS_TOKEN),
        };
        let foreign = self.has_task_member() && !self.is_within_one_era(version);
        let edit = if foreign { edit.remove(TASK) } else { edit };
        let edit = trace_meta(edit, self.params.as_ref(), self.client.trace.as_ref());
        let edit = if version.is_modern() {
            let edit = modern_meta(edit, version, &self.client.capabilities, &CLIENT_INFO);
            match self.client.log_level {
                Some(level) => edit.set_meta(meta_key::LOG_LEVEL, Raw::string(level.as_str())),
                None => edit.remove_meta(meta_key::LOG_LEVEL),
            }
        } else {
            legacy_meta(edit)
        };
        message::request(&Id::Integer(id), &self.method, self.params.as_ref(), &edit)
    }
}

/// Writes the request that opens a legacy connection, for the clients that share it.
pub(crate) fn initialize(id: i64, key: &ConnectionKey) -> Bytes {
    // Whose folders change means nothing where several people share it, so nothing is told of it.
    let capabilities = match key.scope {
        Scope::Shared => key.abilities.legacy().to_raw(),
        Scope::Person(_) | Scope::Session(..) => key.abilities.to_session(),
    };
    let params = InitializeParams {
        requested: Version::V2025_11_25.as_str().into(),
        capabilities,
        client_info: CLIENT_INFO.clone(),
    };
    params.request(&Id::Integer(id))
}

/// Says who the hub is. Nobody's client stands in it: servers see the hub.
static CLIENT_INFO: LazyLock<Raw> = LazyLock::new(|| {
    Edit::new()
        .set("name", Raw::string("mcphub"))
        .set("version", Raw::string(env!("CARGO_PKG_VERSION")))
        .apply_to_params(None)
        .unwrap_or_else(Raw::empty_object)
});

#[cfg(test)]
mod tests {
    use mcphub_wire::{Envelope, Params, Version};

    use super::{Client, Outgoing};

    fn params(json: &str) -> Params {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{json}}}"#);
        Envelope::parse(&body.into()).unwrap().params().unwrap().clone()
    }

    fn written(json: &str, version: Version) -> String {
        let outgoing = Outgoing::call(&"real".parse().unwrap(), params(json), Client::NOBODY);
        String::from_utf8(outgoing.write(7, version).to_vec()).unwrap()
    }

    #[test]
    fn a_modern_call_carries_the_hubs_metadata_and_the_clients_rest() {
        let client = r#"{"name":"s__real","arguments":{ "a": 1.0 },"_meta":{"progressToken":"mine","x/y":[1],"io.modelcontextprotocol/clientInfo":{"name":"ide","version":"1"},"io.modelcontextprotocol/protocolVersion":"2099-01-01"}}"#;
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            written(client, Version::V2026_07_28),
            format!(
                r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"real","arguments":{{ "a": 1.0 }},"_meta":{{"progressToken":7,"x/y":[1],"io.modelcontextprotocol/clientInfo":{{"name":"mcphub","version":"{version}"}},"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
            )
        );
    }

    #[test]
    fn a_legacy_call_carries_no_modern_metadata() {
        let client = r#"{"name":"s__real","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"info"}}"#;
        assert_eq!(
            written(client, Version::V2025_11_25),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"real"}}"#
        );
    }

    #[test]
    fn a_token_is_sent_only_if_the_client_wants_to_hear() {
        let of = |meta: &str| written(&format!(r#"{{"name":"n","_meta":{meta}}}"#), Version::V2025_06_18);
        assert!(of(r#"{"progressToken":0}"#).contains(r#""_meta":{"progressToken":7}"#));
        assert!(!of(r#"{"progressToken":{}}"#).contains("progressToken"));
        assert!(!of(r#"{"a":1}"#).contains("progressToken"));
    }
}
