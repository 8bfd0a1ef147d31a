//! The demo server's three tools: one that reads, one that takes its time, one that writes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcphub_wire::{Edit, Params, Raw, Request, message, method};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// How many notes are kept, and how long one may be.
const NOTES: usize = 100;
const LONGEST_NOTE: usize = 1_000;
/// How far `count_to` counts at most.
const HIGHEST: u64 = 100;

/// Holds what the tools work with.
pub(crate) struct Tools {
    token: Option<String>,
    notes: Notes,
}

/// Holds the notes of everybody who uses this process.
pub(super) type Notes = Arc<Mutex<Vec<String>>>;

/// Describes the tools as `tools/list` shows them.
pub(super) fn definitions() -> Value {
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    json!([
        {
            "name": "fingerprint",
            "title": "Fingerprint of your credential",
            "description": "Shows the first 16 digits of the SHA-256 of the credential that reached this server.",
            "inputSchema": object(json!({})),
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": "count_to",
            "title": "Count with progress",
            "description": "Counts to a number, ten steps a second, and reports its progress.",
            "inputSchema": object(json!({ "number": { "type": "integer", "minimum": 1, "maximum": HIGHEST } })),
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": "write_note",
            "title": "Write a note",
            "description": "Keeps a note until this server stops, and says how many there are.",
            "inputSchema": object(json!({ "text": { "type": "string", "maxLength": LONGEST_NOTE } })),
            "annotations": { "readOnlyHint": false, "destructiveHint": false },
        },
    ])
}

impl Tools {
    pub(super) const fn new(token: Option<String>, notes: Notes) -> Self {
        Self { token, notes }
    }

    /// Runs the tool that a request names; nothing if there is none of that name.
    pub(super) async fn call(&self, request: &Request, sender: &mpsc::Sender<Bytes>) -> Option<Value> {
        let params = request.params.as_ref()?;
        let arguments: Value =
            params.arguments().and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_else(|| json!({}));
        Some(match params.name()? {
            "fingerprint" => text(self.fingerprint()),
            "count_to" => {
                let number = arguments.get("number").and_then(Value::as_u64).unwrap_or(5);
                count(number.clamp(1, HIGHEST), params, sender).await
            }
            "write_note" => self.write_note(arguments.get("text").and_then(Value::as_str)),
            _ => return None,
        })
    }

    fn fingerprint(&self) -> String {
        match &self.token {
            None => "no credential reached this server".to_owned(),
            Some(token) => {
                let digest = Sha256::digest(token.as_bytes());
                let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                format!("credential {digits}")
            }
        }
    }

    fn write_note(&self, note: Option<&str>) -> Value {
        let Some(note) = note.filter(|note| !note.is_empty() && note.len() <= LONGEST_NOTE) else {
            return failure(format!("text must have 1 to {LONGEST_NOTE} bytes"));
        };
        let mut notes = self.notes.lock();
        if notes.len() >= NOTES {
            return failure(format!("{NOTES} notes are enough"));
        }
        notes.push(note.to_owned());
        text(format!("{} notes", notes.len()))
    }
}

async fn count(number: u64, params: &Params, sender: &mpsc::Sender<Bytes>) -> Value {
    let mut interval = tokio::time::interval(Duration::from_millis(100));
    for step in 1..=number {
        interval.tick().await;
        let Some(token) = params.meta().progress_token() else { continue };
        if sender.send(progress(token, step, number)).await.is_err() {
            return failure("the client went away".to_owned());
        }
    }
    text(format!("counted to {number}"))
}

fn progress(token: &Raw, step: u64, total: u64) -> Bytes {
    let number = |number: u64| Raw::integer(i64::try_from(number).unwrap_or(i64::MAX));
    let edit = Edit::new()
        .set("progressToken", token.clone())
        .set("progress", number(step))
        .set("total", number(total));
    message::notification(method::PROGRESS, None, &edit)
}

fn text(text: String) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

fn failure(reason: String) -> Value {
    json!({ "content": [{ "type": "text", "text": reason }], "isError": true })
}

#[cfg(test)]
mod tests {
    use super::{Notes, Tools};

    #[test]
    fn the_fingerprint_tells_credentials_apart_and_shows_none() {
        let of = |token: &str| Tools::new(Some(token.to_owned()), Notes::default()).fingerprint();
        assert_ne!(of("one"), of("two"));
        assert!(!of("secret-token").contains("secret"));
    }
}
