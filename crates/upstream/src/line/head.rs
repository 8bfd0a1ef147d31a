//! The head of a response: its status, its headers, and how its body will end.

use bytes::{Buf as _, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::{EMPTY_HEADER, Status};

use super::Malformed;
use super::framing::{Chunk, Framing};

/// How long, in bytes, a head may be.
pub(crate) const LONGEST: usize = 128 * 1024;
/// How many headers it may have.
pub(crate) const MOST_HEADERS: usize = 100;

/// Is the head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether the connection takes another request afterwards.
    pub(super) stays_open: bool,
}

impl Head {
    /// Says whether the answer is still to come (RFC 9110 15.2).
    pub(super) fn is_interim(&self) -> bool {
        self.status.is_informational()
    }

    /// Takes a head out of what has come, if all of it is there.
    pub(super) fn take(came: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(came) {
            Ok(Status::Complete(length)) if length <= LONGEST => length,
            Ok(Status::Partial) if came.len() <= LONGEST => return Ok(None),
            Ok(_) => return Err(Malformed("the head of its answer is too long")),
            Err(_) => return Err(Malformed("its answer is no HTTP response")),
        };
        let is_current = head.version == Some(1);
        let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
        let headers = copy(head.headers).ok_or(Malformed("its answer has an impossible header"))?;
        came.advance(length);
        let status = status.ok_or(Malformed("its answer has no status"))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed("it changes to a protocol that nobody asked for"));
        }
        let framing = framing(status, is_current, &headers)?;
        Ok(Some(Self { status, framing, stays_open: stays_open(is_current, &headers), headers }))
    }
}

/// Says whether an empty line ends in what has come behind a place.
pub(super) fn may_end(came: &[u8], behind: usize) -> bool {
    let new = came.get(behind.saturating_sub(2)..).unwrap_or_default();
    new.windows(3).any(|end| end == b"\n\r\n") || new.windows(2).any(|end| end == b"\n\n")
}

fn copy(parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(headers)
}

/// Finds out how the body ends (RFC 9112 6.3). What two readers could understand in two ways is refused.
fn framing(status: StatusCode, is_current: bool, headers: &HeaderMap) -> Result<Framing, Malformed> {
    let mut codings = list(headers, &TRANSFER_ENCODING);
    let (coding, another) = (codings.next(), codings.next());
    match (coding, length(headers)?) {
        _ if status.is_informational() => Ok(Framing::Length(0)),
        _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(Malformed("its answer has two lengths")),
        (Some(coding), None) if is_current && is(coding, "chunked") && another.is_none() => {
            Ok(Framing::Chunked(Chunk::Size))
        }
        (Some(_), None) => Err(Malformed("its answer has an unknown transfer coding")),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) => Ok(Framing::UntilClose),
    }
}

/// Reads the length, which may be repeated but not differ.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    const WRONG: Malformed = Malformed("its answer has an impossible length");
    let mut found = None;
    for text in list(headers, &CONTENT_LENGTH) {
        let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok()).ok_or(WRONG)?;
        if found.is_some_and(|found| found != length) {
            return Err(WRONG);
        }
        found = Some(length);
    }
    Ok(found)
}

fn stays_open(is_current: bool, headers: &HeaderMap) -> bool {
    let says = |word| list(headers, &CONNECTION).any(|member| is(member, word));
    if is_current { !says("close") } else { says("keep-alive") }
}

/// Lists the members of a header's list (RFC 9110 5.6.1).
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn is(member: &[u8], word: &str) -> bool {
    member.eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::{any, proptest};

    use super::{Chunk, Framing, Head, LONGEST, MOST_HEADERS, may_end};

    const CHUNKED: Framing = Framing::Chunked(Chunk::Size);

    /// Reads a head; says how its body ends and whether the connection stays open.
    fn read(text: &str) -> Result<Option<(Framing, bool)>, &'static str> {
        let head = Head::take(&mut BytesMut::from(text)).map_err(|error| error.0)?;
        Ok(head.map(|head| (head.framing, head.stays_open)))
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        let table: &[(&str, &str, Framing, bool)] = &[
            ("1.1 200 OK", "content-length: 5", Framing::Length(5), true),
            ("1.1 200", "content-length: 5, 5\r\ncontent-length: 5", Framing::Length(5), true),
            ("1.1 200 OK", "Transfer-Encoding: Chunked", CHUNKED, true),
            ("1.1 200 OK", "a: b", Framing::UntilClose, true),
            ("1.1 204 OK", "a: b", Framing::Length(0), true),
            ("1.1 304 OK", "content-length: 5", Framing::Length(0), true),
            ("1.1 200 OK", "content-length: 5\r\nconnection: x, CLOSE", Framing::Length(5), false),
            ("1.0 200 OK", "content-length: 5", Framing::Length(5), false),
            ("1.0 200 OK", "content-length: 5\r\nconnection: Keep-Alive", Framing::Length(5), true),
        ];
        for (status, headers, framing, stays_open) in table {
            let text = format!("HTTP/{status}\r\n{headers}\r\n\r\n");
            assert_eq!(read(&text), Ok(Some((*framing, *stays_open))), "{text}");
            for end in 0..text.len() {
                assert_eq!(read(&text[..end]), Ok(None), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn a_head_that_can_be_understood_in_two_ways_is_refused() {
        for headers in [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 6",
            "content-length: +5",
            "content-length: 0x5",
            "content-length:",
            "content-length: 99999999999999999999",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked, chunked",
            "transfer-encoding: identity",
            "transfer-encoding : chunked",
            "a: b\r\n c: d",
        ] {
            assert!(read(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n")).is_err(), "{headers}");
        }
        for text in
            ["HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "no\r\n\r\n"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_head_may_end_only_with_an_empty_line_in_what_is_new() {
        for (text, end) in [("a: b\r\n\r\n", 7), ("a: b\n\n", 5), ("a\n\r\nx\n\nyy", 3)] {
            for behind in 0..text.len() {
                let ends = may_end(text.as_bytes(), behind);
                assert!(ends || behind > end, "{text:?} behind {behind}");
            }
        }
        for text in ["", "a: b\r\n", "a: b\r\nc: d\r\n", "\r\n", "a\rb\nc"] {
            assert!((0..=text.len()).all(|behind| !may_end(text.as_bytes(), behind)), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_as_long_as_it_may_be_and_no_longer() {
        let with = |headers: String| read(&format!("HTTP/1.1 204 OK\r\n{headers}\r\n"));
        assert!(with("a: b\r\n".repeat(MOST_HEADERS)).is_ok());
        assert!(with("a: b\r\n".repeat(MOST_HEADERS + 1)).is_err());
        let around = "HTTP/1.1 204 OK\r\na: \r\n\r\n".len();
        assert!(with(format!("a: {}\r\n", "x".repeat(LONGEST - around))).is_ok());
        assert!(with(format!("a: {}\r\n", "x".repeat(LONGEST - around + 1))).is_err());
        assert!(read(&format!("HTTP/1.1 204 {}", "x".repeat(LONGEST))).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _head = Head::take(&mut BytesMut::from([b"HTTP/1.1 200 OK\r\n", text.as_slice()].concat().as_slice()));
        }
    }
}
