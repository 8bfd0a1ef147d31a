//! MCP servers: where they are, how they are reached, and whose values they need.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::id::ServerId;
use crate::name::{ServerName, ToolName};
use crate::oauth::{InvalidOAuth, OAuth};
use crate::role::words;
use crate::sandbox::{InvalidSandbox, Sandbox};
use crate::secret::Destination;
use crate::template::{Part, Slot, Template};
use crate::time::Timestamp;

words! {
    /// Says who shares one connection or process of the server.
    Isolation, "isolation" {
        /// Everybody, unless a value of the caller's own is needed: then one per person.
        Auto = "auto",
        /// One per person.
        Person = "person",
        /// One per client session.
        Session = "session",
    }
    /// Says which of the server's tools need an approval.
    Approval, "approval" {
        /// Those that come, or change, after the first list.
        Changes = "changes",
        /// All, the first list included.
        Always = "always",
    }
    /// Says whether the server is in use.
    ServerState, "server state" {
        /// Its tools can be seen and called.
        Enabled = "enabled",
        /// None can.
        Disabled = "disabled",
    }
}

/// Describes a server as the hub stores it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its name: the prefix of its tools, and a path under `/mcp/`.
    pub name: ServerName,
    /// How it is reached.
    pub definition: ServerDefinition,
    /// Whether it is in use.
    pub state: ServerState,
    /// Counts the changes of this row, from 1.
    pub revision: i64,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Describes how a server is reached, in the words of the ecosystem's `mcpServers` files plus ours.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerDefinition {
    /// The transport and its target.
    #[serde(flatten)]
    pub transport: Transport,
    /// Who shares a connection.
    #[serde(default = "auto")]
    pub isolation: Isolation,
    /// Which tools need an approval.
    #[serde(default = "changes")]
    pub approval: Approval,
    /// How long a call may take, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
    /// Non-global networks that a host name in the URL may resolve to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// How its process is confined.
    #[serde(default, skip_serializing_if = "Sandbox::is_default")]
    pub sandbox: Sandbox,
    /// Tools that are switched off, whatever is granted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled_tools: BTreeSet<ToolName>,
}

/// Names a transport and its target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Transport {
    /// Streamable HTTP.
    #[serde(rename = "streamable-http")]
    Http(HttpTarget),
    /// A child process that speaks on its standard input and output.
    #[serde(rename = "stdio")]
    Stdio(StdioTarget),
}

/// Says where an HTTP server is and which headers it gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HttpTarget {
    /// The endpoint. Secrets may stand in its path and query, never in its host.
    pub url: Template,
    /// Headers of every request, by lower-case name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Template>,
    /// How people connect accounts of their own there, if they have to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

/// Says which program a stdio server is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StdioTarget {
    /// The program: an absolute path, or a name that is looked up on the declared `PATH`.
    pub command: String,
    /// Its arguments. They are visible to others on the machine, so no secret may stand here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Template>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Template>,
}

