//! Streams of calls that break, and are taken up again.

use std::thread;

use serde_json::{Value, json};

use crate::harness::client::{Session, Stream};
use crate::harness::peer::asking;
use crate::harness::relay::{Relay, Wire};
use crate::harness::{eventually, on_both};
use crate::rounds::{grant, through};

on_both! {
    fn a_call_goes_on_where_its_client_lost_it(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_1");
        grant(&installation, "legacy", &json!({ "type": "http", "url": server.url }));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let able = json!({ "elicitation": {} });
        let open = |able: &Value| Session::open(hub.address, "/mcp/legacy", &key, ("2025-11-25", able.clone()));
        let (session, other) = (open(&able), open(&able));
        let call = Session::request(7, "tools/call", &json!({ "name": "greet", "arguments": {} }));
        let mut stream = session.begin("POST", &call);
        let (primed, empty) = event(&mut stream);
        assert_eq!(empty, "", "the first event has nothing but an id");
        let (asked, question) = event(&mut stream);
        drop(stream);

        let mut again = session.listen_after(&primed);
        assert_eq!(event(&mut again), (asked.clone(), question.clone()), "what came after that comes again");
        // A later connection takes it over from an earlier one.
        let mut newer = session.listen_after(&asked);
        assert_eq!(again.line_of_data(), None, "the earlier one ends");
        let id: Value = serde_json::from_str::<Value>(&question).unwrap()["id"].clone();
        let content = json!({ "action": "accept", "content": { "name": "Ada" } });
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": content });
        assert_eq!(session.post(&answer.to_string()).status, 202);
        let (last, answered) = event(&mut newer);
        let answered: Value = serde_json::from_str(&answered).unwrap();
        assert_eq!((&answered["id"], &answered["result"]["content"][0]["text"]), (&json!(7), &json!("Hello, Ada!")));
        assert_eq!(newer.line_of_data(), None, "it is over");
        let mut late = session.listen_after(&asked);
        assert_eq!(event(&mut late).0, last, "the answer can be had again");

        // It is the session's alone.
        let mut foreign = other.listen_after(&primed);
        assert_eq!(foreign.head.status, 200, "it gets a stream of its own");
        installation.ok("group leave devs alice");
        assert_eq!(foreign.line_of_data(), None, "on which nothing of it comes");
    }

    fn clients_of_both_sdks_get_the_answer_over_a_wire_that_breaks(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_1");
        grant(&installation, "legacy", &json!({ "type": "http", "url": server.url }));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let ends = || {
            let log = installation.ok("audit list --limit 500 --json");
            ["call.intent", "call.outcome"].map(|kind| log.matches(&format!("\"type\":\"{kind}\"")).count())
        };
        for python in ["MCPHUB_TEST_PYTHON_2", "MCPHUB_TEST_PYTHON_1"] {
            let (relay, [begun, ended]) = (Relay::to(hub.address), ends());
            let url = format!("http://{}/mcp/legacy", relay.address());
            let [started, go] = ["started", "go"].map(|name| installation.folder().join(format!("{python}-{name}")));
            let script = json!([{ "action": "call", "name": "wait", "arguments": { "started": started, "go": go } }]);
            let answers = thread::scope(|scope| {
                let call = scope.spawn(|| through((python, "legacy"), (&url, &key), &["--elicit", "accept"], &script));
                eventually("the client is in the middle of the call", || started.exists().then_some(()));
                relay.make(Wire::Cut);
                relay.make(Wire::Whole);
                std::fs::write(&go, "").unwrap();
                call.join().unwrap()
            });
            assert_eq!(answers[0]["result"]["content"][0]["text"], "Hello at last, a name!", "{python}: {answers:?}");
            assert_eq!(ends(), [begun + 1, ended + 1], "{python}: the call was made once");
        }
    }
}

/// Waits for the next event: its id, and its data.
fn event(stream: &mut Stream) -> (String, String) {
    let (mut id, mut data) = (None, None);
    for _ in 0..100 {
        let line = stream.line().expect("the stream goes on");
        if let Some(found) = line.strip_prefix("id: ") {
            id = Some(found.to_owned());
        }
        if let Some(found) = line.strip_prefix("data:") {
            data = Some(found.trim().to_owned());
        }
        if line.is_empty()
            && let Some(id) = id.take()
        {
            return (id, data.unwrap_or_default());
        }
    }
    panic!("the stream holds no event");
}
