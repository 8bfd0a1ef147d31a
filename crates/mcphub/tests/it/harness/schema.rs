//! The protocol's official JSON schemas: what goes over a wire has to be valid under the one of its revision.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The revisions and their schemas, the oldest first, as they are published.
const FILES: [(&str, &str); 5] = [
    ("2024-11-05", include_str!("../../schema/2024-11-05.json")),
    ("2025-03-26", include_str!("../../schema/2025-03-26.json")),
    ("2025-06-18", include_str!("../../schema/2025-06-18.json")),
    ("2025-11-25", include_str!("../../schema/2025-11-25.json")),
    ("2026-07-28", include_str!("../../schema/2026-07-28.json")),
];
/// The only revision in which every result names its type and no server asks in requests.
pub(crate) const MODERN: &str = "2026-07-28";
/// The newest revision with sessions.
pub(crate) const LEGACY: &str = "2025-11-25";
/// The only revision with several messages in one.
const BATCHES: &str = "2025-03-26";
/// The methods of an extension, which has no schema.
const TASKS: &str = "tasks/";
/// The definition of a call, and that of one that becomes a task (2025-11-25).
const CALL: &str = "CallToolRequest";
const BEGUN: &str = "CreateTask";
/// With what the methods begin that only the servers of these tests know.
const OWN: &str = "vendor/";

static SCHEMAS: LazyLock<Vec<Schema>> =
    LazyLock::new(|| FILES.iter().map(|(revision, text)| Schema::read(revision, text)).collect());

/// Says which side of the protocol sent a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Is what one revision says of its messages.
struct Schema {
    revision: &'static str,
    document: Value,
    /// Where its definitions stand in the document.
    place: &'static str,
    /// The definition of each request and notification, by its method.
    methods: BTreeMap<String, String>,
    /// The definitions of errors that have a code of their own, by that code.
    errors: BTreeMap<i64, String>,
    validators: Mutex<BTreeMap<String, Arc<Validator>>>,
}

/// Finds a revision by its name.
pub(crate) fn revision(name: &str) -> Option<&'static str> {
    FILES.iter().map(|(revision, _)| *revision).find(|revision| *revision == name)
}

/// Checks a message of one side; `asked` finds the method of the request that an answer's id names.
pub(crate) fn check(
    revision: &str,
    sender: Side,
    message: &Value,
    asked: &dyn Fn(&Value) -> Option<String>,
) -> Result<(), String> {
    // Before 2025-11-25 the transports' text says that an error may have no id, and the schema doesn't.
    let anonymous = message.get("error").is_some() && message.get("id").is_none() && revision < LEGACY;
    let revision = if anonymous { LEGACY } else { revision };
    let schema = SCHEMAS.iter().find(|schema| schema.revision == revision);
    let schema = schema.ok_or_else(|| format!("there is no revision {revision}"))?;
    match message {
        Value::Array(batch) if revision == BATCHES && !batch.is_empty() => {
            batch.iter().try_for_each(|message| schema.check(sender, message, asked))
        }
        message => schema.check(sender, message, asked),
    }
    .map_err(|errors| format!("invalid in {revision}: {errors}\n{message:.2000}"))
}

/// Checks what a server has received from a hub, in the revision that the message or its header names; a session's
/// first message proposes one.
pub(crate) fn check_received(header: Option<&str>, message: &Value) {
    let params = &message["params"];
    let inside = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
    let proposed = params["protocolVersion"].as_str().filter(|_| message["method"] == "initialize");
    let spoken = inside.or(header).or(proposed).and_then(revision).unwrap_or(BATCHES);
    if let Err(error) = check(spoken, Side::Client, message, &|_| None) {
        panic!("the hub has sent to a server what is {error}");
    }
}