/// Says what is wrong with a server definition.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidServer {
    /// The URL can't be used.
    #[error("url: {0}")]
    Url(String),
    /// The command can't be used.
    #[error("command: expected a program without NUL and without placeholders")]
    Command,
    /// A secret would be visible to everybody on the machine.
    #[error("args: {0} is a secret, and arguments are visible to everybody on the machine; put it in `env`")]
    SecretInArgument(Slot),
    /// A header's name or value can't be used.
    #[error("headers: {0:?} can't be set: {1}")]
    Header(String, &'static str),
    /// A variable's name or value can't be used.
    #[error("env: {0:?} can't be set: {1}")]
    Variable(String, &'static str),
    /// The deadline is out of bounds.
    #[error("timeoutMs is {0}: expected 100 to 3600000")]
    Timeout(u32),
    /// The sandbox can't be.
    #[error("sandbox: {0}")]
    Sandbox(#[from] InvalidSandbox),
    /// People can't connect accounts as it says.
    #[error("oauth: {0}")]
    OAuth(#[from] InvalidOAuth),
    /// There is no process to confine.
    #[error("sandbox: only a stdio server has a process that can be confined")]
    NothingToConfine,
}

const fn auto() -> Isolation {
    Isolation::Auto
}

const fn changes() -> Approval {
    Approval::Changes
}

const fn default_timeout_ms() -> u32 {
    60_000
}

/// Is what a call to a server needs, read off its definition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// The slots that have to be filled, and where the value of each goes.
    pub slots: BTreeMap<Slot, Destination>,
}

impl ServerDefinition {
    /// Describes a server with the default settings.
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            isolation: auto(),
            approval: changes(),
            timeout_ms: default_timeout_ms(),
            networks: Vec::new(),
            sandbox: Sandbox::default(),
            disabled_tools: BTreeSet::new(),
        }
    }

    /// Checks every rule about where a placeholder may stand.
    pub fn check(&self) -> Result<(), InvalidServer> {
        if !(100..=3_600_000).contains(&self.timeout_ms) {
            return Err(InvalidServer::Timeout(self.timeout_ms));
        }
        self.sandbox.check()?;
        if self.templates().flat_map(Template::slots).any(|slot| slot.is_account()) {
            return Err(InvalidOAuth::Reserved.into());
        }
        match &self.transport {
            Transport::Http(_) if !self.sandbox.is_default() => Err(InvalidServer::NothingToConfine),
            Transport::Http(target) => target.check(),
            Transport::Stdio(target) => target.check(),
        }
    }

    /// Returns how long a call may take.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms as u64)
    }

    /// Lists the values that somebody has to fill in.
    pub fn slots(&self) -> BTreeSet<Slot> {
        let account = self.oauth().map(|_| Slot::account());
        self.templates().flat_map(Template::slots).chain(account).collect()
    }

    /// Says how people connect accounts of their own there, if they have to.
    pub const fn oauth(&self) -> Option<&OAuth> {
        match &self.transport {
            Transport::Http(target) => target.oauth.as_ref(),
            Transport::Stdio(_) => None,
        }
    }

    /// Says what a call to the server needs.
    pub fn needs(&self) -> Needs {
        let placed = |slot: Slot| (slot.clone(), self.destination_of(&slot));
        Needs { slots: self.slots().into_iter().map(placed).collect() }
    }

    /// Lists the slots that each person fills in herself.
    pub fn personal_slots(&self) -> BTreeSet<Slot> {
        self.slots().into_iter().filter(|slot| matches!(slot, Slot::Personal(_))).collect()
    }

    /// Says whether each person needs a connection of her own.
    pub fn is_personal(&self) -> bool {
        self.isolation != Isolation::Auto
            || self.oauth().is_some()
            || self.templates().any(Template::is_personal)
    }

    /// Describes the same server as one that nobody's own values are sent to, for trying whether it
    /// answers at all; nothing where it has no address or command without them.
    pub fn impersonal(&self) -> Option<Self> {
        let keep = |values: &BTreeMap<String, Template>| {
            let mut kept = values.clone();
            kept.retain(|_, value| !value.is_personal());
            kept
        };
        let transport = match &self.transport {
            Transport::Http(target) if !target.url.is_personal() => {
                Transport::Http(HttpTarget { headers: keep(&target.headers), oauth: None, ..target.clone() })
            }
            Transport::Stdio(target) if !target.args.iter().any(Template::is_personal) => {
                Transport::Stdio(StdioTarget { env: keep(&target.env), ..target.clone() })
            }
            Transport::Http(_) | Transport::Stdio(_) => return None,
        };
        Some(Self { transport, isolation: Isolation::Auto, ..self.clone() })
    }

    fn templates(&self) -> Box<dyn Iterator<Item = &Template> + '_> {
        match &self.transport {
            Transport::Http(target) => {
                let secret = target.oauth.as_ref().and_then(|oauth| oauth.client_secret.as_ref());
                Box::new(std::iter::once(&target.url).chain(target.headers.values()).chain(secret))
            }
            Transport::Stdio(target) => Box::new(target.args.iter().chain(target.env.values())),
        }
    }
}

