//! Streams for a recipient: what was changed or cut off doesn't read.

use std::io::{Read, Write};

use mcphub_domain::SecretText;
use mcphub_vault::{Identities, StreamError, decrypt, encrypt};

/// A key pair that `age-keygen` could have made, for these tests alone.
const PUBLIC: &str = "age1dy7ktrvx46yrhektwn2ejgexm8zyfg2lfrth2a60f84tdhsjs36sflxgjc";
const PRIVATE: &str = "AGE-SECRET-KEY-1KMCT5TR5QX85WALSX0U4XSKENNDZLGGM7F0K9GZFA9UY8EXJ4JKQ7VQCTA";
const OTHER: &str = "AGE-SECRET-KEY-1T39NKQ22TKGP4QP45ZEKSREMHVT8TU7YM95RRNYPNCXGC9A089TQT64JRL";

fn identities(text: &str) -> Result<Identities, StreamError> {
    Identities::parse(&SecretText::new(text.to_owned()))
}

fn encrypted(plain: &[u8]) -> Vec<u8> {
    let mut stream = encrypt(&PUBLIC.parse().unwrap(), Vec::new()).unwrap();
    stream.write_all(plain).unwrap();
    stream.finish().unwrap()
}

fn decrypted(stream: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut reader = decrypt(&identities(PRIVATE).unwrap(), stream).ok()?;
    reader.read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[test]
fn the_recipient_reads_it_and_nobody_else() {
    let stream = encrypted(b"a secret of many");
    assert_eq!(decrypted(&stream).unwrap(), b"a secret of many");
    assert!(!stream.windows(6).any(|part| part == b"secret"));
    let other = decrypt(&identities(OTHER).unwrap(), stream.as_slice()).map(|_| ());
    assert!(matches!(other, Err(StreamError::OtherRecipient)), "{other:?}");
}

#[test]
fn no_flipped_bit_and_no_lost_byte_goes_unseen() {
    let plain: Vec<u8> = (0..70_000_u32).map(|number| number as u8).collect();
    let stream = encrypted(&plain);
    assert_eq!(decrypted(&stream).unwrap(), plain);
    let every = (0..400).chain((400..stream.len()).step_by(997)).chain(stream.len() - 40..stream.len());
    for at in every {
        let mut changed = stream.clone();
        *changed.get_mut(at).unwrap() ^= 1 << (at % 8);
        assert_eq!(decrypted(&changed), None, "byte {at}");
        assert_eq!(decrypted(stream.get(..at).unwrap()), None, "cut at {at}");
    }
    assert_eq!(decrypted(&[stream.as_slice(), b"x"].concat()), None, "something after the end");
}

#[test]
fn an_identity_file_is_what_age_keygen_writes() {
    let file = format!("# created: 2026-11-23\n# public key: {PUBLIC}\n{PRIVATE}\n");
    assert!(identities(&file).is_ok());
    assert!(matches!(identities("# nothing\n"), Err(StreamError::NoIdentity)));
    assert!(matches!(identities(&format!("{PRIVATE}\nx")), Err(StreamError::Identity { line: 2 })));
    for text in ["", "age1", PRIVATE, "ssh-ed25519 AAAA"] {
        assert!(text.parse::<mcphub_vault::Recipient>().is_err(), "{text}");
    }
}
