//! The text of a SHA-256 digest: 64 hexadecimal digits.

use std::fmt;

/// Writes a digest as its digits.
pub(crate) fn write(digest: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

/// Reads a digest from its digits.
pub(crate) fn read(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use crate::{Destination, ToolDigest};

    #[test]
    fn a_digest_survives_its_text_and_nothing_else_is_one() {
        let digest = ToolDigest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let destination = Destination::digest(["http", "https://a.example"]);
        assert_eq!(destination.to_string().parse(), Ok(destination));
        for wrong in ["", "00", &"+0".repeat(32), &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert!(wrong.parse::<ToolDigest>().is_err() && wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
