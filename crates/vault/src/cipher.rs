//! AES-256-GCM-SIV (RFC 8452), the one cipher of this crate.

use aes_gcm_siv::aead::{Aead, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use mcphub_domain::secret::{SecretBytes, SecretText};

use crate::error::VaultError;
use crate::key::SecretKey;

/// The length of a nonce, in bytes.
pub(crate) const NONCE: usize = 12;
/// The length of the tag that ends a ciphertext, in bytes.
pub(crate) const TAG: usize = 16;
/// The longest plaintext, in bytes.
pub(crate) const MAX: usize = SecretText::MAX;

/// Encrypts `plain` and authenticates it together with `aad`.
pub(crate) fn encrypt(
    key: &SecretKey,
    nonce: &[u8; NONCE],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, VaultError> {
    if plain.len() > MAX {
        return Err(VaultError::TooLong);
    }
    let payload = Payload { msg: plain, aad };
    cipher(key).encrypt(nonce.into(), payload).map_err(|_| VaultError::TooLong)
}

/// Decrypts what `encrypt` made with the same key, nonce and `aad`; `None` for anything else.
pub(crate) fn decrypt(
    key: &SecretKey,
    nonce: &[u8; NONCE],
    aad: &[u8],
    ciphertext: &[u8],
) -> Option<SecretBytes> {
    let payload = Payload { msg: ciphertext, aad };
    cipher(key).decrypt(nonce.into(), payload).ok().map(SecretBytes::new)
}

fn cipher(key: &SecretKey) -> Aes256GcmSiv {
    Aes256GcmSiv::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::{MAX, SecretKey, VaultError, decrypt, encrypt};

    /// Key, nonce, associated data, plaintext and result of RFC 8452, appendices C.2 and C.3.
    const RFC_8452: [[&str; 5]; 7] = [
        [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "030000000000000000000000",
            "",
            "",
            "07f5f4169bbf55a8400cd47ea6fd400f",
        ],
        [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "030000000000000000000000",
            "01",
            "0200000000000000",
            "1de22967237a813291213f267e3b452f02d01ae33e4ec854",
        ],
        [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "030000000000000000000000",
            "010000000000000000000000",
            "02000000",
            "22b3f4cd1835e517741dfddccfa07fa4661b74cf",
        ],
        [
            "e66021d5eb8e4f4066d4adb9c33560e4f46e44bb3da0015c94f7088736864200",
            "e0eaf5284d884a0e77d31646",
            "",
            "",
            "169fbb2fbf389a995f6390af22228a62",
        ],
        [
            "bae8e37fc83441b16034566b7a806c46bb91c3c5aedb64a6c590bc84d1a5e269",
            "e4b47801afc0577e34699b9e",
            "4fbdc66f14",
            "671fdd",
            "0eaccb93da9bb81333aee0c785b240d319719d",
        ],
        [
            "3c535de192eaed3822a2fbbe2ca9dfc88255e14a661b8aa82cc54236093bbc23",
            "688089e55540db1872504e1c",
            "734320ccc9d9bbbb19cb81b2af4ecbc3e72834321f7aa0f70b7282b4f33df23f167541",
            "ced532ce4159b035277d4dfbb7db62968b13cd4eec",
            "626660c26ea6612fb17ad91e8e767639edd6c9faee9d6c7029675b89eaf4ba1ded1a286594",
        ],
        [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "000000000000000000000000",
            "",
            "000000000000000000000000000000004db923dc793ee6497c76dcc03a98e108",
            "f3f80f2cf0cb2dd9c5984fcda908456cc537703b5ba70324a6793a7bf218d3eaffffffff000000000000000000000000",
        ],
    ];

    #[test]
    fn the_cipher_agrees_with_rfc_8452() {
        for case in RFC_8452 {
            let [key, nonce, aad, plain, expected] = case.map(unhex);
            let key = SecretKey::from_slice(&key).unwrap();
            let nonce = nonce.try_into().unwrap();
            let ciphertext = encrypt(&key, &nonce, &aad, &plain).unwrap();
            assert_eq!(ciphertext, expected, "{case:?}");
            assert_eq!(decrypt(&key, &nonce, &aad, &ciphertext).unwrap().expose(), plain);
        }
    }

    #[test]
    fn the_longest_plaintext_is_64_kib() {
        let key = SecretKey::from_array(&[1; 32]);
        assert!(encrypt(&key, &[0; 12], b"", &vec![0; MAX]).is_ok());
        assert!(matches!(encrypt(&key, &[0; 12], b"", &vec![0; MAX + 1]), Err(VaultError::TooLong)));
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
