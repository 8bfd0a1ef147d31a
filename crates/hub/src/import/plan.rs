//! Reading the file: from what people have written to what the hub accepts.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::server::{HttpTarget, ServerState, StdioTarget};
use mcphub_domain::{
    OAuth, Sandbox, SecretText, ServerDefinition, ServerName, SlotName, Template, ToolName, Transport,
};
use serde::Deserialize;
use serde_json::Value;

use super::{secrets, slot_name};

/// Is a server of the file as the hub will have it.
pub struct Planned {
    /// Its name.
    pub name: ServerName,
    /// How it is reached.
    pub definition: ServerDefinition,
    /// Whether it is in use.
    pub state: ServerState,
    /// Values that go into the vault.
    pub secrets: Vec<(SlotName, SecretText)>,
    /// What was changed, one sentence each.
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers", alias = "servers")]
    servers: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    enabled: Option<bool>,
    disabled: Option<bool>,
    timeout: Option<u32>,
    timeout_ms: Option<u32>,
    isolation: Option<mcphub_domain::server::Isolation>,
    approval: Option<mcphub_domain::server::Approval>,
    #[serde(default)]
    networks: Vec<ipnet::IpNet>,
    #[serde(default)]
    sandbox: Sandbox,
    oauth: Option<OAuth>,
    #[serde(default)]
    disabled_tools: BTreeSet<ToolName>,
    #[serde(default)]
    tools: BTreeMap<ToolName, Toggle>,
}

#[derive(Deserialize)]
struct Toggle {
    enabled: Option<bool>,
}

/// Is a server's name in the file, with what to do about it.
type PlannedEntry = (String, Result<Planned, String>);

/// Reads the file: for each server what to do, or why it can't be done.
pub(super) fn read(text: &str) -> Result<Vec<PlannedEntry>, String> {
    let file: File = serde_json::from_str(text)
        .map_err(|error| format!("not a server file: {error}: expected {{\"mcpServers\": {{…}}}}"))?;
    let mut taken = BTreeSet::new();
    Ok(file
        .servers
        .into_iter()
        .map(|(original, value)| {
            let planned = Planner::default().plan(&original, value, &mut taken);
            (original, planned)
        })
        .collect())
}

/// Collects what is noticed on the way.
#[derive(Default)]
struct Planner {
    secrets: Vec<(SlotName, SecretText)>,
    notes: Vec<String>,
}

impl Planner {
    fn plan(
        mut self,
        original: &str,
        value: Value,
        taken: &mut BTreeSet<ServerName>,
    ) -> Result<Planned, String> {
        let entry: Entry = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let name = self.name(original, taken)?;
        let enabled = entry.enabled.unwrap_or(true) && !entry.disabled.unwrap_or(false);
        let mut definition = ServerDefinition::new(self.transport(&entry)?);
        definition.isolation = entry.isolation.unwrap_or(definition.isolation);
        definition.approval = entry.approval.unwrap_or(definition.approval);
        definition.timeout_ms = entry.timeout_ms.or(entry.timeout).unwrap_or(definition.timeout_ms);
        definition.networks = entry.networks;
        definition.sandbox = entry.sandbox;
        let off = |toggle: &Toggle| toggle.enabled == Some(false);
        definition.disabled_tools = entry.disabled_tools;
        definition
            .disabled_tools
            .extend(entry.tools.into_iter().filter(|(_, t)| off(t)).map(|(name, _)| name));
        definition.check().map_err(|error| error.to_string())?;
        let state = if enabled { ServerState::Enabled } else { ServerState::Disabled };
        Ok(Planned { name, definition, state, secrets: self.secrets, notes: self.notes })
    }

    fn name(&mut self, original: &str, taken: &mut BTreeSet<ServerName>) -> Result<ServerName, String> {
        let plain: String = original
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let plain = plain.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_end_matches('-');
        let short: String =
            if plain == "my" { "my-server".to_owned() } else { plain.chars().take(32).collect() };
        let name: ServerName =
            short.parse().map_err(|_| format!("{original:?} can't become a server name"))?;
        if !taken.insert(name.clone()) {
            return Err(format!("its name would be {name}, which another server of the file has"));
        }
        if name.as_str() != original {
            self.notes.push(format!("the name {original:?} became {name}"));
        }
        Ok(name)
    }

    fn transport(&mut self, entry: &Entry) -> Result<Transport, String> {
        match (entry.kind.as_deref(), &entry.url, &entry.command) {
            (
                None | Some("streamable-http" | "streamableHttp" | "streamable_http" | "http" | "sse"),
                Some(url),
                None,
            ) => {
                let url = self.url(url)?;
                let headers = self.templates(&entry.headers, str::to_ascii_lowercase)?;
                Ok(Transport::Http(HttpTarget { url, headers, oauth: entry.oauth.clone() }))
            }
            (None | Some("stdio"), None, Some(command)) => {
                let args = self.args(&entry.args)?;
                let env = self.templates(&entry.env, str::to_owned)?;
                Ok(Transport::Stdio(StdioTarget { command: command.clone(), args, env }))
            }
            (Some(kind), ..) => Err(format!(
                "type {kind:?} with these fields: expected stdio with `command`, or streamable-http (or sse) with `url`"
            )),
            (None, ..) => Err("expected either `command` or `url`".to_owned()),
        }
    }

