//! The strict reader against `serde_json`: the same texts, the same meaning.

use bytes::Bytes;
use mcphub_wire::{Envelope, Limits, Raw};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;
use serde_json::Value;

use crate::json_text;
use crate::no_duplicates::NoDuplicates;

/// Changes a text a little: removes, replaces, adds or repeats bytes.
fn damaged(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(br#"{}[]",:\u0189aeE.+- ntf/"#.to_vec()), any::<u8>()];
    let change = (any::<Index>(), 0..4, byte);
    (text, prop::collection::vec(change, 0..4)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (index, kind, byte) in changes {
            let at = index.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.splice(at..=at, [byte])),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => {
                    let tail = bytes.get(at..(at + 8).min(bytes.len())).unwrap_or_default().to_vec();
                    bytes.splice(at..at, tail);
                }
                _ => {}
            }
        }
        bytes
    })
}

/// Says whether `serde_json` takes the text; `None` where only its number type is too small.
fn serde_accepts(bytes: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<NoDuplicates>(bytes) {
        Ok(_) => Some(true),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(_) => Some(false),
    }
}

fn message() -> impl Strategy<Value = String> {
    (json_text::object(json_text::value()), json_text::value(), any::<i64>()).prop_map(
        |(arguments, extra, id)| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","x":{extra},
                "params":{{"name":"t","arguments":{arguments},"_meta":{{"progressToken":1,"y":{extra}}}}}}}"#
            )
        },
    )
}

proptest! {
    #[test]
    fn both_take_the_same_texts(bytes in damaged(json_text::value())) {
        if let Some(expected) = serde_accepts(&bytes) {
            let found = Raw::parse(Bytes::from(bytes), &Limits::REQUEST);
            prop_assert_eq!(found.is_ok(), expected, "{:?}", found);
        }
    }

    #[test]
    fn every_sound_text_is_taken(text in json_text::value()) {
        prop_assert!(Raw::parse(Bytes::from(text), &Limits::REQUEST).is_ok());
    }

    #[test]
    fn every_sound_message_is_taken(text in message()) {
        let parsed = Envelope::parse(&Bytes::from(text));
        prop_assert!(parsed.is_ok(), "{:?}", parsed);
    }

    #[test]
    fn a_message_means_the_same_to_both(bytes in damaged(message())) {
        let Ok(Envelope::Request(request)) = Envelope::parse(&Bytes::from(bytes.clone())) else { return Ok(()) };
        let Ok(value) = serde_json::from_slice::<Value>(&bytes) else {
            prop_assert_eq!(serde_accepts(&bytes), None);
            return Ok(());
        };
        prop_assert_eq!(&value["jsonrpc"], "2.0");
        prop_assert_eq!(&value["method"], &*request.method);
        prop_assert_eq!(&value["id"], &serde_json::from_slice::<Value>(&request.id.to_raw()).unwrap());
        let params = request.params.unwrap_or_default();
        prop_assert_eq!(value["params"]["name"].as_str(), params.name());
        for (key, raw) in [("arguments", params.arguments()), ("_meta", params.get("_meta"))] {
            let ours = raw.map(|raw| serde_json::from_slice::<Value>(raw).unwrap());
            prop_assert_eq!(value["params"].get(key), ours.as_ref());
        }
        let token = params.meta().progress_token().map(|raw| serde_json::from_slice::<Value>(raw).unwrap());
        prop_assert_eq!(value["params"]["_meta"].get("progressToken"), token.as_ref());
    }
}
