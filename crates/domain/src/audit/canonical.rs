//! Writes a record as canonical JSON (RFC 8785) without building it in memory first.
//!
//! What happens with every call is written field by field, in the order that the RFC wants: by the
//! names' UTF-16 code units, which for ours is alphabetical. The rarer events go through the library,
//! and a test compares all of them with it.

use serde::Serialize;
use uuid::Uuid;

use super::{Actor, Entry, Event, Record};
use crate::id::ChainId;

/// Is how much room a usual record needs, in bytes.
pub(super) const USUAL: usize = 768;

/// Writes a record behind what is in `out`.
pub(super) fn write(
    entry: &Entry,
    chain: ChainId,
    number: u64,
    out: Vec<u8>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Object::begin(out);
    out.name("actor");
    out = Object(actor(entry.actor, out.0)?, Next::Field);
    out.number("at", entry.at.as_micros())?;
    out.id("chain", chain.as_bytes());
    out.name("event");
    out = Object(event(&entry.event, out.0)?, Next::Field);
    out.number("number", number)?;
    if !entry.personal.is_empty() {
        out.name("personal");
        let mut people = Object::begin(out.0);
        for (person, text) in &entry.personal {
            people.name(hyphenated(person.as_bytes(), &mut [0; 36]));
            people.put_text(text)?;
        }
        out = Object(people.end(), Next::Field);
    }
    if let Some(request) = entry.request {
        out.id("request", request.as_bytes());
    }
    out.number("v", Record::VERSION)?;
    Ok(out.end())
}

fn actor(actor: Actor, out: Vec<u8>) -> Result<Vec<u8>, serde_json::Error> {
    let mut object = Object::begin(out);
    match actor {
        Actor::Person { user, key } => {
            object.id("key", key.as_bytes());
            object.plain("kind", "person");
            object.id("user", user.as_bytes());
        }
        Actor::Operator => object.plain("kind", "operator"),
        Actor::Hub => object.plain("kind", "hub"),
        Actor::Stranger => object.plain("kind", "stranger"),
    }
    Ok(object.end())
}

fn event(event: &Event, mut out: Vec<u8>) -> Result<Vec<u8>, serde_json::Error> {
    match event {
        Event::CallIntent { endpoint, server, tool, effect, definition, arguments, world } => {
            let mut object = Object::begin(out);
            object.text("arguments", arguments)?;
            object.plain("definition", &definition.to_string());
            object.plain("effect", effect.as_str());
            object.text("endpoint", endpoint)?;
            object.id("server", server.as_bytes());
            object.text("tool", tool.as_str())?;
            object.plain("type", "call.intent");
            object.number("world", world)?;
            Ok(object.end())
        }
        Event::CallOutcome { server, tool, status, code, bytes, micros } => {
            let mut object = Object::begin(out);
            object.number("bytes", bytes)?;
            if let Some(code) = code {
                // A server chose it, so it may be beyond what the RFC's numbers hold exactly.
                object.name("code");
                object.0.extend(serde_json_canonicalizer::to_vec(code)?);
            }
            object.number("micros", micros)?;
            object.id("server", server.as_bytes());
            object.plain("status", status.as_str());
            object.text("tool", tool.as_str())?;
            object.plain("type", "call.outcome");
            Ok(object.end())
        }
        Event::Read { method, target, items } => {
            let mut object = Object::begin(out);
            object.number("items", items)?;
            object.text("method", method)?;
            if let Some(target) = target {
                object.text("target", target)?;
            }
            object.plain("type", "read");
            Ok(object.end())
        }
        rare => {
            out.extend(serde_json_canonicalizer::to_vec(rare)?);
            Ok(out)
        }
    }
}

/// Is an object that is being written, its fields in their order.
struct Object(Vec<u8>, Next);

/// Says what stands before the next field.
enum Next {
    First,
    Field,
}

