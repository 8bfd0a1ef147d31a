//! Messages on their way through: what is renamed, and that nothing else changes.

use bytes::Bytes;
use mcphub_wire::{
    Edit, Envelope, Id, Notification, Raw, Reference, ReferenceKind, Request, Response, message, progress,
};
use proptest::prelude::{any, prop_assert_eq, proptest};
use serde_json::{Value, json};

use crate::json_text;

fn request(body: &str) -> Request {
    match Envelope::parse(&Bytes::from(body.to_owned())).unwrap() {
        Envelope::Request(request) => request,
        other => panic!("not a request: {other:?}"),
    }
}

fn notification(body: &'static str) -> Notification {
    match Envelope::parse(&Bytes::from(body)).unwrap() {
        Envelope::Notification(notification) => notification,
        other => panic!("not a notification: {other:?}"),
    }
}

fn response(body: &'static str) -> Response {
    match Envelope::parse(&Bytes::from(body)).unwrap() {
        Envelope::Response(response) => response,
        other => panic!("not a response: {other:?}"),
    }
}

fn forward(body: &str, edit: &Edit) -> Bytes {
    let request = request(body);
    message::request(&Id::from(9), &request.method, request.params.as_ref(), edit)
}

#[test]
fn what_decides_is_written_from_what_was_understood() {
    let body = r#"{"jsonrpc":"2.0","x":1,"id":"a","method":"tools\/call","params":{"\u006eame":"a\u0062\/","q":"\u0062"}}"#;
    assert_eq!(
        forward(body, &Edit::new()),
        r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"ab/","q":"\u0062"}}"#
    );
}

#[test]
fn a_request_without_params_gets_them_only_when_needed() {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(forward(body, &Edit::new()), r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#);
    assert_eq!(forward(body, &Edit::new().remove("x")), r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#);
    assert_eq!(
        forward(body, &Edit::new().set_meta("k", Raw::integer(1))),
        r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{"_meta":{"k":1}}}"#
    );
    let empty = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}"#;
    assert_eq!(forward(empty, &Edit::new()), r#"{"jsonrpc":"2.0","id":9,"method":"ping","params":{}}"#);
}

#[test]
fn ids_keep_their_json_type() {
    let answer = response(r#"{"jsonrpc":"2.0","id":9,"result":{ "a" : 1.0 }}"#);
    assert_eq!(
        message::reid(&answer, &Id::String("9\"".into())),
        r#"{"jsonrpc":"2.0","id":"9\"","result":{ "a" : 1.0 }}"#
    );
    assert_eq!(message::reid(&answer, &Id::from(-9)), r#"{"jsonrpc":"2.0","id":-9,"result":{ "a" : 1.0 }}"#);
}

#[test]
fn errors_pass_with_their_data() {
    let answer =
        response(r#"{"jsonrpc":"2.0","id":9,"error":{"code":-1,"message":"a\nb","data":{ "x":1 }}}"#);
    assert_eq!(
        message::reid(&answer, &Id::from(1)),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"a\nb","data":{ "x":1 }}}"#
    );
    assert_eq!(
        message::error(None, -32700, "no", None),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}"#
    );
}

#[test]
fn a_reference_is_renamed_inside() {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":
        {"title":"x", "type":"ref/prompt","name":"github__a"},"argument":{"name":"n","value":""}}}"#;
    let params = request(body).params.unwrap();
    let reference = Reference::read(&params).unwrap();
    assert_eq!((reference.kind(), reference.target()), (ReferenceKind::Prompt, "github__a"));
    assert_eq!(
        reference.renamed("a").unwrap().as_bytes(),
        br#"{"title":"x","type":"ref/prompt","name":"a"}"#
    );
    for bad in [
        r#"{"type":"ref/prompt","Name":"a","name":"b"}"#,
        r#"{"type":"ref/prompt","uri":"b"}"#,
        r#"{"type":"ref/else","name":"b"}"#,
        "1",
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"ref":{bad}}}}}"#);
        assert!(Reference::read(&request(&body).params.unwrap()).is_err(), "{bad}");
    }
}

#[test]
fn progress_goes_under_another_token_and_back() {
    let note = notification(
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":3,"progress":0.50,"message":"m"}}"#,
    );
    assert_eq!(progress::token(&note), Some(Id::from(3)));
    assert_eq!(progress::amount(&note), Some(0.5));
    let other = notification(
        r#"{"jsonrpc":"2.0","method":"notifications/other","params":{"progressToken":3,"requestId":3}}"#,
    );
    assert_eq!((progress::token(&other), progress::cancelled_id(&other)), (None, None));
    assert_eq!(
        progress::with_token(&note, &Raw::string("abc")),
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"abc","progress":0.50,"message":"m"}}"#
    );
}

#[test]
fn cancellation_names_the_request_of_the_next_hop() {
    let note = notification(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"r","reason":"why"}}"#,
    );
    assert_eq!(progress::cancelled_id(&note), Some(Id::String("r".into())));
    let expected =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4,"reason":"why"}}"#;
    assert_eq!(progress::with_request_id(&note, &Id::from(4)), expected);
    assert_eq!(progress::cancelled(&Id::from(4), "why"), expected);
}

#[test]
fn notifications_of_a_stream_are_tagged_with_its_id() {
    let note = notification(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    assert_eq!(
        progress::with_subscription(&note, &Id::String("1".into())),
        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"1"}}}"#
    );
}

#[test]
fn a_progress_token_is_a_text_or_a_whole_number() {
    let token = |text: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"_meta":{{"progressToken":{text}}}}}}}"#
        );
        progress::requested_token(&request(&body).params.unwrap())
    };
    assert_eq!(token("\"t\"").unwrap(), Some(Raw::string("t")));
    assert_eq!(token("5").unwrap(), Some(Raw::integer(5)));
    for bad in ["1.5", "null", "{}", "true"] {
        assert!(token(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn arguments_and_metadata_pass_byte_for_byte(
        arguments in json_text::value(),
        kept in json_text::value(),
        name in any::<String>(),
        new_name in any::<String>(),
    ) {
        let (old, new) = (serde_json::to_string(&name).unwrap(), Raw::string(&new_name));
        let new = String::from_utf8(new.to_vec()).unwrap();
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"name":{old},"arguments":{arguments},"_meta":{{"progressToken":1,"kept":{kept}}},"z":{kept}}}}}"#
        );
        let edit = Edit::new().name(&new_name).set_meta("progressToken", Raw::integer(2));
        prop_assert_eq!(
            forward(&body, &edit),
            format!(
                r#"{{"jsonrpc":"2.0","id":9,"method":"m","params":{{"name":{new},"arguments":{arguments},"_meta":{{"progressToken":2,"kept":{kept}}},"z":{kept}}}}}"#
            )
        );
    }

    #[test]
    fn what_we_write_is_json_with_the_same_values(method in any::<String>(), id in any::<String>(), text in any::<String>()) {
        let id = Id::String(id.into());
        let written = message::request(&id, &method, None, &Edit::new().name(&text));
        prop_assert_eq!(
            serde_json::from_slice::<Value>(&written).unwrap(),
            json!({"jsonrpc": "2.0", "id": serde_json::from_slice::<Value>(&id.to_raw()).unwrap(),
                   "method": method, "params": {"name": text}})
        );
    }
}
