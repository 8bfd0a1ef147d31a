//! HMAC-SHA-256 (RFC 2104) under a 256-bit key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::SecretKey;

/// SHA-256's block: HMAC pads a shorter key to it with zeros.
const BLOCK: usize = 64;

/// Is a key that has begun its work, so that a code costs the text alone. It is worth as much as the key, so it is
/// boxed as that is: it stays where it is.
pub(crate) struct Keyed(Box<Hmac<Sha256>>);

impl Keyed {
    /// Begins with a key.
    pub(crate) fn new(key: &SecretKey) -> Self {
        let mut block = Zeroizing::new([0; BLOCK]);
        for (target, byte) in block.iter_mut().zip(key.bytes()) {
            *target = *byte;
        }
        Self(Box::new(Hmac::new((&*block).into())))
    }

    /// Authenticates the parts as if they were one text; the caller makes the parting unambiguous.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = (*self.0).clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Authenticates the parts with a key that is used this once.
pub(crate) fn hmac(key: &SecretKey, parts: &[&[u8]]) -> [u8; 32] {
    Keyed::new(key).mac(parts)
}

/// Derives a key for one purpose, so that no key serves two.
pub(crate) fn derive(key: &SecretKey, purpose: &'static str) -> SecretKey {
    let bytes = Zeroizing::new(hmac(key, &[purpose.as_bytes()]));
    SecretKey::from_array(&bytes)
}

#[cfg(test)]
mod tests {
    use super::{SecretKey, derive, hmac};

    /// RFC 4231, test cases 1 to 4 (the keys of 5 to 7 are longer than a block or truncate).
    #[test]
    fn the_mac_agrees_with_rfc_4231() {
        let ordinals: Vec<u8> = (1..=25).collect();
        let cases: [(&[u8], &[u8], &str); 4] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (&ordinals, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        ];
        for (key, text, expected) in cases {
            let mut padded = [0; 32];
            padded[..key.len()].copy_from_slice(key);
            let (left, right) = text.split_at(text.len() / 2);
            assert_eq!(hex(&hmac(&SecretKey::from_array(&padded), &[left, right])), expected);
        }
    }

    #[test]
    fn keys_for_two_purposes_differ() {
        let key = SecretKey::from_array(&[7; 32]);
        assert_ne!(derive(&key, "a").bytes(), derive(&key, "b").bytes());
        assert_ne!(derive(&key, "a").bytes(), key.bytes());
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