impl HttpTarget {
    /// Returns the URL with an `x` for every placeholder: its origin is the true one, for no
    /// placeholder may stand in it.
    pub fn base(&self) -> Result<Url, InvalidServer> {
        let text: String = self
            .url
            .parts()
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Slot(_) | Part::Identity(_) => "x",
            })
            .collect();
        Url::parse(&text).map_err(|error| InvalidServer::Url(error.to_string()))
    }

    fn check(&self) -> Result<(), InvalidServer> {
        let url = self.base()?;
        let wrong = |text: &str| Err(InvalidServer::Url(text.to_owned()));
        if !matches!(url.scheme(), "http" | "https") {
            return wrong("expected http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("a user or password before the host; put it into a header");
        }
        if url.fragment().is_some() {
            return wrong("a fragment (#…) never reaches a server");
        }
        if !self.authority_is_literal() {
            return wrong("a placeholder in the scheme, host or port; the host decides who gets the secret");
        }
        self.headers.iter().try_for_each(|(name, value)| check_header(name, value))?;
        self.oauth.as_ref().map_or(Ok(()), |oauth| self.check_oauth(oauth))
    }

    fn check_oauth(&self, oauth: &OAuth) -> Result<(), InvalidServer> {
        oauth.check()?;
        if self.headers.contains_key("authorization") {
            return Err(InvalidOAuth::Header.into());
        }
        Ok(())
    }

    fn authority_is_literal(&self) -> bool {
        match self.url.parts() {
            [] => false,
            [Part::Text(_)] => true,
            [Part::Text(first), ..] => {
                first.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']))
            }
            _ => false,
        }
    }
}

const HOP_HEADERS: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn check_header(name: &str, value: &Template) -> Result<(), InvalidServer> {
    let wrong = |reason| Err(InvalidServer::Header(name.to_owned(), reason));
    let token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return wrong("a header's name is a token (RFC 9110 5.1), written in lower case");
    }
    if HOP_HEADERS.contains(&name) || name.starts_with("mcp-param-") || name.starts_with("x-mcphub-") {
        return wrong("the hub sets this header itself");
    }
    if has_control(value) {
        return wrong("a value has no CR, LF or NUL");
    }
    Ok(())
}

fn has_control(value: &Template) -> bool {
    value.parts().iter().any(|part| matches!(part, Part::Text(text) if text.contains(['\r', '\n', '\0'])))
}

impl StdioTarget {
    fn check(&self) -> Result<(), InvalidServer> {
        if self.command.is_empty() || self.command.contains(['\0', '\n']) || self.command.contains("${") {
            return Err(InvalidServer::Command);
        }
        for arg in &self.args {
            if let Some(slot) = arg.slots().into_iter().next() {
                return Err(InvalidServer::SecretInArgument(slot));
            }
        }
        self.env.iter().try_for_each(|(name, value)| check_variable(name, value))
    }
}

