//! What a client can do when a server asks it for something.

use serde_json::{Value, json};

use crate::fault::Fault;
use crate::method;
use crate::object::Object;
use crate::params::Params;
use crate::raw::Raw;

/// Names the extension that turns calls into tasks.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Lists what a client can do, as far as it decides what a server may ask of it.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
pub struct Abilities(u8);

const SAMPLING: u8 = 1;
const SAMPLING_TOOLS: u8 = 1 << 1;
const SAMPLING_CONTEXT: u8 = 1 << 2;
const FORM: u8 = 1 << 3;
const URL: u8 = 1 << 4;
const ROOTS: u8 = 1 << 5;
const TASKS_TOO: u8 = 1 << 6;

impl Abilities {
    /// Lists nothing.
    pub const NONE: Self = Self(0);
    /// Lists everything that a server may ask for in the middle of a call.
    pub const ALL: Self = Self(SAMPLING | SAMPLING_TOOLS | SAMPLING_CONTEXT | FORM | URL | ROOTS);

    /// Reads what a client declares, in the words of any revision; what is malformed isn't there.
    #[must_use]
    pub fn read(capabilities: &Raw) -> Self {
        if capabilities.as_bytes() == b"{}" {
            return Self::NONE;
        }
        let Some(all) = object(Some(capabilities)) else { return Self::NONE };
        let sampling = object(all.get("sampling"));
        let elicitation = object(all.get("elicitation"));
        let has = |object: &Option<Object>, key: &str| {
            object.as_ref().is_some_and(|object| object.get(key).is_some_and(Raw::is_object))
        };
        // Before there were two ways to ask a person, the bare word meant a form.
        let asks_with_forms =
            elicitation.is_some() && (has(&elicitation, "form") || !has(&elicitation, "url"));
        let declared = [
            (sampling.is_some(), SAMPLING),
            (has(&sampling, "tools"), SAMPLING_TOOLS),
            (has(&sampling, "context"), SAMPLING_CONTEXT),
            (asks_with_forms, FORM),
            (has(&elicitation, "url"), URL),
            (object(all.get("roots")).is_some(), ROOTS),
            (has(&object(all.get("extensions")), TASKS), TASKS_TOO),
        ];
        Self(declared.into_iter().filter(|(is_there, _)| *is_there).fold(0, |bits, (_, bit)| bits | bit))
    }

    /// Writes the abilities as a client declares them.
    #[must_use]
    pub fn to_raw(self) -> Raw {
        self.declare(json!({}))
    }

    /// Writes the abilities that sessions know, for a session in which the server hears when the folders change.
    #[must_use]
    pub fn to_session(self) -> Raw {
        self.legacy().declare(json!({ "listChanged": true }))
    }

    fn declare(self, roots: Value) -> Raw {
        let mut all = serde_json::Map::new();
        let mut add = |ability: u8, outer: &str, inner: &[(u8, &str)]| {
            if self.0 & ability != 0 {
                let inner = inner.iter().filter(|(bit, _)| self.0 & bit != 0);
                let inner: serde_json::Map<_, _> =
                    inner.map(|(_, name)| ((*name).to_owned(), json!({}))).collect();
                all.insert(outer.to_owned(), inner.into());
            }
        };
        add(SAMPLING, "sampling", &[(SAMPLING_TOOLS, "tools"), (SAMPLING_CONTEXT, "context")]);
        add(FORM | URL, "elicitation", &[(FORM, "form"), (URL, "url")]);
        add(TASKS_TOO, "extensions", &[(TASKS_TOO, TASKS)]);
        if self.0 & ROOTS != 0 {
            all.insert("roots".to_owned(), roots);
        }
        Raw::json(&all).unwrap_or_else(|_| Raw::empty_object())
    }

    /// Leaves out what the revisions with sessions don't know.
    #[must_use]
    pub const fn legacy(self) -> Self {
        Self(self.0 & Self::ALL.0)
    }

    /// Tells whether the client takes a task for an answer.
    #[must_use]
    pub const fn takes_tasks(self) -> bool {
        self.0 & TASKS_TOO != 0
    }

