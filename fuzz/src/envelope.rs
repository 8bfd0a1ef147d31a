//! The strict reader of messages beside `serde_json`.
//!
//! What we take, `serde_json` takes, with the same values; what it refuses, we refuse. We refuse more,
//! and each such refusal is checked to have its reason in the text: a limit, a duplicate key, a key that
//! looks like another, or JSON that is no message. The other way there is one difference: a number such
//! as `1e999` is sound JSON that `serde_json` can't hold; it travels through the hub as bytes.

use bytes::Bytes;
use mcphub_wire::{Edit, Envelope, Fault, Limits, Outcome, Params, ParseError, Raw, message};
use serde_json::Value;

use crate::no_duplicates::NoDuplicates;

/// Is small, so that inputs of a few kilobytes reach every limit.
const SMALL: Limits = Limits { body: 2_048, depth: 12, keys: 48, string: 200 };

/// Reads the bytes as one value, as one message and as a batch.
pub fn check(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    for limits in [Limits::REQUEST, SMALL] {
        check_value(&body, &limits);
        check_message(&body, &limits);
    }
    if let Ok(messages) = Envelope::parse_batch(&body) {
        let values = serde_json::from_slice::<Vec<Value>>(&body);
        match values {
            Ok(values) => assert_eq!(values.len(), messages.len()),
            Err(error) => assert!(is_out_of_range(&error), "{error}"),
        }
    }
}

fn check_value(body: &Bytes, limits: &Limits) {
    let theirs = serde_json::from_slice::<NoDuplicates>(body);
    match (Raw::parse(body.clone(), limits), theirs) {
        (Ok(_), Ok(_)) => assert!(body.len() <= limits.body),
        (Ok(_), Err(error)) => assert!(is_out_of_range(&error), "{error}"),
        (Err(fault), Ok(_)) => check_limit(&fault, body, limits),
        (Err(_), Err(_)) => {}
    }
}

/// Checks that a refusal of sound JSON without duplicate keys is one for its size, and is true.
fn check_limit(fault: &Fault, body: &Bytes, limits: &Limits) {
    let count = |wanted: &[u8]| body.iter().filter(|byte| wanted.contains(byte)).count();
    match fault {
        Fault::TooLarge { .. } => assert!(body.len() > limits.body),
        Fault::TooDeep { .. } => assert!(count(b"[{") > limits.depth),
        Fault::TooManyKeys { .. } => assert!(count(b":") > limits.keys),
        Fault::StringTooLong { .. } => assert!(body.len() > limits.string + 2),
        other => panic!("serde_json takes it, and it is within the limits: {other}"),
    }
}

fn check_message(body: &Bytes, limits: &Limits) {
    match Envelope::parse_with(body, limits) {
        Err(error) => check_refusal(&error, body),
        Ok(message) => match serde_json::from_slice::<Value>(body) {
            Ok(value) => {
                assert_eq!(serde_json::from_slice::<NoDuplicates>(body).err().map(|_| ()), None);
                check_parts(&message, &value);
                check_forwarding(&message, &value);
            }
            Err(error) => assert!(is_out_of_range(&error), "{error}"),
        },
    }
}

/// Checks that whatever is called a syntax error is one, and that an error shows nothing endless.
fn check_refusal(error: &ParseError, body: &Bytes) {
    assert!(error.to_string().len() < 1_024);
    if let Fault::NotUtf8 { .. } | Fault::Syntax { .. } | Fault::UnpairedSurrogate { .. } = error.fault {
        assert!(serde_json::from_slice::<NoDuplicates>(body).is_err(), "{error}");
    }
}

fn check_parts(message: &Envelope, value: &Value) {
    assert_eq!(value.get("jsonrpc"), Some(&Value::from("2.0")));
    assert_eq!(value.get("method").and_then(Value::as_str), message.method());
    check_params(message.params(), value.get("params"));
    match message {
        Envelope::Request(request) => assert_eq!(value.get("id"), Some(&read(&request.id.to_raw()))),
        Envelope::Notification(_) => assert_eq!(value.get("id"), None),
        Envelope::Response(response) => {
            let id = response.id.as_ref().map_or(Value::Null, |id| read(&id.to_raw()));
            assert_eq!(value.get("id").unwrap_or(&Value::Null), &id);
            match &response.outcome {
                Outcome::Result(result) => assert_eq!(value.get("result"), Some(&read(result))),
                Outcome::Error(error) => {
                    let theirs = value.get("error").unwrap_or(&Value::Null);
                    assert_eq!(theirs.get("code"), Some(&Value::from(error.code)));
                    assert_eq!(theirs.get("message").and_then(Value::as_str), Some(&*error.message));
                    assert_eq!(theirs.get("data"), error.data.as_ref().map(read).as_ref());
                }
            }
        }
    }
}

fn check_params(params: Option<&Params>, value: Option<&Value>) {
    let (Some(params), Some(value)) = (params, value) else {
        assert!(params.is_none(), "parameters from nowhere");
        return;
    };
    let texts = [("name", params.name()), ("uri", params.uri()), ("cursor", params.cursor())];
    for (key, ours) in texts {
        assert_eq!(value.get(key).and_then(Value::as_str), ours, "{key}");
    }
    for member in params.members() {
        assert_eq!(value.get(&*member.key), Some(&read(&member.value)), "{}", member.key);
    }
    for member in params.meta().members() {
        let theirs = value.get("_meta").and_then(|meta| meta.get(&*member.key));
        assert_eq!(theirs, Some(&read(&member.value)), "{}", member.key);
    }
    assert_eq!(value.as_object().map(serde_json::Map::len), Some(params.members().len()));
}

/// Checks that what goes on to the next hop means the same to it.
fn check_forwarding(message: &Envelope, value: &Value) {
    let unchanged = Edit::new();
    let (sent, members) = match message {
        Envelope::Request(request) => {
            let params = request.params.as_ref();
            (message::request(&request.id, &request.method, params, &unchanged), ["method", "params", "id"])
        }
        Envelope::Notification(told) => {
            let params = told.params.as_ref();
            (message::notification(&told.method, params, &unchanged), ["method", "params", "id"])
        }
        Envelope::Response(response) => match &response.id {
            Some(id) => (message::reid(response, id), ["id", "result", "method"]),
            None => return,
        },
    };
    let again: Value = serde_json::from_slice(&sent).expect("what is sent is JSON");
    for member in members {
        assert_eq!(again.get(member), value.get(member), "{member}");
    }
    assert!(Envelope::parse(&sent).is_ok(), "the next hop would refuse it");
}

fn read(raw: &Raw) -> Value {
    serde_json::from_slice(raw).expect("a part of sound JSON is JSON")
}

fn is_out_of_range(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("number out of range")
}
