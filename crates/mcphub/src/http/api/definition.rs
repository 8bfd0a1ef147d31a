//! A server's definition as it comes in and goes out: the shape of the ecosystem's `mcpServers` files,
//! with nothing in it that the hub doesn't know.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mcphub_domain::server::{Approval, HttpTarget, Isolation, StdioTarget};
use mcphub_domain::{OAuth, Sandbox, ServerDefinition, Template, ToolName, Transport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::http::error::ApiError;

/// Says how a server is reached. `${USER_X}` stands for a value of each person's own, `${SHARED_X}`
/// for one that an admin sets.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Definition {
    /// How the hub talks to it.
    #[serde(rename = "type")]
    #[schema(schema_with = schema::transport)]
    kind: Kind,
    /// The endpoint of a `streamable-http` server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    url: Option<Template>,
    /// The headers of every request to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    headers: BTreeMap<String, Template>,
    /// How people connect accounts of their own at a `streamable-http` server; `{}` finds everything out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::oauth, required = false)]
    oauth: Option<OAuth>,
    /// The program of a `stdio` server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// Its arguments; no secret may stand in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    args: Vec<Template>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    env: BTreeMap<String, Template>,
    /// Who shares a connection.
    #[schema(schema_with = schema::isolation, required = false)]
    isolation: Option<Isolation>,
    /// Which of its tools need an approval.
    #[schema(schema_with = schema::approval, required = false)]
    approval: Option<Approval>,
    /// How long a call may take, in milliseconds.
    #[schema(minimum = 100, maximum = 3_600_000)]
    timeout_ms: Option<u32>,
    /// Non-global networks that a host name in the URL may resolve to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    networks: Vec<IpNet>,
    /// How the process of a `stdio` server is confined: `"off"`, or what it may do beyond the default profile.
    #[serde(default, skip_serializing_if = "Sandbox::is_default")]
    #[schema(schema_with = schema::sandbox, required = false)]
    sandbox: Sandbox,
    /// Tools that are switched off, whatever is granted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(value_type = Vec<String>)]
    disabled_tools: BTreeSet<ToolName>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "streamable-http")]
    Http,
    #[serde(rename = "stdio")]
    Stdio,
}

impl TryFrom<Definition> for ServerDefinition {
    type Error = ApiError;

    fn try_from(body: Definition) -> Result<Self, ApiError> {
        let transport = match (body.kind, body.url, body.command) {
            (Kind::Http, Some(url), None) if body.args.is_empty() && body.env.is_empty() => {
                Transport::Http(HttpTarget { url, headers: body.headers, oauth: body.oauth })
            }
            (Kind::Stdio, None, Some(command)) if body.headers.is_empty() && body.oauth.is_none() => {
                Transport::Stdio(StdioTarget { command, args: body.args, env: body.env })
            }
            (Kind::Http, ..) => {
                return Err(ApiError::malformed("a streamable-http server has `url` and `headers`"));
            }
            (Kind::Stdio, ..) => {
                return Err(ApiError::malformed("a stdio server has `command`, `args` and `env`"));
            }
        };
        let usual = Self::new(transport);
        Ok(Self {
            isolation: body.isolation.unwrap_or(usual.isolation),
            approval: body.approval.unwrap_or(usual.approval),
            timeout_ms: body.timeout_ms.unwrap_or(usual.timeout_ms),
            networks: body.networks,
            sandbox: body.sandbox,
            disabled_tools: body.disabled_tools,
            ..usual
        })
    }
}

impl From<ServerDefinition> for Definition {
    fn from(definition: ServerDefinition) -> Self {
        let (http, stdio) = match definition.transport {
            Transport::Http(target) => (Some(target), None),
            Transport::Stdio(target) => (None, Some(target)),
        };
        let kind = if http.is_some() { Kind::Http } else { Kind::Stdio };
        let (url, headers, oauth) =
            http.map_or_else(Default::default, |target| (Some(target.url), target.headers, target.oauth));
        let (command, args, env) =
            stdio.map_or_else(Default::default, |target| (Some(target.command), target.args, target.env));
        Self {
            kind,
            url,
            headers,
            oauth,
            command,
            args,
            env,
            isolation: Some(definition.isolation),
            approval: Some(definition.approval),
            timeout_ms: Some(definition.timeout_ms),
            networks: definition.networks,
            sandbox: definition.sandbox,
            disabled_tools: definition.disabled_tools,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Definition, ServerDefinition};

    fn read(json: &str) -> Option<ServerDefinition> {
        serde_json::from_str::<Definition>(json).ok()?.try_into().ok()
    }

    #[test]
    fn a_definition_survives_the_way_in_and_out() {
        for json in [
            r#"{"type":"stdio","command":"npx","args":["-y","x@1"],"env":{"T":"${USER_T}"},"isolation":"person","approval":"always","timeoutMs":500,"disabledTools":["rm"]}"#,
            r#"{"type":"stdio","command":"x","isolation":"auto","approval":"changes","timeoutMs":500,"sandbox":"off"}"#,
            r#"{"type":"stdio","command":"x","isolation":"auto","approval":"changes","timeoutMs":500,"sandbox":{"write":["/srv/out"],"hosts":["*","db:5432"]}}"#,
            r#"{"type":"streamable-http","url":"https://a.example/${SHARED_S}","headers":{"authorization":"Bearer ${USER_T}"},"isolation":"auto","approval":"changes","timeoutMs":60000,"networks":["10.0.0.0/8"]}"#,
            r#"{"type":"streamable-http","url":"https://a.example/","oauth":{"issuer":"https://i.example","clientId":"a","clientSecret":"${SHARED_S}","scopes":["x"]},"isolation":"auto","approval":"changes","timeoutMs":60000}"#,
        ] {
            let definition = read(json).unwrap();
            let written: serde_json::Value = serde_json::to_value(Definition::from(definition)).unwrap();
            assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).unwrap());
        }
    }

    #[test]
    fn what_the_hub_does_not_know_is_refused() {
        for json in [
            r#"{"type":"stdio","command":"x","sandbox":"on"}"#,
            r#"{"type":"stdio","command":"x","sandbox":{"reads":[]}}"#,
            r#"{"type":"stdio","command":"x","url":"https://a.example"}"#,
            r#"{"type":"stdio","command":"x","headers":{"a":"b"}}"#,
            r#"{"type":"streamable-http","url":"https://a.example","env":{"A":"b"}}"#,
            r#"{"type":"stdio","command":"x","oauth":{}}"#,
            r#"{"type":"streamable-http","url":"https://a.example","oauth":{"secret":"x"}}"#,
            r#"{"type":"streamable-http"}"#,
            r#"{"type":"sse","url":"https://a.example"}"#,
        ] {
            assert!(read(json).is_none(), "{json}");
        }
    }
}
