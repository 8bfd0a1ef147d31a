//! Hub keys: `mcphub_<id>_<secret><crc>`.
//!
//! The id is a UUID v4 in lower-case Crockford base32 (26 digits), the secret 256 random bits in
//! base62 (43 digits), the checksum the CRC-32 (IEEE) of everything before it in base62 (6 digits).
//! The checksum lets the hub, and secret scanners, reject a mistyped key without a look-up.

use zeroize::Zeroizing;

use crate::id::{KeyId, UserId};
use crate::name::KeyName;
use crate::random::Entropy;
use crate::time::Timestamp;

/// Describes a stored hub key. The key's text is shown once and never stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HubKey {
    /// Its id, which is the readable part of its text.
    pub id: KeyId,
    /// Whose it is; its rights are hers.
    pub owner: UserId,
    /// What she calls it.
    pub name: KeyName,
    /// HMAC-SHA-256 of the secret under the pepper.
    pub mac: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was seen where it can be read by others, such as a URL.
    pub exposed_at: Option<Timestamp>,
    /// Counts the changes of this row, from 1.
    pub revision: i64,
}

/// Is the text of a hub key, taken apart.
pub struct KeyText {
    id: KeyId,
    secret: Zeroizing<[u8; 32]>,
}

/// Says that a text is not a hub key: its form or its checksum is wrong.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a hub key: expected mcphub_, 26 digits, _ and 49 digits with a matching checksum")]
pub struct InvalidKey;

const PREFIX: &str = "mcphub_";
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_DIGITS: usize = 26;
const SECRET_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;

impl KeyText {
    /// The length of every key's text, in bytes.
    pub const LENGTH: usize = PREFIX.len() + ID_DIGITS + 1 + SECRET_DIGITS + CHECKSUM_DIGITS;

    /// Makes a new key.
    pub fn random(entropy: &Entropy) -> Self {
        Self { id: KeyId::random(entropy), secret: Zeroizing::new(entropy.bytes()) }
    }

    /// Names the key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Shows the secret's bytes to the code that computes or compares their MAC.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Reads a key's text and checks its checksum.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.len() != Self::LENGTH || !text.is_ascii() {
            return Err(InvalidKey);
        }
        let (covered, checksum) = text.split_at(text.len() - CHECKSUM_DIGITS);
        if checksum.as_bytes() != checksum_of(covered) {
            return Err(InvalidKey);
        }
        let (id, secret) =
            covered.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(InvalidKey)?;
        if id.len() != ID_DIGITS {
            return Err(InvalidKey);
        }
        Ok(Self {
            id: KeyId::from_bytes(decode(id, 32, base32)?),
            secret: Zeroizing::new(decode(secret, 62, base62)?),
        })
    }

    /// Writes the key's text, to be shown to its owner once.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(Self::LENGTH));
        text.push_str(PREFIX);
        text.push_str(&encode(self.id.as_bytes(), BASE32, ID_DIGITS));
        text.push('_');
        text.push_str(&Zeroizing::new(encode(self.secret.as_slice(), BASE62, SECRET_DIGITS)));
        let checksum = checksum_of(&text);
        text.extend(checksum.map(char::from));
        text
    }
}

/// Writes the CRC-32 of a text in base62.
fn checksum_of(covered: &str) -> [u8; CHECKSUM_DIGITS] {
    let mut rest = crc32fast::hash(covered.as_bytes());
    let mut text = [b'0'; CHECKSUM_DIGITS];
    for place in text.iter_mut().rev() {
        *place = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    text
}

/// Writes a big-endian number in `digits`, padded on the left to `width`.
fn encode(number: &[u8], digits: &[u8], width: usize) -> String {
    let mut number = Zeroizing::new(number.to_vec());
    let base = digits.len() as u32;
    let mut text = vec![b'0'; width];
    for place in text.iter_mut().rev() {
        let mut remainder = 0;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / base) as u8;
            remainder = value % base;
        }
        *place = digits.get(remainder as usize).copied().unwrap_or(b'0');
    }
    text.into_iter().map(char::from).collect()
}

