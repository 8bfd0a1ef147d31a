//! Event streams, whole and in pieces.

use bytes::Bytes;
use mcphub_wire::sse::{Decoder, Event, KEEP_ALIVE, SseError, encode};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

/// Decodes a stream that arrives in pieces of the given sizes; the last size repeats.
fn decode(stream: &[u8], sizes: &[usize], limit: usize) -> (Vec<Event>, Option<SseError>) {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    let mut rest = stream;
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let (chunk, after) = rest.split_at(size);
        decoder.push(chunk);
        rest = after;
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fn all(stream: &str) -> Vec<Event> {
    let (events, error) = decode(stream.as_bytes(), &[], 1000);
    assert_eq!(error, None);
    events
}

fn data(text: &'static str) -> Event {
    Event { data: Bytes::from_static(text.as_bytes()), ..Event::default() }
}

#[test]
fn events_are_read_as_the_standard_says() {
    let named = |event: &str, id: &str, text: &'static str| Event {
        event: Some(event.to_owned()),
        id: Some(id.to_owned()),
        ..data(text)
    };
    let cases = [
        ("data: a\n\n", vec![data("a")]),
        ("data:a\r\n\r\n", vec![data("a")]),
        ("data: a\r\r", vec![data("a")]),
        ("\u{feff}data: a\n\n", vec![data("a")]),
        ("data:  a\n\n", vec![data(" a")]),
        ("data: a\ndata: b\ndata\ndata:c\n\n", vec![data("a\nb\n\nc")]),
        ("data: a\r\ndata: b\r\n\r\n", vec![data("a\nb")]),
        (": comment\n\ndata: a\n: more\n\n", vec![data("a")]),
        ("event: message\nid: 7\ndata: a\n\n", vec![named("message", "7", "a")]),
        ("event:\ndata: a\n\n", vec![data("a")]),
        ("retry: 10\ndata: a\n\n", vec![Event { retry: Some(10), ..data("a") }]),
        ("retry: 1x\ndata: a\n\n", vec![data("a")]),
        ("id: 1\0\ndata: a\n\n", vec![data("a")]),
        ("id: 1\ndata:\n\n", vec![Event { id: Some("1".to_owned()), ..data("") }]),
        ("unknown: x\ndata: a\n\n", vec![data("a")]),
        ("event: x\n\ndata: a\n\n", vec![data("a")]),
        ("data: a\n\ndata: cut off\n", vec![data("a")]),
        ("data: a: b\n\n\n\n", vec![data("a: b")]),
        ("", vec![]),
    ];
    for (stream, expected) in cases {
        assert_eq!(all(stream), expected, "{stream:?}");
    }
}

#[test]
fn the_last_id_stays_even_without_data() {
    let mut decoder = Decoder::new(100);
    decoder.push(b"id: 1\ndata: a\n\nid: 2\n\ndata: b\n\n");
    assert_eq!(decoder.next_event().unwrap().unwrap().id.as_deref(), Some("1"));
    assert_eq!(decoder.last_event_id(), Some("1"));
    assert_eq!(decoder.next_event().unwrap().unwrap().id, None);
    assert_eq!(decoder.last_event_id(), Some("2"));
}

#[test]
fn an_event_holds_at_most_the_limit() {
    let stream = |length: usize| format!("data: {}\n\n", "a".repeat(length));
    assert_eq!(decode(stream(50).as_bytes(), &[], 50).1, None);
    assert_eq!(decode(stream(51).as_bytes(), &[], 50).1, Some(SseError::EventTooLarge { limit: 50 }));
    let two = stream(50).repeat(2);
    assert_eq!(decode(two.as_bytes(), &[], 50).0.len(), 2);
    let lines = |count: usize| format!("{}\n", "data: abcd\n".repeat(count));
    assert_eq!(decode(lines(10).as_bytes(), &[], 49).1, None);
    assert_eq!(decode(lines(11).as_bytes(), &[], 49).1, Some(SseError::EventTooLarge { limit: 49 }));
    let empty_lines = format!("{}\n", "data\n".repeat(1000));
    assert_eq!(decode(empty_lines.as_bytes(), &[], 50).1, Some(SseError::EventTooLarge { limit: 50 }));
}

#[test]
fn a_message_may_be_as_long_as_the_limit_whatever_its_event_is_called() {
    let event = format!("event: message\nid: abcdefgh-12-34\ndata: {}\n\n", "a".repeat(50));
    let mut decoder = Decoder::for_messages(50);
    decoder.push(event.as_bytes());
    assert_eq!(decoder.next_event().unwrap().unwrap().data.len(), 50);
    decoder.push(&[b"data: ".as_slice(), &[b'a'; 50 + 1025], b"\n\n"].concat());
    assert_eq!(decoder.next_event(), Err(SseError::EventTooLarge { limit: 50 + 1024 }));
}

#[test]
fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
    let endless = vec![b'a'; 200];
    let expected = Some(SseError::LineTooLong { limit: 50 });
    assert_eq!(decode(&endless, &[], 50).1, expected);
    assert_eq!(decode(&endless, &[1; 200], 50).1, expected);
    let comment = format!(":{}\n", "a".repeat(200));
    assert_eq!(decode(comment.as_bytes(), &[], 50).1, expected);
}

#[test]
fn nothing_put_into_an_event_escapes_its_field() {
    let event = Event {
        event: Some("a\ndata: x".to_owned()),
        id: Some("1\r\n\r\ndata: y\0".to_owned()),
        data: Bytes::from_static(b"1\r\n2\r3\n\nid: z"),
        retry: Some(5),
    };
    let expected = Event {
        event: Some("adata: x".to_owned()),
        id: Some("1data: y".to_owned()),
        data: Bytes::from_static(b"1\n2\n3\n\nid: z"),
        retry: Some(5),
    };
    assert_eq!(decode(&encode(&event), &[], 1000).0, [expected]);
}

#[test]
fn the_keep_alive_is_no_event() {
    assert_eq!(decode(&KEEP_ALIVE, &[], 10), (vec![], None));
}

proptest! {
    #[test]
    fn pieces_mean_the_same_as_the_whole(
        stream in "(\u{feff})?((data|event|id|retry|:)?(:| |: )?[a0\u{0}é]{0,6}(\r|\n|\r\n|\n\n|\r\n\r\n)){0,12}",
        sizes in prop::collection::vec(1_usize..6, 0..60),
        limit in 5_usize..40,
    ) {
        prop_assert_eq!(decode(stream.as_bytes(), &sizes, limit), decode(stream.as_bytes(), &[], limit));
    }

    #[test]
    fn every_message_comes_back(text in "[^\r\n]*", id in "[^\r\n\u{0}]{1,9}") {
        let event = Event { id: Some(id), data: Bytes::from(text), ..Event::default() };
        prop_assert_eq!(decode(&encode(&event), &[3, 5, 7], 10_000).0, [event]);
    }

    #[test]
    fn no_bytes_make_it_panic(stream in prop::collection::vec(any::<u8>(), 0..200), sizes in prop::collection::vec(1_usize..9, 0..40)) {
        drop(decode(&stream, &sizes, 50));
    }
}
