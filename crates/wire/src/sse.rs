//! Server-sent events: a decoder that takes bytes as they come, and an encoder.
//!
//! What an upstream sends is bounded per line and per event. Data stays bytes; whether it is a
//! message is for `Envelope` to say.

use bytes::{Bytes, BytesMut};

/// Holds the comment that keeps an idle connection open.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// Holds one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Holds the type; without one it is `message`.
    pub event: Option<String>,
    /// Holds the id to resume after.
    pub id: Option<String>,
    /// Holds the lines of data, joined by line feeds.
    pub data: Bytes,
    /// Holds the milliseconds to wait before connecting again.
    pub retry: Option<u64>,
}

/// Says why a stream can't be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// Reports a line beyond the limit.
    #[error("a line of the event stream is longer than {limit} bytes")]
    LineTooLong {
        /// Holds the limit in bytes.
        limit: usize,
    },
    /// Reports an event beyond the limit.
    #[error("an event is larger than {limit} bytes")]
    EventTooLarge {
        /// Holds the limit in bytes.
        limit: usize,
    },
}

/// Takes a stream apart: push what arrived, then take events until there is none.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    at_start: bool,
    after_return: bool,
    event: Option<String>,
    id: Option<String>,
    data: Option<Data>,
    size: usize,
    retry: Option<u64>,
    last_id: Option<String>,
}

/// Holds the data lines so far; a single one is not copied.
#[derive(Debug)]
enum Data {
    One(Bytes),
    Many(BytesMut),
}

/// How much the type and the id of an event may hold beside a message.
const BESIDE: usize = 1 << 10;

impl Decoder {
    /// Starts a stream of messages: an event with one of `longest` bytes is read whatever its type and its id are, if those
    /// have no more than 1 KiB. Whoever reads the message says whether it is too long.
    #[must_use]
    pub fn for_messages(longest: usize) -> Self {
        Self::new(longest.saturating_add(BESIDE))
    }

    /// Starts a stream whose events hold at most `limit` bytes each.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            searched: 0,
            at_start: true,
            after_return: false,
            event: None,
            id: None,
            data: None,
            size: 0,
            retry: None,
            last_id: None,
        }
    }

    /// Takes in what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the id of the last event that had one, for `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Returns the next whole event; `None` means that more bytes are needed.
    ///
    /// # Errors
    /// Reports a line or event beyond the limit; the stream is of no more use then.
    pub fn next_event(&mut self) -> Result<Option<Event>, SseError> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    return Ok(Some(event));
                }
            } else {
                self.field(&line)?;
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, SseError> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.at_start {
            if self.buffer.len() < MARK.len() && MARK.starts_with(&self.buffer) {
                return Ok(None);
            }
            self.at_start = false;
            self.drop_prefix(MARK);
        }
        if self.after_return && !self.buffer.is_empty() {
            self.after_return = false;
            self.drop_prefix(b"\n");
        }
        let rest = self.buffer.get(self.searched..).unwrap_or(&[]);
        let end = memchr::memchr2(b'\n', b'\r', rest).map(|found| self.searched + found);
        let longest = self.limit.saturating_add("event: ".len());
        if end.unwrap_or(self.buffer.len()) > longest {
            return Err(SseError::LineTooLong { limit: self.limit });
        }
        let Some(end) = end else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = self.buffer.split_to(end).freeze();
        self.after_return = self.buffer.split_to(1).starts_with(b"\r");
        self.searched = 0;
        Ok(Some(line))
    }

    fn drop_prefix(&mut self, prefix: &[u8]) {
        if self.buffer.starts_with(prefix) {
            drop(self.buffer.split_to(prefix.len()));
        }
    }

    fn field(&mut self, line: &Bytes) -> Result<(), SseError> {
        let colon = memchr::memchr(b':', line);
        let name = line.slice(..colon.unwrap_or(line.len()));
        let mut value = line.slice(colon.map_or(line.len(), |colon| colon + 1)..);
        if value.starts_with(b" ") {
            value = value.slice(1..);
        }
        self.size += value.len();
        match &*name {
            b"data" => self.add_data(value),
            b"event" => self.event = Some(text(&value)),
            b"id" if !value.contains(&0) => self.id = Some(text(&value)),
            b"retry" if value.iter().all(u8::is_ascii_digit) => self.retry = text(&value).parse().ok(),
            _ => self.size -= value.len(),
        }
        if self.size > self.limit { Err(SseError::EventTooLarge { limit: self.limit }) } else { Ok(()) }
    }

    fn add_data(&mut self, line: Bytes) {
        self.size += usize::from(self.data.is_some());
        self.data = Some(match self.data.take() {
            None => Data::One(line),
            Some(Data::One(first)) => Data::Many(join(BytesMut::from(&*first), &line)),
            Some(Data::Many(lines)) => Data::Many(join(lines, &line)),
        });
    }

    /// Ends an event; without data there is none, though its id counts.
    fn dispatch(&mut self) -> Option<Event> {
        self.size = 0;
        if self.id.is_some() {
            self.last_id.clone_from(&self.id);
        }
        let (event, id, retry) = (self.event.take(), self.id.take(), self.retry.take());
        let data = match self.data.take()? {
            Data::One(line) => line,
            Data::Many(lines) => lines.freeze(),
        };
        Some(Event { event: event.filter(|name| !name.is_empty()), id, data, retry })
    }
}

fn join(mut lines: BytesMut, line: &[u8]) -> BytesMut {
    lines.extend_from_slice(b"\n");
    lines.extend_from_slice(line);
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes an event; line breaks in the type or id, which would end the field, are left out.
#[must_use]
pub fn encode(event: &Event) -> Bytes {
    let mut out = Vec::with_capacity(event.data.len() + 64);
    let single_line = |text: &str| text.replace(['\r', '\n', '\0'], "");
    if let Some(name) = &event.event {
        out.extend_from_slice(format!("event: {}\n", single_line(name)).as_bytes());
    }
    if let Some(id) = &event.id {
        out.extend_from_slice(format!("id: {}\n", single_line(id)).as_bytes());
    }
    if let Some(retry) = event.retry {
        out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
    }
    let mut rest = &*event.data;
    loop {
        let (line, after) = split_line(rest);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
        let Some(after) = after else { break };
        rest = after;
    }
    out.push(b'\n');
    out.into()
}

fn split_line(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some((line, rest)) = memchr::memchr2(b'\n', b'\r', text).and_then(|end| text.split_at_checked(end))
    else {
        return (text, None);
    };
    let rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..));
    (line, rest)
}