impl Object {
    fn begin(mut out: Vec<u8>) -> Self {
        out.push(b'{');
        Self(out, Next::First)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    /// Writes a field's name, which needs no escaping.
    fn name(&mut self, name: &str) {
        if matches!(std::mem::replace(&mut self.1, Next::Field), Next::Field) {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Writes a text, escaped as the RFC wants, which is as `serde_json` does it.
    fn text(&mut self, name: &str, value: &str) -> Result<(), serde_json::Error> {
        self.name(name);
        self.put_text(value)
    }

    fn put_text(&mut self, value: &str) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut self.0, value)
    }

    /// Writes a text that needs no escaping: a digest, one of our words.
    fn plain(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Writes an id.
    fn id(&mut self, name: &str, id: &[u8; 16]) {
        self.plain(name, hyphenated(id, &mut [0; 36]));
    }

    /// Writes a whole number. The RFC's numbers are those of ECMAScript: exact up to 2^53.
    fn number(&mut self, name: &str, value: impl Serialize) -> Result<(), serde_json::Error> {
        self.name(name);
        serde_json::to_writer(&mut self.0, &value)
    }
}

/// Writes an id as it is written everywhere.
fn hyphenated<'a>(id: &[u8; 16], text: &'a mut [u8; 36]) -> &'a str {
    Uuid::from_bytes(*id).hyphenated().encode_lower(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::super::{Actor, CallStatus, Entry, Event, Record, Refusal};
    use crate::id::{ChainId, KeyId, RequestId, ServerId, UserId};
    use crate::role::Effect;
    use crate::time::Timestamp;
    use crate::tool::ToolDigest;

    fn events() -> impl Strategy<Value = Event> {
        let tool = "[^\\p{Cc}]{1,20}".prop_map(|name| name.parse().unwrap());
        let server = any::<[u8; 16]>().prop_map(ServerId::from_bytes);
        let small = 0_u64..(1 << 53);
        let intent = (".*", server.clone(), tool.clone(), ".*", 0_i64..(1 << 53)).prop_map(
            |(endpoint, server, tool, arguments, world)| Event::CallIntent {
                endpoint,
                server,
                tool,
                effect: Effect::Execute,
                definition: ToolDigest::of(arguments.as_bytes()),
                arguments,
                world,
            },
        );
        let outcome = (server, tool, any::<Option<i64>>(), small.clone(), small.clone()).prop_map(
            |(server, tool, code, bytes, micros)| Event::CallOutcome {
                server,
                tool,
                status: CallStatus::ToolError,
                code,
                bytes,
                micros,
            },
        );
        let read = (".*", any::<Option<String>>(), small).prop_map(|(method, target, items)| Event::Read {
            method,
            target,
            items,
        });
        let refused = (".*", any::<Option<String>>()).prop_map(|(method, target)| Event::Refused {
            method,
            reason: Refusal::NotGranted,
            target,
            server: Some(ServerId::from_bytes([7; 16])),
            tool: None,
        });
        prop_oneof![intent, outcome, read, refused]
    }

    fn actors() -> impl Strategy<Value = Actor> {
        let person = any::<([u8; 16], [u8; 16])>().prop_map(|(user, key)| Actor::Person {
            user: UserId::from_bytes(user),
            key: KeyId::from_bytes(key),
        });
        prop_oneof![
            person,
            proptest::strategy::Just(Actor::Operator),
            proptest::strategy::Just(Actor::Hub),
            proptest::strategy::Just(Actor::Stranger)
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_written_as_the_library_writes_it(
            event in events(),
            actor in actors(),
            number in 0_u64..(1 << 53),
            request in any::<Option<[u8; 16]>>(),
            people in proptest::collection::btree_map(any::<[u8; 16]>(), ".*", 0..3),
        ) {
            let personal = people.into_iter().map(|(id, text)| (UserId::from_bytes(id), text)).collect();
            let request = request.map(RequestId::from_bytes);
            let at = Timestamp::from_micros(1_795_000_000_123_456);
            let entry = Entry { at, actor, event, request, personal };
            let record = Record { v: Record::VERSION, chain: ChainId::from_bytes([1; 16]), number, entry };
            let written = record.entry.canonical(record.chain, number, b"before\n".to_vec()).unwrap();
            let written = String::from_utf8(written).unwrap();
            let expected = String::from_utf8(serde_json_canonicalizer::to_vec(&record).unwrap()).unwrap();
            prop_assert_eq!(written, format!("before\n{expected}"));
        }
    }
}
