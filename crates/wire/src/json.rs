//! The strict JSON reader: one pass that checks everything and hands out slices.
//!
//! It builds no values. It refuses what two parsers could read differently: duplicate keys, half
//! surrogate pairs, bytes that are not UTF-8, and anything after the value.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::fault::{Fault, Quoted};
use crate::limits::Limits;
use crate::raw::Raw;

/// Reads one JSON text from front to back.
pub(crate) struct Scanner<'a> {
    source: &'a Bytes,
    text: &'a str,
    at: usize,
    depth: usize,
    keys: usize,
    /// Keys of all objects that are open; each object owns the tail from where it began.
    open_keys: Vec<Cow<'a, str>>,
    /// Reported at the end, so that a request's id can still be read.
    duplicate: Option<Quoted>,
    limits: Limits,
}

/// Marks where the inside of a string stands, and whether it has to be unescaped.
struct Span {
    inside: Range<usize>,
    escaped: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(source: &'a Bytes, limits: &Limits) -> Result<Self, Fault> {
        if source.len() > limits.body {
            return Err(Fault::TooLarge { limit: limits.body });
        }
        let text = std::str::from_utf8(source).map_err(|error| Fault::NotUtf8 { at: error.valid_up_to() })?;
        let open_keys = Vec::with_capacity(16);
        Ok(Self { source, text, at: 0, depth: 0, keys: 0, open_keys, duplicate: None, limits: *limits })
    }

    /// Checks that nothing follows the value and that no object had a key twice.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        match (self.peek(), self.duplicate.take()) {
            (Some(_), _) => Err(self.expected("the end of the message")),
            (None, Some(key)) => Err(Fault::DuplicateKey(key)),
            (None, None) => Ok(()),
        }
    }

    /// Returns the next byte that is not white space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Returns the position of the next byte that is not white space.
    pub(crate) fn position(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// Reads an object; `member` must take the value of each key.
    pub(crate) fn object<F>(&mut self, mut member: F) -> Result<(), Fault>
    where
        F: FnMut(&mut Self, &str) -> Result<(), Fault>,
    {
        self.enter(b'{', "an object")?;
        let mine = self.open_keys.len();
        let mut more = !self.take(b'}');
        while more {
            let key = self.key()?;
            self.expect(b':', "':'")?;
            member(self, &key)?;
            self.open_keys.push(key);
            more = !self.take(b'}');
            if more {
                self.expect(b',', "',' or '}'")?;
            }
        }
        self.close_keys(mine);
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array; `element` must take each element.
    pub(crate) fn array<F>(&mut self, mut element: F) -> Result<(), Fault>
    where
        F: FnMut(&mut Self) -> Result<(), Fault>,
    {
        self.enter(b'[', "an array")?;
        let mut more = !self.take(b']');
        while more {
            element(self)?;
            more = !self.take(b']');
            if more {
                self.expect(b',', "',' or ']'")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads any value and returns its bytes.
    pub(crate) fn value(&mut self) -> Result<Raw, Fault> {
        let start = self.position();
        self.skip()?;
        Ok(self.since(start))
    }

    /// Returns the bytes from `start` to here, which must be one whole value.
    pub(crate) fn since(&self, start: usize) -> Raw {
        Raw::checked(self.source.slice(start..self.at))
    }

    /// Reads any value and keeps nothing of it.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(|scanner, _| scanner.skip()),
            Some(b'[') => self.array(Self::skip),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.expected("a value")),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> Fault {
        Fault::Syntax { at: self.at, expected }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8, name: &'static str) -> Result<(), Fault> {
        if self.take(wanted) { Ok(()) } else { Err(self.expected(name)) }
    }

    fn enter(&mut self, open: u8, name: &'static str) -> Result<(), Fault> {
        self.expect(open, name)?;
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(Fault::TooDeep { limit: self.limits.depth });
        }
        Ok(())
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.keys += 1;
        if self.keys > self.limits.keys {
            return Err(Fault::TooManyKeys { limit: self.limits.keys });
        }
        let span = self.string()?;
        self.decode(&span)
    }

    /// Forgets the keys of the object that ends here, and notes the first that stood there twice.
    fn close_keys(&mut self, mine: usize) {
        if self.duplicate.is_none() {
            let keys = self.open_keys.get_mut(mine..).unwrap_or(&mut []);
            self.duplicate = find_duplicate(keys).map(Quoted::new);
        }
        self.open_keys.truncate(mine);
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Fault> {
        let rest = self.source.get(self.at..).unwrap_or(&[]);
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.expected("true, false or null"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Span, Fault> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_length(self.source.get(self.at..).unwrap_or(&[]));
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("an escape for a control character")),
                None => return Err(self.expected("the end of a string")),
            }
        }
        let inside = start..self.at;
        self.at += 1;
        if inside.len() > self.limits.string {
            return Err(Fault::StringTooLong { limit: self.limits.string });
        }
        Ok(Span { inside, escaped })
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<(), Fault> {
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                match self.four_hex_digits()? {
                    0xD800..=0xDBFF => self.low_surrogate()?,
                    0xDC00..=0xDFFF => return Err(Fault::UnpairedSurrogate { at: self.at }),
                    _ => {}
                }
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    fn low_surrogate(&mut self) -> Result<(), Fault> {
        let unpaired = Fault::UnpairedSurrogate { at: self.at };
        if self.source.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(unpaired);
        }
        self.at += 2;
        match self.four_hex_digits()? {
            0xDC00..=0xDFFF => Ok(()),
            _ => Err(unpaired),
        }
    }

    fn four_hex_digits(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.expected("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn decode(&self, span: &Span) -> Result<Cow<'a, str>, Fault> {
        let Range { start, end } = span.inside;
        let wrong = || Fault::Syntax { at: start, expected: "a string" };
        if !span.escaped {
            return self.text.get(start..end).map(Cow::Borrowed).ok_or_else(wrong);
        }
        let quoted = self.text.get(start - 1..end + 1).ok_or_else(wrong)?;
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| wrong())
    }
}

/// Counts the bytes before the next quote, backslash or control character, eight at a time.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
    words.len() * 8 + tail.unwrap_or(rest.len())
}

/// Sets the top bit of bytes that end a plain run; bits above the lowest one set mean nothing.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & TOPS
}

/// Finds a key that stands twice; sorts long lists, so that a hostile object costs no square.
fn find_duplicate<'k>(keys: &'k mut [Cow<'_, str>]) -> Option<&'k str> {
    const PAIRWISE: usize = 16;
    if keys.len() <= PAIRWISE {
        let twice = |(index, key): &(usize, &Cow<'_, str>)| keys.iter().take(*index).any(|seen| seen == *key);
        return keys.iter().enumerate().find(twice).map(|(_, key)| key.as_ref());
    }
    keys.sort_unstable();
    keys.windows(2).find_map(|pair| match pair {
        [first, second] if first == second => Some(first.as_ref()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::plain_length;

    #[test]
    fn plain_length_stops_at_each_special_byte_at_every_offset() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for offset in 0..40 {
                let mut bytes = vec![b'\xfe'; offset];
                bytes.push(special);
                bytes.extend([b'"'; 12]);
                assert_eq!(plain_length(&bytes), offset, "byte {special}");
            }
        }
    }

    #[test]
    fn plain_length_passes_over_everything_else() {
        let plain: Vec<u8> = (0x20..=0xff).filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
        assert_eq!(plain_length(&plain), plain.len());
    }
}