fn check_variable(name: &str, value: &Template) -> Result<(), InvalidServer> {
    let wrong = |reason| Err(InvalidServer::Variable(name.to_owned(), reason));
    if name.is_empty() || name.contains(['=', '\0']) {
        return wrong("a variable's name is not empty and has no `=` and no NUL");
    }
    if name.starts_with("LD_") || name.starts_with("DYLD_") {
        return wrong("it would load foreign code into the program");
    }
    let nul = |part: &Part| matches!(part, Part::Text(text) if text.contains('\0'));
    if value.parts().iter().any(nul) {
        return wrong("a value has no NUL");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{InvalidServer, ServerDefinition, Transport};

    fn parse(json: &str) -> ServerDefinition {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn without_anybodys_values_a_server_is_tried_as_far_as_it_can_be() {
        let stdio = parse(
            r#"{"type":"stdio","command":"npx","args":["a@1"],"env":{"T":"${USER_T}","S":"${SHARED_S}","L":"x"}}"#,
        );
        let tried = stdio.impersonal().unwrap();
        assert!(!tried.is_personal());
        let Transport::Stdio(target) = &tried.transport else { panic!("{tried:?}") };
        assert_eq!(target.env.keys().collect::<Vec<_>>(), ["L", "S"]);
        let http = parse(
            r#"{"type":"streamable-http","url":"https://a.example/mcp","headers":{"authorization":"Bearer ${USER_T}"}}"#,
        );
        assert!(!http.impersonal().unwrap().is_personal());
        assert_eq!(
            parse(r#"{"type":"streamable-http","url":"https://a.example/${USER_T}"}"#).impersonal(),
            None
        );
        assert_eq!(parse(r#"{"type":"stdio","command":"x","args":["${HUB_USER_NAME}"]}"#).impersonal(), None);
    }

    #[test]
    fn the_ecosystems_shape_is_read_and_written() {
        let json = r#"{"type":"stdio","command":"npx","args":["-y","jira@1"],"env":{"T":"${USER_T}"},"isolation":"auto","approval":"changes","timeoutMs":60000}"#;
        let definition = parse(json);
        assert!(definition.check().is_ok());
        assert!(definition.is_personal());
        assert_eq!(serde_json::to_string(&definition).unwrap(), json);
    }

    #[test]
    fn placeholders_stand_only_where_they_may() {
        let table = [
            (r#"{"type":"streamable-http","url":"https://a.example/${USER_X}?k=${SHARED_Y}"}"#, true),
            (r#"{"type":"streamable-http","url":"https://${SHARED_HOST}/mcp"}"#, false),
            (r#"{"type":"streamable-http","url":"https://a.example${USER_X}/mcp"}"#, false),
            (r#"{"type":"streamable-http","url":"https://a.example:${USER_X}/mcp"}"#, false),
            (r#"{"type":"streamable-http","url":"${USER_X}://a.example/mcp"}"#, false),
            (r#"{"type":"streamable-http","url":"https://u:p@a.example/mcp"}"#, false),
            (r#"{"type":"streamable-http","url":"ftp://a.example/mcp"}"#, false),
            (r#"{"type":"streamable-http","url":"https://a.example","headers":{"x-a":"${USER_X}"}}"#, true),
            (r#"{"type":"streamable-http","url":"https://a.example","headers":{"x-a":"a\r\nb: c"}}"#, false),
            (r#"{"type":"streamable-http","url":"https://a.example","headers":{"host":"b"}}"#, false),
            (r#"{"type":"stdio","command":"x","args":["${HUB_USER_NAME}"]}"#, true),
            (r#"{"type":"stdio","command":"x","args":["${USER_X}"]}"#, false),
            (r#"{"type":"stdio","command":"x","args":["--t=${SHARED_X}"]}"#, false),
            (r#"{"type":"stdio","command":"${SHARED_X}"}"#, false),
            (r#"{"type":"stdio","command":"x","env":{"LD_PRELOAD":"y"}}"#, false),
            (r#"{"type":"stdio","command":"x","sandbox":"off"}"#, true),
            (r#"{"type":"stdio","command":"x","sandbox":{"read":["x"]}}"#, false),
            (r#"{"type":"streamable-http","url":"https://a.example","sandbox":"off"}"#, false),
        ];
        for (json, good) in table {
            assert_eq!(parse(json).check().is_ok(), good, "{json}");
        }
    }

    #[test]
    fn a_secret_in_an_argument_is_named() {
        let error = parse(r#"{"type":"stdio","command":"x","args":["${USER_X}"]}"#).check().unwrap_err();
        assert!(matches!(error, InvalidServer::SecretInArgument(_)));
    }
}