impl Schema {
    fn read(revision: &'static str, text: &str) -> Self {
        let document: Value = serde_json::from_str(text).unwrap();
        let place = if document["$defs"].is_object() { "$defs" } else { "definitions" };
        let (mut methods, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for (name, definition) in document[place].as_object().unwrap() {
            let united = name.starts_with("Client") || name.starts_with("Server");
            if let Some(method) = definition["properties"]["method"]["const"].as_str().filter(|_| !united) {
                methods.insert(method.to_owned(), name.clone());
            }
            let parts = definition["properties"]["error"]["allOf"].as_array();
            let code =
                parts.into_iter().flatten().find_map(|part| part["properties"]["code"]["const"].as_i64());
            errors.extend(code.map(|code| (code, name.clone())));
        }
        Self { revision, document, place, methods, errors, validators: Mutex::default() }
    }

    fn check(
        &self,
        sender: Side,
        message: &Value,
        asked: &dyn Fn(&Value) -> Option<String>,
    ) -> Result<(), String> {
        self.valid("JSONRPCMessage", message)?;
        match (message.get("method"), message.get("id"), message.get("result")) {
            (Some(method), id, _) => {
                let kind = if id.is_some() { "Request" } else { "Notification" };
                self.called(&format!("{sender:?}{kind}"), method, message)
            }
            (None, Some(id), Some(result)) => self.answered((sender, asked(id)), message, result),
            _ => self.failed(message),
        }
    }

    /// Checks a request or notification: by its method, which is the clearer complaint, and as one of its side.
    fn called(&self, united: &str, method: &Value, message: &Value) -> Result<(), String> {
        let method_name = method.as_str().unwrap_or_default();
        let is_task = self.revision == MODERN && method_name.starts_with(TASKS);
        if is_task || method_name.starts_with(OWN) {
            return Ok(());
        }
        let name = self.methods.get(method_name);
        self.valid(name.ok_or_else(|| format!("there is no method {method}"))?, message)?;
        self.valid(united, message)
    }

    /// Checks the answer to a request; to one that is unknown, as any answer of its side.
    fn answered(
        &self,
        (sender, asked): (Side, Option<String>),
        message: &Value,
        result: &Value,
    ) -> Result<(), String> {
        let Some(request) = asked.and_then(|method| self.methods.get(&method)) else {
            return self.valid(&format!("{sender:?}Result"), result);
        };
        // A call that became a task has a result of another kind.
        let is_begun = self.revision == LEGACY && request == CALL && result["task"].is_object();
        let begun = is_begun.then_some(BEGUN);
        let stem = begun.unwrap_or_else(|| request.trim_end_matches("Request"));
        let whole = format!("{stem}ResultResponse");
        if self.has(&whole) {
            self.valid(&whole, message)?;
        }
        let own = format!("{stem}Result");
        let own = if self.has(&own) { own } else { "EmptyResult".to_owned() };
        match (self.revision, result["resultType"].as_str()) {
            (MODERN, Some("input_required")) if self.asks(&whole) => {
                self.valid("InputRequiredResult", result)
            }
            // A task is no matter of the core: its extension has no schema.
            (MODERN, Some("task")) if stem == "CallTool" => Ok(()),
            (MODERN, Some("complete")) => self.valid(&own, result),
            (MODERN, kind) => Err(format!("no result has the type {kind:?}")),
            _ => self.valid(&own, result),
        }
    }

    /// Says whether an answer of this kind may ask back.
    fn asks(&self, response: &str) -> bool {
        self.document[self.place][response].to_string().contains("/InputRequiredResult\"")
    }

    fn failed(&self, message: &Value) -> Result<(), String> {
        let name = ["JSONRPCErrorResponse", "JSONRPCError"].into_iter().find(|name| self.has(name));
        self.valid(name.unwrap(), message)?;
        let code = message["error"]["code"].as_i64();
        match code.and_then(|code| self.errors.get(&code)) {
            Some(name) => self.valid(name, message),
            None => Ok(()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.document[self.place].get(name).is_some()
    }

    fn valid(&self, name: &str, value: &Value) -> Result<(), String> {
        let errors: Vec<String> = self
            .validator(name)?
            .iter_errors(value)
            .map(|error| format!("{} ({name}{})", error, error.instance_path()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(format!("{:.2000}", errors.join("; "))) }
    }

    fn validator(&self, name: &str) -> Result<Arc<Validator>, String> {
        if !self.has(name) {
            return Err(format!("no {name} exists"));
        }
        let mut validators = self.validators.lock().unwrap();
        let compile = || {
            let schema = json!({
                "$schema": self.document["$schema"],
                "allOf": [{ "$ref": format!("#/{}/{name}", self.place) }],
                self.place: self.document[self.place],
            });
            Arc::new(jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
        };
        Ok(Arc::clone(validators.entry(name.to_owned()).or_insert_with(compile)))
    }
}
