//! Multi-round-trip requests (2026-07-28): a result that asks for input, and the request that comes again with it.

use crate::capabilities::{Abilities, UNABLE};
use crate::edit::Edit;
use crate::fault::Fault;
use crate::meta_key;
use crate::object::Object;
use crate::params::Params;
use crate::raw::Raw;
use crate::write::ObjectWriter;

/// How many things one result may ask for.
const MOST: usize = 100;
/// Names the member with what the client answered.
const RESPONSES: &str = "inputResponses";
/// Names the member that the client brings back as it got it.
const STATE: &str = "requestState";

/// Is one thing that a server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequest {
    /// Names the request among those of the result.
    pub key: Box<str>,
    /// Names what to do, as a request of the revisions with sessions does.
    pub method: Box<str>,
    /// Holds the parameters.
    pub params: Option<Params>,
}

/// Is a result that asks for input.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InputRequired {
    /// Holds what is asked for.
    pub requests: Vec<InputRequest>,
    /// Holds what the client has to bring back.
    pub state: Option<Box<str>>,
}

impl InputRequired {
    /// Reads such a result from a server.
    ///
    /// # Errors
    /// Refuses a result that asks for nothing, for too much, or for what the client can't do.
    pub fn read(result: &Raw, client: Abilities) -> Result<Self, Fault> {
        const RULE: Fault = Fault::Invalid("inputRequests must be an object of requests");
        let object = Object::parse(result)?;
        let asked = match object.get("inputRequests") {
            Some(asked) if asked.is_object() => Object::parse(asked)?,
            Some(_) => return Err(RULE),
            None => Object::default(),
        };
        let mut requests = Vec::with_capacity(asked.members().len());
        for member in asked.members() {
            if !member.value.is_object() {
                return Err(RULE);
            }
            let request = Object::parse(&member.value)?;
            let method = request.text("method").ok_or(RULE)?.into();
            let params = request.get("params").map(Params::parse).transpose()?;
            requests.push(InputRequest { key: member.key.as_ref().into(), method, params });
        }
        if requests.len() > MOST {
            return Err(Fault::Invalid("a result must ask for at most 100 things"));
        }
        if !requests.iter().all(|request| client.allow(&request.method, request.params.as_ref())) {
            return Err(UNABLE);
        }
        let state = match object.get(STATE) {
            None => None,
            Some(state) => Some(state.text().ok_or(Fault::Invalid("requestState must be a string"))?.into()),
        };
        if requests.is_empty() && state.is_none() {
            return Err(Fault::Invalid("a result that requires input must ask for some, or hold a state"));
        }
        Ok(Self { requests, state })
    }

    /// Writes such a result for a client.
    #[must_use]
    pub fn to_raw(&self, server_info: &Raw) -> Raw {
        let mut result = ObjectWriter::new(512);
        result.text("resultType", "input_required");
        result.object("inputRequests", |asked| {
            for request in &self.requests {
                asked.object(&request.key, |one| {
                    one.text("method", &request.method);
                    Edit::new().write_params(request.params.as_ref(), one);
                });
            }
        });
        if let Some(state) = &self.state {
            result.text(STATE, state);
        }
        result.object("_meta", |meta| meta.raw(meta_key::SERVER_INFO, server_info));
        result.finish_raw()
    }
}

/// Puts another state into a result that asks for input, or into the request that brings it back.
#[must_use]
pub fn with_state(state: &str) -> Edit {
    Edit::new().set(STATE, Raw::string(state))
}

/// Returns the state that a client brings back.
///
/// # Errors
/// Refuses anything but a text.
pub fn state(params: &Params) -> Result<Option<Box<str>>, Fault> {
    match params.get(STATE) {
        None => Ok(None),
        Some(value) => {
            value.text().map(|text| Some(text.into())).ok_or(Fault::Invalid("requestState must be a string"))
        }
    }
}

/// Takes the state out of a request.
#[must_use]
pub fn without_state() -> Edit {
    Edit::new().remove(STATE)
}

/// Returns what a client answered to one thing.
#[must_use]
pub fn response(params: &Params, key: &str) -> Option<Raw> {
    let responses = params.get(RESPONSES).filter(|responses| responses.is_object())?;
    responses.member(key).ok()?.filter(|response| response.is_object())
}

/// Takes out what a client answered to the keys that begin with `prefix`: what is left of the parameters, and those
/// answers. Without any, nothing is taken.
///
/// # Errors
/// Refuses answers that are no object.
pub fn take_out(params: &Params, prefix: &str) -> Result<Option<(Params, Vec<Raw>)>, Fault> {
    let Some(responses) = params.get(RESPONSES).filter(|responses| responses.is_object()) else {
        return Ok(None);
    };
    let responses = Object::parse(responses)?;
    let (own, others): (Vec<_>, Vec<_>) =
        responses.members().iter().partition(|member| member.key.starts_with(prefix));
    if own.is_empty() {
        return Ok(None);
    }
    let mut left = ObjectWriter::new(256);
    others.iter().for_each(|member| left.raw(&member.key, &member.value));
    let edit = match others.is_empty() {
        true => Edit::new().remove(RESPONSES),
        false => Edit::new().set(RESPONSES, left.finish_raw()),
    };
    let answers = own.into_iter().map(|member| member.value.clone()).collect();
    Ok(Some((params.edited(&edit)?, answers)))
}

