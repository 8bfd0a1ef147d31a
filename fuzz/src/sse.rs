//! Event streams: however they are cut into pieces they mean the same, and what is written comes back.
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
    for event in decode(stream, stream.len().max(1), AMPLE).events {
        comes_back(&event);
    }
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
