//! Headers against bodies.

use bytes::Bytes;
use mcphub_wire::header::{
    Era, HeaderError, Headers, Problem, check, check_notification, decode_value, encode_value, era,
};
use mcphub_wire::{Envelope, Version};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

/// Holds names and values.
type List<'a> = &'a [(&'a str, &'a [u8])];

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
const VERSION: (&str, &[u8]) = ("MCP-Protocol-Version", b"2026-07-28");
const CALL: (&str, &[u8]) = ("Mcp-Method", b"tools/call");

fn message(method: &str, params: &str) -> Envelope {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
    Envelope::parse(&Bytes::from(body)).unwrap()
}

fn notify(method: &str, params: &str) -> Envelope {
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#);
    Envelope::parse(&Bytes::from(body)).unwrap()
}

fn checked(headers: List<'_>, message: &Envelope) -> Result<Version, HeaderError> {
    let headers = headers.iter().copied().collect();
    match message {
        Envelope::Request(request) => check(&headers, request),
        Envelope::Notification(notification) => check_notification(&headers, notification),
        Envelope::Response(_) => panic!("responses are not checked"),
    }
}

fn session_id<'a>(headers: List<'a>) -> Result<Option<&'a str>, HeaderError> {
    headers.iter().copied().collect::<Headers<'a>>().session_id()
}

fn problem(headers: List<'_>, message: &Envelope) -> (&'static str, Problem) {
    match checked(headers, message).unwrap_err() {
        HeaderError::Mismatch { header, problem } => (header, problem),
        other => panic!("another refusal: {other:?}"),
    }
}

