//! The tools' definitions, as their servers wrote them.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mcphub_domain::tool::Annotations;
use mcphub_domain::{Server, ServerId, ToolDigest, ToolName, Transport};
use mcphub_wire::list::Item;
use mcphub_wire::mirror::{Mirrored, mirrored};
use mcphub_wire::{Limits, Raw};

/// Is a tool as its server defines it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolDefinition {
    /// The server's name for it.
    pub name: ToolName,
    /// The exact bytes.
    pub definition: Bytes,
    /// What the server says of the tool's behaviour.
    pub annotations: Annotations,
    /// The digest of the whole definition, whatever the order and spacing of its members.
    pub digest: ToolDigest,
}

impl ToolDefinition {
    /// Reads an item of a list; a tool whose name or definition can't be used is none.
    pub(crate) fn read(item: &Item) -> Option<Self> {
        let name = item.name().parse().ok()?;
        let definition = item.raw().clone().into_bytes();
        let value: serde_json::Value = serde_json::from_slice(&definition).ok()?;
        let canonical = serde_json_canonicalizer::to_vec(&value).ok()?;
        // Hints that can't be read are as good as none: the tool counts as `execute`.
        let annotations = value.get("annotations").cloned().map(serde_json::from_value);
        let annotations = annotations.and_then(Result::ok).unwrap_or_default();
        Some(Self { name, definition, annotations, digest: ToolDigest::of(&canonical) })
    }
}

/// Reads a server's tools, in its order. Two of one name are both left out: nobody could say which is
/// meant; so is, over HTTP, one whose arguments can't be repeated in headers as it wants.
pub(crate) fn tidy(server: &Server, items: &[Item]) -> Vec<ToolDefinition> {
    let mut named: HashMap<&str, usize> = HashMap::new();
    for item in items {
        *named.entry(item.name()).or_default() += 1;
    }
    let single = |item: &&Item| named.get(item.name()) == Some(&1);
    let is_http = matches!(server.definition.transport, Transport::Http(_));
    let fits = |item: &&Item| match mirrored(item.raw()) {
        Err(reason) if is_http => {
            tracing::warn!(server = %server.name, tool = item.name(), %reason, "a tool is left out");
            false
        }
        Ok(_) | Err(_) => true,
    };
    let tools: Vec<ToolDefinition> =
        items.iter().filter(single).filter(fits).filter_map(ToolDefinition::read).collect();
    let left_out = items.len() - tools.len();
    if left_out > 0 {
        tracing::warn!(server = %server.name, left_out, "some tools are left out: their names or headers can't be used, or stand twice");
    }
    tools
}

type Definitions = HashMap<ServerId, Arc<Known>>;

/// Is what is known of one server.
#[derive(Default)]
struct Known {
    tools: HashMap<ToolName, (ToolDigest, Bytes)>,
    /// The arguments that headers repeat, of the few tools that have such.
    mirrored: HashMap<ToolName, Arc<[Mirrored]>>,
}

/// Holds the last definitions of all servers' tools.
#[derive(Default)]
pub struct Catalog {
    definitions: ArcSwap<Definitions>,
}

impl Catalog {
    /// Replaces a server's tools.
    pub fn put(&self, server: ServerId, tools: &[ToolDefinition]) {
        let entry = |tool: &ToolDefinition| (tool.name.clone(), (tool.digest, tool.definition.clone()));
        let repeats = |tool: &ToolDefinition| {
            let found = mirrored(&Raw::parse(tool.definition.clone(), &Limits::RESPONSE).ok()?).ok()?;
            (!found.is_empty()).then(|| (tool.name.clone(), found.into()))
        };
        let known = Arc::new(Known {
            tools: tools.iter().map(entry).collect(),
            mirrored: tools.iter().filter_map(repeats).collect(),
        });
        self.definitions.rcu(|before| {
            let mut after = Definitions::clone(before);
            after.insert(server, Arc::clone(&known));
            after
        });
    }

    /// Returns a tool's definition, if it is the one with this digest: the one that was approved.
    pub fn get(&self, server: ServerId, name: &ToolName, digest: &ToolDigest) -> Option<Bytes> {
        let definitions = self.definitions.load();
        let (known, definition) = definitions.get(&server)?.tools.get(name)?;
        (known == digest).then(|| definition.clone())
    }

    /// Returns the arguments of a tool that headers repeat; nearly always none.
    pub fn mirrored(&self, server: ServerId, name: &ToolName) -> Option<Arc<[Mirrored]>> {
        self.definitions.load().get(&server)?.mirrored.get(name).map(Arc::clone)
    }

