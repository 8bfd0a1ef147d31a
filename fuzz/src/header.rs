//! Headers beside the body: no header makes the check panic, and what passes says what the body says.
//!
//! An input is lines of `name: value`, an empty line, and a body.

use bytes::Bytes;
use mcphub_wire::header::{self, Era, Headers};
use mcphub_wire::{Envelope, Request, method};

/// Reads the headers, and where the body is a message, checks it under each era's rules.
pub fn check(bytes: &[u8]) {
    let (head, body) = split(bytes);
    let fields: Vec<(&str, &[u8])> = head.split(|byte| *byte == b'\n').filter_map(field).collect();
    let headers: Headers<'_> = fields.iter().copied().collect();
    check_values(&fields);
    if let Ok(Some(id)) = headers.session_id() {
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Ok(Some(version)) = headers.session_version() {
        assert!(!version.is_modern());
    }
    let Ok(message) = Envelope::parse(&Bytes::copy_from_slice(body)) else { return };
    let era = header::era(&headers, &message);
    match &message {
        Envelope::Request(request) => match header::check(&headers, request) {
            Ok(version) => {
                assert!(version.is_modern());
                assert_eq!(era, Era::Modern);
                agrees(&fields, request, version.as_str());
            }
            Err(error) => assert!(error.to_string().len() < 1_024 && error.code() < 0),
        },
        Envelope::Notification(told) => {
            if let Ok(version) = header::check_notification(&headers, told) {
                assert!(version.is_modern());
            }
        }
        Envelope::Response(_) => assert!(matches!(era, Era::Session | Era::Bad)),
    }
}

/// Checks that whoever routes on the headers of a message that passed sees what the body says.
fn agrees(fields: &[(&str, &[u8])], request: &Request, version: &str) {
    let named = method::named_param(&request.method);
    let name = named.and_then(|key| request.params.as_ref()?.text(key));
    let wanted = [
        (header::PROTOCOL_VERSION, Some(version)),
        (header::METHOD, Some(&*request.method)),
        (header::NAME, name.as_deref()),
    ];
    for (header, wanted) in wanted {
        let Some(wanted) = wanted else { continue };
        let mut said = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
        let first = said.next().and_then(|(_, value)| header::decode_value(value));
        assert_eq!(first.as_deref(), Some(wanted), "{header}");
        assert!(said.next().is_none(), "{header} stands twice");
    }
}

/// Checks that a value survives the way through a header.
fn check_values(fields: &[(&str, &[u8])]) {
    for (_, value) in fields {
        let Some(decoded) = header::decode_value(value) else { continue };
        let encoded = header::encode_value(&decoded);
        assert_eq!(header::decode_value(encoded.as_bytes()).as_deref(), Some(&*decoded));
        assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
}

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&bytes[..end], &bytes[end + 2..]),
        None => (bytes, &[]),
    }
}
