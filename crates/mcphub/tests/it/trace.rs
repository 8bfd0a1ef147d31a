//! Traces that go through the hub to servers of both eras.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::client::{call_headers, modern, send};
use crate::harness::on_both;
use crate::harness::peer::CredentialServer;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

on_both! {
    fn a_trace_goes_on_in_a_span_of_the_hubs_own(installation) {
        let record = installation.folder().join("record.jsonl");
        let servers = [("modern", "MCPHUB_TEST_PYTHON_2"), ("legacy", "MCPHUB_TEST_PYTHON_1")]
            .map(|(name, python)| (name, python, CredentialServer::start(python, Some(&record))));
        for (name, _, server) in &servers {
            let file = json!({ "mcpServers": { *name: { "type": "http", "url": server.url } } });
            installation.grant_all("alice", name, &file);
        }
        let (bearer, hub) = (format!("Bearer {}", installation.key("alice")), installation.serve());
        for (name, python, _) in &servers {
            let call = |meta: Value, more: &[(&str, &str)]| {
                let params = json!({ "name": "fingerprint", "arguments": {}, "_meta": meta });
                let headers = [&call_headers(&bearer, "fingerprint")[..], more].concat();
                let path = format!("/mcp/{name}");
                let answer = send(hub.address, "POST", &path, &headers, &modern(1, "tools/call", params)).json();
                assert!(answer.get("result").is_some(), "{python}: {answer}");
                last_call(&record)
            };
            let in_meta = json!({ "traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "k=v" });
            for (meta, headers) in [
                (in_meta.clone(), &[][..]),
                // What stands in the message is nearer than what its carrier says.
                (in_meta, &[("traceparent", "00-11111111111111111111111111111111-1111111111111111-00")][..]),
                (json!({ "baggage": "k=v" }), &[("traceparent", PARENT), ("tracestate", "a=1,b=2")][..]),
            ] {
                let (meta, header) = call(meta, headers);
                let parent = meta["traceparent"].as_str().unwrap();
                let parts: Vec<&str> = parent.split('-').collect();
                assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "{python}: {meta}");
                assert_ne!(parts[2], "b7ad6b7169203331", "{python}: the span is the hub's own");
                assert_eq!((&meta["tracestate"], &meta["baggage"]), (&json!("a=1,b=2"), &json!("k=v")), "{python}");
                assert_eq!(header("traceparent").as_deref(), Some(parent), "{python}: the headers say the same");
                assert_eq!(header("tracestate").as_deref(), Some("a=1,b=2"), "{python}");
            }
            let malformed = json!({ "traceparent": "00-0-0-0", "tracestate": "a=1", "baggage": "k\n=v" });
            for meta in [json!({}), malformed] {
                let (meta, header) = call(meta, &[]);
                for name in ["traceparent", "tracestate", "baggage"] {
                    assert_eq!((meta.get(name), header(name)), (None, None), "{python}: {name}");
                }
            }
        }
    }
}

/// Reads the metadata and the headers of the last call that a server took.
fn last_call(record: &Path) -> (Value, impl Fn(&str) -> Option<String>) {
    let lines = std::fs::read_to_string(record).unwrap();
    let taken = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut calls = taken.filter_map(|line| {
        let body: Value = serde_json::from_str(line["body"].as_str()?).ok()?;
        (body["method"] == "tools/call").then(|| (body["params"]["_meta"].clone(), line["headers"].clone()))
    });
    let (meta, headers) = calls.next_back().unwrap();
    let header = move |name: &str| {
        let mut named = headers.as_array().unwrap().iter().filter(|pair| pair[0] == name);
        named.next().map(|pair| pair[1].as_str().unwrap().to_owned())
    };
    (meta, header)
}
