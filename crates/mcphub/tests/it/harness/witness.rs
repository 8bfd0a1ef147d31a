//! Looks on while a client talks with a hub, and lets no message of the hub pass that the protocol's schema refuses.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

use super::schema::{self, LEGACY, MODERN, Side};

/// The revisions that sessions speak, as the hub has said when it opened them.
static SESSIONS: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());

/// Is the headers of a request.
type Lines<'a> = &'a [(&'a str, &'a str)];

/// Looks on at one HTTP request and its answer.
pub(crate) struct Witness {
    /// What the two speak, as far as it is known.
    revision: Option<&'static str>,
    /// What they speak besides, where both eras go the same way.
    also: Option<&'static str>,
    /// The methods that were asked, by the ids of the requests.
    asked: BTreeMap<String, String>,
    session: Option<String>,
}

impl Witness {
    /// Begins with a request; one that is no matter of the protocol has no witness.
    pub(crate) fn of(path: &str, headers: Lines<'_>, body: &str) -> Option<Self> {
        path.starts_with("/mcp").then(|| {
            let mut witness = Self::of_talk();
            witness.session = header(headers, "mcp-session-id").map(str::to_owned);
            witness.sends(headers, body);
            witness.revision = witness.revision.or_else(|| witness.of_session());
            witness
        })
    }

    /// Begins with nothing, where what is said and what is answered go apart.
    pub(crate) const fn of_talk() -> Self {
        Self { revision: None, also: None, asked: BTreeMap::new(), session: None }
    }

    /// Takes what the client sends.
    pub(crate) fn sends(&mut self, headers: Lines<'_>, body: &str) {
        let message = serde_json::from_str(body).unwrap_or(Value::Null);
        for message in message.as_array().unwrap_or(&vec![message.clone()]) {
            if let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) {
                self.asked.insert(id.to_string(), method.to_owned());
            }
        }
        match modern(headers, &message) {
            Some(modern) if self.revision.is_some_and(|known| known != modern) => self.also = Some(modern),
            found => self.revision = self.revision.or(found),
        }
    }

    /// Looks at what a real client has written down: a request and its answer, if it was a hub that answered.
    pub(crate) fn of_exchange(exchange: &Value) {
        let (asked, answer) = (lines(&exchange["headers"]), lines(&exchange["answer"]["headers"]));
        if !header(&asked, "authorization").is_some_and(|bearer| bearer.starts_with("Bearer mcphub_")) {
            return;
        }
        let mut witness = Self::of("/mcp", &asked, exchange["body"].as_str().unwrap()).unwrap();
        let kind = header(&answer, "content-type").unwrap_or_default();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        witness.answered(&answer.iter().map(owned).collect::<Vec<_>>());
        witness.body(kind, exchange["answer"]["body"].as_str().unwrap());
    }

    /// Takes the head of the answer, which may name a session.
    pub(crate) fn answered(&mut self, headers: &[(String, String)]) {
        let named = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("mcp-session-id"));
        self.session = named.map(|(_, session)| session.clone()).or_else(|| self.session.take());
    }

    /// Takes a whole body, of one message or a stream of them. What is no JSON for clients of the protocol is none
    /// of its messages: an answer of the door before it.
    pub(crate) fn body(&mut self, kind: &str, body: &str) {
        match kind.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => body.split_inclusive('\n').for_each(|line| self.line(line)),
            "application/json" => self.message(body),
            _ => {}
        }
    }

    /// Takes a line of an answer that may be anything: an event's data, or a message alone. What is cut off before
    /// its end is no message.
    pub(crate) fn line(&mut self, line: &str) {
        let cut_off = !line.ends_with('\n');
        let line = line.trim_end();
        let data = line.strip_prefix("data: ").or_else(|| line.starts_with("{\"jsonrpc\"").then_some(line));
        let whole = |data: &&str| !cut_off || serde_json::from_str::<Value>(data).is_ok();
        if let Some(data) = data.filter(|data| !data.is_empty()).filter(whole) {
            self.message(data);
        }
    }

    /// Takes a message of the hub.
    pub(crate) fn message(&mut self, text: &str) {
        let message: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:.2000}"));
        self.opened(&message);
        let asked = |id: &Value| self.asked.get(&id.to_string()).cloned();
        // Who hasn't said what he speaks hears an error that every revision knows.
        let revision = self.revision.unwrap_or(LEGACY);
        if self.revision.is_none() {
            assert!(
                message.get("error").is_some(),
                "nobody has said which revision this is: {message:.2000}"
            );
        }
        let look = |revision| schema::check(revision, Side::Server, &message, &asked);
        let found = look(revision).or_else(|error| self.also.map_or(Err(error), look));
        if let Err(error) = found {
            panic!("the hub has sent to a client what is {error}\nasked: {:?}", self.asked);
        }
    }

    /// Sees whether a message opens a session, and remembers what is spoken in it.
    fn opened(&mut self, message: &Value) {
        if self.revision.is_none() && self.asked.values().any(|method| method == "initialize") {
            self.revision = message["result"]["protocolVersion"].as_str().and_then(schema::revision);
            let opened = self.session.clone().zip(self.revision);
            SESSIONS.lock().unwrap().extend(opened);
        }
    }

    fn of_session(&self) -> Option<&'static str> {
        SESSIONS.lock().unwrap().get(self.session.as_ref()?).copied()
    }
}

/// Looks at all requests that a real server has written down.
pub(crate) fn received(requests: &[Value]) {
    // Where a session is named in the address, its messages have no header: its revision is the one that was proposed.
    let mut proposed: BTreeMap<&str, String> = BTreeMap::new();
    for request in requests {
        let headers = lines(&request["headers"]);
        let Ok(message) = serde_json::from_str::<Value>(request["body"].as_str().unwrap()) else { continue };
        let session = request["query"].as_str().filter(|query| query.starts_with("session_id="));
        let revision = message["params"]["protocolVersion"].as_str().map(str::to_owned);
        proposed.extend(session.zip(revision));
        let spoken = session.and_then(|session| proposed.get(session)).map(String::as_str);
        schema::check_received(header(&headers, "mcp-protocol-version").or(spoken), &message);
    }
}

/// Reads headers that were written down.
fn lines(headers: &Value) -> Vec<(&str, &str)> {
    let headers = headers.as_array().unwrap().iter();
    headers.map(|header| (header[0].as_str().unwrap(), header[1].as_str().unwrap())).collect()
}

/// Finds out whether a request is one of the modern era, as the protocol says to.
fn modern(headers: Lines<'_>, message: &Value) -> Option<&'static str> {
    let inside = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
    let named = inside.as_str().or_else(|| header(headers, "mcp-protocol-version"));
    named.filter(|version| *version >= MODERN).map(|_| MODERN)
}

fn header<'a>(headers: Lines<'a>, wanted: &str) -> Option<&'a str> {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
}
