//! Links that a person opens in the middle of a call: for a credential that the hub lacks, and for what servers want.

use std::thread;

use serde_json::{Value, json};

use crate::harness::client::{Session, call_headers, modern, send};
use crate::harness::peer::{CredentialServer, asking};
use crate::harness::{Installation, eventually, on_both};
use crate::rounds::{CLIENTS, grant, through};

const TOKEN: &str = "tok-alice-51c0ffee";
/// The fingerprint of the token: its SHA-256, which the server shows.
const FINGERPRINT: &str = "fingerprint";

on_both! {
    fn a_missing_credential_is_asked_for_in_the_middle_of_a_call(installation) {
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", None);
        grant(&installation, "remote", &described(&server.url));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let script = json!([{ "action": "call", "name": FINGERPRINT }]);
        for (python, era) in CLIENTS {
            let who = format!("{python} {era}");
            let refused = refusals(&installation);
            let url = hub.url("/mcp/remote");
            let answers = thread::scope(|scope| {
                let call = scope.spawn(|| through((python, era), (&url, &key), &["--elicit", "accept"], &script));
                eventually("she is asked", || (refusals(&installation) > refused).then_some(()));
                installation.ok_with("credential set alice remote TOKEN", TOKEN);
                call.join().unwrap()
            });
            let text = answers[0]["result"]["content"][0]["text"].to_string();
            assert!(text.contains(&sha256(TOKEN)), "{who}: {answers:?}");
            let asked = answers[0]["asked"].as_array().unwrap();
            assert_eq!(asked.len(), 1, "{who}: {asked:?}");
            let page = asked[0]["url"].as_str().unwrap();
            assert!(page.ends_with("/credentials/remote") && !page.contains("alice"), "{who}: {page}");
            assert_eq!(asked[0]["mode"], "url", "{who}");
            installation.ok("credential remove alice remote TOKEN");
            eventually("the removal is taken up", || {
                let answers = through((python, era), (&url, &key), &["--elicit", "decline"], &script);
                let text = answers[0]["result"]["content"][0]["text"].as_str()?.to_owned();
                text.contains("/credentials/remote").then(|| {
                    assert_eq!(answers[0]["result"]["isError"], true, "{who}: who declines gets the link as a text");
                })
            });
        }
    }

    fn a_session_that_waited_in_vain_may_come_again(installation) {
        let server = CredentialServer::start("MCPHUB_TEST_PYTHON_2", None);
        grant(&installation, "remote", &described(&server.url));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let able = json!({ "elicitation": { "url": {} } });
        let session = Session::open(hub.address, "/mcp/remote", &key, ("2025-11-25", able));
        let call = Session::request(2, "tools/call", &json!({ "name": FINGERPRINT, "arguments": {} }));
        let mut stream = session.begin("POST", &call);
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
        let question = stream.message();
        assert_eq!((&question["method"], &question["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
        let accepted = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept" } });
        assert_eq!(session.post(&accepted.to_string()).status, 202);
        hub.stop();
        let last = stream.message();
        assert_eq!((&last["id"], &last["error"]["code"]), (&json!(2), &json!(-32042)), "{last}");
        let again = &last["error"]["data"]["elicitations"][0];
        assert_eq!(again["elicitationId"], question["params"]["elicitationId"], "{last}");
        assert!(again["url"].as_str().unwrap().ends_with("/credentials/remote"), "{last}");
    }

    fn links_of_a_legacy_server_reach_clients_of_both_eras(installation) {
        let server = asking("MCPHUB_TEST_PYTHON_1");
        grant(&installation, "legacy", &json!({ "type": "streamable-http", "url": server.url }));
        let (key, hub) = (installation.key("alice"), installation.serve());
        let bearer = format!("Bearer {key}");
        let url = "https://example.com/consent";
        let call = |params: Value| {
            let headers = call_headers(&bearer, "open_first");
            send(hub.address, "POST", "/mcp/legacy", &headers, &modern(1, "tools/call", params)).json()
        };
        // One that can't show links gets a text, and never the error that its era doesn't have.
        let file = installation.folder().join("visited");
        let arguments = json!({ "visited": file });
        let unable = call(json!({ "name": "open_first", "arguments": arguments }))["result"].clone();
        assert_eq!(unable["isError"], true);
        assert!(unable["content"][0]["text"].as_str().unwrap().contains(url), "{unable}");
        let able = json!({ "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } } });
        let asked = call(json!({ "name": "open_first", "arguments": arguments, "_meta": able }))["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let link = &asked["inputRequests"]["mcphub/link-0"];
        assert_eq!((&link["method"], &link["params"]["url"]), (&json!("elicitation/create"), &json!(url)));
        assert_eq!(link["params"].get("elicitationId"), None, "only legacy clients know it");
        let visited = json!({
            "name": "open_first", "arguments": arguments, "_meta": able,
            "inputResponses": { "mcphub/link-0": { "action": "accept" } }, "requestState": asked["requestState"],
        });
        let script = json!([{ "action": "call", "name": "open_first", "arguments": arguments }]);
        let answers = through(CLIENTS[2], (&hub.url("/mcp/legacy"), &key), &["--elicit", "accept"], &script);
        assert_eq!(answers[0]["error"]["code"], -32042, "{answers:?}");
        assert_eq!(answers[0]["error"]["data"]["elicitations"][0]["url"], url, "{answers:?}");
        std::fs::write(&file, "").unwrap();
        assert_eq!(call(visited)["result"]["content"][0]["text"], "opened");
    }
}

fn described(url: &str) -> Value {
    json!({ "type": "http", "url": url, "headers": { "authorization": "Bearer ${USER_TOKEN}" } })
}

/// Counts the calls that were refused for a credential.
fn refusals(installation: &Installation) -> usize {
    installation.ok("audit list --limit 500 --json").matches("missing-credential").count()
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
