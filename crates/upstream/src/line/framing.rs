//! Where the body of a response ends (RFC 9112 6.3), and its pieces as they come.

use bytes::{Buf as _, Bytes, BytesMut};
use httparse::Status;

use super::Malformed;

/// How long, in bytes, the line with a chunk's size may be, and each line behind the last chunk.
const LONGEST_LINE: usize = 8 * 1024;
/// How many lines may stand behind the last chunk.
const MOST_TRAILERS: u32 = 100;

/// Says where a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
}

/// Says what comes next of a chunked body (RFC 9112 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chunk {
    /// The line with a size.
    Size,
    /// So many bytes of data.
    Data(u64),
    /// The line break after the data.
    Break,
    /// Lines behind the last chunk, which mean nothing here; so many have come.
    Trailers(u32),
    /// Nothing.
    Over,
}

/// Is what could be read of a body.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// More has to come first.
    Missing,
    /// The body is over.
    End,
}

impl Framing {
    /// Takes the next piece out of what has come.
    pub(super) fn take(&mut self, came: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(take(left, came)),
            Self::UntilClose => Ok(take(&mut { u64::MAX }, came)),
            Self::Chunked(chunk) => chunk.take(came),
        }
    }
}

impl Chunk {
    fn take(&mut self, came: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Self::Size => match size(came)? {
                    None => return Ok(Piece::Missing),
                    Some(0) => *self = Self::Trailers(0),
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(left) => {
                    let piece = take(left, came);
                    if *left == 0 {
                        *self = Self::Break;
                    }
                    return Ok(piece);
                }
                Self::Break => match line(came)? {
                    None => return Ok(Piece::Missing),
                    Some(0) => *self = Self::Size,
                    Some(_) => return Err(Malformed("a chunk is longer than its size")),
                },
                Self::Trailers(count) => match line(came)? {
                    None => return Ok(Piece::Missing),
                    Some(0) => *self = Self::Over,
                    Some(_) if *count == MOST_TRAILERS => {
                        return Err(Malformed("too much follows the last chunk"));
                    }
                    Some(_) => *count += 1,
                },
                Self::Over => return Ok(Piece::End),
            }
        }
    }
}

/// Takes as much as there is, at most what is left.
fn take(left: &mut u64, came: &mut BytesMut) -> Piece {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(came.len());
    if length == 0 {
        return Piece::Missing;
    }
    *left -= length as u64;
    Piece::Data(came.split_to(length).freeze())
}

/// Reads the size of a chunk, if its line is there. The parser takes no digit for zero, and lets a line break stand in
/// what follows the size, where others might see the line end.
fn size(came: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    const NONE: Malformed = Malformed("a chunk has no size");
    match httparse::parse_chunk_size(came).map_err(|_| NONE)? {
        // Half of the line break may have come.
        Status::Partial if came.len() <= LONGEST_LINE + 1 => Ok(None),
        Status::Complete((length, size)) if length <= LONGEST_LINE + 2 => {
            let line = came.split_to(length);
            let is_one_line = line.iter().filter(|byte| **byte == b'\n').count() == 1;
            let has_digits = line.first().is_some_and(u8::is_ascii_hexdigit);
            if is_one_line && has_digits { Ok(Some(size)) } else { Err(NONE) }
        }
        _ => Err(NONE),
    }
}

/// Takes a line and returns its length without the line break, if it is there.
fn line(came: &mut BytesMut) -> Result<Option<usize>, Malformed> {
    match came.windows(2).take(LONGEST_LINE + 1).position(|window| window == b"\r\n") {
        Some(length) => {
            came.advance(length + 2);
            Ok(Some(length))
        }
        None if came.len() <= LONGEST_LINE + 1 => Ok(None),
        None => Err(Malformed("a line of a chunked body is too long")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Chunk, Framing, LONGEST_LINE, MOST_TRAILERS, Malformed, Piece};

    const CHUNKED: Framing = Framing::Chunked(Chunk::Size);

    /// Reads a body that comes in pieces of these lengths. Returns it, and what was left behind it.
    fn read(mut framing: Framing, text: &[u8], lengths: &[usize]) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
        let (mut body, mut came, mut rest) = (Vec::new(), BytesMut::new(), text);
        let mut lengths = lengths.iter().copied().chain(std::iter::repeat(usize::MAX));
        loop {
            match framing.take(&mut came)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::End => break,
                Piece::Missing if rest.is_empty() => {
                    assert_eq!(framing, Framing::UntilClose, "the body is cut off");
                    break;
                }
                Piece::Missing => {
                    let length = lengths.next().unwrap_or(1).clamp(1, rest.len());
                    came.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
            }
        }
        came.extend_from_slice(rest);
        Ok((body, came.to_vec()))
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_comes(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            lengths in proptest::collection::vec(1_usize..9, 0..200),
            behind in proptest::collection::vec(any::<u8>(), 0..5),
        ) {
            let body = chunks.concat();
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend(format!("{:X};name=\"value\"\r\n", chunk.len()).into_bytes());
                text.extend([chunk.as_slice(), b"\r\n"].concat());
            }
            text.extend_from_slice(b"0\r\nchecksum: 1\r\n\r\n");
            text.extend_from_slice(&behind);
            prop_assert_eq!(read(CHUNKED, &text, &lengths), Ok((body.clone(), behind.clone())));
            let whole = [body.as_slice(), &behind].concat();
            let length = Framing::Length(body.len() as u64);
            prop_assert_eq!(read(length, &whole, &lengths), Ok((body, behind)));
            prop_assert_eq!(read(Framing::UntilClose, &whole, &lengths), Ok((whole.clone(), Vec::new())));
        }

        #[test]
        fn no_text_is_a_panic(text in "[0-9a-f;:x\r\n]{0,60}", lengths in proptest::collection::vec(1_usize..9, 0..60)) {
            let (mut framing, mut came, mut rest) = (CHUNKED, BytesMut::new(), text.as_bytes());
            for length in lengths {
                let (some, more) = rest.split_at(length.min(rest.len()));
                came.extend_from_slice(some);
                rest = more;
                while let Ok(Piece::Data(_)) = framing.take(&mut came) {}
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let endless = format!("0\r\n{}", "a".repeat(LONGEST_LINE + 2));
        let texts = [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "11111111111111111\r\n",
            "1;a\nb\r\nx\r\n0\r\n\r\n",
            "1\r\nab\r\n",
            &endless,
        ];
        for text in texts {
            assert!(read(CHUNKED, text.as_bytes(), &[]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lines_are_as_long_and_as_many_as_they_may_be_and_no_more() {
        let size = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(length - 2));
        let trailer = |length: usize| format!("0\r\n{}\r\n\r\n", "a".repeat(length));
        let trailers = |count: u32| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count as usize));
        let table = [
            (size(LONGEST_LINE), size(LONGEST_LINE + 1)),
            (trailer(LONGEST_LINE), trailer(LONGEST_LINE + 1)),
            (trailers(MOST_TRAILERS), trailers(MOST_TRAILERS + 1)),
        ];
        for (longest, longer) in table {
            // It comes whole, or is cut anywhere around the end of its line.
            for first in (LONGEST_LINE..LONGEST_LINE + 8).chain([usize::MAX]) {
                let read = |text: &str| read(CHUNKED, text.as_bytes(), &[first]);
                assert!(read(&longest).is_ok(), "{first}: {longest:?}");
                assert!(read(&longer).is_err(), "{first}: {longer:?}");
            }
        }
    }
}
