//! The lines of a bundle, and the digits in them. Members stand in the order of their names.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Is the first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct First {
    pub(crate) bundle: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<i64>,
    pub(crate) heads: u64,
    pub(crate) install: String,
    pub(crate) key: String,
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<i64>,
    pub(crate) v: u8,
}

/// Is the line of a segment.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    pub(crate) at: i64,
    pub(crate) chain: String,
    pub(crate) count: u64,
    pub(crate) first: u64,
    pub(crate) hash: String,
    pub(crate) leaves: String,
    pub(crate) lines: u64,
    pub(crate) previous: String,
    pub(crate) root: String,
    pub(crate) shown: bool,
}

/// Is the line after the segments.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Totals {
    pub(crate) chains: u64,
    pub(crate) end: bool,
    pub(crate) records: u64,
    pub(crate) segments: u64,
}

/// Is the line of a step.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) chain: String,
    pub(crate) number: u64,
    pub(crate) path: Vec<String>,
    pub(crate) root: String,
    pub(crate) size: u64,
}

/// Is the last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seal {
    pub(crate) seal: String,
}

/// Names the end of a chain.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) chain: String,
    pub(crate) root: String,
    pub(crate) size: u64,
}

/// Is what of a record matters here.
#[derive(Deserialize)]
pub(crate) struct Record {
    pub(crate) at: i64,
    pub(crate) chain: String,
    pub(crate) event: Event,
    pub(crate) number: u64,
}

#[derive(Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Deserialize)]
struct Opening {
    event: Opened,
}

#[derive(Deserialize)]
struct Opened {
    others: Vec<End>,
}

impl Record {
    /// Reads a record.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Lists the ends that a record names, if it is the first of a chain.
    pub(crate) fn names(&self, line: &[u8]) -> Option<Vec<End>> {
        if self.number != 0 || self.event.kind != "chain.opened" {
            return Some(Vec::new());
        }
        serde_json::from_slice::<Opening>(line).ok().map(|opening| opening.event.others)
    }
}

/// Reads a line that must be canonical JSON: written again it is the same.
pub(crate) fn canonical<T: Serialize + DeserializeOwned>(line: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(line).ok()?;
    (serde_json::to_vec(&read).ok()? == line).then_some(read)
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

/// Reads hexadecimal digits; capitals aren't any.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((high << 4) | low),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

/// Reads as many bytes as are wanted.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes(text)?.try_into().ok()
}

/// Reads the 16 bytes of an id.
pub(crate) fn id(text: &str) -> Option<[u8; 16]> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    (lengths == [8, 4, 4, 4, 12]).then(|| unhex(&parts.concat())).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Seal, bytes, canonical, hex, id};

    #[test]
    fn digits_are_read_as_they_are_written() {
        assert_eq!(bytes("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(hex(&[0, 255, 26]), "00ff1a");
        for wrong in ["0", "0G", "AA", "+1", " 1", "é"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_have_one_form() {
        assert!(id("6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e").is_some());
        for wrong in ["", "6b1f0c9e3c1d4c559d8e0a5f6b7c8d9e", "6B1F0C9E-3c1d-4c55-9d8e-0a5f6b7c8d9e"] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_has_one_form() {
        assert!(canonical::<Seal>(br#"{"seal":"x"}"#).is_some());
        for wrong in [r#"{"seal": "x"}"#, r#"{"seal":"x"} "#, r#"{"seal":"\u0078"}"#, r#"{"seal":"x","a":1}"#]
        {
            assert!(canonical::<Seal>(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
