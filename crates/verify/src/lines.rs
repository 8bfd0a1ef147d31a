//! Reading a bundle line by line, none longer than there is room for.

use std::io::{BufRead, BufReader, Read};

use sha2::{Digest, Sha256};

use crate::Hash;
use crate::finding::{Finding, Kind, Stop};

/// The longest line of a bundle, in bytes.
const LONGEST: u64 = 16 << 20;

/// Reads lines, counts them, and hashes all before the current one.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    before: Sha256,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), line: Vec::new(), number: 0, before: Sha256::new() }
    }

    /// Reads the next line, which must be there, and returns it without its end.
    pub(crate) fn next(&mut self) -> Result<&[u8], Stop> {
        self.before.update(&self.line);
        self.line.clear();
        self.number += 1;
        let read = (&mut self.input).take(LONGEST).read_until(b'\n', &mut self.line);
        match read.map_err(Stop::Unreadable)? {
            0 => Err(self.malformed("the bundle ends before its end")),
            _ => match self.line.strip_suffix(b"\n") {
                Some(line) => Ok(line),
                None => Err(self.malformed("this line has no end")),
            },
        }
    }

    /// Says that the current line was the last.
    pub(crate) fn end(&mut self) -> Result<(), Stop> {
        match self.input.fill_buf().map_err(Stop::Unreadable)?.is_empty() {
            true => Ok(()),
            false => Err(self.malformed("something comes after the end of the bundle")),
        }
    }

    /// Hashes everything before the current line.
    pub(crate) fn digest(&self) -> Hash {
        self.before.clone().finalize().into()
    }

    /// Tells the number of the current line, from 1.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Says that the current line isn't what it must be.
    pub(crate) fn malformed(&self, text: &str) -> Stop {
        self.found(Kind::Malformed, text)
    }

    /// Says what is wrong with the current line.
    pub(crate) fn found(&self, kind: Kind, text: &str) -> Stop {
        Stop::Found(Box::new(Finding { kind, line: self.number, place: None, text: text.to_owned() }))
    }
}