    /// Forgets a server's tools.
    pub fn remove(&self, server: ServerId) {
        self.definitions.rcu(|before| {
            let mut after = Definitions::clone(before);
            after.remove(&server);
            after
        });
    }
}

#[cfg(test)]
mod tests {
    use mcphub_domain::server::ServerState;
    use mcphub_domain::{Effect, Server, ServerId, Timestamp};
    use mcphub_wire::list::{ListKind, ListPage};
    use mcphub_wire::{Limits, Raw};

    use super::{Catalog, ToolDefinition, tidy};

    fn server() -> Server {
        Server {
            id: ServerId::from_bytes([1; 16]),
            name: "s".parse().unwrap(),
            definition: serde_json::from_str(r#"{"type":"streamable-http","url":"https://example.com/mcp"}"#)
                .unwrap(),
            state: ServerState::Enabled,
            revision: 1,
            created_at: Timestamp::from_micros(0),
        }
    }

    fn tools(json: &str) -> Vec<ToolDefinition> {
        let raw = Raw::parse(format!(r#"{{"tools":{json}}}"#).into(), &Limits::RESPONSE).unwrap();
        tidy(&server(), &ListPage::parse(ListKind::Tools, &raw).unwrap().items)
    }

    #[test]
    fn the_digest_covers_everything_but_order_and_spacing() {
        let of = |json: &str| tools(&format!("[{json}]"))[0].digest;
        let one = of(r#"{"name":"a","description":"x","inputSchema":{"type":"object"}}"#);
        assert_eq!(one, of(r#"{ "inputSchema": {"type":"object"}, "description":"\u0078", "name":"a" }"#));
        assert_ne!(one, of(r#"{"name":"a","description":"y","inputSchema":{"type":"object"}}"#));
        assert_ne!(one, of(r#"{"name":"a","description":"x","inputSchema":{"type":"object"},"x":null}"#));
    }

    #[test]
    fn names_that_stand_twice_or_cannot_be_used_are_left_out() {
        let long = "x".repeat(129);
        let found = tools(&format!(
            r#"[{{"name":"a"}},{{"name":"b","v":1}},{{"name":"b","v":2}},{{"name":"b"}},{{"name":"{long}"}},{{"name":""}}]"#
        ));
        let names: Vec<&str> = found.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["a"]);
    }

    #[test]
    fn arguments_are_repeated_in_headers_or_the_tool_is_left_out() {
        let schema = |header: &str| {
            format!(
                r#"{{"type":"object","properties":{{"r":{{"type":"string","x-mcp-header":"{header}"}}}}}}"#
            )
        };
        let (good, bad) = (schema("Region"), schema("not a name"));
        let found = tools(&format!(
            r#"[{{"name":"a","inputSchema":{good}}},{{"name":"b","inputSchema":{bad}}},{{"name":"c"}}]"#
        ));
        let names: Vec<&str> = found.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        let (catalog, id) = (Catalog::default(), ServerId::from_bytes([1; 16]));
        catalog.put(id, &found);
        let headers =
            |name: &str| catalog.mirrored(id, &name.parse().unwrap()).map(|all| all[0].header().to_owned());
        assert_eq!((headers("a").as_deref(), headers("c")), (Some("mcp-param-region"), None));
    }

    #[test]
    fn hints_of_a_wrong_type_count_as_none() {
        let effect = |json: &str| {
            tools(&format!(r#"[{{"name":"a","annotations":{json}}}]"#))[0].annotations.proposed_effect()
        };
        assert_eq!(effect(r#"{"readOnlyHint":true}"#), Effect::Read);
        assert_eq!(effect(r#"{"readOnlyHint":"yes"}"#), Effect::Execute);
        assert_eq!(effect("[]"), Effect::Execute);
    }

    #[test]
    fn only_the_approved_definition_is_handed_out() {
        let (catalog, server) = (Catalog::default(), ServerId::from_bytes([1; 16]));
        let (old, new) = (tools(r#"[{"name":"a","v":1}]"#), tools(r#"[{"name":"a", "v":2}]"#));
        catalog.put(server, &new);
        assert_eq!(catalog.get(server, &new[0].name, &new[0].digest).unwrap(), r#"{"name":"a", "v":2}"#);
        assert_eq!(catalog.get(server, &old[0].name, &old[0].digest), None);
        catalog.remove(server);
        assert_eq!(catalog.get(server, &new[0].name, &new[0].digest), None);
    }
}