#[test]
fn headers_that_repeat_the_body_pass() {
    let call = message("tools/call", &format!(r#""name":"search",{META}"#));
    let read = message("resources/read", &format!(r#""uri":"a://é",{META}"#));
    let list = message("tools/list", META);
    let passing: [(List<'_>, &Envelope); 6] = [
        (&[VERSION, CALL, ("Mcp-Name", b"search")], &call),
        (
            &[
                ("mcp-protocol-version", b" 2026-07-28\t"),
                ("MCP-METHOD", b" tools/call"),
                ("mcp-name", b"search "),
            ],
            &call,
        ),
        (&[VERSION, CALL, ("Mcp-Name", b"=?base64?c2VhcmNo?=")], &call),
        (&[VERSION, ("Mcp-Method", b"resources/read"), ("Mcp-Name", b"=?base64?YTovL8Op?=")], &read),
        (&[VERSION, ("Mcp-Method", b"tools/list")], &list),
        (&[VERSION, ("Mcp-Method", b"tools/list"), ("X-Other", b"\xff"), ("X-Other", b"")], &list),
    ];
    for (headers, message) in passing {
        assert_eq!(checked(headers, message), Ok(Version::V2026_07_28), "{headers:?}");
    }
}

#[test]
fn headers_that_say_something_else_are_refused() {
    const NAME: (&str, &[u8]) = ("Mcp-Name", b"search");
    let call = message("tools/call", &format!(r#""name":"search",{META}"#));
    let cases: [(List<'_>, &str, Problem); 16] = [
        (&[CALL, NAME], "mcp-protocol-version", Problem::Missing),
        (&[VERSION, NAME], "mcp-method", Problem::Missing),
        (&[VERSION, CALL], "mcp-name", Problem::Missing),
        (&[VERSION, VERSION, CALL, NAME], "mcp-protocol-version", Problem::Repeated),
        (&[VERSION, CALL, ("MCP-METHOD", b"tools/call"), NAME], "mcp-method", Problem::Repeated),
        (&[VERSION, CALL, NAME, ("Mcp-Name", b"other")], "mcp-name", Problem::Repeated),
        (&[("Mcp-Protocol-Version", b"2025-11-25"), CALL, NAME], "mcp-protocol-version", Problem::Different),
        (&[VERSION, ("Mcp-Method", b"tools/list"), NAME], "mcp-method", Problem::Different),
        (&[VERSION, ("Mcp-Method", b"Tools/Call"), NAME], "mcp-method", Problem::Different),
        (&[VERSION, CALL, ("Mcp-Name", b"Search")], "mcp-name", Problem::Different),
        (&[VERSION, CALL, ("Mcp-Name", b"search, other")], "mcp-name", Problem::Different),
        (&[VERSION, CALL, ("Mcp-Name", b"")], "mcp-name", Problem::Different),
        (&[VERSION, CALL, ("Mcp-Name", b"sear\x00ch")], "mcp-name", Problem::Malformed),
        (&[VERSION, CALL, ("Mcp-Name", "séarch".as_bytes())], "mcp-name", Problem::Malformed),
        (&[VERSION, CALL, ("Mcp-Name", b"=?base64?c2VhcmNo!?=")], "mcp-name", Problem::Malformed),
        (&[VERSION, CALL, ("Mcp-Name", b"=?base64?/w==?=")], "mcp-name", Problem::Malformed),
    ];
    for (headers, header, expected) in cases {
        assert_eq!(problem(headers, &call), (header, expected), "{headers:?}");
        assert_eq!(checked(headers, &call).unwrap_err().code(), -32020);
    }
    let nameless = message("tools/call", META);
    assert_eq!(problem(&[VERSION, CALL, NAME], &nameless), ("mcp-name", Problem::Different));
}

#[test]
fn metadata_comes_first() {
    let cases = [
        "",
        r#""_meta":{}"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
        r#""_meta":{"io.modelcontextprotocol/clientCapabilities":{}}"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":1}"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":{}}"#,
    ];
    for params in cases {
        let error = checked(&[VERSION], &message("tools/list", params)).unwrap_err();
        assert!(matches!(error, HeaderError::MissingMeta(_)), "{params}");
        assert_eq!(error.code(), -32602);
    }
}

#[test]
fn a_version_that_is_not_spoken_lists_those_that_are() {
    for requested in ["2099-01-01", "2025-11-25", "draft"] {
        let call = message("tools/list", &META.replace("2026-07-28", requested));
        let headers = [("mcp-protocol-version", requested.as_bytes()), ("mcp-method", b"tools/list")];
        let error = checked(&headers, &call).unwrap_err();
        assert_eq!(error.code(), -32022);
        let data: serde_json::Value = serde_json::from_slice(&error.data().unwrap()).unwrap();
        assert_eq!(data["requested"], requested);
        assert_eq!(data["supported"][0], "2026-07-28");
    }
}

#[test]
fn notifications_need_no_headers_but_theirs_must_not_lie() {
    let note = notify("notifications/cancelled", META);
    assert_eq!(checked(&[], &note), Ok(Version::V2026_07_28));
    assert_eq!(checked(&[VERSION], &notify("notifications/cancelled", "")), Ok(Version::V2026_07_28));
    assert_eq!(problem(&[CALL], &note), ("mcp-method", Problem::Different));
    let other: List<'_> = &[("mcp-protocol-version", b"2025-11-25")];
    assert_eq!(problem(other, &note), ("mcp-protocol-version", Problem::Different));
}

#[test]
fn the_era_follows_metadata_then_headers_then_the_method() {
    let session: (&str, &[u8]) = ("Mcp-Session-Id", b"s");
    let old: (&str, &[u8]) = ("MCP-Protocol-Version", b"2025-11-25");
    let future: (&str, &[u8]) = ("MCP-Protocol-Version", b"2027-01-01");
    let list = message("tools/list", "");
    let modern = message("tools/list", META);
    let initialize = message("initialize", "");
    let answer = Envelope::parse(&Bytes::from(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).unwrap();
    let cases: [(List<'_>, &Envelope, Era); 14] = [
        (&[], &modern, Era::Modern),
        (&[session, old], &modern, Era::Modern),
        (&[VERSION], &list, Era::Modern),
        (&[future], &list, Era::Modern),
        (&[VERSION], &initialize, Era::Modern),
        (&[], &initialize, Era::Initialize),
        (&[old, session], &initialize, Era::Initialize),
        (&[session], &list, Era::Session),
        (&[session, old], &list, Era::Session),
        (&[session, ("MCP-Protocol-Version", b"zzzz")], &list, Era::Session),
        (&[session], &answer, Era::Session),
        (&[session, VERSION], &answer, Era::Bad),
        (&[old], &list, Era::Bad),
        (&[], &answer, Era::Bad),
    ];
    for (headers, message, expected) in cases {
        assert_eq!(era(&headers.iter().copied().collect(), message), expected, "{headers:?}");
    }
}

#[test]
fn a_session_names_itself_once_in_visible_ascii() {
    assert_eq!(session_id(&[]), Ok(None));
    assert_eq!(session_id(&[("mcp-session-id", b"abc!~")]), Ok(Some("abc!~")));
    for bad in [&b""[..], b"a b", b"a\n", b"\xff"] {
        assert!(session_id(&[("mcp-session-id", bad)]).is_err());
    }
    assert!(session_id(&[("mcp-session-id", b"a"), ("Mcp-Session-Id", b"a")]).is_err());
}

#[test]
fn a_session_may_name_only_a_version_with_sessions() {
    let version = |headers: List<'_>| headers.iter().copied().collect::<Headers<'_>>().session_version();
    assert_eq!(version(&[]), Ok(None));
    assert_eq!(version(&[("mcp-protocol-version", b"2025-06-18")]), Ok(Some(Version::V2025_06_18)));
    assert!(version(&[VERSION]).is_err());
    let wrong = version(&[("mcp-protocol-version", b"1")]).unwrap_err();
    assert_eq!(wrong.code(), -32600);
}

#[test]
fn values_are_plain_where_they_can_be() {
    for (value, encoded) in [
        ("search", "search"),
        ("two words", "two words"),
        ("é", "=?base64?w6k=?="),
        (" a", "=?base64?IGE=?="),
        ("a\t", "=?base64?YQk=?="),
        ("a\r\nX: y", "=?base64?YQ0KWDogeQ==?="),
        ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ("=?base64?", "=?base64?"),
        ("", "=?base64??="),
    ] {
        assert_eq!(encode_value(value), encoded);
        assert_eq!(decode_value(encoded.as_bytes()).unwrap(), value);
    }
}

proptest! {
    #[test]
    fn every_value_survives_as_a_header(value in any::<String>()) {
        let encoded = encode_value(&value);
        prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(&decode_value(encoded.as_bytes()).unwrap(), &value);
    }

    #[test]
    fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
        drop(decode_value(&value));
        let headers: Headers<'_> = [("mcp-protocol-version", &*value), ("mcp-session-id", &*value)].into_iter().collect();
        drop((headers.is_modern(), headers.session_id(), headers.session_version()));
    }
}