    /// Tells whether a server may ask this of the client.
    #[must_use]
    pub fn allow(self, method: &str, params: Option<&Params>) -> bool {
        let text = |key: &str| params.and_then(|params| params.text(key)).map(|text| text.into_owned());
        let wanted = match method {
            method::SAMPLING => {
                let with_tools = ["tools", "toolChoice"]
                    .iter()
                    .any(|key| params.is_some_and(|params| params.get(key).is_some()));
                let context = text("includeContext").is_some_and(|context| context != "none");
                SAMPLING
                    | if with_tools { SAMPLING_TOOLS } else { 0 }
                    | if context { SAMPLING_CONTEXT } else { 0 }
            }
            method::ELICITATION if text("mode").as_deref() == Some("url") => URL,
            method::ELICITATION => FORM,
            method::ROOTS_LIST => ROOTS,
            _ => return false,
        };
        self.0 & wanted == wanted
    }
}

fn object(value: Option<&Raw>) -> Option<Object> {
    value.filter(|value| value.is_object()).and_then(|value| Object::parse(value).ok())
}

/// Refuses what a server asks although the client can't do it.
pub(crate) const UNABLE: Fault =
    Fault::Invalid("the server asks for something that the client did not declare");

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Abilities, TASKS};
    use crate::{Params, Raw, method};

    fn read(value: &Value) -> Abilities {
        Abilities::read(&Raw::json(value).unwrap())
    }

    fn params(value: &Value) -> Params {
        Params::parse(&Raw::json(value).unwrap()).unwrap()
    }

    #[test]
    fn what_is_declared_may_be_asked_for_and_nothing_else() {
        let table = [
            (json!({}), [false; 6]),
            (json!({ "sampling": {} }), [true, false, false, false, false, false]),
            (json!({ "sampling": { "tools": {} } }), [true, true, false, false, false, false]),
            (json!({ "sampling": { "context": {} } }), [true, false, true, false, false, false]),
            (json!({ "elicitation": {} }), [false, false, false, true, false, false]),
            (json!({ "elicitation": { "form": {} } }), [false, false, false, true, false, false]),
            (json!({ "elicitation": { "url": {} } }), [false, false, false, false, true, false]),
            (json!({ "elicitation": { "url": {}, "form": {} } }), [false, false, false, true, true, false]),
            (json!({ "roots": { "listChanged": true } }), [false, false, false, false, false, true]),
            (json!({ "roots": true, "sampling": [], "elicitation": null }), [false; 6]),
            (json!(["sampling"]), [false; 6]),
        ];
        let asked = [
            (method::SAMPLING, json!({ "includeContext": "none" })),
            (method::SAMPLING, json!({ "tools": [] })),
            (method::SAMPLING, json!({ "includeContext": "thisServer" })),
            (method::ELICITATION, json!({ "mode": "form" })),
            (method::ELICITATION, json!({ "mode": "url" })),
            (method::ROOTS_LIST, json!({})),
        ];
        for (declared, expected) in table {
            let able = read(&declared);
            let allowed = asked.each_ref().map(|(method, asked)| able.allow(method, Some(&params(asked))));
            assert_eq!(allowed, expected, "{declared}");
            assert!(!able.allow("tools/call", None));
            assert_eq!(Abilities::read(&able.to_raw()), able, "{declared}");
        }
        assert!(
            read(&json!({ "elicitation": {} })).allow(method::ELICITATION, None),
            "a form is the default"
        );
    }

    #[test]
    fn tasks_are_for_those_who_say_so() {
        let able = read(&json!({ "extensions": { TASKS: {} }, "roots": {} }));
        assert!(able.takes_tasks() && !able.legacy().takes_tasks() && !Abilities::ALL.takes_tasks());
        assert!(able.legacy().allow(method::ROOTS_LIST, None));
        assert_eq!(Abilities::read(&able.to_raw()), able);
        assert!(!read(&json!({ "tasks": {} })).takes_tasks());
        assert_eq!(able.to_session().as_bytes(), br#"{"roots":{"listChanged":true}}"#);
    }
}
