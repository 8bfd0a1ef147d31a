//! Keys as text: 32 bytes in hex or base64, the current key first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use zeroize::Zeroizing;

use super::KeyFault;
use crate::key::{KEY, SecretKey};
use crate::keyring::{Keyring, WrapKey};

/// A random key has about 30 different bytes; one with fewer than this was typed or is a default.
const DISTINCT: usize = 12;

/// Reads a list of keys.
pub(super) fn keyring<'a>(keys: impl Iterator<Item = &'a str>) -> Result<Keyring, KeyFault> {
    let mut keys = keys.zip(1..).map(|(text, number)| key(text, number));
    let current = keys.next().ok_or(KeyFault::Empty)??;
    Ok(Keyring::new(current, keys.collect::<Result<_, _>>()?))
}

/// Writes a key as hex.
pub(super) fn hex(key: &SecretKey) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY));
    let digits = key.bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    text
}

fn key(text: &str, number: usize) -> Result<WrapKey, KeyFault> {
    let bytes = from_hex(text).or_else(|| from_base64(text));
    let key = bytes.and_then(|bytes| SecretKey::from_slice(&bytes)).ok_or(KeyFault::NotAKey { number })?;
    if is_weak(&key) { Err(KeyFault::Weak { number }) } else { Ok(WrapKey::new(key)) }
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() != 2 * KEY {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY));
    for pair in text.as_bytes().chunks_exact(2) {
        let mut byte = 0;
        for digit in pair {
            byte = byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
        bytes.push(byte);
    }
    Some(bytes)
}

fn from_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD_PAD_INDIFFERENT.decode(text).ok().map(Zeroizing::new)
}

fn is_weak(key: &SecretKey) -> bool {
    let mut bytes = Zeroizing::new(*key.bytes());
    bytes.sort_unstable();
    bytes.chunk_by(|left, right| left == right).count() < DISTINCT
}

#[cfg(test)]
mod tests {
    use mcphub_domain::random::Entropy;

    use super::{Engine, KeyFault, STANDARD_PAD_INDIFFERENT, SecretKey, hex, keyring};

    fn fault(keys: &[&str]) -> Option<KeyFault> {
        keyring(keys.iter().copied()).err()
    }

    #[test]
    fn hex_and_base64_are_the_same_key() {
        let key = SecretKey::random(&Entropy::fixed(1));
        let hex = hex(&key);
        let base64 = STANDARD_PAD_INDIFFERENT.encode(key.bytes());
        let ids = [&*hex, &hex.to_uppercase(), &base64, base64.trim_end_matches('=')]
            .map(|text| keyring([text].into_iter()).ok().unwrap().current().id());
        assert_eq!(ids, [ids[0]; 4]);
    }

    #[test]
    fn a_key_is_32_random_bytes() {
        let good = hex(&SecretKey::random(&Entropy::fixed(1)));
        assert_eq!(fault(&[]), Some(KeyFault::Empty));
        for bad in [
            "",
            &good[2..],
            &good[1..],
            &format!("{}00", *good),
            &format!("{} ", *good),
            &good.replace('a', "g"),
        ] {
            assert_eq!(fault(&[&good, bad]), Some(KeyFault::NotAKey { number: 2 }), "{bad:?}");
        }
        assert_eq!(fault(&[&"0".repeat(64), &good]), Some(KeyFault::Weak { number: 1 }));
        assert_eq!(fault(&[&"deadbeef".repeat(8), &good]), Some(KeyFault::Weak { number: 1 }));
    }
}
