//! What a test writes, and how the hub writes it where it has to change something in it.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};

use crate::json_text;

/// How deep a message may go, itself included.
const DEEPEST: usize = 64;

/// Is an object as a test writes it: keys, and the texts of their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    members: Vec<(String, String)>,
    /// What stands between the tokens of the object itself.
    pub(super) space: String,
    /// Whether its keys are written in escapes.
    escaped: bool,
}

/// Is one block of a result's content.
#[derive(Clone, Debug)]
pub(super) enum Block {
    /// Something without a URI that the hub knows of.
    Other(String),
    /// A link to a resource.
    Link(Sketch),
    /// A resource inside its block.
    Embedded(Sketch, Sketch),
}

impl Sketch {
    /// Sets a member in its place, or adds it at the end.
    pub(super) fn with(mut self, key: &str, value: &str) -> Self {
        match self.members.iter_mut().find(|(known, _)| known == key) {
            Some((_, before)) => *before = value.to_owned(),
            None => self.members.push((key.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes a member.
    pub(super) fn without(mut self, key: &str) -> Self {
        self.members.retain(|(known, _)| known != key);
        self
    }

    /// Sets a member to an object, or removes it where that is empty.
    pub(super) fn with_unless_empty(self, key: &str, value: &Self) -> Self {
        if value.members.is_empty() { self.without(key) } else { self.with(key, &value.tight()) }
    }

    /// Writes the object as its sender does.
    pub(super) fn loose(&self) -> String {
        let space = &self.space;
        let key = |key: &str| if self.escaped { json_text::escape_all(key) } else { quoted(key) };
        let members: Vec<String> = self
            .members
            .iter()
            .map(|(name, value)| format!("{space}{}{space}:{space}{value}{space}", key(name)))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// Writes the object as the hub does where it has to change a member: no value but that one changes.
    pub(super) fn tight(&self) -> String {
        let members: Vec<String> =
            self.members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
        format!("{{{}}}", members.join(","))
    }

    /// Says on a shared endpoint whose the URI is.
    fn renamed(&self, server: &str) -> Self {
        let uri = self.members.iter().find(|(key, _)| key == "uri").map(|(_, uri)| uri).unwrap();
        let uri: String = serde_json::from_str(uri).unwrap();
        self.clone().with("uri", &quoted(&format!("{server}+{uri}")))
    }
}

impl Block {
    /// Writes the block as its sender does.
    pub(super) fn loose(&self) -> String {
        match self {
            Self::Other(text) => text.clone(),
            Self::Link(link) => link.loose(),
            Self::Embedded(block, resource) => block.clone().with("resource", &resource.loose()).loose(),
        }
    }

    /// Writes it for a shared endpoint.
    pub(super) fn shared(&self, server: &str) -> String {
        match self {
            Self::Other(text) => text.clone(),
            Self::Link(link) => link.renamed(server).tight(),
            Self::Embedded(block, resource) => {
                block.clone().with("resource", &resource.renamed(server).tight()).tight()
            }
        }
    }
}

/// Writes the content of a result.
pub(super) fn content(blocks: &[Block], write: impl Fn(&Block) -> String) -> String {
    format!("[{}]", blocks.iter().map(write).collect::<Vec<_>>().join(","))
}

/// Writes a string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Writes an object of members that nobody knows, two known ones among them, in any order.
pub(super) fn sketch(one: &'static str, other: &'static str) -> impl Strategy<Value = Sketch> {
    (plain(2), value(2), value(2), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        move |(mut object, first, second, index, both)| {
            let at = index.index(object.members.len() + 1);
            object.members.insert(at, (one.to_owned(), first));
            if both {
                object.members.push((other.to_owned(), second));
            }
            object
        },
    )
}

/// Writes an object of members that nobody knows, for a place so deep in a message.
pub(super) fn plain(depth: usize) -> impl Strategy<Value = Sketch> {
    let members = prop::collection::btree_map("x[a-zé\"\\\\/\u{2028}]{0,4}", value(depth), 0..4);
    (members, "[ \t\r\n]{0,2}", any::<bool>()).prop_flat_map(|(members, space, escaped)| {
        let members: Vec<(String, String)> = members.into_iter().collect();
        Just(members).prop_shuffle().prop_map(move |members| Sketch {
            members,
            space: space.clone(),
            escaped,
        })
    })
}

/// Writes a value inside of something so deep, a few of them as deep as it goes.
fn value(depth: usize) -> impl Strategy<Value = String> {
    let deep =
        |(space, levels): (String, usize)| format!("{}{space}{}", "[".repeat(levels), "]".repeat(levels));
    prop_oneof![9 => json_text::value(), 1 => ("[ \n]{0,2}", Just(DEEPEST - depth)).prop_map(deep)]
}

/// Writes a block of content.
pub(super) fn block() -> impl Strategy<Value = Block> {
    let uri = || "[a-z]{1,5}:[a-zé\"\\\\ \u{2028}]{0,6}".prop_map(|uri| quoted(&uri));
    let text = (plain(4), json_text::string())
        .prop_map(|(block, text)| Block::Other(block.with("type", r#""text""#).with("text", &text).loose()));
    let link = (plain(4), uri())
        .prop_map(|(block, uri)| Block::Link(block.with("type", r#""resource_link""#).with("uri", &uri)));
    let embedded = (plain(4), plain(5), uri()).prop_map(|(block, resource, uri)| {
        Block::Embedded(block.with("type", r#""resource""#).with("resource", ""), resource.with("uri", &uri))
    });
    prop_oneof![2 => text, 1 => json_text::value().prop_map(Block::Other), 1 => link, 1 => embedded]
}