/// Tells whether parameters bring something back.
#[must_use]
pub fn is_further_round(params: &Params) -> bool {
    params.get(RESPONSES).is_some() || params.get(STATE).is_some()
}

/// Returns a request's parameters without what only a further round has: what the first round asked.
#[must_use]
pub fn first_round() -> Edit {
    Edit::new().remove(RESPONSES).remove(STATE)
}

/// Prepares the next round of a request.
#[must_use]
pub fn next_round(responses: &[(Box<str>, Raw)], state: Option<&str>) -> Edit {
    let mut answers = ObjectWriter::new(256);
    for (key, response) in responses {
        answers.raw(key, response);
    }
    let edit = Edit::new().set(RESPONSES, answers.finish_raw());
    match state {
        Some(state) => edit.set(STATE, Raw::string(state)),
        None => edit.remove(STATE),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{InputRequired, MOST, first_round, next_round, response, state, with_state};
    use crate::{Abilities, Fault, Params, Raw};

    fn raw(value: &Value) -> Raw {
        Raw::json(value).unwrap()
    }

    fn value(raw: &Raw) -> Value {
        serde_json::from_slice(raw).unwrap()
    }

    #[test]
    fn a_result_says_what_it_asks_for() {
        let asks = json!({
            "resultType": "input_required",
            "inputRequests": { "who": { "method": "elicitation/create", "params": { "message": "?", "n": 1.0 } }, "where": { "method": "roots/list" } },
            "requestState": "s",
        });
        let read = InputRequired::read(&raw(&asks), Abilities::ALL).unwrap();
        let keys: Vec<&str> = read.requests.iter().map(|request| &*request.key).collect();
        assert_eq!((keys, read.state.as_deref()), (vec!["where", "who"], Some("s")));
        let written = value(&read.to_raw(&raw(&json!({ "name": "hub" }))));
        assert_eq!(written["inputRequests"], asks["inputRequests"]);
        assert_eq!(
            (&written["resultType"], &written["requestState"]),
            (&json!("input_required"), &json!("s"))
        );
        assert_eq!(written["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "hub");
        assert_eq!(value(&with_state("t").apply(&raw(&asks)).unwrap())["requestState"], "t");
    }

    #[test]
    fn what_a_server_may_not_ask_is_refused() {
        let able = Abilities::read(&raw(&json!({ "roots": {} })));
        let roots = json!({ "method": "roots/list" });
        assert!(InputRequired::read(&raw(&json!({ "inputRequests": { "a": roots } })), able).is_ok());
        assert!(
            InputRequired::read(&raw(&json!({ "inputRequests": {}, "requestState": "s" })), able).is_ok()
        );
        for wrong in [
            json!({ "inputRequests": { "a": { "method": "sampling/createMessage" } } }),
            json!({ "inputRequests": { "a": { "method": "tools/call" } } }),
            json!({ "inputRequests": { "a": "roots/list" } }),
            json!({ "inputRequests": [] }),
            json!({ "inputRequests": {} }),
            json!({}),
        ] {
            assert!(InputRequired::read(&raw(&wrong), able).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_result_asks_for_so_many_things_and_no_more() {
        let asked = |count: usize| {
            let requests = (0..count).map(|n| (n.to_string(), json!({ "method": "roots/list" })));
            let asks = json!({ "inputRequests": requests.collect::<serde_json::Map<_, _>>() });
            InputRequired::read(&raw(&asks), Abilities::ALL).map(|read| read.requests.len())
        };
        assert_eq!(asked(MOST), Ok(MOST));
        assert_eq!(asked(MOST + 1), Err(Fault::Invalid("a result must ask for at most 100 things")));
    }

    #[test]
    fn a_round_carries_the_answers_and_the_state() {
        let first = Params::parse(&raw(&json!({ "name": "a", "arguments": {} }))).unwrap();
        let answers = [(Box::from("who"), raw(&json!({ "action": "accept" })))];
        let second = first.edited(&next_round(&answers, Some("s"))).unwrap();
        assert_eq!(second.name(), Some("a"));
        assert_eq!(value(&response(&second, "who").unwrap()), json!({ "action": "accept" }));
        assert_eq!((response(&second, "else"), response(&first, "who")), (None, None));
        assert_eq!(state(&second).unwrap().as_deref(), Some("s"));
        assert_eq!(state(&first).unwrap(), None);
        assert!(state(&Params::parse(&raw(&json!({ "requestState": 1 }))).unwrap()).is_err());
        assert_eq!(second.edited(&first_round()).unwrap(), first);
        assert_eq!(state(&second.edited(&next_round(&answers, None)).unwrap()).unwrap(), None);
    }
}
