//! Calls that write notes: what the log says of them, and what reached the server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Digests the arguments of a call that writes a note, as its intent has it.
fn digest(text: &str) -> String {
    sha256(&json!({ "text": text }).to_string())
}

/// Digests a text, in hexadecimal.
pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lists the notes that reached a server which noted its requests.
pub(crate) fn received(record: &Path) -> Vec<String> {
    let requests = std::fs::read_to_string(record).unwrap();
    let text = |line: &str| {
        let request: Value = serde_json::from_str(line).ok()?;
        let body: Value = serde_json::from_str(request["body"].as_str()?).ok()?;
        Some(body["params"]["arguments"]["text"].as_str()?.to_owned())
    };
    requests.lines().filter_map(text).collect()
}

/// Checks that each call in a log has one end, and nothing else has one.
pub(crate) fn assert_ended(records: &Value) {
    let mut open: BTreeMap<[String; 3], i32> = BTreeMap::new();
    for record in records.as_array().unwrap() {
        let event = &record["event"];
        let change = match event["type"].as_str() {
            Some("call.intent") => 1,
            Some("call.outcome") => -1,
            _ => continue,
        };
        assert!(record["request"].is_string(), "{record}");
        let call = [&record["request"], &event["server"], &event["tool"]].map(Value::to_string);
        *open.entry(call).or_default() += change;
    }
    assert!(!open.is_empty(), "there were no calls");
    open.retain(|_, ends| *ends != 0);
    assert!(open.is_empty(), "ends are missing, or there are too many: {open:?}");
}

/// Checks that the records of a log hold an intent of each of these notes.
pub(crate) fn assert_recorded<'t>(records: &Value, notes: impl IntoIterator<Item = &'t String>) {
    let calls = records.as_array().unwrap().iter().filter_map(|record| record["event"]["arguments"].as_str());
    let intents: BTreeSet<&str> = calls.collect();
    let (found, lost): (Vec<&String>, Vec<&String>) =
        notes.into_iter().partition(|text| intents.contains(digest(text).as_str()));
    assert!(
        lost.is_empty() && !found.is_empty(),
        "{} are recorded, {} are not: {lost:?}",
        found.len(),
        lost.len()
    );
}
