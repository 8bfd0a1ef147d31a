//! What is refused, at the limit and one beyond it.

use bytes::Bytes;
use mcphub_wire::{Envelope, Fault, Id, Limits, Outcome, ParseError, Raw};
use proptest::prelude::{any, prop, proptest};

fn parse(body: impl Into<Vec<u8>>) -> Result<Envelope, ParseError> {
    Envelope::parse(&Bytes::from(body.into()))
}

fn fault(body: impl Into<Vec<u8>>) -> Fault {
    parse(body).unwrap_err().fault
}

/// Writes a request whose arguments are `arguments`.
fn call(arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","arguments":{arguments}}}}}"#
    )
}

#[test]
fn a_request_is_taken_apart() {
    let body = r#" {"jsonrpc":"2.0","id":"a","method":"tools/call","extra":[],"params":{
        "name":"search","cursor":"","arguments":{ "q" : 1.50 },
        "_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","mine":{}}}} "#;
    let Envelope::Request(request) = parse(body).unwrap() else { panic!("not a request") };
    assert_eq!(request.id, Id::String("a".into()));
    assert_eq!(&*request.method, "tools/call");
    let params = request.params.unwrap();
    assert_eq!(params.name(), Some("search"));
    assert_eq!(params.cursor(), Some(""));
    assert_eq!(params.uri(), None);
    assert_eq!(params.arguments().map(Raw::as_bytes), Some(&br#"{ "q" : 1.50 }"#[..]));
    let meta = params.meta();
    assert_eq!(meta.progress_token().map(Raw::as_bytes), Some(&b"7"[..]));
    assert_eq!(meta.protocol_version().as_deref(), Some("2026-07-28"));
    assert_eq!(meta.members().len(), 3);
}

#[test]
fn notifications_and_answers_are_told_apart() {
    let notification = parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
    assert!(matches!(notification, Envelope::Notification(_)));
    let Envelope::Response(result) = parse(r#"{"jsonrpc":"2.0","id":3,"result":{"a":1}}"#).unwrap() else {
        panic!("not a response")
    };
    assert_eq!(result.id, Some(Id::Integer(3)));
    let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no","data":[1]}}"#;
    let Envelope::Response(error) = parse(body).unwrap() else { panic!("not a response") };
    assert_eq!(error.id, None);
    let Outcome::Error(error) = error.outcome else { panic!("not an error") };
    assert_eq!((error.code, &*error.message), (-32700, "no"));
    assert_eq!(error.data.as_deref(), Some(&b"[1]"[..]));
}

#[test]
fn text_that_is_not_json_is_a_parse_error() {
    let good = call("{}");
    let cases: [Vec<u8>; 16] = [
        b"".to_vec(),
        b"   ".to_vec(),
        format!("{good}x").into(),
        format!("{good}{good}").into(),
        format!("{good}\0").into(),
        good.replace("{}", "{\"a\":\"\t\"}").into(),
        good.replace("{}", "{,}").into(),
        good.replace("{}", "{\"a\":1,}").into(),
        good.replace("{}", "[1,]").into(),
        good.replace("{}", "01").into(),
        good.replace("{}", "1.").into(),
        good.replace("{}", "+1").into(),
        good.replace("{}", "NaN").into(),
        good.replace("{}", r#""\x41""#).into(),
        good.replace("{}", "'a'").into(),
        [b"\xef\xbb\xbf", good.as_bytes()].concat(),
    ];
    for case in cases {
        let error = parse(case.clone()).unwrap_err();
        assert!(matches!(error.fault, Fault::Syntax { .. }), "{:?}", String::from_utf8_lossy(&case));
        assert_eq!(error.code(), -32700);
    }
    let latin1: Vec<u8> = call("\"@\"").bytes().map(|byte| if byte == b'@' { 0xe9 } else { byte }).collect();
    let error = parse(latin1).unwrap_err();
    assert!(matches!(error.fault, Fault::NotUtf8 { .. }));
    assert_eq!(error.code(), -32700);
}

#[test]
fn half_surrogate_pairs_are_refused_wherever_they_stand() {
    for half in [r"\ud800", r"\udc00", r"\ud800\u0041", r"\ud800x", r"\udc00\ud800", r"\ud800\ud800\udc00"] {
        for place in [format!(r#""{half}""#), format!(r#"{{"{half}":1}}"#)] {
            let error = parse(call(&place)).unwrap_err();
            assert!(matches!(error.fault, Fault::UnpairedSurrogate { .. }), "{place}");
            assert_eq!(error.code(), -32700);
        }
    }
    assert!(parse(call(r#"{"\ud83d\ude00":"\uD83D\uDE00"}"#)).is_ok());
}

#[test]
fn duplicate_keys_are_refused_at_every_depth_and_spelling() {
    let many: String = (0..40).map(|index| format!("\"k{index}\":0,")).collect();
    let cases = [
        r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","x":1,"x":1}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{},"params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"a","name":"b"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"a","n\u0061me":"b"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"a":1,"a":2}}}"#.to_owned(),
        call(r#"{"a":{"b":1},"a":2}"#),
        call(r#"[[{"a":[{"":1,"":2}]}]]"#),
        call(r#"{"a/b":1,"a\/b":2}"#),
        call(r#"{"😀":1,"\ud83d\ude00":2}"#),
        call(&format!(r#"{{{many}"k7":1}}"#)),
        call(&format!(r#"{{{many}"k\u0037":1}}"#)),
    ];
    for case in cases {
        let error = parse(case.clone()).unwrap_err();
        assert!(matches!(error.fault, Fault::DuplicateKey(_)), "{case}: {error}");
        assert_eq!((error.code(), error.id), (-32600, Some(Id::Integer(1))), "{case}");
    }
    assert!(parse(call(r#"[{"a":1},{"a":{"a":{"b":1}},"b":2}]"#)).is_ok());
    assert!(parse(call(&format!(r#"{{{many}"k40":1}}"#))).is_ok());
}

#[test]
fn two_ids_leave_nobody_to_answer() {
    let error = parse(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#).unwrap_err();
    assert!(matches!(error.fault, Fault::DuplicateKey(_)));
    assert_eq!(error.id, None);
}

#[test]
fn keys_that_resemble_known_ones_are_refused_only_where_they_have_a_meaning() {
    for key in ["JSONRPC", "Id", "iD", "Method", "Params", "Result", "eRROR", "param\u{17f}", r"\u0049d"] {
        let error = parse(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","{key}":1}}"#)).unwrap_err();
        assert!(matches!(error.fault, Fault::LookalikeKey { .. }), "{key}");
        assert_eq!((error.code(), error.id), (-32600, Some(Id::Integer(1))));
    }
    for key in [
        "Name",
        "NAME",
        "Uri",
        "Cursor",
        "Arguments",
        "_Meta",
        "RequestState",
        "requestid",
        "argument\u{17f}",
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"a","id":1,"params":{{"{key}":{{}}}}}}"#);
        let error = parse(body).unwrap_err();
        assert!(matches!(error.fault, Fault::LookalikeKey { .. }), "{key}");
        assert_eq!(error.id, Some(Id::Integer(1)));
    }
    assert!(parse(call(r#"{"Name":1,"name":2,"Method":3}"#)).is_ok());
    let meta = r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"Name":1,"name":2}}}"#;
    assert!(parse(meta).is_ok());
    assert!(parse(r#"{"jsonrpc":"2.0","id":1,"result":{"Name":1,"name":2}}"#).is_ok());
}

#[test]
fn json_that_is_not_a_message_is_an_invalid_request() {
    let cases = [
        ("1", None),
        ("\"a\"", None),
        ("{}", None),
        (r#"{"jsonrpc":"2.0"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1}"#, Some(1)),
        (r#"{"id":1,"method":"a"}"#, Some(1)),
        (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, Some(1)),
        (r#"{"jsonrpc":2.0,"id":1,"method":"a"}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1.0,"method":"a"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1e3,"method":"a"}"#, None),
        (r#"{"jsonrpc":"2.0","id":9223372036854775808,"method":"a"}"#, None),
        (r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[]}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":null}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":1}}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","result":{}}"#, None),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, None),
        (r#"{"jsonrpc":"2.0","id":1,"result":[]}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":""}}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, Some(1)),
    ];
    for (body, id) in cases {
        let error = parse(body).unwrap_err();
        assert!(matches!(error.fault, Fault::Invalid(_)), "{body}: {error}");
        assert_eq!((error.code(), error.id), (-32600, id.map(Id::Integer)), "{body}");
    }
}

#[test]
fn the_id_of_a_refused_request_is_found_wherever_it_stands() {
    let error = parse(r#"{"method":"a","params":{"Name":1},"jsonrpc":"2.0","id":"last"}"#).unwrap_err();
    assert_eq!(error.id, Some(Id::String("last".into())));
}

#[test]
fn an_id_has_at_most_128_characters() {
    let with_id =
        |length: usize| format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"a"}}"#, "é".repeat(length));
    assert!(parse(with_id(128)).is_ok());
    assert!(matches!(fault(with_id(129)), Fault::Invalid(_)));
}

#[test]
fn nesting_stops_at_64_levels() {
    let nested = |levels: usize| {
        // The envelope and params are the first two levels.
        call(&format!("{}{}", "[".repeat(levels - 2), "]".repeat(levels - 2)))
    };
    assert!(parse(nested(64)).is_ok());
    assert_eq!(fault(nested(65)), Fault::TooDeep { limit: 64 });
    assert_eq!(fault("[".repeat(1_000_000)), Fault::Batch);
    assert_eq!(fault(call(&"{\"a\":".repeat(500_000))), Fault::TooDeep { limit: 64 });
    assert_eq!(parse(nested(65)).unwrap_err().code(), -32600);
}

#[test]
fn a_body_has_at_most_10_000_keys() {
    let with_keys = |count: usize| {
        // The envelope has four and params two.
        let members: Vec<_> = (0..count - 6).map(|index| format!("\"k{index}\":0")).collect();
        call(&format!("{{{}}}", members.join(",")))
    };
    assert!(parse(with_keys(10_000)).is_ok());
    assert_eq!(fault(with_keys(10_001)), Fault::TooManyKeys { limit: 10_000 });
    let scattered = |count: usize| call(&format!("[{}]", vec![r#"{"a":0}"#; count - 6].join(",")));
    assert!(parse(scattered(10_000)).is_ok());
    assert_eq!(fault(scattered(10_001)), Fault::TooManyKeys { limit: 10_000 });
}

#[test]
fn a_message_of_a_server_has_at_most_100_000_keys() {
    const MOST: usize = Limits::RESPONSE.keys;
    let read = |count: usize| {
        // The envelope has three and the result one.
        let objects = vec![r#"{"a":0}"#; count - 4].join(",");
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":[{objects}]}}}}"#);
        Envelope::parse_with(&body.into(), &Limits::RESPONSE).map_err(|error| error.fault)
    };
    assert!(read(MOST).is_ok());
    assert_eq!(read(MOST + 1).err(), Some(Fault::TooManyKeys { limit: MOST }));
}

#[test]
fn a_string_has_at_most_one_mebibyte() {
    let with_string = |length: usize| call(&format!("\"{}\"", "a".repeat(length)));
    assert!(parse(with_string(1 << 20)).is_ok());
    assert_eq!(fault(with_string((1 << 20) + 1)), Fault::StringTooLong { limit: 1 << 20 });
    let with_key = |length: usize| call(&format!("{{\"{}\":1}}", "a".repeat(length)));
    assert!(parse(with_key(1 << 20)).is_ok());
    assert_eq!(fault(with_key((1 << 20) + 1)), Fault::StringTooLong { limit: 1 << 20 });
}

#[test]
fn a_body_has_at_most_4_mebibytes() {
    let padded = |length: usize| {
        let body = call("{}");
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    assert!(parse(padded(4 << 20)).is_ok());
    let error = parse(padded((4 << 20) + 1)).unwrap_err();
    assert!(error.is_too_large());
    assert_eq!(error.fault, Fault::TooLarge { limit: 4 << 20 });
}

#[test]
fn an_answer_may_be_larger_than_a_request() {
    let image = "A".repeat(5 << 20);
    let body = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"data":"{image}"}}}}"#));
    assert!(Envelope::parse(&body).is_err());
    assert!(Envelope::parse_with(&body, &Limits::RESPONSE).is_ok());
}

#[test]
fn arrays_are_messages_only_where_batches_are_asked_for() {
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let two = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    let batch = |body: String| Envelope::parse_batch(&Bytes::from(body));
    assert_eq!(fault(format!(" [{one}]")), Fault::Batch);
    assert_eq!(parse(format!("[{one}]")).unwrap_err().code(), -32600);
    assert_eq!(batch(format!("[{one}, {two}]")).unwrap().len(), 2);
    let of = |count: usize| batch(format!("[{}]", vec![one; count].join(",")));
    assert_eq!(of(100).unwrap().len(), 100);
    assert_eq!(of(101).unwrap_err().code(), -32600);
    for bad in [
        "[]".to_owned(),
        one.to_owned(),
        format!("[{one},1]"),
        format!("[[{one}]]"),
        format!("[{one}"),
        format!("[{one}]x"),
        format!("[{one},{{}}]"),
        format!("[{}]", one.replace("ping", "initialize")),
    ] {
        assert!(batch(bad.clone()).is_err(), "{bad}");
    }
    let wrong = one.replace("ping\"", "ping\",\"Method\":1");
    assert_eq!(batch(format!("[{two},{wrong}]")).unwrap_err().id, Some(Id::Integer(1)));
}

#[test]
fn a_refusal_shows_only_the_start_of_a_strangers_key_and_escapes_it() {
    let error = fault(call(&format!("{{\"\\u001b{0}\":1,\"\\u001b{0}\":1}}", "a".repeat(1000))));
    let text = error.to_string();
    assert!(text.len() < 100, "{text}");
    assert!(!text.contains('\u{1b}'));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(bytes));
    }

    #[test]
    fn no_json_like_text_makes_it_panic(text in r#"[\[\]{}",:\\u0-9a-f.eE+\- tnlr]{0,80}"#) {
        drop(parse(text.clone()));
        drop(Envelope::parse_batch(&Bytes::from(text)));
    }

    #[test]
    fn no_cut_message_makes_it_panic(cut in 0_usize..130) {
        let body = call(r#"{"a\ud83d\ude00":[1.5e-7,true,null,"x"]}"#);
        drop(parse(body.get(..cut.min(body.len())).unwrap_or_default()));
    }
}