    fn templates(
        &mut self,
        values: &BTreeMap<String, String>,
        rename: fn(&str) -> String,
    ) -> Result<BTreeMap<String, Template>, String> {
        values.iter().map(|(name, value)| Ok((rename(name), self.template(name, value)?))).collect()
    }

    fn template(&mut self, name: &str, value: &str) -> Result<Template, String> {
        let named = self.placeholders(name, value)?;
        let parsed: Template = named.parse().map_err(|error| format!("{name}: {error}"))?;
        let Some((before, secret)) = parsed.literal().and_then(|text| secrets::find(name, text)) else {
            return Ok(parsed);
        };
        let kept = self.keep(name, secret)?;
        format!("{before}{kept}").parse().map_err(|error| format!("{name}: {error}"))
    }

    fn args(&mut self, args: &[String]) -> Result<Vec<Template>, String> {
        if let Some(reason) = secrets::in_args(args) {
            return Err(reason);
        }
        let template =
            |arg: &String| self.placeholders("args", arg)?.parse().map_err(|error| format!("args: {error}"));
        args.iter().map(template).collect()
    }

    /// Looks for secrets in the path and the query of a URL, part by part.
    fn url(&mut self, url: &str) -> Result<Template, String> {
        let named = self.placeholders("url", url)?;
        let (path, query) =
            named.split_once('?').map_or((named.as_str(), None), |(path, query)| (path, Some(query)));
        let mut parts = Vec::new();
        for (place, segment) in path.split('/').enumerate() {
            // The first three are the scheme, nothing, and the host.
            let secret = place > 2 && secrets::is_segment(segment);
            parts.push(if secret { self.keep("url", segment)? } else { segment.to_owned() });
        }
        let mut whole = parts.join("/");
        for (place, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
            whole.push(if place == 0 { '?' } else { '&' });
            whole.push_str(&self.pair(pair)?);
        }
        whole.parse().map_err(|error| format!("url: {error}"))
    }

    fn pair(&mut self, pair: &str) -> Result<String, String> {
        let Some((name, value)) = secrets::in_pair(pair) else { return Ok(pair.to_owned()) };
        let (written, _) = pair.split_once('=').unwrap_or((pair, ""));
        Ok(format!("{written}={}", self.keep(&name, &value)?))
    }

    /// Puts a secret aside for the vault, and returns the placeholder that stands for it.
    fn keep(&mut self, name: &str, secret: &str) -> Result<String, String> {
        let taken = |slot: &SlotName| self.secrets.iter().any(|(known, _)| known == slot);
        let names = std::iter::once(name.to_owned()).chain((2..100).map(|number| format!("{name}_{number}")));
        let slot = names
            .filter_map(|name| slot_name(&name))
            .find(|slot| !taken(slot))
            .ok_or_else(|| format!("{name:?} can't become a slot's name"))?;
        self.notes.push(format!(
            "the value of {name} looks like a secret and went into the vault as ${{SHARED_{slot}}}"
        ));
        let placeholder = format!("${{SHARED_{slot}}}");
        self.secrets.push((slot, SecretText::new(secret.to_owned())));
        Ok(placeholder)
    }

    /// Turns `${X}`, and the ways in which other programs write it, into `${USER_X}`.
    fn placeholders(&mut self, place: &str, value: &str) -> Result<String, String> {
        let (mut named, mut rest) = (String::new(), value);
        while let Some((before, opened)) = rest.split_once("${") {
            let (inside, after) =
                opened.split_once('}').ok_or_else(|| format!("{place}: a placeholder never ends"))?;
            named.push_str(before);
            named.push_str(&self.placeholder(place, inside)?);
            rest = after;
        }
        named.push_str(rest);
        Ok(named)
    }