/// Reads a number of exactly `N` bytes; a digit of another alphabet or an overflow is an error.
fn decode<const N: usize>(
    text: &str,
    base: u128,
    value: impl Fn(u8) -> Option<u8>,
) -> Result<[u8; N], InvalidKey> {
    const { assert!(N.is_multiple_of(8)) };
    let mut number = [0_u8; N];
    let (_, limbs) = number.as_rchunks_mut::<8>();
    // Ten digits at a time: their value is below 2⁶⁰, so nothing overflows.
    for group in text.as_bytes().chunks(10) {
        let (mut carry, mut scale) = (0, 1);
        for digit in group {
            let value = u128::from(value(*digit).ok_or(InvalidKey)?);
            (carry, scale) = (carry * base + value, scale * base);
        }
        for limb in limbs.iter_mut().rev() {
            let value = u128::from(u64::from_be_bytes(*limb)) * scale + carry;
            *limb = (value as u64).to_be_bytes();
            carry = value >> 64;
        }
        if carry != 0 {
            return Err(InvalidKey);
        }
    }
    Ok(number)
}

/// Reads a digit of `BASE32`: letters without i, l, o and u.
const fn base32(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'h' => digit - b'a' + 10,
        b'j' | b'k' => digit - b'j' + 18,
        b'm' | b'n' => digit - b'm' + 20,
        b'p'..=b't' => digit - b'p' + 22,
        b'v'..=b'z' => digit - b'v' + 27,
        _ => return None,
    })
}

/// Reads a digit of `BASE62`.
const fn base62(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{BASE32, BASE62, Entropy, KeyId, KeyText, Zeroizing, base32, base62, checksum_of};

    #[test]
    fn a_digit_is_read_as_its_place_in_the_alphabet() {
        let place = |digits: &[u8], digit| digits.iter().position(|known| *known == digit);
        for digit in 0..=u8::MAX {
            assert_eq!(base32(digit).map(usize::from), place(BASE32, digit));
            assert_eq!(base62(digit).map(usize::from), place(BASE62, digit));
        }
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(seed in any::<u64>()) {
            let key = KeyText::random(&Entropy::fixed(seed));
            let text = key.reveal();
            prop_assert_eq!(text.len(), KeyText::LENGTH);
            let again = KeyText::parse(&text).ok().unwrap();
            prop_assert_eq!((again.id(), again.secret()), (key.id(), key.secret()));
        }

        #[test]
        fn one_changed_character_is_noticed(seed in any::<u64>(), place in 0..KeyText::LENGTH, change in 1_u8..95) {
            let mut text = KeyText::random(&Entropy::fixed(seed)).reveal().as_bytes().to_vec();
            text[place] = 32 + (text[place] - 32 + change) % 95;
            prop_assert!(KeyText::parse(std::str::from_utf8(&text).unwrap()).is_err());
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,100}") {
            prop_assert!(KeyText::parse(&text).is_err());
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_no_key() {
        let of = |id: &str, secret: &str| {
            let covered = format!("mcphub_{id}_{secret}");
            let checksum = checksum_of(&covered).map(char::from);
            KeyText::parse(&format!("{covered}{}", String::from_iter(checksum))).is_ok()
        };
        let largest = KeyText { id: KeyId::from_bytes([0xff; 16]), secret: Zeroizing::new([0xff; 32]) };
        let text = largest.reveal();
        let (id, secret) = (&text[7..33], &text[34..77]);
        assert!(of(id, secret));
        let next = |number: &str, digits: &[u8]| {
            let mut number = number.as_bytes().to_vec();
            for place in number.iter_mut().rev() {
                let digit = digits.iter().position(|digit| digit == place).unwrap();
                *place = digits[(digit + 1) % digits.len()];
                if digit + 1 < digits.len() {
                    break;
                }
            }
            String::from_utf8(number).unwrap()
        };
        assert!(!of(&next(id, BASE32), secret));
        assert!(!of(id, &next(secret, BASE62)));
        assert!(!of(&"z".repeat(26), secret));
        assert!(!of(id, &"z".repeat(43)));
    }

    #[test]
    fn the_form_is_the_published_one() {
        let text = KeyText::random(&Entropy::fixed(1)).reveal();
        let (prefix, rest) = text.split_at(7);
        let (id, rest) = rest.split_at(26);
        assert_eq!((prefix, &rest[..1], rest.len()), ("mcphub_", "_", 50));
        assert!(id.bytes().all(|digit| b"0123456789abcdefghjkmnpqrstvwxyz".contains(&digit)));
        assert!(rest[1..].bytes().all(|digit| digit.is_ascii_alphanumeric()));
    }
}
