//! Event streams: they mean what the standard says, however they are cut into pieces, and what is
//! written comes back.
//!
//! The first two bytes of an input say how large the pieces are and how large an event may be.

use bytes::Bytes;
use mcphub_wire::sse::{Decoder, Event, SseError, encode};

/// Is more than any event that an input can hold.
const AMPLE: usize = 1 << 20;

/// Reads the bytes as a stream, whole and in pieces.
pub fn check(bytes: &[u8]) {
    let [sizes, limit, stream @ ..] = bytes else { return };
    let limit = usize::from(*limit);
    let whole = decode(stream, stream.len().max(1), limit);
    for size in [1, usize::from(sizes & 0xf) + 1, usize::from(sizes >> 4) + 1] {
        assert_eq!(decode(stream, size, limit), whole, "in pieces of {size}");
    }
    for event in &whole.events {
        let size = event.data.len() + event.event.as_ref().map_or(0, String::len);
        // What isn't UTF-8 in a name is replaced, which makes it up to three times as long.
        assert!(size <= 3 * limit + 3, "an event of {size} bytes");
    }
    let unlimited = decode(stream, stream.len().max(1), AMPLE);
    assert_eq!(unlimited, read_slowly(stream));
    unlimited.events.iter().for_each(comes_back);
}

#[derive(PartialEq, Eq, Debug)]
struct Decoded {
    events: Vec<Event>,
    last_id: Option<String>,
    error: Option<SseError>,
}

fn decode(stream: &[u8], size: usize, limit: usize) -> Decoded {
    let mut decoder = Decoder::new(limit);
    let (mut events, mut error) = (Vec::new(), None);
    'stream: for piece in stream.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(found) => {
                    error = Some(found);
                    break 'stream;
                }
            }
        }
    }
    Decoded { events, last_id: decoder.last_event_id().map(str::to_owned), error }
}

/// Reads a whole stream the way the standard tells it, with no thought of speed or limits.
fn read_slowly(stream: &[u8]) -> Decoded {
    let text = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut decoded, mut event) =
        (Decoded { events: Vec::new(), last_id: None, error: None }, Event::default());
    let mut data: Option<Vec<u8>> = None;
    for line in whole_lines(text) {
        if line.is_empty() {
            let ended = std::mem::take(&mut event);
            decoded.last_id = ended.id.clone().or(decoded.last_id);
            let name = ended.event.filter(|name| !name.is_empty());
            let data = data.take().map(Bytes::from);
            decoded.events.extend(data.map(|data| Event { event: name, data, ..ended }));
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = String::from_utf8_lossy(value).into_owned();
        match name {
            b"data" => data = Some(data.map_or_else(|| value.to_vec(), |lines| [&lines, value].join(&b'\n'))),
            b"event" => event.event = Some(text),
            b"id" if !value.contains(&0) => event.id = Some(text),
            b"retry" if value.iter().all(u8::is_ascii_digit) => event.retry = text.parse().ok(),
            _ => {}
        }
    }
    decoded
}

/// Splits a text at line feeds, carriage returns and pairs of both; a line without an end is none.
fn whole_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut line, mut bytes) = (Vec::new(), Vec::new(), text.iter().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => lines.push(std::mem::take(&mut line)),
            b'\r' => {
                bytes.next_if(|next| **next == b'\n');
                lines.push(std::mem::take(&mut line));
            }
            other => line.push(*other),
        }
    }
    lines
}

/// Checks that an event is the same after it was written and read; only carriage returns, which can't
/// stand inside of a field, can't have been in it.
fn comes_back(event: &Event) {
    let again = decode(&encode(event), 7, AMPLE);
    let Event { event: name, id, data, retry } = event.clone();
    let expected = Event {
        event: name.map(|name| name.replace('\0', "")).filter(|name| !name.is_empty()),
        id,
        data: Bytes::from(data),
        retry,
    };
    assert_eq!(again.events, [expected]);
    assert_eq!(again.error, None);
}