    fn placeholder(&mut self, place: &str, inside: &str) -> Result<String, String> {
        if ["USER_", "SHARED_", "HUB_USER_"].iter().any(|kind| inside.starts_with(kind)) {
            return Ok(format!("${{{inside}}}"));
        }
        let bare = inside.strip_prefix("env:").or_else(|| inside.strip_prefix("input:")).unwrap_or(inside);
        let bare = bare.split_once(":-").map_or(bare, |(name, _)| name);
        let slot = slot_name(bare).ok_or_else(|| format!("{place}: ${{{inside}}} can't become a slot"))?;
        self.notes
            .push(format!("{place}: ${{{inside}}} became ${{USER_{slot}}}, which each person fills in"));
        Ok(format!("${{USER_{slot}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Planned, read};

    fn one(json: &str) -> Result<Planned, String> {
        let file = format!(r#"{{"mcpServers":{{"a-server":{json}}}}}"#);
        read(&file).unwrap().remove(0).1
    }

    #[test]
    fn what_people_have_is_taken_over() {
        let plan = one(
            r#"{"command":"npx","args":["-y","x@1"],"env":{"GITHUB_TOKEN":"${GITHUB_TOKEN}","LOG":"debug"}}"#,
        )
        .ok()
        .unwrap();
        assert_eq!(
            serde_json::to_value(&plan.definition).unwrap()["env"],
            serde_json::json!({"GITHUB_TOKEN": "${USER_GITHUB_TOKEN}", "LOG": "debug"})
        );
        assert_eq!(plan.notes.len(), 1);
        assert!(plan.secrets.is_empty());
    }

    #[test]
    fn a_literal_secret_goes_into_the_vault() {
        let plan =
            one(r#"{"url":"https://a.example/mcp","headers":{"Authorization":"Bearer ghp_0123456789ab"}}"#)
                .ok()
                .unwrap();
        let (slot, value) = &plan.secrets[0];
        assert_eq!((slot.as_str(), value.expose()), ("AUTHORIZATION", "ghp_0123456789ab"));
        let text = serde_json::to_string(&plan.definition).unwrap();
        assert!(text.contains("Bearer ${SHARED_AUTHORIZATION}"), "{text}");
        assert!(!text.contains("ghp_"));
    }

    #[test]
    fn a_literal_secret_in_a_url_goes_into_the_vault() {
        let plan =
            one(r#"{"url":"https://a.example/mcp/c2VjcmV0LXRva2VuLTEyMzQ1Njc4?api_key=a%2Bbcdef&page=2"}"#)
                .ok()
                .unwrap();
        let text = serde_json::to_string(&plan.definition).unwrap();
        assert!(
            text.contains("https://a.example/mcp/${SHARED_URL}?api_key=${SHARED_API_KEY}&page=2"),
            "{text}"
        );
        let kept: Vec<&str> = plan.secrets.iter().map(|(_, value)| value.expose()).collect();
        assert_eq!(kept, ["c2VjcmV0LXRva2VuLTEyMzQ1Njc4", "a+bcdef"]);
    }

    #[test]
    fn a_literal_secret_in_an_argument_is_refused() {
        for args in [r#"["--api-key","abcd1234"]"#, r#"["--token=abcd1234"]"#, r#"["ghp_0123456789abcdef"]"#]
        {
            let error = one(&format!(r#"{{"command":"x","args":{args}}}"#)).err().unwrap();
            assert!(error.contains("env") && !error.contains("1234"), "{error}");
        }
        assert!(
            one(
                r#"{"command":"npx","args":["-y","@scope/server-name-1234567890@2026.1.2","--port","8080"]}"#
            )
            .is_ok()
        );
    }

    #[test]
    fn other_programs_placeholders_become_ours() {
        for inside in ["X_TOKEN", "env:X_TOKEN", "input:x_token", "X_TOKEN:-none"] {
            let plan = one(&format!(r#"{{"command":"x","env":{{"T":"${{{inside}}}"}}}}"#)).ok().unwrap();
            let text = serde_json::to_string(&plan.definition).unwrap();
            assert!(text.contains("${USER_X_TOKEN}"), "{inside}: {text}");
        }
    }

    #[test]
    fn switches_and_timeouts_are_kept() {
        let plan = one(
            r#"{"command":"x","disabled":true,"timeout":5000,"tools":{"a":{"enabled":false},"b":{"enabled":true}}}"#,
        )
        .ok()
        .unwrap();
        assert_eq!(plan.state.as_str(), "disabled");
        assert_eq!(plan.definition.timeout_ms, 5_000);
        let off: Vec<&str> = plan.definition.disabled_tools.iter().map(|tool| tool.as_str()).collect();
        assert_eq!(off, ["a"]);
    }

    #[test]
    fn names_are_made_to_fit_and_reported() {
        let mut found =
            read(r#"{"mcpServers":{"My Server":{"command":"x"},"my_server":{"command":"y"}}}"#).unwrap();
        let (_, second) = found.remove(1);
        assert!(second.err().unwrap().contains("my-server"));
        let plan = found.remove(0).1.ok().unwrap();
        assert_eq!(plan.name.as_str(), "my-server");
        assert_eq!(plan.notes.len(), 1);
    }

    #[test]
    fn a_name_that_fits_stays_as_it_is() {
        let found = read(r#"{"mcpServers":{"echo-1":{"command":"x"},"echo-2":{"command":"x"}}}"#).unwrap();
        let names: Vec<_> = found.into_iter().map(|(_, plan)| plan.ok().unwrap()).collect();
        let names: Vec<_> = names.iter().map(|plan| (plan.name.as_str(), plan.notes.len())).collect();
        assert_eq!(names, [("echo-1", 0), ("echo-2", 0)]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        assert!(one(r#"{"command":"x","args":["${TOKEN}"]}"#).err().unwrap().contains("args"));
        assert!(one(r#"{"url":"https://a","command":"x"}"#).is_err());
        assert!(one(r#"{"type":"sse","url":"https://a"}"#).is_ok());
        assert!(one(r#"{"type":"ftp","url":"https://a"}"#).is_err());
        assert!(read("[]").is_err());
    }
}
